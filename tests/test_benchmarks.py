"""The benchmarks run, at their smallest, and print what they are read for."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.ingest import Results
from tests.end_to_end.project import Project

RATIO = r"[0-9]+\.[0-9]+"
BENCHMARKS = {
    "ingest": ("--size 1 --runs 1 csv again change", rf"gitml / lfs: {RATIO} x .*at most 0.5 x"),
    "checkout": ("--size 1 --runs 1 --files 2 --tracked 2", rf"ratio  median {RATIO}, best to best {RATIO}"),
    "transfer": ("--size 1 --only large-file", rf"push of 1 MiB against git push, ms .* {RATIO}  <= 1.3"),
}
NEED_LFS = ("ingest", "checkout")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_prints_its_ratios(tmp_path: Path, name: str) -> None:
    if name in NEED_LFS and shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed")
    arguments, wanted = BENCHMARKS[name]
    # they are no part of what is installed
    top = Project(Path(__file__).parent.parent)
    done = top.run(sys.executable, "-m", f"benchmarks.{name}", *arguments.split(), extra={"TMPDIR": str(tmp_path)})
    assert re.search(wanted, done.stdout), done.stdout


def test_a_program_that_ended_before_its_memory_was_seen_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    results = Results()
    results.add("gitml", 0.5, {"git": 2_000_000})
    results.add("git", 0.01, {})
    results.show("1 MiB", {("gitml", "git"): 0.5})
    shown = capsys.readouterr().out
    assert re.search(r"gitml .* peak: git 2 MB", shown)
    assert re.search(r"git .* peak: too short to be seen", shown)
    assert "gitml / git: 50.00 x" in shown
