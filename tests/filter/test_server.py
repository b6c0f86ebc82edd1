import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitml.git.pack import PackWriter
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.protocol.pktline import FLUSH, PacketDecoder, encode_content, encode_packet
from gitml.store.content import store_content
from gitml.store.pointer import format_pointer, is_pointer, parse_pointer
from tests.conftest import run_git

HELLO = encode_packet(b"git-filter-client\n") + encode_packet(b"version=2\n") + b"0000"
OFFER = b"".join(encode_packet(b"capability=%s\n" % name) for name in (b"clean", b"smudge", b"delay")) + b"0000"


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Session:
    """A filter process, spoken to as git does."""

    def __init__(self, repo: Path, stderr: Path, **environment: str) -> None:
        self.stderr = stderr
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gitml", "filter-process"],
                cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **environment},
            )  # fmt: skip
        self.decoder = PacketDecoder()
        self.send(HELLO)
        assert self.packets() == [b"git-filter-server\n", b"version=2\n"]
        self.send(OFFER)
        assert self.packets() == [b"capability=clean\n", b"capability=smudge\n"]

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def packets(self) -> list[bytes]:
        assert self.process.stdout is not None
        found: list[bytes] = []
        while True:
            packet = self.decoder.next_packet()
            if packet is FLUSH:
                return found
            if packet is not None:
                found.append(packet)
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(self.stderr.read_text())
            self.decoder.receive(data)

    def ask(self, command: bytes, path: bytes, content: bytes) -> bytes | None:
        self.send(encode_packet(b"command=%s\n" % command) + encode_packet(b"pathname=%s\n" % path) + b"0000")
        self.send(b"".join(encode_content(content)) + b"0000")
        if self.packets() != [b"status=success\n"]:
            return None
        answer = b"".join(self.packets())
        assert self.packets() == []
        return answer

    def clean(self, content: bytes, path: bytes = b"f") -> bytes:
        answer = self.ask(b"clean", path, content)
        assert answer is not None, self.stderr.read_text()
        return answer

    def smudge(self, content: bytes, path: bytes = b"f") -> bytes:
        answer = self.ask(b"smudge", path, content)
        assert answer is not None, self.stderr.read_text()
        return answer

    def close(self) -> str:
        """End the session as git does; what the filter said."""
        self.hang_up()
        assert self.process.wait() == 0
        return self.stderr.read_text()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def session(repo: Path, **environment: str) -> Iterator[Session]:
    opened = Session(repo, repo / "stderr.log", **environment)
    try:
        yield opened
        if opened.process.poll() is None:
            opened.close()
    finally:
        opened.hang_up()
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait()


def packs(repo: Path) -> list[Path]:
    return sorted((repo / ".git/objects/pack").glob("*.pack"))


@pytest.mark.parametrize("size", [0, 1, 65_535])
def test_small_content_passes_both_ways(repo: Path, size: int) -> None:
    content = noise(size)
    with session(repo) as filters:
        assert filters.clean(content) == content
        assert filters.smudge(content) == content
    assert packs(repo) == []


@pytest.mark.parametrize("size", [65_536, 65_537, 3_000_000])
@pytest.mark.parametrize("path", [b"", b"d/f", b"odd=\n\xff", b"../outside"])
def test_large_content_becomes_a_pointer_and_comes_back(repo: Path, size: int, path: bytes) -> None:
    run_git(repo, "config", "ml.smudgeLimit", "16m")
    content = noise(size)
    with session(repo) as filters:
        pointer = filters.clean(content, path)
        assert parse_pointer(pointer).size == size
        assert parse_pointer(pointer).sha256 == hashlib.sha256(content).digest()
        assert filters.smudge(pointer, path) == content
    assert len(packs(repo)) == 1


def test_an_answer_outlives_the_filter(repo: Path) -> None:
    with session(repo) as filters:
        first, second = (parse_pointer(filters.clean(noise(200_000, seed))) for seed in (1, 2))
        git = Repository.discover(repo).git
        git.run("gc", "-q", "--prune=now")
        filters.process.kill()
        filters.process.wait()
        git.run("gc", "-q", "--prune=now")
    with session(repo) as filters:
        assert filters.smudge(format_pointer(second)) == noise(200_000, 2)
    with session(repo) as filters:
        filters.clean(noise(200_000, 3))
    assert not list((repo / ".git/objects/pack").glob("*.keep"))
    git.run("gc", "-q", "--prune=now")
    reachable = git.output("rev-list", "--objects", "--all").decode()
    assert first.manifest.hex() in reachable
    assert second.manifest.hex() in reachable
    git.run("fsck", "--strict", "--full", "--no-dangling")


