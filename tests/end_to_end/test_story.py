"""The stories of `make demo` and `make demo-remote`, told to a test: real data, scikit-learn, the installed command.

A story checks each claim before it prints it and stops at the first that does not hold. The second is about a real S3
server on loopback.
"""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

STORY = {
    1: ["every stage is fresh, and `git status` is clean"],
    2: ["exactly one datum ran, and no training"],
    3: ["the model was trained and all four predictions were made again"],
    4: ["accuracy fell from", "data, model and predictions are back, byte for byte", "no command was executed for it"],
    5: [
        "the model is held, and the predictions are those of that older model",
        "the new file was predicted with the old model, which is still held",
        "new training data ended the hold: trained, and all five batches predicted again",
    ],
    6: ["the clone has every file, byte for byte", "every stage is fresh there, and there is nothing to run"],
    7: [
        "one datum failed; status and logs say which, and why",
        "the user's commit stands as it is, and nothing half-done was published",
        "the commit that fixes the code ran it",
    ],
    8: ["the run is lost, and status says so", "it went on where it stopped"],
}
REMOTE_STORY = {
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


# one test each, so that a story is told once however tests are spread over processes; it makes its own environment
@pytest.mark.parametrize(("module", "claims"), [("demo.story", STORY), ("demo.remote_story", REMOTE_STORY)])
def test_the_story_ends_well_and_each_claim_holds(module: str, claims: dict[int, list[str]]) -> None:
    if module == "demo.remote_story":
        pytest.importorskip("moto")
    told = subprocess.run(
        [sys.executable, "-m", module], cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr
    assert told.stderr == ""
    assert "Traceback" not in told.stdout
    for step, texts in claims.items():
        _, _, rest = told.stdout.partition(f"\n{step}. ")
        text, _, _ = rest.partition(f"\n{step + 1}. ")
        for claim in texts:
            assert f"✓ {claim}" in text
