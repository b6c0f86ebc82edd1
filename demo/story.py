"""The story of gitml in eight steps, told with real commands on real data: `make demo`.

Every claim is checked before it is printed; the first that does not hold ends the story with exit code 1.
Set KEEP=1 to keep the directory and look around in it.
"""

import csv
import io
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from demo.clone import EXTRA, Clone
from demo.narrator import Narrator, told


def main() -> int:
    """Tell the story; give the exit code."""
    return told("Everything below is plain git. What runs by itself is started by git's hooks.", tell)


def tell(narrator: Narrator) -> None:
    """All eight steps."""
    narrator.show(narrator.root, "git", "ml", "init", "--template", "classification", "digits")
    project = Clone(narrator, narrator.root / "digits")
    try:
        first_commit(project)
        new_input(project)
        trained = new_training_rows(project)
        bad_data(project)
        rolled_back(project, trained)
        elsewhere(project)
        failing_stage(project)
        killed(project)
    finally:
        project.until(lambda: not narrator.left_behind())


def first_commit(project: Clone) -> None:
    """Step 1: data and code go in, the model comes out."""
    narrator = project.narrator
    narrator.step(1, "Commit data, get a committed model")
    narrator.say(
        "The template has labelled images of digits in training/, unlabelled ones in input/, and two scripts. "
        "pipeline.json says how they belong together: `model` is trained on training/, `inference` reads each file "
        "of input/ with the model."
    )
    project.commit("Handwritten digits")
    project.show("git", "ml", "dag")
    project.show("git", "log", "--oneline")
    project.show("git", "show", "--stat=100", "--format=%an: %s%n%n%(trailers)", "HEAD")
    project.show("git", "ml", "status")
    narrator.claim(project.all_fresh() and project.is_clean(), "every stage is fresh, and `git status` is clean")
    narrator.say(
        "The hook saw that nothing had been computed yet and started a runner. The runner trained the model, made the "
        "predictions, and committed both on the branch. The trailers say which run and which commit they come from."
    )
    project.show("git", "ml", "show", "inference/batch-1.csv")


def new_input(project: Clone) -> None:
    """Step 2: one file more is one datum more."""
    project.narrator.step(2, "A new input file: only that file is predicted")

    def act() -> None:
        project.add("input", "batch-4.csv")
        project.commit("A fourth batch")

    ran = project.executed_during(act)
    project.show("git", "ml", "logs")
    project.narrator.claim(ran == ["inference"] and project.all_fresh(), "exactly one datum ran, and no training")
    project.narrator.say(
        "The glob /* makes a datum of each file in input/. Each datum has a key: the git ids of what it reads, its "
        "code and its parameters. Three of the four keys were known."
    )


def new_training_rows(project: Clone) -> str:
    """Step 3: the model depends on all training rows, every prediction on the model; give the result commit."""
    project.narrator.step(3, "New training rows: train again, predict everything again")

    def act() -> None:
        project.add("training", "digits-3.csv")
        project.commit("300 more labelled digits")

    ran = project.executed_during(act)
    project.show("git", "ml", "log", "model", "--metric", "accuracy")
    project.narrator.claim(
        ran == ["inference"] * 4 + ["model"] and project.all_fresh(),
        "the model was trained and all four predictions were made again",
    )
    project.narrator.say("The glob / makes one datum of the whole directory, so any new row changes its key.")
    return project.git("rev-parse", "--short", "HEAD")


def bad_data(project: Clone) -> None:
    """Step 4: bad data is seen in the metrics, and reverted."""
    narrator = project.narrator
    narrator.step(4, "Bad training data, and `git revert`")
    good = project.content("training", "model", "inference")
    shuffle_labels(project.directory / "training" / "digits-2.csv")
    narrator.note(project.directory, "python3 …    # somebody exports digits-2.csv with its labels in the wrong order")
    bad = project.commit("Clean up digits-2")
    project.show("git", "ml", "log", "model", "--metric", "accuracy")
    values = [
        each["metrics"]["accuracy"]
        for each in project.ml("log", "model", "--metric", "accuracy")["stages"][0]["results"]
    ]
    narrator.claim(values[0] < values[1] - 0.1, f"accuracy fell from {values[1]:g} to {values[0]:g}")
    narrator.say("The log names the commit that did it, so that commit is reverted. Nothing else needs to be done.")

    def act() -> None:
        project.show("git", "revert", "--no-edit", bad)
        project.wait()

    ran = project.executed_during(act)
    project.show("git", "ml", "status")
    narrator.claim(
        project.content("training", "model", "inference") == good and project.all_fresh(),
        "data, model and predictions are back, byte for byte",
    )
    narrator.claim(ran == [], "no command was executed for it")
    narrator.say("The key of the old data was known, so its results came from the cache, which is kept in git too.")


