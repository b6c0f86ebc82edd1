import hashlib
import os
import sys
from pathlib import Path

import pytest

from gitml.errors import BusyError, ExitCode
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.git.worktree import materialise, sync_published
from gitml.oid import Oid
from gitml.store.content import store_content
from gitml.store.pointer import format_pointer


def noise(seed: int, size: int = 70_000) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def put(repository: Repository, content: bytes) -> bytes:
    """Store content in a pack of its own; its pointer text."""
    with PackWriter(repository.objects_dir, repository.format) as pack:
        pointer = store_content([content], pack).pointer
        pack.finish()
    return format_pointer(pointer)


@pytest.fixture
def repository(repo: Path) -> Repository:
    repository = Repository.discover(repo)
    # Without the filter pointers come to stand in the worktree as they do after a clone.
    (repo / ".gitattributes").write_text("*.big filter=ml -text\n")
    return repository


def use_filter(repository: Repository) -> None:
    repository.git.run("config", "filter.ml.process", f"'{sys.executable}' -P -m gitml filter-process")
    repository.git.run("config", "filter.ml.required", "true")


def commit_all(repository: Repository) -> Oid:
    repository.git.run("add", "-A")
    repository.git.run("commit", "-q", "-m", "c")
    return repository.resolve("HEAD^{tree}")


def status(repository: Repository) -> bytes:
    return repository.git.output("status", "--porcelain", "-z", "--untracked-files=all")


def test_pointers_are_filled_in_and_status_is_clean(repository: Repository, repo: Path) -> None:
    text = put(repository, noise(1, 500_000))
    odd = os.fsdecode(b"d/odd\n\xff name.big")
    (repo / "d").mkdir()
    for name in ("a.big", odd, "plain.txt"):
        (repo / name).write_bytes(text)
    (repo / "a.big").chmod(0o755)
    commit_all(repository)
    use_filter(repository)
    result = materialise(repository, None)
    assert set(result.done) == {b"a.big", os.fsencode(odd)}
    assert not result.missing
    assert (repo / "a.big").read_bytes() == (repo / odd).read_bytes() == noise(1, 500_000)
    assert (repo / "a.big").stat().st_mode & 0o777 == 0o755
    assert (repo / "plain.txt").read_bytes() == text
    assert status(repository) == b""
    assert materialise(repository, None).done == ()
    assert not list((repo / ".git/ml/tmp").iterdir())


def test_looking_for_pointers_starts_no_filter(repository: Repository, repo: Path) -> None:
    """Also where git cannot tell from the times of files whether they changed, which is so after every checkout."""
    (repo / "here.big").write_bytes(put(repository, noise(1)))
    absent = put(repository, noise(2))[:-41] + b"1" * 40 + b"\n"
    (repo / "absent.big").write_bytes(absent)
    commit_all(repository)
    index = repo / ".git/index"
    before = index.read_bytes()
    started = repo / ".git/started"
    repository.git.run("config", "filter.ml.process", f"touch '{started}'; exit 1")
    repository.git.run("config", "filter.ml.required", "true")
    for _ in range(2):
        os.utime(index, (1, 1))  # older than every file: git compares the content of all
        assert set(materialise(repository, None).missing) == {b"absent.big"}
    assert (repo / "here.big").read_bytes() == noise(1)
    assert not started.exists()
    # a command that had read the index before writes it back: the file seems modified until somebody looks
    use_filter(repository)
    index.write_bytes(before)
    assert status(repository) == b" M here.big\0"
    materialise(repository, None)
    assert status(repository) == b""