def test_many_files_end_up_in_one_pack(repo: Path) -> None:
    with session(repo) as filters:
        texts = [filters.clean(noise(66_000, seed), b"f%d" % seed) for seed in range(300)]
        assert len(packs(repo)) < 300
        assert filters.smudge(texts[7]) == noise(66_000, 7)
    assert len(packs(repo)) == 1
    git = Repository.discover(repo).git
    git.run("verify-pack", str(packs(repo)[0]))
    git.run("fsck", "--strict", "--full")
    assert git.output("rev-list", "--objects", "--all").count(b"\n") > 300 * 4


def asked_in_order(filters: Session, count: int) -> list[bytes]:
    """Have files of the worktree cleaned as git does, in the order of their names."""
    return [filters.clean(noise(200_000, n), b"d/%03d.bin" % n) for n in range(count)]


def directory_of(repo: Path, count: int) -> Path:
    (repo / "d").mkdir()
    for n in range(count):
        (repo / f"d/{n:03}.bin").write_bytes(noise(200_000, n))
    return repo / "d"


def test_files_that_are_asked_for_in_order_give_what_they_give_alone(repo: Path) -> None:
    directory_of(repo, 9)
    with session(repo) as filters:
        texts = asked_in_order(filters, 9)
    assert len(packs(repo)) == 1
    with session(repo) as filters:
        assert texts == [filters.clean(noise(200_000, n), b"elsewhere") for n in range(9)]
        assert [filters.smudge(text) for text in texts] == [noise(200_000, n) for n in range(9)]
    Repository.discover(repo).git.run("fsck", "--strict", "--full", "--no-dangling")


def test_what_git_sends_counts_whatever_the_worktree_has(repo: Path) -> None:
    directory = directory_of(repo, 9)
    (directory / "003.bin").write_bytes(noise(200_000, 3)[:-1] + b"x")
    (directory / "004.bin").write_bytes(noise(200_000, 4) + b"grown")
    (directory / "005.bin").write_bytes(noise(200_000, 5)[:100_000])
    (directory / "006.bin").write_bytes(noise(200_000, 66))
    (directory / "007.bin").unlink()
    os.mkfifo(directory / "007.bin")
    (directory / "008.bin").unlink()
    (directory / "008.bin").symlink_to("000.bin")
    with session(repo) as filters:
        texts = asked_in_order(filters, 9)
        again = filters.clean(noise(200_000, 99), b"d/008.bin")
    sums = [parse_pointer(text).sha256 for text in [*texts, again]]
    assert sums == [hashlib.sha256(noise(200_000, n)).digest() for n in [*range(9), 99]]
    with session(repo) as filters:
        assert [filters.smudge(text) for text in texts] == [noise(200_000, n) for n in range(9)]
    Repository.discover(repo).git.run("fsck", "--strict", "--full", "--no-dangling")


def test_an_answer_about_a_file_that_was_prepared_outlives_the_filter(repo: Path) -> None:
    directory_of(repo, 6)
    git = Repository.discover(repo).git
    with session(repo) as filters:
        texts = asked_in_order(filters, 5)
        git.run("gc", "-q", "--prune=now")
        filters.process.kill()
        filters.process.wait()
        git.run("gc", "-q", "--prune=now")
    with session(repo) as filters:
        assert [filters.smudge(text) for text in texts] == [noise(200_000, n) for n in range(5)]
    git.run("fsck", "--strict", "--full", "--no-dangling")


def test_known_content_is_not_stored_again_but_stays_referenced(repo: Path) -> None:
    content = noise(300_000)
    with session(repo) as filters:
        pointer = filters.clean(content)
    before = [path.name for path in packs(repo)]
    with session(repo) as filters:
        assert filters.clean(content) == pointer
    assert [path.name for path in packs(repo)] == before
    git = Repository.discover(repo).git
    for name in list_refs(git, "refs/ml/staged"):
        git.run("update-ref", "-d", name)
    with session(repo) as filters:
        assert filters.clean(content) == pointer
    assert len(list_refs(git, "refs/ml/staged")) == 1
    assert git.output("rev-list", "--objects", "--all").count(parse_pointer(pointer).manifest.hex().encode()) == 1


