import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.cli.main import main
from gitml.errors import UserError
from gitml.git import add as library
from gitml.git.add import Added, add_files
from gitml.git.deflate import deflated
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.git.statcache import StatCache
from gitml.git.verified import LARGE
from gitml.store import comparison, preparation
from gitml.store.content import Stored, read_content, store_content
from gitml.store.odb import Rereading
from gitml.store.pointer import is_pointer, parse_pointer
from tests.conftest import run_git


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def set_up(where: Path) -> Path:
    run_git(where, "config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
    run_git(where, "config", "filter.ml.required", "true")
    (where / ".gitattributes").write_text("data/** filter=ml -text\n")
    (where / ".gitignore").write_text("*.tmp\n")
    return where


def write(where: Path, files: dict[bytes, bytes]) -> None:
    for name, content in files.items():
        place = where / os.fsdecode(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (1_700_000_000, 1_700_000_000))  # not in the same second as the index


@pytest.fixture
def project(repo: Path) -> Path:
    return set_up(repo)


def add(where: Path, *paths: str, update: bool = False) -> Added:
    return add_files(Repository.discover(where), paths, where, update=update)


def staged(where: Path) -> str:
    return run_git(where, "ls-files", "-s", "-z")


def deaf(where: Path) -> None:
    """From now on git fails if it wants to know the content of any file under gitml."""
    run_git(where, "config", "filter.ml.process", "false")


EVERY_BYTE = bytes(byte for byte in range(1, 256) if byte != ord("/"))
FILES = {
    b"data/large": noise(3_000_000),
    b"data/d/table": b"".join(b"%d,%d\n" % (row, row % 7) for row in range(150_000)),
    b"data/small": b"small\n",
    b"data/edge": noise(65_536, 2),
    b"data/below": noise(65_535, 3),
    b"data/skipped.tmp": noise(100_000, 4),
    b"code.py": b"print()\n" * 20_000,
    b"data/a" + EVERY_BYTE[:120]: noise(70_000, 5),
    b"data/b" + EVERY_BYTE[120:]: noise(70_000, 6),
    b"data/-n": noise(70_000, 7),
    b"data/[x]*?": noise(70_000, 8),
}


def test_the_result_is_that_of_git_add(project: Path, tmp_path: Path) -> None:
    write(project, FILES)
    (project / "data/large").chmod(0o755)
    (project / "data/link").symlink_to("large")
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", str(project), str(other)], check=True)
    for where in (project, other):
        assert staged(where) == ""
    run_git(other, "add", "-A")
    added = add(project)
    assert staged(project) == staged(other)
    assert b"data/below" in added.others
    assert set(added.stored) == {name for name, content in FILES.items() if len(content) >= 65_536} - {
        b"data/skipped.tmp",
        b"code.py",
    }
    assert run_git(project, "fsck", "--strict", "--full", "--no-dangling") == ""
    assert len(list((project / ".git/objects/pack").glob("*.pack"))) == 1
    deaf(project)
    assert all(line.startswith("A ") for line in run_git(project, "status", "--porcelain").splitlines())


def test_git_status_reads_no_content_afterwards(project: Path) -> None:
    write(project, {b"data/large": noise(3_000_000), b"data/f": noise(70_000)})
    add(project)
    run_git(project, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "c")
    deaf(project)
    assert run_git(project, "status", "--porcelain") == ""


def test_changes_deletions_and_what_stayed(project: Path, tmp_path: Path) -> None:
    write(project, {b"data/large": noise(3_000_000), b"data/gone": noise(70_000), b"data/same": noise(80_000)})
    add(project)
    write(project, {b"data/large": noise(3_000_000, 2), b"data/new": noise(70_000, 3)})
    (project / "data/gone").unlink()
    assert set(add(project, update=True).stored) == {b"data/large"}
    assert "data/gone" not in staged(project)
    assert "data/new" not in staged(project)
    assert add(project, "data").stored == {b"data/new": 70_000}
    assert add(project, "data") == Added()


def test_a_touched_file_is_compared_and_not_stored(project: Path) -> None:
    write(project, {b"data/large": noise(3_000_000)})
    add(project)
    before = sorted((project / ".git/objects/pack").iterdir())
    index = staged(project)
    (project / "data/large").touch()
    assert add(project, "data").unchanged == (b"data/large",)
    assert staged(project) == index
    assert sorted((project / ".git/objects/pack").iterdir()) == before


def test_of_what_was_stored_here_only_the_chunks_are_compared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = noise(LARGE)
    write(project, {b"data/large": content})
    add(project)

    def asked(_: object) -> bytes:
        raise AssertionError("the sha256 of the whole")

    with monkeypatch.context() as patched:
        patched.setattr(comparison._Digests, "whole", asked)
        (project / "data/large").touch()
        assert add(project, "data").unchanged == (b"data/large",)
        (project / ".git/ml/verified").unlink()
        (project / "data/large").touch()
        with pytest.raises(AssertionError, match="the sha256 of the whole"):
            add(project, "data")
    # whoever compared both knows it from then on
    assert add(project, "data").unchanged == (b"data/large",)
    assert (project / ".git/ml/verified").exists()
    write(project, {b"data/large": content[:-1] + b"x"})
    assert add(project, "data").stored == {b"data/large": LARGE}


def test_a_file_in_the_stat_cache_is_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, {b"data/large": noise(3_000_000)})
    place = project / "data/large"
    # written and left alone for a while: the change of its time counts as one, so the clock is set ahead instead
    now = time.time_ns()
    monkeypatch.setattr("gitml.git.statcache.time.time_ns", lambda: now + 10**10)
    add(project)
    index = staged(project)
    run_git(project, "rm", "-q", "--cached", "data/large")
    cache = StatCache(Repository.discover(project))
    assert cache.get(b"data/large", place.stat()) is not None
    monkeypatch.setattr(library, "_PIECE", "reading is an error")
    assert add(project, "data").stored == {b"data/large": 3_000_000}
    assert staged(project) == index