def test_only_sound_pointers_of_tracked_files_are_replaced(repository: Repository, repo: Path) -> None:
    one, two = put(repository, noise(1)), put(repository, noise(2))
    for name in ("a.big", "b.big", "c.big", "link/x.big", "skip.big"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_bytes(one)
    commit_all(repository)
    (repo / "a.big").write_bytes(two)
    (repo / "b.big").write_bytes(one + b"x")
    (repo / "c.big").unlink()
    (repo / "link").rename(repo / "elsewhere")
    (repo / "link").symlink_to("elsewhere")
    result = materialise(repository, [b"a.big", b"b.big", b"c.big", b"link/x.big"])
    assert result.done == (b"a.big",), "as after a stash pop: not that of the index, but one that git put there"
    assert (repo / "a.big").read_bytes() == noise(2)
    assert set(result.failed) == {b"b.big"}
    assert result.size == 70_000
    assert (repo / "b.big").read_bytes() == one + b"x"
    assert (repo / "elsewhere/x.big").read_bytes() == one
    assert (repo / "skip.big").read_bytes() == one


def test_missing_and_damaged_content_leave_the_pointer(repository: Repository, repo: Path) -> None:
    text = put(repository, noise(1))
    texts = {
        "absent.big": text[:-41] + b"1" * 40 + b"\n",
        "digest.big": text.replace(text[23:33], b"0123456789"),
        "size.big": text.replace(b"size 70000", b"size 70001"),
        "malformed.big": text.replace(b"size", b"sice"),
    }
    for name, content in texts.items():
        (repo / name).write_bytes(content)
    commit_all(repository)
    result = materialise(repository, None)
    assert result.done == ()
    assert set(result.missing) == {b"absent.big"}
    assert "missing" in result.missing[b"absent.big"]
    assert {path: error.exit_code for path, error in result.failed.items()} == dict.fromkeys(
        (b"digest.big", b"size.big", b"malformed.big"), ExitCode.VERIFICATION_FAILED
    )
    assert "content has sha256" in result.failed[b"digest.big"].message
    assert {name: (repo / name).read_bytes() for name in texts} == texts
    # git's merges look at sizes and do not compare: they refuse to touch what the index has no size of
    sizes = [line.split()[1] for line in repository.git.lines("ls-files", "--debug", "*.big") if "size:" in line]
    assert sizes == [str(len(content)) for _, content in sorted(texts.items())]


def test_the_environment_can_ask_for_pointers(
    repository: Repository, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = put(repository, noise(1))
    (repo / "a.big").write_bytes(text)
    commit_all(repository)
    monkeypatch.setenv("GITML_SKIP_SMUDGE", "1")
    assert materialise(repository, None).done == ()
    assert materialise(repository, [b"a.big"]).done == (b"a.big",)


class Published:
    """A repository whose branch moved from `old` to `new`; index and worktree still are at `old`."""

    def __init__(self, repository: Repository, old: dict[str, bytes], new: dict[str, bytes]) -> None:
        self.repository = repository
        assert repository.worktree is not None
        self.top = repository.worktree
        self.new = self.tree_of(new)
        self.old = self.tree_of(old)
        commit = repository.git.line("commit-tree", self.new.hex(), "-m", "result", "-p", "HEAD")
        repository.git.run("update-ref", "HEAD", commit)

    def tree_of(self, files: dict[str, bytes]) -> Oid:
        git = self.repository.git
        git.run("rm", "-r", "-q", "--ignore-unmatch", "--", "out", "extra")
        for name, data in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_bytes(data)
        return commit_all(self.repository) if git.output("status", "--porcelain") else Oid.parse(git.line("write-tree"))

    def sync(self, *paths: bytes) -> tuple[bytes, ...]:
        return sync_published(self.repository, self.old, self.new, paths or (b"out",))


OLD = {"out/a": b"a", "out/b": b"b", "out/deep/gone": b"g", "extra/x": b"x", os.fsdecode(b"out/n\n\xff"): b"n"}
NEW = {"out/a": b"A", "out/b": b"B", "out/new/n": b"N", "extra/x": b"X", os.fsdecode(b"out/n\n\xff"): b"M"}


def files_below(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top.parent)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_published_paths_follow_and_nothing_else(repository: Repository, repo: Path) -> None:
    published = Published(repository, OLD, NEW)
    (repo / "mine").write_bytes(b"staged")
    repository.git.run("add", "mine")
    (repo / "extra/x").write_bytes(b"edited")
    assert published.sync() == ()
    assert files_below(repo / "out") == {name: data for name, data in NEW.items() if name.startswith("out/")}
    assert not (repo / "out/deep").exists()
    assert status(repository) == b"MM extra/x\0A  mine\0"
    assert published.sync() == ()


def test_what_the_user_changed_is_kept(repository: Repository, repo: Path) -> None:
    published = Published(repository, OLD, NEW)
    (repo / "out/a").write_bytes(b"edited")
    (repo / "out/b").write_bytes(b"staged")
    repository.git.run("add", "out/b")
    (repo / "out/deep/gone").write_bytes(b"edited")
    (repo / "out/new").mkdir()
    (repo / "out/new/n").write_bytes(b"untracked")
    assert published.sync() == (b"out/a", b"out/b", b"out/deep/gone", b"out/new/n")
    assert (repo / "out/a").read_bytes() == b"edited"
    assert repository.git.output("show", ":out/b") == b"staged"
    assert (repo / "out/deep/gone").read_bytes() == b"edited"
    assert (repo / "out/new/n").read_bytes() == b"untracked"
    # the index follows where it held nothing of the user's, so that the next commit does not undo the result
    assert repository.git.output("show", ":out/a") == b"A"
    assert status(repository) == b"M  extra/x\0 M out/a\0M  out/b\0 M out/new/n\0?? out/deep/gone\0"


def test_files_and_directories_change_places(repository: Repository, repo: Path) -> None:
    published = Published(repository, {"out/f": b"f", "out/d/x": b"x"}, {"out/f/y": b"y", "out/d": b"d"})
    assert published.sync() == ()
    assert files_below(repo / "out") == {"out/f/y": b"y", "out/d": b"d"}
    assert status(repository) == b""


def test_a_users_directory_in_the_way_stays(repository: Repository, repo: Path) -> None:
    published = Published(repository, {"out/a": b"a"}, {"out/a": b"a", "out/d": b"d", "out/e/f": b"f"})
    (repo / "out/d").mkdir()
    (repo / "out/d/mine").write_bytes(b"m")
    (repo / "out/e").symlink_to("d")
    assert published.sync() == (b"out/d", b"out/e/f")
    assert files_below(repo / "out") == {"out/a": b"a", "out/d/mine": b"m"}


def test_an_interrupted_sync_is_completed(repository: Repository, repo: Path) -> None:
    published = Published(repository, OLD, NEW)
    blob = repository.git.line("rev-parse", f"{published.new}:out/a")
    repository.git.run("update-index", "--cacheinfo", f"100644,{blob},out/a")
    repository.git.run("update-index", "--force-remove", "out/deep/gone")
    assert published.sync() == ()
    assert files_below(repo / "out") == {name: data for name, data in NEW.items() if name.startswith("out/")}


def test_a_locked_index_changes_nothing(repository: Repository, repo: Path) -> None:
    published = Published(repository, OLD, NEW)
    (repo / ".git/index.lock").touch()
    with pytest.raises(BusyError, match="index is locked"):
        published.sync()
    assert (repo / "out/a").read_bytes() == b"a"


def test_large_published_files_come_with_their_content(repository: Repository, repo: Path) -> None:
    use_filter(repository)
    repository.git.run("config", "ml.smudgeLimit", "100k")
    contents = {"out/m.big": noise(2, 300_000), "out/s.big": noise(3, 80_000)}
    published = Published(
        repository,
        {"out/m.big": noise(1, 300_000), "out/s.big": b"small"},
        {name: put(repository, content) for name, content in contents.items()},
    )
    assert published.sync() == ()
    assert files_below(repo / "out") == contents
    assert status(repository) == b""


@pytest.mark.parametrize(
    ("patterns", "shown"),
    [
        (("--cone", "src"), {"src/new", "top.new"}),
        (("--no-cone", "/src/", "!/src/new", "*.txt"), {"out/new.txt"}),
        (("--no-cone", "/*", "!/out/*", "/out/[ab]*"), {"src/new", "top.new", "out/a new"}),
    ],
)
@pytest.mark.parametrize("sparse_index", ["false", "true"])
def test_new_results_outside_a_sparse_checkout_are_in_the_index_only(
    repository: Repository, repo: Path, patterns: tuple[str, ...], shown: set[str], sparse_index: str
) -> None:
    for name in ("src/x", "out/x", "other/x"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text(name)
    before = commit_all(repository)
    added = ["src/new", "out/a new", "out/new.txt", "out/deep/new", os.fsdecode(b"out/-odd\n\xff"), "top.new"]
    for name in added:
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text(f"result {name}" if name.isascii() else "odd")
    after = commit_all(repository)
    results = repository.git.output("rev-parse", "HEAD").strip().decode()
    repository.git.run("reset", "-q", "--hard", "HEAD^")
    repository.git.run("config", "index.sparse", sparse_index)
    repository.git.run("sparse-checkout", "set", *patterns)
    standing = {each for each in repo.rglob("*") if ".git" not in each.parts}
    repository.git.run("update-ref", "HEAD", results)
    kept = sync_published(Repository.discover(repo), before, after, [b""])
    assert kept == ()
    appeared = {str(each.relative_to(repo)) for each in repo.rglob("*") if ".git" not in each.parts} - {
        str(each.relative_to(repo)) for each in standing
    }
    assert {name for name in appeared if (repo / name).is_file()} == shown
    assert status(repository) == b""
    listed = repository.git.output("ls-files", "-t", "-z").split(b"\0")
    assert {line[2:] for line in listed if line.startswith(b"H ")} >= {os.fsencode(name) for name in shown}
    assert {line[2:] for line in listed if line.startswith(b"S ")} >= {
        os.fsencode(name) for name in added if name not in shown
    }
    # git agrees: nothing is left for it to do
    repository.git.run("sparse-checkout", "reapply")
    assert {str(each.relative_to(repo)) for each in repo.rglob("*") if ".git" not in each.parts} == appeared | {
        str(each.relative_to(repo)) for each in standing
    }
    assert not list((repo / ".git" / "ml" / "tmp").iterdir())


def test_a_file_of_the_user_outside_a_sparse_checkout_is_kept(repository: Repository, repo: Path) -> None:
    (repo / "x").write_text("x")
    before = commit_all(repository)
    (repo / "out").mkdir()
    (repo / "out" / "new").write_text("result")
    after = commit_all(repository)
    results = repository.git.output("rev-parse", "HEAD").strip().decode()
    repository.git.run("reset", "-q", "--hard", "HEAD^")
    repository.git.run("sparse-checkout", "set", "--cone", "src")
    (repo / "out").mkdir()
    (repo / "out" / "new").write_text("mine")
    repository.git.run("update-ref", "HEAD", results)
    assert sync_published(Repository.discover(repo), before, after, [b"out"]) == (b"out/new",)
    assert (repo / "out" / "new").read_text() == "mine"
    assert status(repository) == b" M out/new\0"
