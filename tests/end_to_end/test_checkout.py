"""Large files come into the worktree with every git command that touches it, and with `git ml checkout`."""

import hashlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from gitml.git.checkout import fill_in
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat
from gitml.store.chunker import Chunker
from gitml.store.pointer import is_pointer
from tests.end_to_end.project import IMPORTS_SHOWN, Project, hooks_started

ODD = os.fsdecode(b'data/odd\n\xff ".bin')
SIZE = 300_000


def noise(seed: int, size: int = SIZE) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Clone(Project):
    """A clone in which every pointer leaves the filter as one, as large files do."""

    def holds(self, name: str, content: bytes) -> bool:
        return (self.path / name).read_bytes() == content

    def is_pointer(self, name: str) -> bool:
        return is_pointer((self.path / name).read_bytes())

    def is_clean_without_reading(self) -> bool:
        """Whether git status is clean and starts no filter."""
        trace = self.path.parent / f"trace-{random.random()}"
        said = self.git("status", "--porcelain", GIT_TRACE2_EVENT=str(trace), GIT_OPTIONAL_LOCKS="0")
        assert '"child_start"' not in trace.read_text()
        trace.unlink()
        return said == ""

    def index_is_settled(self) -> None:
        """Let plain files of this second be older than the index, so that a later look need not compare them."""
        for line in self.git("ls-files", "-z").split("\0"):
            if line and (self.path / line).lstat().st_size < 1000:
                os.utime(self.path / line, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
        self.git("update-index", "-q", "--refresh", check=False)


def set_up(path: Path) -> Clone:
    clone = Clone(path)
    clone.ml("install")
    clone.git("config", "ml.smudgeLimit", "0")
    return clone


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository: `first` and `main` change large files in turn, `side` another one."""
    where = tmp_path_factory.mktemp("history")
    bare = where / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    subprocess.run(["git", "clone", "-q", str(bare), str(where / "author")], check=True, capture_output=True)
    author = set_up(where / "author")
    author.write(".gitattributes", "*.bin filter=ml -text\n")
    author.write("notes.txt", "one\n")
    author.write("data/a.bin", noise(1))
    author.write("data/b.bin", noise(2))
    author.write(ODD, noise(3))
    author.write("tool.bin", noise(4))
    (where / "author/tool.bin").chmod(0o755)
    author.commit("first", wait=False)
    author.git("tag", "first")
    author.write("data/a.bin", noise(11))
    author.write("data/new.bin", noise(15))
    author.commit("second", wait=False)
    author.git("switch", "-q", "-c", "side", "first")
    author.write("data/b.bin", noise(22))
    author.commit("side", wait=False)
    author.git("switch", "-q", "main")
    author.git("push", "-q", "origin", "main", "side", "first")
    return bare


@pytest.fixture
def clone(history: Path, tmp_path: Path) -> Clone:
    """A fresh clone that is set up, on `main`."""
    subprocess.run(["git", "clone", "-q", str(history), str(tmp_path / "clone")], check=True)
    clone = set_up(tmp_path / "clone")
    clone.git("branch", "-q", "side", "origin/side")
    return clone


def test_every_command_of_git_fills_files_in(clone: Clone) -> None:
    one, two, side = noise(1), noise(11), noise(22)

    # clone and install
    assert clone.holds("data/a.bin", two)
    assert clone.holds(ODD, noise(3))
    assert (clone.path / "tool.bin").stat().st_mode & 0o777 == 0o777 & ~umask() | 0o100
    clone.index_is_settled()
    assert clone.is_clean_without_reading()

    def after(*command: str, expect: dict[str, bytes]) -> None:
        clone.git(*command)
        for name, content in expect.items():
            assert clone.holds(name, content), (command, name)
        clone.index_is_settled()
        assert clone.is_clean_without_reading(), command

    after("checkout", "-q", "first", expect={"data/a.bin": one})
    assert not (clone.path / "data/new.bin").exists()
    after("switch", "-q", "main", expect={"data/a.bin": two, "data/new.bin": noise(15)})
    (clone.path / "data/a.bin").unlink()
    after("restore", "data/a.bin", expect={"data/a.bin": two})
    (clone.path / "data/a.bin").write_bytes(b"damage")
    after("checkout", "--", "data/a.bin", expect={"data/a.bin": two})
    after("reset", "-q", "--hard", "first", expect={"data/a.bin": one})
    after("reset", "-q", "--hard", "origin/main", expect={"data/a.bin": two})
    (clone.path / "data/a.bin").write_bytes(noise(99))
    after("stash", "-q", expect={"data/a.bin": two})
    clone.git("stash", "pop", "-q")
    assert clone.holds("data/a.bin", noise(99))
    assert clone.git("status", "--porcelain") == " M data/a.bin"
    after("checkout", "-q", "-f", expect={"data/a.bin": two})
    after("merge", "-q", "--no-edit", "side", expect={"data/a.bin": two, "data/b.bin": side})
    after("revert", "--no-edit", "-m", "1", "HEAD", expect={"data/b.bin": noise(2)})
    after("cherry-pick", "side", expect={"data/b.bin": side})
    after("reset", "-q", "--hard", "side", expect={"data/a.bin": one, "data/b.bin": side})
    after("rebase", "-q", "origin/main", expect={"data/a.bin": two, "data/b.bin": side})
    after("reset", "-q", "--hard", "first", expect={"data/a.bin": one, "data/b.bin": noise(2)})
    after("pull", "-q", "--ff-only", "origin", "main", expect={"data/a.bin": two})
    after("bisect", "start", "-q", "HEAD", "first", expect={"data/a.bin": two})
    after("bisect", "reset", expect={"data/a.bin": two})
    after("reset", "-q", "--hard", "side", expect={"data/b.bin": side})
    clone.git("cherry-pick", "origin/main")
    after("rebase", "-q", "origin/main", expect={"data/a.bin": two, "data/b.bin": side})
    after("reset", "-q", "--hard", "origin/main", expect={"data/b.bin": noise(2)})
    after("cherry-pick", "side", expect={"data/b.bin": side})
    after("rebase", "-q", "origin/side", expect={"data/a.bin": two, "data/b.bin": side})
    clone.git("worktree", "add", "-q", "../linked", "side")
    linked = Clone(clone.path.parent / "linked")
    assert linked.holds("data/b.bin", side)
    linked.index_is_settled()
    assert linked.is_clean_without_reading()
    assert list((clone.path / ".git/ml/tmp").iterdir()) == []


def test_a_rebase_over_another_change_of_a_file_whose_content_is_not_here(
    clone: Clone, history: Path, tmp_path: Path
) -> None:
    """The new base has a pointer that is filled in at the end; the commit that is replayed changes the same file."""
    shutil.copytree(history, tmp_path / "origin.git")  # others clone the history too
    clone.git("remote", "set-url", "origin", str(tmp_path / "origin.git"))
    subprocess.run(["git", "clone", "-q", str(tmp_path / "origin.git"), str(tmp_path / "o")], check=True)
    other = set_up(tmp_path / "o")
    for each, seed in ((other, 31), (clone, 41)):
        each.write("data/a.bin", noise(seed))
        each.commit(f"a {seed}", wait=False)
    other.git("push", "-q", "origin", "main")
    clone.git("pull", "-q", "--rebase", "-X", "theirs", "origin", "main")
    assert clone.holds("data/a.bin", noise(41))
    assert clone.git("log", "-2", "--format=%s").split("\n") == ["a 41", "a 31"]
    assert clone.git("status", "--porcelain") == ""


def test_a_rebase_that_stops_has_content_in_its_files(history: Path, tmp_path: Path) -> None:
    shutil.copytree(history, tmp_path / "origin.git")

    def made(name: str) -> Clone:
        subprocess.run(["git", "clone", "-q", f"file://{tmp_path}/origin.git", str(tmp_path / name)], check=True)
        return set_up(tmp_path / name)

    other, runs, conflicts, cut_off = map(made, ("other", "runs", "conflicts", "cut_off"))
    other.write("data/a.bin", noise(31))
    other.write("data/b.bin", noise(32))
    other.commit("theirs", wait=False)
    other.git("push", "-q", "origin", "main")
    for each in (runs, conflicts, cut_off):
        each.git("fetch", "-q")
    runs.write("notes.txt", "mine\n")
    runs.commit("mine", wait=False)
    seen = tmp_path / "seen"
    runs.git("rebase", "-q", "-x", f"cp -r data '{seen}'", "origin/main")
    assert [(seen / name).read_bytes() for name in ("a.bin", "b.bin")] == [noise(31), noise(32)]

    conflicts.write("data/a.bin", noise(41))
    conflicts.commit("ours", wait=False)
    stopped = conflicts.run("git", "rebase", "origin/main", check=False)
    assert stopped.returncode == 1
    assert "is not here" not in stopped.stderr
    assert "in a rebase, ours is what you rebase onto, and theirs your commit" in stopped.stderr
    assert conflicts.git("status", "--porcelain") == "UU data/a.bin"
    assert conflicts.holds("data/b.bin", noise(32))
    assert not conflicts.is_pointer("data/a.bin")

    for number in range(3):
        cut_off.write("notes.txt", f"{number}\n")
        cut_off.commit(f"{number}", wait=False)
    cut_off.git("remote", "set-url", "origin", f"file://{tmp_path}/nowhere")
    done = cut_off.run("git", "rebase", "-q", "origin/main")
    assert 1 <= done.stderr.count("the content of 'data/a.bin' and 1 more is not here: cannot fetch") <= 2, done.stderr
    assert cut_off.git("status", "--porcelain") == ""


def test_a_side_of_a_conflict_is_chosen(clone: Clone) -> None:
    clone.write("data/a.bin", noise(61))
    clone.commit("ours", wait=False)
    clone.git("switch", "-q", "-c", "other", "first")
    clone.write("data/a.bin", noise(62))
    clone.commit("theirs", wait=False)
    clone.git("switch", "-q", "main")
    stopped = clone.run("git", "merge", "-q", "other", check=False)
    assert stopped.returncode == 1
    assert "git checkout --ours -- 'data/a.bin', or --theirs" in stopped.stderr
    assert "rebase" not in stopped.stderr
    for side, seed in (("--theirs", 62), ("--ours", 61), ("--theirs", 62)):
        clone.git("checkout", "-q", side, "--", "data/a.bin")
        assert clone.holds("data/a.bin", noise(seed)), side
        assert clone.git("status", "--porcelain", "--", "data/a.bin") == "UU data/a.bin"
    clone.git("checkout", "-q", "--ours", "--", "data/a.bin", GITML_SKIP_SMUDGE="1")
    assert clone.is_pointer("data/a.bin")
    clone.ml("checkout", "data/a.bin")
    clone.git("add", "data/a.bin")
    clone.git("commit", "-q", "--no-edit")
    assert clone.holds("data/a.bin", noise(61))
    clone.index_is_settled()
    assert clone.is_clean_without_reading()


def test_untracked_files_come_out_of_a_stash(clone: Clone) -> None:
    """`git stash` checks them out by themselves, without a hook afterwards."""
    clone.write("data/untracked.bin", noise(51))
    (clone.path / "data/untracked.bin").chmod(0o755)
    clone.git("stash", "-q", "-u")
    assert not (clone.path / "data/untracked.bin").exists()
    clone.git("stash", "apply", "-q")
    assert clone.holds("data/untracked.bin", noise(51))
    assert (clone.path / "data/untracked.bin").stat().st_mode & 0o100
    (clone.path / "data/untracked.bin").unlink()
    clone.git("stash", "apply", "-q", GITML_SKIP_SMUDGE="1")
    assert clone.is_pointer("data/untracked.bin")
    (clone.path / "data/untracked.bin").unlink()
    clone.git("stash", "pop", "-q")
    assert clone.git("status", "--porcelain") == "?? data/untracked.bin"
    clone.git("add", "data/untracked.bin")
    assert clone.holds("data/untracked.bin", noise(51))


@pytest.mark.parametrize("limit", ["0", "1m"])
def test_a_partial_clone_asks_for_all_content_at_once(history: Path, tmp_path: Path, limit: str) -> None:
    """Whether git's filter writes the files or hooks do: git itself would fetch each chunk when it is read."""
    shutil.copytree(history, tmp_path / "bare.git")
    subprocess.run(["git", "-C", str(tmp_path / "bare.git"), "config", "uploadpack.allowFilter", "true"], check=True)
    url, trace = f"file://{tmp_path}/bare.git", tmp_path / "trace"
    subprocess.run(["git", "clone", "-q", "--filter=blob:none", url, str(tmp_path / "partial")], check=True)
    partial = Clone(tmp_path / "partial")
    partial.git("config", "ml.smudgeLimit", limit)
    partial.git("ml", "install", GIT_TRACE=str(trace))
    assert partial.holds("data/a.bin", noise(11))
    partial.git("checkout", "-q", "first", GIT_TRACE=str(trace))
    assert partial.holds("data/a.bin", noise(1))
    said = [line for line in trace.read_text().splitlines() if " fetch " in line and "run_command: git -c" in line]
    assert len(said) == 1, "git's own request, for the pointers that it lacked"
    assert partial.is_clean()


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_merge_says_nothing_of_content_that_is_left_to_the_remote(history: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", f"file://{history}", str(tmp_path / "clone")], check=True)
    clone = Clone(tmp_path / "clone")
    clone.git("config", "ml.autoFetch", "false")
    clone.ml("install", "--no-fetch")
    clone.git("reset", "-q", "--hard", "first")
    assert clone.run("git", "pull", "-q", "origin", "main").stderr == ""  # forward
    assert clone.run("git", "merge", "-q", "origin/side").stderr == ""
    assert clone.subjects()[0] == "Merge remote-tracking branch 'origin/side'"
    clone.git("reset", "-q", "--hard", "HEAD~")
    clone.git("merge", "-q", "--no-commit", "origin/side")
    assert clone.run("git", "commit", "-q", "--no-edit").stderr == ""
    assert clone.is_pointer("data/b.bin")
    assert clone.is_pointer("data/a.bin")
    # of a commit of one's own it is said, as nobody else may have it
    clone.git("reset", "-q", "--hard", "first")
    assert "content of 'data/b.bin' cannot be passed on" in clone.run("git", "cherry-pick", "origin/side").stderr


def test_skipped_files_come_when_they_are_named(clone: Clone) -> None:
    clone.git("config", "--add", "ml.skip", "data/*.bin")
    clone.git("config", "--add", "ml.skip", "nothing")
    clone.git("config", "--unset", "ml.smudgeLimit")
    clone.git("checkout", "-q", "first")
    assert clone.is_pointer("data/a.bin")
    assert clone.holds("tool.bin", noise(4))
    assert clone.ml("checkout").stdout == "0 files filled in (0 B)\n"
    assert clone.is_pointer("data/a.bin")
    inside = Clone(clone.path / "data")
    planned = inside.json("checkout", "-n", "a.bin")
    assert planned["files"] == [{"path": "data/a.bin", "size": SIZE, "state": "pointer", "reason": ""}]
    assert inside.ml("checkout", "-n", "a.bin").stdout == "would fill in data/a.bin (300.0 kB)\n"
    assert clone.is_pointer("data/a.bin")
    assert inside.ml("checkout", "a.bin").stdout == "1 file filled in (300.0 kB)\n"
    assert clone.holds("data/a.bin", noise(1))
    assert clone.is_clean()
    assert inside.json("checkout", ":/data")["files"] == []


def test_what_is_skipped_is_not_said_to_be_here(history: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", f"file://{history}", str(tmp_path / "clone")], check=True)
    clone = Clone(tmp_path / "clone")
    clone.git("config", "ml.skip", "data/*.bin")
    clone.ml("install")
    for arguments in (("pull",), ("pull", "-n")):
        done = clone.ml(*arguments)
        assert done.stdout == ""
        assert done.stderr == "note: 4 files left out by ml.skip; with PATH git ml pull fetches them all the same\n"
    assert "data/a.bin" in clone.ml("pull", "data").stdout
    assert clone.ml("pull").stderr == "all content is here: 5 files stored as chunks\n"
    assert clone.ml("fetch", "--all").stderr == "all content is here: 5 files stored as chunks in 7 versions\n"


def test_what_is_tried_again_is_expected_once(clone: Clone) -> None:
    class Expected:
        files = size = 0

        def expect(self, files: int, size: int) -> None:
            self.files += files
            self.size += size

        def advance(self, size: int) -> None:
            pass

    clone.git("checkout", "-q", "first", GITML_SKIP_SMUDGE="1")
    chunk = ObjectFormat.SHA1.oid_of("blob", first_chunk(noise(1))).hex()
    (clone.path / ".git/objects" / chunk[:2] / chunk[2:]).rename(clone.path / ".git/away")
    expected = Expected()
    repo = Repository.discover(clone.path)
    fill_in(repo, progress=expected)
    assert (expected.files, expected.size) == (1, SIZE)


def test_the_environment_keeps_pointers_until_asked(clone: Clone) -> None:
    clone.git("checkout", "-q", "first", GITML_SKIP_SMUDGE="1")
    assert clone.is_pointer("data/a.bin")
    assert clone.ml("checkout").stdout == "1 file filled in (300.0 kB)\n"
    assert clone.holds("data/a.bin", noise(1))


def test_sparse_checkouts(clone: Clone) -> None:
    clone.git("sparse-checkout", "set", "--cone", "elsewhere")
    assert not (clone.path / "data").exists()
    refused = clone.ml("checkout", "data", check=False)
    assert refused.returncode == 128
    assert "outside the sparse checkout" in refused.stderr
    clone.git("sparse-checkout", "disable")
    clone.ml("checkout")
    assert clone.holds("data/a.bin", noise(11))
    clone.index_is_settled()
    assert clone.is_clean_without_reading()


def test_what_the_user_changed_is_kept_and_what_is_gone_comes_back(clone: Clone) -> None:
    clone.write("data/a.bin", b"mine")
    (clone.path / "data/b.bin").unlink()
    assert clone.ml("checkout").returncode == 0
    assert not (clone.path / "data/b.bin").exists(), "without paths nobody asked for it"
    kept = clone.ml("checkout", "data", check=False)
    assert kept.returncode == 1
    assert "'data/a.bin' was changed by you and is kept" in kept.stderr
    assert clone.holds("data/a.bin", b"mine")
    assert clone.holds("data/b.bin", noise(2))
    files = clone.json("checkout", "--force", "data")["files"]
    assert {file["path"]: file["state"] for file in files} == {"data/a.bin": "filled"}
    assert clone.holds("data/a.bin", noise(11))
    clone.index_is_settled()
    assert clone.is_clean_without_reading()


def test_mistakes(clone: Clone, tmp_path: Path) -> None:
    for arguments, message in {
        ("checkout", "absent"): "pathspec 'absent' did not match any file",
        ("checkout", "--force"): "--force needs the paths",
    }.items():
        refused = clone.ml(*arguments, check=False)
        assert refused.returncode == 128
        assert message in refused.stderr
    clone.ml("uninstall")
    assert "git ml install" in clone.ml("checkout", check=False).stderr


def test_content_that_could_not_be_had_comes_later(clone: Clone, history: Path) -> None:
    clone.git("checkout", "-q", "first", GITML_SKIP_SMUDGE="1")
    # as if it had never been fetched, and the remote were out of reach
    clone.git("remote", "set-url", "origin", f"{history}-gone")
    chunk = ObjectFormat.SHA1.oid_of("blob", first_chunk(noise(1))).hex()
    loose = clone.path / ".git/objects" / chunk[:2] / chunk[2:]  # so git keeps the few objects of a small fetch
    away = loose.rename(clone.path / ".git/away")
    missing = clone.ml("checkout", check=False)
    assert missing.returncode == 5
    assert "'data/a.bin' stays a pointer: cannot fetch data from 'origin'" in missing.stderr
    for said in (missing.stderr, clone.ml("pull", check=False).stderr, clone.ml("install", check=False).stderr):
        assert "cannot fetch data from 'origin'" in said
        assert "hint: once the reason is gone: git ml pull; what the remotes are says: git remote -v" in said
    assert clone.is_pointer("data/a.bin")
    assert clone.is_clean()
    said = clone.run("git", "checkout", "-q", "--", "data/a.bin").stderr
    assert "the content of 'data/a.bin' is not here: " in said
    clone.git("checkout", "-q", "main")
    done = clone.run("git", "checkout", "-q", "first", extra=IMPORTS_SHOWN)
    told = "the content of 'data/a.bin' is not here: "
    assert done.stderr.count(told) == 1
    assert hooks_started(done) == 1
    # another git is told again, and one that merges once, though its last hook asks the remotes and has another reason
    clone.git("switch", "-q", "-c", "plain")
    clone.write("notes.txt", "two\n")
    clone.commit("plain", wait=False)
    for _ in range(2):
        assert clone.run("git", "reset", "-q", "--hard", "HEAD~").stderr.count(told) == 1
        assert clone.run("git", "merge", "-q", "plain@{1}").stderr.count(told) == 1
    clone.git("checkout", "-q", "first")
    away.rename(loose)
    assert clone.ml("checkout").stdout == "1 file filled in (300.0 kB)\n"
    assert clone.holds("data/a.bin", noise(1))


def test_pull_names_files_that_cannot_be_written(clone: Clone) -> None:
    """The content is here, and the place where it is written first is not: as on a full disk."""
    clone.git("checkout", "-q", "first", GITML_SKIP_SMUDGE="1")
    aside = clone.path / ".git/ml/tmp"
    aside.rmdir()
    aside.write_text("no directory\n")
    done = clone.ml("pull", check=False)
    assert done.returncode == 128
    assert "error: 'data/a.bin' stays a pointer: cannot write the file" in done.stderr
    assert "data/a.bin" not in done.stdout
    (named,) = [each for each in json.loads(clone.ml("pull", "--json", check=False).stdout)["files"] if each["here"]]
    assert (named["path"], named["reason"].startswith("cannot write")) == ("data/a.bin", True)
    aside.unlink()
    assert clone.ml("pull").returncode == 0
    assert clone.holds("data/a.bin", noise(1))


def first_chunk(content: bytes) -> bytes:
    chunker = Chunker()
    return bytes([*chunker.feed(content), *chunker.finish()][0])