@pytest.mark.parametrize("text", ["", "junk", "[]", '{"schema": "gitml/stat-cache/1", "files": {"data/large": 1}}'])
def test_a_foreign_stat_cache_is_ignored_and_rewritten(project: Path, text: str) -> None:
    write(project, {b"data/large": noise(200_000)})
    cache = project / ".git/ml/stat-cache"
    cache.parent.mkdir(exist_ok=True)
    cache.write_text(text)
    assert add(project, "data").stored == {b"data/large": 200_000}
    assert json.loads(cache.read_text())["schema"] == "gitml/stat-cache/1"


def test_a_fresh_file_does_not_enter_the_stat_cache(project: Path) -> None:
    write(project, {b"data/large": noise(200_000)})
    add(project, "data")
    place = project / "data/large"
    assert StatCache(Repository.discover(project)).get(b"data/large", place.stat()) is None


@pytest.mark.parametrize("size", [3_000_000, LARGE])
@pytest.mark.parametrize("command", ["git", "gitml"])
def test_a_pointer_with_the_digest_of_something_else_is_replaced(project: Path, command: str, size: int) -> None:
    content = noise(size)
    write(project, {b"data/a.bin": content})
    add(project, "data")
    good = run_git(project, "cat-file", "blob", ":data/a.bin")
    digest = hashlib.sha256(content).hexdigest()
    assert digest in good
    (project / "bad").write_text(good.replace(digest, hashlib.sha256(b"").hexdigest()) + "\n")
    blob = run_git(project, "hash-object", "-w", "--no-filters", "bad").strip()
    run_git(project, "update-index", "--cacheinfo", f"100644,{blob},data/a.bin")
    if command == "git":
        run_git(project, "add", "data")
    else:
        add(project, "data")
    assert run_git(project, "cat-file", "blob", ":data/a.bin") == good


def test_a_file_that_changes_while_it_is_read_is_read_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, {b"data/large": noise(6_000_000)})
    place = project / "data/large"
    real = store_content
    seen = []

    def meddled(pieces: Iterator[bytes], pack: PackWriter, rereading: Rereading, *, size: int) -> Stored:
        seen.append(1)
        if len(seen) == 1:
            place.write_bytes(noise(6_000_000, 2))
        return real(pieces, pack, rereading, size=size)

    monkeypatch.setattr(library, "store_content", meddled)
    add(project, "data")
    pointer = parse_pointer(run_git(project, "cat-file", "blob", ":data/large").encode() + b"\n")
    assert pointer.sha256 == hashlib.sha256(noise(6_000_000, 2)).digest()
    assert len(seen) == 2


def test_a_file_that_never_stands_still_is_an_error(project: Path) -> None:
    write(project, {b"data/large": noise(6_000_000), b"data/calm": noise(100_000)})
    place = project / "data/large"
    stop = threading.Event()

    def meddle() -> None:
        with place.open("r+b") as file:
            while not stop.is_set():
                file.write(b"x")
                file.flush()

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        with pytest.raises(UserError, match="'data/large' changes while it is read"):
            add(project, "data")
    finally:
        stop.set()
        thread.join()
    assert staged(project) == ""
    assert set(add(project, "data").stored) == {b"data/large", b"data/calm"}


