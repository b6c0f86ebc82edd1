"""Content in and out: the same bytes, whatever they are and however they arrive, or a precise error."""

import hashlib
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.errors import CorruptError
from gitml.oid import ObjectFormat, Oid
from gitml.store import batches, preparation
from gitml.store.content import (
    SMALL,
    ContentError,
    Stored,
    passes_through,
    prepare_content,
    read_content,
    store_content,
)
from gitml.store.manifest import ManifestError, read_manifest
from gitml.store.odb import Kind, MemoryOdb, MissingObjectError, Prepared
from gitml.store.pointer import Pointer
from gitml.store.tree import Snapshot
from tests.store.samples import noise, safetensors, table


def stored(data: bytes, odb: MemoryOdb, piece: int = 65_000) -> Stored:
    return store_content((data[at : at + piece] for at in range(0, len(data), piece)), odb)


@pytest.mark.parametrize("object_format", list(ObjectFormat))
@pytest.mark.parametrize(
    "data",
    [b"", b"x", table(60_000), noise(1_500_000), bytes(3_000_000), safetensors([300_000, 200_000])],
    ids=["empty", "one byte", "table", "noise", "zeros", "safetensors"],
)
def test_what_is_read_is_what_was_stored(data: bytes, object_format: ObjectFormat) -> None:
    odb = MemoryOdb(object_format)
    pointer = stored(data, odb).pointer
    assert b"".join(read_content(pointer, odb)) == data
    assert (pointer.sha256, pointer.size) == (hashlib.sha256(data).digest(), len(data))


@settings(max_examples=12, deadline=None)
@given(
    parts=st.lists(st.sampled_from([table(900), noise(70_000), bytes(40_000), b"a"]), max_size=8),
    piece=st.integers(1000, 300_000),
)
def test_storing_depends_on_the_bytes_alone(parts: list[bytes], piece: int) -> None:
    data = b"".join(parts)
    one, other = MemoryOdb(), MemoryOdb()
    assert stored(data, one, piece) == store_content([data], other)
    assert one.objects == other.objects
    assert b"".join(read_content(stored(data, one).pointer, one)) == data


def test_the_data_tree_reaches_everything_that_was_written() -> None:
    odb = MemoryOdb()
    tree = stored(table(50_000) + noise(500_000), odb).data_tree
    reached = {entry.oid for _, entry in Snapshot(odb, tree).walk()}
    assert reached == {oid for oid, (kind, _) in odb.objects.items() if kind == "blob"}


def test_content_is_written_before_it_has_ended() -> None:
    odb = MemoryOdb()
    counts: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(150):
            counts.append(len(odb.objects))
            yield noise(1 << 18, b"%d" % number)

    store_content(pieces(), odb)
    assert counts[-1] > len(odb.objects) // 2


def test_an_error_of_the_writer_is_passed_on() -> None:
    class Full(MemoryOdb):
        def write(self, kind: str, data: bytes | memoryview) -> Oid:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        stored(noise(3_000_000), Full())