@pytest.mark.parametrize("edit", ["same", "first", "last", "middle", "shorter", "longer", "other"])
def test_content_near_that_of_the_index_is_told_apart(repo: Path, edit: str) -> None:
    run_git(repo, "config", "ml.smudgeLimit", "16m")
    content = noise(3_000_000)
    edited = {
        "same": content,
        "first": b"x" + content[1:],
        "last": content[:-1] + b"x",
        "middle": content[:1_500_000] + b"inserted" + content[1_500_000:],
        "shorter": content[:1_000_000],
        "longer": content + b"more",
        "other": noise(3_000_000, 2),
    }[edit]
    git = Repository.discover(repo).git
    with session(repo) as filters:
        text = filters.clean(content, b"f")
    blob = git.output("hash-object", "-w", "--stdin", input=text).decode().strip()
    git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},f")
    with session(repo) as filters:
        pointer = filters.clean(edited, b"f")
        assert parse_pointer(pointer).sha256 == hashlib.sha256(edited).digest()
        assert (pointer == text) == (edit == "same")
        assert filters.smudge(pointer) == edited
        assert filters.clean(edited, b"elsewhere") == pointer


def bad_pointers(repo: Path) -> dict[str, bytes]:
    repository = Repository.discover(repo)
    with PackWriter(repository.objects_dir, repository.format) as pack:
        pointer = store_content([noise(100_000)], pack).pointer
        text = pack.write("blob", b"not a manifest")
        tree = pack.write("tree", b"100644 name\0" + text)
        pack.finish()
    good = format_pointer(pointer)
    return {
        "size": good.replace(b"size 100000", b"size 100001"),
        "digest": good.replace(pointer.sha256.hex().encode(), b"0" * 64),
        "wrong object": good.replace(pointer.manifest.hex().encode(), text.hex().encode()),
        "a tree": good.replace(pointer.manifest.hex().encode(), tree.hex().encode()),
        "other hash": good.replace(pointer.manifest.hex().encode(), b"1" * 64),
        "malformed": good.replace(b"size", b"sice"),
        "oversized": good + b"x" * 1000,
        "crlf": good.replace(b"\n", b"\r\n").replace(b"\r", b"", 1),
        "huge": good.replace(b"size 100000", b"size 99999999999999999"),
    }


def test_bad_pointers_are_handed_out_with_a_warning(repo: Path) -> None:
    texts = bad_pointers(repo)
    with session(repo) as filters:
        for name, text in texts.items():
            assert filters.smudge(text, name.encode()) == text
            assert filters.clean(text, name.encode()) == text
        said = filters.close()
    assert "Traceback" not in said
    for name in texts.keys() - {"huge", "other hash"}:
        assert f"gitml: '{name}': " in said, said
    assert "hint: " in said


def test_missing_content_leaves_pointers_without_a_word(repo: Path) -> None:
    # the hook that runs after the checkout fetches it, or says that it is nowhere
    text = b"gitml pointer 1\nsha256 %s\nsize 70000\nmanifest %s\n" % (b"1" * 64, b"2" * 40)
    with session(repo) as filters:
        for path in (b"a", b"b"):
            assert filters.smudge(text, path) == text
        assert filters.close() == ""


def test_large_content_and_the_environment_leave_pointers(repo: Path) -> None:
    Repository.discover(repo).git.run("config", "ml.smudgeLimit", "100k")
    with session(repo) as filters:
        small, large = filters.clean(noise(102_400)), filters.clean(noise(102_401))
        assert filters.smudge(small) == noise(102_400)
        assert filters.smudge(large) == large
    with session(repo, GITML_SKIP_SMUDGE="1") as filters:
        assert filters.smudge(small) == small
        assert filters.smudge(b"plain") == b"plain"


def test_large_plain_blobs_pass_smudge(repo: Path) -> None:
    content = noise(20_000_000)
    with session(repo) as filters:
        assert filters.smudge(content) == content


def test_an_error_concerns_one_file_and_is_no_traceback(repo: Path) -> None:
    with session(repo) as filters:
        directory = repo / ".git/objects/pack"
        directory.rename(repo / ".git/objects/aside")
        directory.write_bytes(b"in the way")
        assert filters.ask(b"clean", b"bad", noise(5_000_000)) is None
        directory.unlink()
        (repo / ".git/objects/aside").rename(directory)
        assert is_pointer(filters.clean(noise(100_000)))
        said = filters.close()
    assert "gitml: 'bad': " in said
    assert "Traceback" not in said


def test_heavy_modules_are_not_loaded_at_start() -> None:
    code = "import sys, gitml.filter.server; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"typer", "numpy", "pygit2", "dulwich", "sklearn", "dask", "rich"} & set(loaded)