def test_pathspecs_from_a_subdirectory_and_those_that_match_nothing(project: Path) -> None:
    write(project, {b"data/d/large": noise(100_000), b"data/other": noise(100_000, 2)})
    repository = Repository.discover(project)
    assert set(add_files(repository, ["."], project / "data/d").stored) == {b"data/d/large"}
    with pytest.raises(UserError, match="pathspec 'nothing' did not match any files"):
        add(project, "data", "nothing")
    (project / "data/x.tmp").write_bytes(noise(100_000))
    with pytest.raises(UserError, match=r"'data/x.tmp' is ignored by .gitignore"):
        add(project, "data/x.tmp")
    (project / "empty").mkdir()
    assert add(project, "empty") == Added()


def test_dry_run_changes_nothing(project: Path) -> None:
    write(project, FILES)
    before = sorted((project / ".git").rglob("*"))
    planned = add_files(Repository.discover(project), [], project, dry_run=True)
    assert [path for path in sorted((project / ".git").rglob("*")) if path not in before] == []
    assert planned.stored == add(project).stored


def test_works_in_linked_worktrees_and_sha256_repositories(tmp_path: Path) -> None:
    where = tmp_path / "r"
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(where)], check=True)
    set_up(where)
    run_git(where, "commit", "-q", "--allow-empty", "-m", "c")
    run_git(where, "worktree", "add", "-q", str(tmp_path / "linked"))
    linked = set_up(tmp_path / "linked")
    write(linked, {b"data/large": noise(300_000)})
    add(linked)
    assert is_pointer(run_git(linked, "cat-file", "blob", ":data/large").encode())
    assert staged(where) == ""
    assert run_git(linked, "fsck", "--strict", "--no-dangling") == ""


def test_the_command(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, {b"data/large": noise(300_000), b"code.py": b"x\n"})
    monkeypatch.chdir(project)
    assert main(["add"]) == 128
    assert "nothing specified" in capsys.readouterr().err
    assert main(["add", "-u", "-A"]) == 129
    capsys.readouterr()
    assert main(["add", "-n", "data", "code.py"]) == 0
    assert capsys.readouterr().out == "add 'code.py'\nadd 'data/large' (300.0 kB)\n"
    assert main(["add", "--json", "data", "code.py"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "gitml/add/1"
    assert [(file["path"], file["state"]) for file in said["files"]] == [("code.py", "git"), ("data/large", "stored")]
    assert main(["add", "."]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["add", "ml add"])
def test_a_file_that_is_hashed_in_two_parts(project: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than what is hashed at once: the rest is hashed from the pack, whose own digest is computed meanwhile."""
    parts = 18 if command == "add" else 4
    monkeypatch.setattr(preparation, "_LONG", 16 << 20)  # in this process; that of `git add` needs a longer file
    chance = random.Random(1)
    noisy = [chance.randbytes(16 << 20) for _ in range(parts)]
    text = b"".join(b"%d,%d\n" % (row, row % 7) for row in range(200_000))
    content = b"".join([*noisy[:-1], text, noisy[-1]])
    write(project, {b"data/long": content})
    if command == "add":
        run_git(project, "add", ".")
    else:
        add(project, ".")
    pointer = parse_pointer(run_git(project, "cat-file", "blob", ":data/long").encode() + b"\n")
    assert (pointer.sha256, pointer.size) == (hashlib.sha256(content).digest(), len(content))
    run_git(project, "fsck", "--strict", "--full", "--no-dangling")
    repo = Repository.discover(project)
    with GitOdb(repo.git, repo.format) as odb:
        assert b"".join(read_content(pointer, odb)) == content


@pytest.mark.parametrize("command", ["git add", "git ml add"])
def test_tables_take_less_room_than_what_is_deflated_fast(project: Path, command: str) -> None:
    chance = random.Random(1)
    rows = "".join(f"{chance.random():.4f},{chance.randrange(100)}\n" for _ in range(400_000)).encode()
    packs = 0
    # of the second version the index knows the first, so it comes another way
    for table in (rows, rows[::-1]):
        write(
            project, {b"data/one": table[:100_000], b"data/two": table[100_000:2_000_000], b"data/3": table[2_000_000:]}
        )
        if command == "git add":
            run_git(project, "add", "data")
        else:
            add(project, "data")
        before, packs = packs, sum(pack.stat().st_size for pack in (project / ".git/objects/pack").glob("*.pack"))
        fast = sum(len(part) for at in range(0, len(table), 65536) for part in deflated(table[at : at + 65536]))
        assert packs - before < 0.92 * fast
