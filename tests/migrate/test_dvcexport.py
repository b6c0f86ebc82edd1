"""To DVC: against its documented layout, and with the real program where it is installed."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gitml.errors import ExitCode, UserError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.migrate import journal
from gitml.migrate.convert import ConversionError
from gitml.migrate.dvcstore import cache_of, format_dvc_file, ignore_line, with_ignored
from gitml.migrate.migration import undoing
from gitml.migrate.selection import Choice
from gitml.store.pointer import is_pointer
from tests.conftest import run_git
from tests.end_to_end.project import Project
from tests.migrate.histories import EVERYTHING, Files, History, files_of, noise, run, set_up, status, text

needs_dvc = pytest.mark.skipif(shutil.which("dvc") is None, reason="DVC is not installed")

ATTRIBUTES = b"*.bin filter=ml -text\n/data/** filter=ml -text\n*.c text\n"
FIRST: Files = {
    b".gitattributes": ATTRIBUTES,
    b".gitignore": b"*.tmp",
    b"a.bin": noise(1),
    b"data/deep/t.csv": text(1),
    b"data/s.txt": b"small\n",
    b"data/empty": b"",
    b"data/run": (0o100755, noise(2)),
    b"data/same": noise(1),
    b"x.c": b"int x;\n",
}


@pytest.fixture
def project(repo: Path) -> Path:
    """Plain files, then two versions under gitml, then a commit that touches none of them."""
    history = History()
    begin = history.commit("main", b"plain", {b"x.c": b"int y;\n"})
    first = history.commit("main", b"one", FIRST, [begin])
    second = history.commit("main", b"two", {b"a.bin": noise(3), b"data/deep/t.csv": None}, [first])
    history.commit("main", b"three", {b"README": b"read me\n"}, [second])
    history.write(repo)
    set_up(repo)
    run(repo, choice=EVERYTHING, dirty_is_fine=True)
    return repo


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def dvc_file(name: str, content: bytes, more: str = "") -> bytes:
    return f"outs:\n- md5: {md5(content)}\n  size: {len(content)}\n{more}  hash: md5\n  path: {name}\n".encode()


def cached(cache: Path, content: bytes) -> Path:
    return cache / "files/md5" / md5(content)[:2] / md5(content)[2:]


def tree(repo: Path, revision: str) -> dict[bytes, bytes]:
    here = Repository.discover(repo)
    with GitOdb(here.git, here.format) as odb:
        return {path: file.content for path, file in files_of(here, odb, revision).items()}


PROJECT = {
    b".dvc/config": b"",
    b".dvc/.gitignore": b"/config.local\n/tmp\n/cache\n",
    b".dvcignore": (
        b"# Add patterns of files dvc should ignore, which could improve\n# the performance. Learn more at\n"
        b"# https://dvc.org/doc/user-guide/dvcignore\n"
    ),
}
EXPORTED = {
    **PROJECT,
    b".gitattributes": b"*.c text\n",
    b".gitignore": b"*.tmp\n/a.bin\n",
    b"a.bin.dvc": dvc_file("a.bin", noise(3)),
    b"data/.gitignore": b"/empty\n/run\n/s.txt\n/same\n",
    b"data/empty.dvc": dvc_file("empty", b""),
    b"data/run.dvc": dvc_file("run", noise(2), "  isexec: true\n"),
    b"data/s.txt.dvc": dvc_file("s.txt", b"small\n"),
    b"data/same.dvc": dvc_file("same", noise(1)),
    b"x.c": b"int x;\n",
    b"README": b"read me\n",
}


def test_one_commit_gives_files_to_dvc_where_they_lie(project: Path) -> None:
    old = Repository.discover(project).resolve("main")
    before = (project / "a.bin").stat()
    outcome = run(project, to="dvc")
    assert (outcome.commits, outcome.contents, outcome.notes) == (0, 5, [])
    assert tree(project, "main") == EXPORTED
    assert Repository.discover(project).resolve("main~1") == old
    assert status(project) == ""
    assert (project / "a.bin").stat() == before, "what DVC keeps now stays in its place"
    assert (project / "a.bin").read_bytes() == noise(3)
    assert (project / "data/run").stat().st_mode & 0o111
    for content in (noise(1), noise(2), noise(3), b"small\n", b""):
        place = cached(project / ".dvc/cache", content)
        assert place.read_bytes() == content
        assert place.stat().st_mode & 0o777 == 0o444


def test_history_is_that_of_dvc(project: Path) -> None:
    begin = Repository.discover(project).resolve("main~3")
    outcome = run(project, to="dvc", choice=EVERYTHING)
    assert (outcome.commits, outcome.contents) == (3, 6)
    assert tree(project, "main") == EXPORTED
    first = tree(project, "main~2")
    assert first[b"a.bin.dvc"] == dvc_file("a.bin", noise(1))
    assert first[b"data/deep/t.csv.dvc"] == dvc_file("t.csv", text(1))
    assert first[b"data/deep/.gitignore"] == b"/t.csv\n"
    assert PROJECT.items() <= first.items()
    assert Repository.discover(project).resolve("main~3") == begin, "nothing to give away, so it stays as it is"
    assert status(project) == ""
    assert cached(project / ".dvc/cache", text(1)).read_bytes() == text(1)


def test_what_went_to_dvc_comes_back(project: Path) -> None:
    trees = [tree(project, f"main~{number}") for number in range(3)]
    run(project, to="dvc", choice=EVERYTHING)
    run(project, source="dvc", choice=EVERYTHING, skip_fetch=True)
    for number, old in enumerate(trees):
        new = tree(project, f"main~{number}")
        changed = {b".gitattributes", b".gitignore", *PROJECT}
        assert {path: new[path] for path in new.keys() - changed} == {path: old[path] for path in old.keys() - changed}
    assert status(project) == ""
    assert (project / "a.bin").read_bytes() == noise(3)


def test_names_with_escapes_leave_nothing_behind(repo: Path) -> None:
    files: Files = {b"a[1].bin": b"1", b"trail .bin ": b"2", b"#x": b"3", b"x.c": b"c"}
    committed(repo, {b".gitattributes": b"*.bin* filter=ml\n\\#x filter=ml\n", **files})
    run(repo, to="dvc")
    assert tree(repo, "main")[b".gitignore"] == b"/\\#x\n/a\\[1\\].bin\n/trail .bin\\ \n"
    run(repo, source="dvc", skip_fetch=True)
    assert tree(repo, "main").keys() == {b".gitattributes", *files, *PROJECT}


def test_undo_takes_the_files_back(project: Path) -> None:
    here = Repository.discover(project)
    old = here.resolve("main")
    stamp = run(project, to="dvc").stamp
    (project / "data/run").unlink()
    with undoing(here) as odb:
        journal.undo(here, odb, stamp, lose_later=False)
    assert here.resolve("main") == old
    assert (project / "data/run").read_bytes() == noise(2)
    assert not (project / "a.bin.dvc").exists()
    assert status(project) == "?? .dvc/\n", "contents stay: others may have come to them"


def test_pointers_in_the_worktree_become_contents(project: Path) -> None:
    os.environ["GITML_SKIP_SMUDGE"] = "1"
    try:
        (project / "a.bin").unlink()
        run_git(project, "checkout", "a.bin")
    finally:
        del os.environ["GITML_SKIP_SMUDGE"]
    assert is_pointer((project / "a.bin").read_bytes())
    run(project, to="dvc")
    assert (project / "a.bin").read_bytes() == noise(3)


def test_changes_of_the_user_stay(project: Path) -> None:
    (project / "a.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"'a\.bin' has changes"):
        run(project, to="dvc")
    run(project, to="dvc", dirty_is_fine=True)
    assert (project / "a.bin").read_bytes() == b"mine"
    assert tree(project, "main")[b"a.bin.dvc"] == dvc_file("a.bin", noise(3))


def test_chosen_files_leave(project: Path) -> None:
    run(project, to="dvc", include=("data/**",), exclude=("*.txt",))
    files = tree(project, "main")
    assert {b"a.bin", b"data/s.txt", b"data/run.dvc"} <= files.keys()
    assert files[b"data/.gitignore"] == b"/empty\n/run\n/same\n"
    assert run_git(project, "check-attr", "filter", "--", "a.bin", "data/run", "data/s.txt").splitlines() == [
        "a.bin: filter: ml",
        "data/run: filter: unspecified",
        "data/s.txt: filter: ml",
    ]
    assert status(project) == ""
    run(project, to="dvc")
    files = tree(project, "main")
    assert {b"a.bin.dvc", b"data/s.txt.dvc"} <= files.keys()
    assert b"filter=ml" not in files[b".gitattributes"]


def test_contents_that_are_not_here_are_named_and_nothing_happens(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", f"file://{project}", "clone")
    here = set_up(clone)
    old = here.resolve("main")
    with pytest.raises(ConversionError, match=r"contents are missing, nothing was changed\n'") as caught:
        run(clone, to="dvc")
    assert "'a.bin'" in caught.value.message
    assert caught.value.hint == "fetch it: git ml fetch"
    assert caught.value.exit_code == ExitCode.MISSING_DATA
    assert here.resolve("main") == old
    assert not (clone / ".dvc").exists()
    outcome = run(clone, to="dvc", skip_missing=True)
    assert outcome.missing == [b"a.bin", b"data/run", b"data/same"]
    files = tree(project, "main")
    assert run_git(clone, "show", "main:.gitattributes") == (
        "*.c text\n/a.bin filter=ml -text\n/data/run filter=ml -text\n/data/same filter=ml -text"
    )
    assert run_git(clone, "rev-parse", "main:a.bin") == run_git(project, "rev-parse", "main:a.bin")
    assert b"a.bin" in files
    assert status(clone) == ""


def committed(repo: Path, files: Files) -> None:
    history = History()
    history.commit("main", b"one", files)
    history.write(repo)
    set_up(repo)


def test_what_dvc_cannot_have_stays_and_is_named(repo: Path) -> None:
    committed(
        repo,
        {
            b".gitattributes": b"/d/** filter=ml -text\n",
            b".dvcignore": b"hidden\n",
            b"d/link": (0o120000, b"x"),
            b"d/new\nline": b"n",
            b"d/bad\xff": b"b",
            b"d/hidden": b"h",
            b"d/other.bin.dvc": b"outs: []\n",
            b"d/fine": b"f",
        },
    )
    outcome = run(repo, to="dvc")
    assert sorted(outcome.notes) == [
        "'d/bad\\xff' stays as it is: its name is not UTF-8",
        "'d/hidden' stays as it is: '.dvcignore' has DVC ignore it",
        "'d/link' stays as it is: it is a symbolic link",
        "'d/new\\nline' stays as it is: no line of '.gitignore' can hold its name",
    ]
    files = tree(repo, "main")
    assert {b"d/link", b"d/new\nline", b"d/bad\xff", b"d/hidden", b"d/other.bin.dvc", b"d/fine.dvc"} <= files.keys()
    assert files[b".gitattributes"] == (
        b'/d/bad\xff filter=ml -text\n/d/hidden filter=ml -text\n"/d/new\\nline" filter=ml -text\n'
    )
    assert files[b".dvcignore"] == b"hidden\n"
    assert status(repo) == ""


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ({b"a.bin.dvc": b"outs: []\n"}, "'a.bin.dvc' stands there already", "git rm it"),
        (
            {b".gitignore": b"*.dvc\n"},
            "'a.bin.dvc' would be ignored by git, and DVC refuses such files",
            "'.gitignore'",
        ),
        ({b".gitignore": (0o120000, b"x")}, "'.gitignore' is no file that could name 'a.bin'", "make it a file"),
        ({b".dvc": b"x"}, "'.dvc' is a file, and DVC needs a directory there", "git mv it"),
    ],
)
def test_what_dvc_would_refuse_is_refused(repo: Path, more: Files, message: str, hint: str) -> None:
    committed(repo, {b".gitattributes": b"*.bin filter=ml\n", b"a.bin": b"a", **more})
    with pytest.raises(UserError, match=message) as caught:
        run(repo, to="dvc")
    assert hint in (caught.value.hint or "")
    assert not (repo / ".dvc/cache").exists()


def test_what_git_ignores_already_is_not_named_again(repo: Path) -> None:
    ignore = b"/a.bin\r\nb.*\n!b.bin.dvc\n"
    committed(
        repo,
        {
            b".gitattributes": b"*.bin filter=ml\n",
            b".gitignore": ignore,
            b"a.bin": b"a",
            b"b.bin": b"b",
            b"c.bin": b"c",
        },
    )
    run(repo, to="dvc")
    assert tree(repo, "main")[b".gitignore"] == ignore + b"/c.bin\n"


def test_a_project_that_is_there_says_where_its_cache_is(repo: Path, tmp_path: Path) -> None:
    committed(
        repo,
        {
            b".gitattributes": b"*.bin filter=ml\n",
            b".dvc/config": f"[cache]\n    dir = {tmp_path}/shared\n".encode(),
            b"a.bin": b"a",
            b"sub/.dvc/config": b"[cache]\n    dir = ../../near\n",
            b"sub/deep/b.bin": b"a",
        },
    )
    run(repo, to="dvc")
    assert cached(tmp_path / "shared", b"a").exists()
    assert cached(repo / "near", b"a").exists()
    assert not (repo / ".dvc/cache").exists()
    files = tree(repo, "main")
    assert files[b"sub/deep/b.bin.dvc"] == dvc_file("b.bin", b"a")
    assert files[b".dvc/.gitignore"] == PROJECT[b".dvc/.gitignore"]
    assert b".dvcignore" not in files


def test_commits_from_before_the_project_find_its_cache(repo: Path, tmp_path: Path) -> None:
    config = f"[cache]\n    dir = {tmp_path}/shared\n".encode()
    history = History()
    first = history.commit("main", b"one", {b".gitattributes": b"*.bin filter=ml\n", b"a.bin": b"1"})
    history.commit("main", b"two", {b"a.bin": b"2", b".dvc/config": config, b".dvcignore": b"/a.*\n"}, [first])
    history.commit("main", b"three", {b".dvcignore": None}, [2])
    history.write(repo)
    set_up(repo)
    run(repo, to="dvc", choice=EVERYTHING)
    old = tree(repo, "main~2")
    assert (old[b".dvc/config"], old[b".dvcignore"]) == (config, PROJECT[b".dvcignore"])
    assert old[b"a.bin.dvc"] == dvc_file("a.bin", b"1")
    assert b"a.bin" in tree(repo, "main~1"), "DVC was told to ignore it"
    assert {path.read_bytes() for path in (tmp_path / "shared/files/md5").glob("*/*")} == {b"1", b"2"}


def test_the_configuration_of_the_user_counts_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    assert cache_of(tmp_path) == tmp_path / ".dvc/cache"
    for place, configured, expected in (
        ("system", "/all", Path("/all")),
        ("user", "near", tmp_path / "user/near"),
        (".dvc", "../shared", tmp_path / ".dvc/../shared"),
    ):
        (tmp_path / place).mkdir()
        (tmp_path / place / "config").write_text(f"[cache]\n    dir = {configured}\n")
        assert cache_of(tmp_path) == expected
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = ~/cache\n")
    assert cache_of(tmp_path) == Path.home() / "cache"


def test_a_bare_repository_is_refused(project: Path, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "-q", "--bare", str(project), "bare")
    with pytest.raises(UserError, match="a bare repository has no place for the cache of DVC"):
        run(tmp_path / "bare", to="dvc", choice=EVERYTHING)


NAMES = [
    "a b", " a", "a ", "#a", "!a", "a[1]", "a*", "a?", "back\\slash", "é", "it's", 'q"', "12", "1e5", "0o17", "null",
    "a: b", "- a", "\x85", "tab\t", "yes", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_written_so_that_yaml_and_git_read_them(name: str, repo: Path) -> None:
    import yaml

    from gitml.git.ignores import ignored_by_files
    from gitml.migrate.dvcstore import Kept

    written = format_dvc_file(Kept("1" * 20 + "e" + "5" * 11, 1), name, executable=False)
    assert yaml.safe_load(written)["outs"] == [
        {"md5": "1" * 20 + "e" + "5" * 11, "size": 1, "hash": "md5", "path": name}
    ]
    assert b"md5: '1" in written, "YAML 1.2 takes it for a number"
    line = ignore_line(name.encode()) + b"\n"
    found = ignored_by_files(Repository.discover(repo), {b"": line}, [name.encode(), b"x", b"sub/" + name.encode()])
    assert found == {name.encode()}


def test_lists_of_ignored_files_are_continued_as_dvc_does() -> None:
    assert with_ignored(b"", [b"/a"]) == b"/a\n"
    assert with_ignored(b"x", [b"/a", b"/b"]) == b"x\n/a\n/b\n"
    assert with_ignored(b"/a\n", [b"/a"]) == b"/a\n"


def test_a_dry_run_and_json(project: Path) -> None:
    here = Project(project)
    before = here.git("for-each-ref")
    planned = here.json("migrate", "export", "--to", "dvc", "--everything", "--dry-run")
    assert here.git("for-each-ref") == before
    assert not (project / ".dvc").exists()
    said = here.ml("migrate", "export", "--to", "dvc", "--dry-run")
    assert said.stdout.endswith("would be converted in a new commit\n")
    done = here.json("migrate", "export", "--to", "dvc", "--everything")
    assert done["undo"] is not None
    assert planned == {**done, "dry_run": True, "undo": None}
    assert (done["commits"], done["contents"], done["refs"]) == (3, 6, ["refs/heads/main"])
    assert here.is_clean()
    assert "rm -r .dvc" in here.ml("migrate", "undo").stderr
    assert here.json("migrate", "export", "--to", "dvc", "-I", "nothing")["refs"] == []


@needs_dvc
def test_the_real_dvc_agrees(project: Path) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}

    def dvc(*arguments: str) -> str:
        done = subprocess.run(["dvc", *arguments], cwd=project, env=environment, check=True, capture_output=True)
        return done.stdout.decode()

    run(project, to="dvc", choice=Choice(everything=True))
    clean = "Data and pipelines are up to date.\n"
    assert dvc("status") == clean
    shutil.rmtree(project / "data")
    (project / "a.bin").unlink()
    run_git(project, "checkout", "-q", ".")
    dvc("checkout")
    assert (project / "data/run").read_bytes() == noise(2)
    assert (project / "data/run").stat().st_mode & 0o111
    assert (project / "a.bin").read_bytes() == noise(3)
    run_git(project, "checkout", "-q", "main~2")
    dvc("checkout")
    assert dvc("status") == clean
    assert (project / "a.bin").read_bytes() == noise(1)
    assert (project / "data/deep/t.csv").read_bytes() == text(1)
    assert status(project) == ""
    (project / "new.bin").write_bytes(noise(7))
    dvc("add", "new.bin")
    assert (project / "new.bin.dvc").read_bytes() == dvc_file("new.bin", noise(7))
    assert (project / ".gitignore").read_bytes() == b"*.tmp\n/a.bin\n/new.bin\n"
