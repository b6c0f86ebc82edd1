"""The story of `make demo-remote`, told to a test: a real S3 server on loopback, the installed commands, five steps.

The story checks each claim before it prints it and stops at the first that does not hold.
"""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

CLAIMS = {
    1: ["the model was trained, and each of three files predicted: four executions"],
    2: ["the bucket has the branch, the data and the record of all runs"],
    3: [
        "the clone has every file, 13 of them, byte for byte",
        "every stage is fresh there, and nothing was computed again",
    ],
    4: [
        "exactly one datum ran, and no training: the cache came along",
        "the commit and its result are in the bucket",
    ],
    5: [
        "the new file and its prediction are here, byte for byte",
        "every stage is fresh, and nothing was computed again",
        "five executions in all, for two people: each was done once",
    ],
}


def test_the_story_ends_well_and_each_claim_holds() -> None:
    pytest.importorskip("moto")
    # one test, so that the story is told once however tests are spread over processes; it makes its own environment
    told = subprocess.run(
        [sys.executable, "-m", "demo.remote_story"],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr
    assert told.stderr == ""
    assert "Traceback" not in told.stdout
    for step, claims in CLAIMS.items():
        _, _, rest = told.stdout.partition(f"\n{step}. ")
        text, _, _ = rest.partition(f"\n{step + 1}. ")
        for claim in claims:
            assert f"✓ {claim}" in text
