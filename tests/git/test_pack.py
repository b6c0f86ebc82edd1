import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import dulwich.repo
import pygit2
import pytest

from gitml.git import pack as packing
from gitml.git import packdigest
from gitml.git.commits import Commit, Signature, format_commit
from gitml.git.deflate import deflated
from gitml.git.newfile import NewFile
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter, consolidate
from gitml.git.packdigest import PackDigest
from gitml.git.packindex import ObjectIndex
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid
from gitml.store.odb import MissingObjectError
from gitml.store.tree import MODE_FILE, Entry, edit_tree, empty_tree, format_tree


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    git(tmp_path, "init", "-q", f"--object-format={request.param}", "r")
    return Repository.discover(tmp_path / "r")


def writer_of(repository: Repository) -> PackWriter:
    return PackWriter(repository.objects_dir, repository.format)


def packs_of(repository: Repository) -> list[str]:
    return sorted(path.name for path in (repository.objects_dir / "pack").iterdir())


CONTENTS = [b"", b"a", b"ab" * 40, b"line\n" * 100_000, noise(70_000), noise(65_535), b"x" * 65_536 + noise(300_000)]


def write_history(repository: Repository, pack: PackWriter) -> Oid:
    blobs = [pack.write("blob", content) for content in CONTENTS]
    tree = pack.write("tree", format_tree((b"f%d" % n, Entry(MODE_FILE, oid)) for n, oid in enumerate(blobs)))
    who = Signature(b"Ada", b"ada@example.org", 1, "+0100")
    return pack.write("commit", format_commit(Commit(tree, (), who, who, b"first\n")))


def test_git_accepts_the_pack_and_reads_every_object(repository: Repository) -> None:
    with writer_of(repository) as pack:
        commit = write_history(repository, pack)
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "verify-pack", str(path))
    git(repository.common_dir, "index-pack", "--strict", "--verify", str(path))
    repository.git.run("update-ref", "refs/heads/main", commit.hex())
    assert "dangling" not in git(repository.common_dir, "fsck", "--strict", "--full")
    for number, content in enumerate(CONTENTS):
        assert repository.git.output("cat-file", "blob", f"main:f{number}") == content
    assert oct(path.stat().st_mode & 0o777) == oct(path.with_suffix(".idx").stat().st_mode & 0o777) == "0o444"


def test_a_large_pack_is_hashed_while_it_is_read(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitml.git.newfile._WRITEBACK", 1 << 20)
    with writer_of(repository) as pack:
        for size in (3 << 20, 100, (1 << 20) - 7, 1):
            pack.write("blob", noise(size, size))
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "verify-pack", str(path))
    git(repository.common_dir, "index-pack", "--strict", "--verify", str(path))


class Foreseen(PackDigest):
    """A digest that says how much of the pack was hashed before the end."""

    before_the_end = 0

    def finish(self, file: NewFile) -> bytes:
        self._join()
        Foreseen.before_the_end = self._at
        return super().finish(file)


@pytest.mark.parametrize("more", [0, 1, 2, 3, 4])
def test_a_digest_that_was_begun_early_is_that_of_the_pack(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(packdigest, "_WORTH_IT", 1 << 20)
    monkeypatch.setattr(packing, "PackDigest", Foreseen)
    with writer_of(repository) as pack:
        for number in range(4):
            pack.write("blob", noise(500_000, number))
        size = pack.size
        pack.foresee(more)
        for number in range(2):
            pack.write("blob", noise(300_000, 10 + number))
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "index-pack", "--strict", "--verify", str(path))
    assert Foreseen.before_the_end == (size if more == 2 else packdigest.HEADER_SIZE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("digest")]


def test_a_digest_that_was_begun_early_is_given_up_with_what_it_is_of(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packdigest, "_WORTH_IT", 1 << 20)
    with writer_of(repository) as pack:
        pack.write("blob", noise(1_500_000))
        before = pack.size
        pack.write("blob", noise(1_500_000, 2))
        pack.foresee(1)
        pack.roll_back(before)
        pack.write("blob", noise(1_500_000, 3))
        pack.write("blob", noise(1_500_000, 4))
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "index-pack", "--strict", "--verify", str(path))
    with writer_of(repository) as pack:
        pack.write("blob", noise(1_500_000, 5))
        pack.foresee(0)
        pack.abort()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("digest")]