class Rereader(MemoryOdb):
    """Stores noise as it is and text deflated, and says what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reread: list[Oid] = []
        self.before_the_end: int | None = None
        self.broken = False

    def holds_plain(self, oid: Oid, size: int) -> bool:
        assert len(self.objects[oid][1]) == size
        return not self.objects[oid][1][:8].isdigit()

    def read(self, oid: Oid) -> tuple[Kind, bytes]:
        if self.broken:
            raise OSError("cannot be read")
        self.reread.append(oid)
        return super().read(oid)

    def nearly_done(self) -> None:
        assert self.before_the_end is None
        self.before_the_end = len(self.objects)


def digits(size: int) -> bytes:
    """Text whose chunks begin with digits, wherever they are cut."""
    return b"".join(b"%d" % (number * number % 1_000_003) for number in range(size // 5))[:size]


@pytest.mark.parametrize(
    "parts",
    [[20], [0, 20], [12, 6, 12], [6, 1, 1, 1, 8, 3], [2, 1, 2], [0, 1], [0], [30, 0, 1]],
    ids=lambda parts: "-".join(map(str, parts)),
)
def test_what_is_hashed_in_the_end_gives_the_same(parts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """`parts` are megabytes of noise, of text, of noise, and so on."""
    monkeypatch.setattr(preparation, "_LONG", 4 << 20)
    monkeypatch.setattr(batches, "TOGETHER", 1 << 19)
    data = b"".join(
        digits(size << 20) if number % 2 else noise(size << 20, b"%d" % number) for number, size in enumerate(parts)
    )
    pieces = [data[at : at + 700_000] for at in range(0, len(data), 700_000)]
    once, again = MemoryOdb(), Rereader()
    assert store_content(pieces, again, again) == store_content(pieces, once)
    assert again.objects == once.objects
    assert again.before_the_end == len(again.objects)
    assert len(set(again.reread)) == len(again.reread)
    reread = sum(len(again.objects[oid][1]) for oid in again.reread) >> 20
    if parts in ([20], [12, 6, 12], [30, 0, 1]):
        assert reread > sum(parts[::2]) // 3
    else:
        assert reread <= max(parts[0] - 4, 0) + sum(parts[2::2])


def test_an_error_of_reading_back_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_LONG", 4 << 20)
    odb = Rereader()
    odb.broken = True
    with pytest.raises(OSError, match="cannot be read"):
        store_content([noise(1 << 20, b"%d" % number) for number in range(30)], odb, odb)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chunks")]


class Asked(MemoryOdb):
    """Says of which chunks it was asked to make them small."""

    def __init__(self) -> None:
        super().__init__()
        self.small: list[bool] = []

    def prepare(self, kind: Kind, data: bytes | memoryview, *, noisy: bool = False, small: bool = False) -> Prepared:
        self.small.append(small)
        return super().prepare(kind, data, noisy=noisy, small=small)


@pytest.mark.parametrize(("size", "small"), [(None, False), (64 << 20, True), ((64 << 20) + 1, False)])
def test_content_that_is_not_long_is_made_small(size: int | None, *, small: bool) -> None:
    odb = Asked()
    store_content([digits(3 << 20)], odb, size=size)
    assert len(odb.small) > 3
    assert set(odb.small) == {small}


def test_content_that_is_prepared_is_made_small() -> None:
    odb = Asked()
    write = prepare_content([digits(300_000)], odb)
    assert odb.small.count(True) == len(read_manifest(write().pointer.manifest, odb).chunks)


def test_small_content_passes_through() -> None:
    assert passes_through(bytes(SMALL - 1), ended=True) is True
    assert passes_through(bytes(SMALL - 1), ended=False) is None
    assert passes_through(bytes(SMALL), ended=True) is False
    assert passes_through(bytes(SMALL), ended=False) is False


class TestDamage:
    """Reading content of which something is not as it should be."""

    data = noise(1_000_000)

    def prepared(self) -> tuple[MemoryOdb, Pointer, Oid]:
        """A database, the pointer, and the oid of the second chunk."""
        odb = MemoryOdb()
        pointer = stored(self.data, odb).pointer
        return odb, pointer, read_manifest(pointer.manifest, odb).chunks[1].oid

    def read(self, pointer: Pointer, odb: MemoryOdb, error: type[Exception], fault: str) -> Exception:
        """The error that reading ends with; what was given until then is a prefix of the content."""
        given: list[bytes] = []
        with pytest.raises(error, match=fault) as caught:
            given.extend(read_content(pointer, odb))
        assert self.data.startswith(b"".join(given))
        return caught.value

    def test_a_missing_chunk(self) -> None:
        odb, pointer, chunk = self.prepared()
        del odb.objects[chunk]
        error = self.read(pointer, odb, MissingObjectError, chunk.hex())
        assert isinstance(error, MissingObjectError)
        assert error.oid == chunk

    def test_a_chunk_with_other_bytes(self) -> None:
        odb, pointer, chunk = self.prepared()
        odb.objects[chunk] = ("blob", bytes(len(odb.objects[chunk][1])))
        error = self.read(pointer, odb, ContentError, "damaged")
        assert isinstance(error, ContentError)
        assert (error.chunk, error.index) == (chunk, 1)

    def test_a_chunk_that_is_longer(self) -> None:
        odb, pointer, chunk = self.prepared()
        odb.objects[chunk] = ("blob", odb.objects[chunk][1] + b"more")
        self.read(pointer, odb, ContentError, "expected")

    def test_a_chunk_that_is_no_blob(self) -> None:
        odb, pointer, chunk = self.prepared()
        odb.objects[chunk] = ("tree", b"")
        self.read(pointer, odb, ContentError, "is a tree, expected a blob")

    def test_a_pointer_with_another_size(self) -> None:
        odb, pointer, _ = self.prepared()
        self.read(Pointer(pointer.sha256, 5, pointer.manifest), odb, ManifestError, "the pointer says 5")

    def test_a_pointer_with_another_digest(self) -> None:
        odb, pointer, _ = self.prepared()
        self.read(Pointer(bytes(32), pointer.size, pointer.manifest), odb, CorruptError, "the pointer says 0000")
