"""Which commands hooks run: levels, review, signatures."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.project import Project, small_project

ELSEWHERE = "came from elsewhere"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Project, Project]:
    """A colleague's project without gitml's hooks, and a clone of it with first results."""
    theirs = small_project(tmp_path / "theirs")
    theirs.git("config", "ml.sandbox", "none")
    theirs.commit("first")
    theirs.ml("uninstall")
    theirs.git("clone", "-q", str(theirs.path), str(tmp_path / "ours"))
    ours = Project(tmp_path / "ours")
    ours.git("config", "ml.sandbox", "none")
    assert "commits made here will run: model, inference" in ours.ml("install").stdout
    return theirs, ours


def their_change(theirs: Project, text: str, *flags: str) -> None:
    theirs.write("train.sh", theirs.read("train.sh") + text)
    theirs.git("add", "-A")
    theirs.git("commit", "-q", "-m", "theirs", *flags)


def pull(ours: Project) -> str:
    said = ours.run("git", "pull", "-q", "--no-rebase", "--no-edit").stderr
    ours.wait()
    return said


def test_review_and_levels(pair: tuple[Project, Project]) -> None:
    theirs, ours = pair
    their_change(theirs, "echo new line\n")
    said = pull(ours)
    assert "model: the command, its code or its environment came from elsewhere, nothing ran" in said
    assert "git ml trust --show" in said
    shown = ours.ml("trust", "--show", check=False)
    assert shown.returncode == 3
    assert "model  not reviewed\n  changed since" in shown.stdout
    assert "  +echo new line\n" in shown.stdout
    assert "inference  reviewed\n" in shown.stdout
    listed = {each["name"]: each for each in ours.json("trust", "--show", check=False)["stages"]}
    assert listed["model"]["code"] == ["train.sh"]
    assert listed["model"]["reviewed_at"] is not None
    assert (listed["model"]["reviewed"], listed["inference"]["reviewed"]) == (False, True)
    assert ours.ml("trust", "model").stdout == "reviewed: model\n"
    assert ours.ml("trust", "--show").returncode == 0
    ours.write("notes.txt", "n\n")
    ours.commit("notes")
    assert set(ours.states().values()) == {"fresh"}
    # everything, by the environment: as a server has it
    their_change(theirs, "echo again\n")
    assert (
        ELSEWHERE not in ours.run("git", "pull", "-q", "--no-rebase", "--no-edit", extra={"GITML_TRUST": "repo"}).stderr
    )
    ours.wait()
    assert set(ours.states().values()) == {"fresh"}
    bad = ours.ml("trust", "--show", check=False, GITML_TRUST="all")
    assert "GITML_TRUST is 'all', which is no level" in bad.stderr
    assert "levels: never, ask, mine, signed, repo" in bad.stderr


def test_a_specification_in_a_file_of_its_own_is_compared(tmp_path: Path) -> None:
    theirs = small_project(tmp_path / "theirs", {"stages": ["model.json"]})
    theirs.ml("uninstall")

    def save(word: str) -> None:
        stage = {"pipeline": {"name": "model"}, "transform": {"cmd": ["sh", "-c", f"echo {word} > pfs/out/x"]}}
        theirs.write("model.json", json.dumps(stage))
        theirs.git("add", "-A")
        theirs.git("commit", "-q", "-m", word)

    for word in ("first", "second"):
        save(word)
    theirs.git("clone", "-q", str(theirs.path), str(tmp_path / "ours"))
    ours = Project(tmp_path / "ours")
    ours.ml("install")
    save("third")
    ours.git("pull", "-q")
    ours.wait()
    shown = ours.ml("trust", "--show", check=False).stdout
    assert f"changed since {theirs.head('HEAD~1')[:7]}" in shown
    assert "second" in shown
    assert "third" in shown


def test_own_commits_wait_at_the_level_ask_and_nothing_runs_at_never(pair: tuple[Project, Project]) -> None:
    _, ours = pair
    ours.ml("trust", "--level", "ask")
    ours.write("train.sh", ours.read("train.sh") + "echo mine\n")
    assert ELSEWHERE in ours.commit("own")
    assert ours.states()["model"] == "stale"
    ours.ml("trust", "--level", "never")
    ours.ml("trust")
    ours.write("training/b.csv", "3\n")
    assert ours.commit("data") == ""
    assert ours.states()["model"] == "stale"
    ours.ml("trust", "--level", "mine")
    ours.write("training/b.csv", "4\n")
    ours.commit("data")
    assert set(ours.states().values()) == {"fresh"}
    ours.ml("trust", "--forget")
    assert ours.ml("trust", "--show", check=False).stdout.count("not reviewed") == 2
    assert ours.ml("trust", "--level", "ask", "--show", check=False).returncode == 128


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_signed_commits_are_trusted_at_the_level_signed(pair: tuple[Project, Project], tmp_path: Path) -> None:
    theirs, ours = pair
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    for project in (theirs, ours):
        project.git("config", "gpg.format", "ssh")
        project.git("config", "user.signingKey", str(key))
        project.git("config", "gpg.ssh.allowedSignersFile", str(signers))
    ours.ml("trust", "--level", "signed")
    their_change(theirs, "echo signed\n", "-S")
    assert ELSEWHERE not in pull(ours)
    assert set(ours.states().values()) == {"fresh"}
    # signed, and then changed by somebody else
    theirs.git("reset", "-q", "--hard", "HEAD")
    their_change(theirs, "echo signed too\n", "-S")
    theirs.write("notes.txt", "n\n")
    theirs.git("add", "-A")
    theirs.git("commit", "-q", "-m", "unsigned")
    assert ELSEWHERE in pull(ours)
    assert ours.states()["model"] == "stale"


def test_lock_files_are_reviewed_with_the_commands(pair: tuple[Project, Project]) -> None:
    theirs, ours = pair
    theirs.write("requirements.txt", "numpy==1\n")
    their_change(theirs, "")
    theirs.git("rm", "-q", "--cached", "input/y.csv")
    theirs.git("commit", "-q", "-m", "their data")
    said = pull(ours)
    assert "inference: the command, its code or its environment came from elsewhere, nothing ran" in said
    shown = ours.ml("trust", "--show", check=False)
    assert (shown.returncode, "  environment added: requirements.txt\n" in shown.stdout) == (3, True)
    assert "  +numpy==1\n" in shown.stdout
    # to change a lock file of all stages does not vouch for a command that nobody here has seen
    their_change(theirs, "echo unseen\n")
    pull(ours)
    ours.write("requirements.txt", "numpy==1\nscipy==1\n")
    assert "model: the command, its code or its environment" in ours.commit("ours")
    ours.ml("trust")
    assert [each["environment"] for each in ours.json("trust", "--show")["stages"]] == [["requirements.txt"]] * 2
    ours.ml("run")
    # our own change of it stands by itself, also where it makes nothing stale
    ours.write("requirements.txt", "numpy==2\n")
    assert ours.commit("own") == ""
    assert set(ours.states().values()) == {"fresh"}
    theirs.git("pull", "-q", "--no-rebase", "--no-edit", str(ours.path), "HEAD")
    theirs.write("training/b.csv", "5\n")
    their_change(theirs, "")
    assert ELSEWHERE not in pull(ours)
    assert set(ours.states().values()) == {"fresh"}


def test_after_an_update_people_are_asked_once_and_told_why(pair: tuple[Project, Project]) -> None:
    _, ours = pair
    (kept,) = [
        each
        for each in (Path(ours.environment()["XDG_STATE_HOME"]) / "gitml" / "trust").iterdir()
        if each.stat().st_mtime_ns == max(other.stat().st_mtime_ns for other in each.parent.iterdir())
    ]
    kept.write_text('{"commands": ["00"], "level": "mine"}')
    ours.write("training/b.csv", "3\n")
    said = ours.commit("data")
    assert "what was reviewed here before counts no more: a review now covers lock files too" in said
    assert "model: not reviewed, nothing ran" in said
    assert "lock files too" in ours.ml("trust", "--show", check=False).stdout
    assert ours.json("trust", "--show", check=False)["doubt"] == "form"
    ours.ml("trust")
    ours.write("training/c.csv", "4\n")
    said = ours.commit("data")
    assert ("2 stages queued" in said, "reviewed" in said) == (True, False)
    assert set(ours.states().values()) == {"fresh"}
    assert ours.json("trust", "--show")["doubt"] is None