def test_what_is_stored_as_it_is_can_be_read_back(repository: Repository) -> None:
    with writer_of(repository) as pack:
        for content in [noise(70_000), noise(400_000), b"line\n" * 100_000]:
            oid = pack.write("blob", content)
            assert pack.holds_plain(oid, len(content)) == (content[:4] != b"line")
            assert pack.read(oid) == ("blob", content)
        assert not pack.holds_plain(Oid(bytes(repository.format.size)), 0)


def test_our_index_equals_the_one_git_makes(repository: Repository, tmp_path: Path) -> None:
    with writer_of(repository) as pack:
        write_history(repository, pack)
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "index-pack", "-o", str(tmp_path / "git.idx"), str(path))
    assert path.with_suffix(".idx").read_bytes() == (tmp_path / "git.idx").read_bytes()


def test_pygit2_and_dulwich_read_the_same_objects(repo: Path) -> None:
    repository = Repository.discover(repo)
    with writer_of(repository) as pack:
        commit = write_history(repository, pack)
        pack.finish()
    other = pygit2.Repository(str(repo))
    tree = other[commit.hex()].peel(pygit2.Tree)
    assert [other[tree[f"f{n}"].id].data for n in range(len(CONTENTS))] == CONTENTS  # type: ignore[attr-defined]
    with dulwich.repo.Repo(str(repo)) as third:
        for content in CONTENTS:
            oid = repository.format.oid_of("blob", content)
            assert third.object_store.get_raw(oid.hex().encode())[1] == content  # type: ignore[arg-type]


def test_streamed_content_equals_written_content(repository: Repository) -> None:
    for content in CONTENTS:
        with writer_of(repository) as pack:
            pieces = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
            assert pack.write_stream("blob", len(content), pieces) == repository.format.oid_of("blob", content)
            pack.finish()
        assert repository.git.output("cat-file", "blob", repository.format.oid_of("blob", content).hex()) == content


def test_a_stream_that_fails_leaves_the_pack_as_before(repository: Repository) -> None:
    def broken() -> Iterator[bytes]:
        yield noise(200_000)
        raise OSError("device gone")

    with writer_of(repository) as pack:
        first = pack.write("blob", b"kept")
        with pytest.raises(OSError, match="device gone"):
            pack.write_stream("blob", 300_000, broken())
        for size in (3, 5):
            with pytest.raises(ValueError, match=f"the {size} bytes"):
                pack.write_stream("blob", size, [b"four"])
        second = pack.write_stream("blob", 4, [b"fo", b"ur"])
        assert pack.write_stream("blob", 4, [b"kept"]) == first
        path = pack.finish()
    assert path is not None
    git(repository.common_dir, "verify-pack", str(path))
    listed = git(repository.common_dir, "verify-pack", "-v", str(path)).splitlines()
    assert {line.split()[0] for line in listed[:2]} == {first.hex(), second.hex()}