def rolled_back(project: Clone, result: str) -> None:
    """Step 5: reverting a result holds it."""
    narrator = project.narrator
    narrator.step(5, "A model that nobody wants: revert the result, keep the data")
    narrator.say(
        "Suppose the model of step 3 is the problem and its data are not. Then the result commit is what is reverted."
    )
    project.show("git", "revert", "--no-edit", result)
    project.wait()
    project.show("git", "ml", "status")
    held = project.git("rev-parse", "HEAD:model")
    narrator.claim(
        project.states() == {"model": "held", "inference": "fresh"},
        "the model is held, and the predictions are those of that older model",
    )
    narrator.say("Held means: known to be older than its data, on purpose. Nothing brings the unwanted model back.")

    def act() -> None:
        project.add("input", "batch-5.csv")
        project.commit("A fifth batch")

    ran = project.executed_during(act)
    project.show("git", "ml", "status")
    used = {each["path"]: each["oid"] for each in project.ml("show", "inference/batch-5.csv")["inputs"]}
    narrator.claim(
        ran == ["inference"]
        and used.get("model") == held == project.git("rev-parse", "HEAD:model")
        and project.states() == {"model": "held", "inference": "fresh"},
        "the new file was predicted with the old model, which is still held",
    )

    def act_again() -> None:
        project.add("training", "digits-4.csv")
        project.commit("Another 300 labelled digits")

    ran = project.executed_during(act_again)
    project.show("git", "ml", "status")
    narrator.claim(
        ran == ["inference"] * 5 + ["model"] and project.all_fresh(),
        "new training data ended the hold: trained, and all five batches predicted again",
    )


def elsewhere(project: Clone) -> None:
    """Step 6: everything travels by plain git."""
    narrator = project.narrator
    narrator.step(6, "A clone elsewhere")
    narrator.show(narrator.root, "git", "init", "-q", "--bare", "server.git")
    project.show("git", "remote", "add", "origin", "../server.git")
    project.show("git", "push", "-q", "-u", "origin", "main")
    narrator.show(narrator.root, "git", "clone", "-q", "server.git", "colleague")
    colleague = Clone(narrator, narrator.root / "colleague")
    colleague.show("git", "ml", "install")
    colleague.show("git", "ml", "status")
    directories = ("training", "input", "model", "inference")
    narrator.claim(
        colleague.content(*directories) == project.content(*directories) and colleague.is_clean(),
        "the clone has every file, byte for byte",
    )
    narrator.claim(colleague.has_nothing_to_run(), "every stage is fresh there, and there is nothing to run")
    narrator.say(
        "server.git is a bare repository as any git host has it. Large files went there as chunks, which git packs "
        "against earlier versions; the record of all runs went along."
    )


def failing_stage(project: Clone) -> None:
    """Step 7: a failure leaves the user's commit alone, and the fix is a commit."""
    narrator = project.narrator
    narrator.step(7, "A stage that fails")
    shutil.copy(EXTRA / "input" / "batch-6.csv", project.directory / "input")
    blank_cell(project.directory / "input" / "batch-6.csv")
    narrator.note(project.directory, "cp …/batch-6.csv input/    # a file with an empty cell")
    mine = project.commit("A sixth batch")
    project.show("git", "ml", "status")
    project.show("git", "ml", "logs", "inference", "--failed", "-n", "4")
    now = project.stages()
    narrator.claim(
        now["inference"]["state"] == "failed" and now["inference"]["datums"]["failed"] == 1,
        "one datum failed; status and logs say which, and why",
    )
    narrator.claim(
        project.git("rev-parse", "--short", "HEAD") == mine and project.is_clean(),
        "the user's commit stands as it is, and nothing half-done was published",
    )
    project.replace("table.py", "float(cell) for", "float(cell or 0) for")
    project.commit("An empty cell is a dark pixel")
    project.show("git", "ml", "status")
    narrator.claim(project.all_fresh(), "the commit that fixes the code ran it")
    narrator.say("Both scripts import table.py, so gitml knew that it is code of both stages.")


def killed(project: Clone) -> None:
    """Step 8: a runner that is killed loses nothing that was finished."""
    narrator = project.narrator
    narrator.step(8, "The machine goes down in the middle")
    project.replace("predict.py", "import sys\n", "import sys\nimport time\n")
    project.replace("predict.py", "        _, pixels =", "        time.sleep(2)\n        _, pixels =")
    project.commit("Think longer about each batch", wait=False)
    victim = project.until(lambda: project.runner_after("inference", 2))
    narrator.note(project.directory, f"kill -9 {victim}    # the runner, after two of six batches")
    os.kill(victim, signal.SIGKILL)
    project.until(lambda: "running" not in project.states().values())
    project.show("git", "ml", "status")
    now = project.stages()["inference"]
    finished = now["datums"]["done"]
    narrator.claim(now["state"] == "lost", "the run is lost, and status says so")
    report = project.ml("run")
    narrator.note(project.directory, "git ml run")
    project.show("git", "ml", "status")
    resumed = next(each for each in report["stages"] if each["name"] == "inference")
    narrator.claim(
        2 <= finished <= resumed["cached"] and resumed["ran"] + resumed["cached"] == 6 and project.all_fresh(),
        f"it went on where it stopped: {resumed['cached']} batches were known, {resumed['ran']} were computed",
    )


def shuffle_labels(path: Path) -> None:
    """Give every row the label of another one."""
    header, *rows = csv.reader(io.StringIO(path.read_text()))
    labels = [row[0] for row in rows]
    random.Random(0).shuffle(labels)
    mixed = [[label, *row[1:]] for label, row in zip(labels, rows, strict=True)]
    path.write_text("\n".join(",".join(row) for row in [header, *mixed]) + "\n")


def blank_cell(path: Path) -> None:
    """Lose one pixel of the third row."""
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([*cells[:10], "", *cells[11:]])
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
