"""Data that both sides of a merge changed: git says so, and nothing is dropped."""

from pathlib import Path

import pytest

from tests.end_to_end.project import Project


@pytest.mark.parametrize("lines", [10, 20_000], ids=["small", "stored as chunks"])
def test_both_sides_changed_one_file(tmp_path: Path, lines: int) -> None:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.ml("install")
    project.ml("track", "data/**")
    numbers = [str(number) for number in range(lines)]
    project.write("data/a.csv", "\n".join(numbers))
    project.commit("base", wait=False)
    project.git("switch", "-q", "-c", "other")
    project.write("data/a.csv", "\n".join(["theirs", *numbers[1:]]))
    project.commit("theirs", wait=False)
    project.git("switch", "-q", "main")
    project.write("data/a.csv", "\n".join(["ours", *numbers[1:]]))
    project.commit("ours", wait=False)

    merge = project.run("git", "merge", "other", check=False)

    assert merge.returncode == 1
    assert project.git("status", "--porcelain") == "UU data/a.csv"
    if lines == 10:
        assert "<<<<<<< ours\nours\n" in project.read("data/a.csv")
    else:
        assert "both sides changed 'data/a.csv'" in merge.stderr
        assert project.read("data/a.csv").startswith("ours\n1\n"), "no markers in a pointer"
    project.git("checkout", "--theirs", "data/a.csv")
    assert project.read("data/a.csv").startswith("theirs\n1\n")
    project.commit("merged", wait=False)
    assert project.read("data/a.csv").startswith("theirs\n1\n")
    assert project.is_clean()