def test_offsets_beyond_2_gib(repository: Repository) -> None:
    hole = 0x80000000 + 100

    def stretch(pack: PackWriter) -> None:
        # A sparse gap stands for gigabytes of entries; git is asked only where its index says the object is.
        assert pack._file is not None
        pack._truncate(hole)

    with writer_of(repository) as pack:
        pack.write("blob", b"near")
        stretch(pack)
        far = pack.write("blob", b"far")
        path = pack.finish()
    assert path is not None
    assert repository.git.output("cat-file", "blob", far.hex()) == b"far"
    with path.with_suffix(".idx").open("rb") as index:
        shown = subprocess.run(
            ["git", "show-index", f"--object-format={repository.format.value}"],
            stdin=index, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    assert f"{hole} {far}" in shown
    path.unlink()


def table(seed: int, rows: int = 10_000) -> bytes:
    numbers = noise(4 * rows, seed)
    return b"".join(
        b"%d,%d\n" % (int.from_bytes(numbers[at : at + 3]), numbers[at + 3]) for at in range(0, len(numbers), 4)
    )


def test_for_the_first_of_a_pack_time_is_taken_to_make_it_small(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [table(seed) for seed in range(5)]
    fast = [sum(map(len, deflated(each))) for each in tables]
    monkeypatch.setattr(packing, "_SMALL", 2 * len(tables[0]) + 1000)
    taken: list[int] = []
    with writer_of(repository) as pack:
        # noise is stored as it is, which takes no time
        for content in [noise(300_000), *tables]:
            before = pack.size
            pack.prepare("blob", content, small=True).store()
            taken.append(pack.size - before)
        pack.finish()
    assert 300_000 < taken[0] < 300_100
    relative = [a / b for a, b in zip(taken[1:], fast, strict=True)]
    assert [each < 0.95 for each in relative] == [True] * 3 + [False] * 2
    assert max(relative) < 1.001
    with GitOdb(repository.git, repository.format) as odb:
        assert [odb.read(repository.format.oid_of("blob", each))[1] for each in tables] == tables
    assert git(repository.git_dir, "fsck", "--strict", "--full", "--no-dangling") == ""


def test_nothing_is_left_of_an_empty_or_aborted_pack(repository: Repository) -> None:
    before = packs_of(repository)
    with writer_of(repository) as pack:
        assert pack.finish() is None
    with writer_of(repository) as pack:
        pack.write("blob", noise(2_000_000))
        assert len(packs_of(repository)) == len(before) + 1
    assert packs_of(repository) == before
    with pytest.raises(ValueError, match="finished"):
        pack.write("blob", b"y")


def test_identical_packs_coincide(repository: Repository) -> None:
    names = set()
    for _ in range(2):
        with writer_of(repository) as pack:
            pack.write("blob", b"same")
            names.add(pack.finish())
    assert len(names) == 1
    assert len(packs_of(repository)) == 2


def test_what_is_known_is_not_written_again(repository: Repository) -> None:
    loose = Oid.parse(repository.git.output("hash-object", "-w", "--stdin", input=b"loose").strip())
    with writer_of(repository) as pack:
        packed = pack.write("blob", b"packed")
        pack.finish()
    known = ObjectIndex(repository.objects_dir, repository.format)
    with PackWriter(repository.objects_dir, repository.format, known=known) as pack:
        assert pack.write("blob", b"loose") == loose
        assert pack.write_stream("blob", 6, [b"packed"]) == packed
        assert len(pack) == 0
        assert pack.has(loose)
        assert not pack.holds(loose)
        assert pack.finish() is None


def test_looking_through_many_small_packs_takes_no_descriptors(repository: Repository) -> None:
    for number in range(20):
        with writer_of(repository) as pack:
            pack.write("blob", b"%d" % number)
            pack.finish()
    before = len(os.listdir("/proc/self/fd"))
    known = ObjectIndex(repository.objects_dir, repository.format)
    assert len(os.listdir("/proc/self/fd")) == before
    assert known.has(repository.format.oid_of("blob", b"19"))


def test_trees_just_written_can_be_edited(repository: Repository) -> None:
    with (
        GitOdb(repository.git, repository.format) as odb,
        PackWriter(repository.objects_dir, repository.format, reader=odb) as pack,
    ):
        blob = pack.write("blob", b"x")
        root = edit_tree(pack, pack, empty_tree(repository.format), {b"a/b": Entry(MODE_FILE, blob)})
        root = edit_tree(pack, pack, root, {b"a/c": Entry(MODE_FILE, blob)})
        with pytest.raises(MissingObjectError):
            pack.read(repository.format.oid_of("blob", b"absent"))
        pack.finish()
        assert pack.read(blob) == ("blob", b"x")
    assert git(repository.common_dir, "ls-tree", "-r", "--name-only", root.hex()) == "a/b\na/c\n"


def test_many_threads_write_one_pack(repository: Repository) -> None:
    with writer_of(repository) as pack:

        def work(first: int) -> None:
            for number in range(first, first + 100):
                pack.write("blob", b"%d" % number * 1000)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        path = pack.finish()
    assert path is not None
    assert git(repository.common_dir, "count-objects", "-v").splitlines()[2] == "in-pack: 200"
    git(repository.common_dir, "verify-pack", str(path))


def test_index_sees_loose_packed_and_borrowed_objects(repository: Repository, tmp_path: Path) -> None:
    repository.git.run("hash-object", "-w", "--stdin", input=b"loose")
    with writer_of(repository) as pack:
        for number in range(2000):
            pack.write("blob", b"n%d" % number)
        pack.finish()
    git(tmp_path, "init", "-q", f"--object-format={repository.format.value}", "middle")
    git(tmp_path, "init", "-q", f"--object-format={repository.format.value}", "borrower")
    middle = tmp_path / "middle/.git/objects"
    (middle / "info/alternates").write_text(f"{repository.objects_dir}\n")
    (tmp_path / "borrower/.git/objects/info/alternates").write_text(
        f"# borrowed\n{os.path.relpath(middle, tmp_path / 'borrower/.git/objects')}\n"
    )
    index = ObjectIndex(tmp_path / "borrower/.git/objects", repository.format)
    oid_of = repository.format.oid_of
    assert all(index.has(oid_of("blob", b"n%d" % number)) for number in range(2000))
    assert index.has(oid_of("blob", b"loose"))
    assert not any(index.has(oid_of("blob", b"m%d" % number)) for number in range(2000))


def test_index_sees_what_came_and_went_after_a_refresh(repository: Repository) -> None:
    index = ObjectIndex(repository.objects_dir, repository.format)
    with writer_of(repository) as pack:
        oid = pack.write("blob", b"late")
        path = pack.finish()
    loose = Oid.parse(repository.git.output("hash-object", "-w", "--stdin", input=b"loose").strip())
    assert not index.has(oid)
    index.refresh()
    assert index.has(oid)
    assert index.has(loose)
    assert path is not None
    path.with_suffix(".idx").unlink()
    index.refresh()
    assert not index.has(oid)


def test_a_damaged_index_is_passed_over(repository: Repository) -> None:
    (repository.objects_dir / "pack/pack-00.idx").write_bytes(b"")
    (repository.objects_dir / "pack/pack-01.idx").write_bytes(b"junk" * 1000)
    assert not ObjectIndex(repository.objects_dir, repository.format).has(repository.format.oid_of("blob", b""))


def test_consolidate_joins_packs_and_drops_duplicates(repository: Repository) -> None:
    packs = []
    for number in range(3):
        # Each pack is written without knowing the others, so all hold the shared object.
        with writer_of(repository) as pack:
            pack.write("blob", b"shared" * 100)
            pack.write("blob", noise(100_000, number))
            path = pack.finish()
            assert path is not None
            packs.append(path)
    joined = consolidate(repository.objects_dir, packs, repository.format)
    assert joined is not None
    assert packs_of(repository) == sorted([joined.name, joined.with_suffix(".idx").name])
    git(repository.common_dir, "verify-pack", str(joined))
    assert git(repository.common_dir, "count-objects", "-v").splitlines()[2] == "in-pack: 4"
    assert repository.git.output(
        "cat-file", "blob", repository.format.oid_of("blob", noise(100_000, 2)).hex()
    ) == noise(100_000, 2)


def test_consolidate_leaves_deltas_kept_and_vanished_packs_alone(repository: Repository, tmp_path: Path) -> None:
    with writer_of(repository) as pack:
        base = b"".join(b"%d\n" % number for number in range(20_000))
        oids = [pack.write("blob", base), pack.write("blob", base + b"end")]
        pack.finish()
    listing = "".join(f"{oid} f\n" for oid in oids).encode()
    name = repository.git.output(
        "pack-objects", "--no-reuse-delta", str(repository.objects_dir / "pack/pack"), input=listing
    ).decode()
    deltas = repository.objects_dir / f"pack/pack-{name.strip()}.pack"
    assert b"chain length = 1" in repository.git.output("verify-pack", "-v", str(deltas))
    with writer_of(repository) as pack:
        pack.write("blob", b"kept")
        kept = pack.finish()
    assert kept is not None
    kept.with_suffix(".keep").touch()
    before = packs_of(repository)
    with writer_of(repository) as pack:
        pack.write("blob", b"plain")
        plain = pack.finish()
    assert plain is not None
    gone = repository.objects_dir / "pack/pack-gone.pack"
    assert consolidate(repository.objects_dir, [deltas, kept, gone, plain], ObjectFormat.of(oids[0])) is None
    assert packs_of(repository) == sorted([*before, plain.name, plain.with_suffix(".idx").name])
