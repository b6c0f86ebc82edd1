"""The story of `make demo`, told to a test: real data, scikit-learn, the installed command, eight steps.

The story checks each claim before it prints it and stops at the first that does not hold.
"""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]

CLAIMS = {
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


def test_the_story_ends_well_and_each_claim_holds() -> None:
    # one test, so that the story is told once however tests are spread over processes; it makes its own environment
    told = subprocess.run(
        [sys.executable, "-m", "demo.story"],
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
