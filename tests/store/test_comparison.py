"""Whether content is what is stored: the first difference, and nothing of what comes after it is lost."""

import threading

import pytest

from gitml.oid import ObjectFormat
from gitml.record import replace
from gitml.store import batches
from gitml.store.comparison import compare_content
from gitml.store.content import store_content
from gitml.store.manifest import Manifest, read_manifest
from gitml.store.odb import MemoryOdb
from gitml.store.pointer import Pointer
from tests.store.samples import noise

CONTENT = noise(12_000_000)


def stored(odb: MemoryOdb, data: bytes = CONTENT) -> tuple[Pointer, Manifest]:
    pointer = store_content([data], odb).pointer
    return pointer, read_manifest(pointer.manifest, odb)


def changed(at: int) -> bytes:
    return CONTENT[:at] + bytes([CONTENT[at] ^ 1]) + CONTENT[at + 1 :]


@pytest.fixture(params=[1 << 16, 1 << 20, 4 << 20])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "TOGETHER", request.param)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("is_verified", [False, True])
@pytest.mark.parametrize("piece", [65_516, 5_000_000, 20_000_000])
@pytest.mark.parametrize(
    "new",
    [
        changed(0), changed(6_000_000), changed(len(CONTENT) - 1),
        CONTENT[:-1], CONTENT + b"x", CONTENT[:3_000_000], b"", noise(12_000_000, b"other"),
    ],
    ids=["first", "middle", "last", "shorter", "longer", "a quarter", "nothing", "other"],
)  # fmt: skip
def test_the_first_difference_is_found_and_the_rest_is_given(new: bytes, piece: int, is_verified: bool) -> None:
    odb = MemoryOdb()
    pointer, manifest = stored(odb)
    pieces = [new[at : at + piece] for at in range(0, len(new), piece)]
    found = compare_content(iter(pieces), pointer, manifest, ObjectFormat.SHA1, is_verified=is_verified)
    assert found is not None
    equal, rest = found
    before = b"".join(odb.read(chunk.oid)[1] for chunk in manifest.chunks[:equal])
    assert before == new[: len(before)]
    assert before + b"".join(rest) == new
    if equal < len(manifest.chunks):
        assert new[len(before) : len(before) + manifest.chunks[equal].size] != odb.read(manifest.chunks[equal].oid)[1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chunks")]


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("size", [100_000, len(CONTENT)])
def test_equal_content_needs_nothing(size: int) -> None:
    odb = MemoryOdb()
    pointer, manifest = stored(odb, CONTENT[:size])
    pieces = [memoryview(CONTENT)[at : min(at + 65_516, size)] for at in range(0, size, 65_516)]
    assert compare_content(iter(pieces), pointer, manifest, ObjectFormat.SHA1) is None


def test_a_pointer_with_the_digest_of_something_else_is_not_believed() -> None:
    odb = MemoryOdb()
    pointer, manifest = stored(odb)
    wrong = replace(pointer, sha256=bytes(32))
    found = compare_content(iter([CONTENT]), wrong, manifest, ObjectFormat.SHA1)
    assert found is not None
    assert found[0] == len(manifest.chunks)
    assert b"".join(found[1]) == b""
    # what is known to be right is not computed again
    assert compare_content(iter([CONTENT]), wrong, manifest, ObjectFormat.SHA1, is_verified=True) is None
