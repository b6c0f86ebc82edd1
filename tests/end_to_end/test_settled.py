"""Commits that touch nothing that a stage reads are passed over, and no others."""

from collections.abc import Callable

import pytest

from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.settled import is_settled
from tests.end_to_end.project import Project


def tree(project: Project) -> Oid:
    return Oid.parse(project.git("rev-parse", "HEAD^{tree}"))


def passes_over(project: Project) -> bool:
    return is_settled(Repository.discover(project.path), tree(project))


def quietly(project: Project) -> None:
    """Commit everything, unseen by the hooks."""
    project.commit(wait=False, GITML="0")


@pytest.fixture
def settled(project: Project) -> Project:
    assert set(project.states().values()) == {"fresh"}
    assert passes_over(project)
    return project


def test_what_no_stage_reads_is_passed_over(settled: Project) -> None:
    settled.write("notes", "new at the top")
    settled.write("docs/deep/page.md", "below new directories")
    quietly(settled)
    assert passes_over(settled)
    settled.write("notes", "changed")
    quietly(settled)
    settled.git("rm", "-q", "-r", "docs")
    quietly(settled)
    assert passes_over(settled)


CHANGES: dict[str, Callable[[Project], int | str | None]] = {
    "an input changes": lambda p: p.write("training/a.csv", "3\n"),
    "a file comes into an input": lambda p: p.write("input/deep/z.csv", "z\n"),
    "a file leaves an input": lambda p: p.git("rm", "-q", "input/y.csv"),
    "an input is gone": lambda p: p.git("rm", "-q", "-r", "input"),
    "code changes": lambda p: p.write("train.sh", p.read("train.sh") + "# more\n"),
    "code becomes executable": lambda p: (p.path / "train.sh").chmod(0o755),
    "an output is edited": lambda p: p.write("model/model.txt", "mine\n"),
    "an output is gone": lambda p: p.git("rm", "-q", "-r", "inference"),
    "a record is gone": lambda p: p.git("rm", "-q", ".gitml/records/model.json"),
    "the pipeline changes": lambda p: p.write("pipeline.json", p.read("pipeline.json") + "\n"),
    "the pipeline is gone": lambda p: p.git("rm", "-q", "pipeline.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_stage_reads_is_looked_at(settled: Project, change: str) -> None:
    CHANGES[change](settled)
    quietly(settled)
    assert not passes_over(settled)


@pytest.mark.parametrize("name", ["extra", "extra/file"])
def test_what_was_not_there_when_a_command_named_it_is_looked_at(settled: Project, name: str) -> None:
    settled.write("pipeline.json", settled.read("pipeline.json").replace('"train.sh"', '"train.sh", "extra"'))
    settled.commit()
    assert set(settled.states().values()) == {"fresh"}
    assert passes_over(settled)
    settled.write(name, "now it is code\n")
    quietly(settled)
    assert not passes_over(settled)


def test_the_hook_passes_over_and_still_sees_what_comes_next(settled: Project) -> None:
    settled.write("notes", "nothing of a stage's")
    assert settled.commit(wait=False) == ""
    note = settled.path / ".git/ml/settled"
    assert note.read_bytes().split(b"\n")[0].endswith(str(tree(settled)).encode())
    settled.write("input/x.csv", "changed\n")
    assert "1 stage queued (inference)" in settled.commit()
    assert settled.states() == {"model": "fresh", "inference": "fresh"}


def test_after_a_run_in_the_foreground_nothing_needs_to_be_evaluated(settled: Project) -> None:
    settled.write("input/x.csv", "changed\n")
    quietly(settled)
    assert not passes_over(settled)
    settled.ml("run")
    assert passes_over(settled)


def test_a_result_that_is_not_there_for_all_is_looked_at(settled: Project) -> None:
    settled.write("input/x.csv", "changed\n")
    quietly(settled)
    assert settled.states()["inference"] == "stale"
    settled.write("notes", "nothing of a stage's")
    quietly(settled)
    assert not passes_over(settled), "the last evaluation found something to do"


def test_a_note_that_is_damaged_or_of_another_version_is_ignored(settled: Project) -> None:
    note = settled.path / ".git/ml/settled"
    whole = note.read_bytes()
    for damaged in (
        b"",
        whole.replace(b"settled ", b"settled 99", 1),
        b"gitml settled 0.1.0 " + b"0" * 40 + b"\n",
        whole[5:],
    ):
        note.write_bytes(damaged)
        assert not passes_over(settled)
