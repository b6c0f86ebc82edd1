"""A second reader, written from docs/format.md alone: it shares no code with the store that wrote the objects."""

import hashlib
import re
from collections.abc import Iterator
from typing import cast

import pytest

from gitml.oid import ObjectFormat, Oid
from gitml.store.content import store_content
from gitml.store.manifest import Chunk, Manifest, write_manifest
from gitml.store.odb import MemoryOdb
from gitml.store.pointer import format_pointer
from tests.store.samples import noise, safetensors, table

Objects = dict[bytes, tuple[str, bytes]]


def manifest_entries(objects: Objects, oid: bytes) -> Iterator[tuple[int, bytes]]:
    """Size and oid of each chunk, as docs/format.md describes manifests."""
    encoded = objects[oid][1]
    while True:
        head, _, body = encoded.partition(b"\n\n")
        magic, *lines = head.decode("ascii").split("\n")
        fields = dict(line.split(" ") for line in lines)
        assert magic == "gitml manifest 1"
        digest = {"sha1": 20, "sha256": 32}[fields["hash"]]
        rows = [body[at : at + 9 + digest] for at in range(0, len(body), 9 + digest)]
        entries = [(int.from_bytes(row[1:5], "big"), row[9:]) for row in rows]
        assert len(entries) == int(fields["chunks"])
        assert sum(size for size, _ in entries) == int(fields["size"])
        if fields["level"] == "0":
            return iter(entries)
        encoded = b"".join(objects[piece][1] for _, piece in entries)


def read(objects: Objects, pointer: bytes) -> bytes:
    """The content behind the text of a pointer."""
    match = re.fullmatch(rb"gitml pointer 1\nsha256 (\w{64})\nsize (\d+)\nmanifest (\w+)\n", pointer)
    assert match is not None
    content = b"".join(objects[oid][1] for _, oid in manifest_entries(objects, bytes.fromhex(match[3].decode())))
    assert len(content) == int(match[2])
    assert hashlib.sha256(content).hexdigest() == match[1].decode()
    return content


@pytest.mark.parametrize("object_format", list(ObjectFormat))
@pytest.mark.parametrize(
    "content", [table(50_000), noise(1_000_000), safetensors([100_000, 300_000]), bytes(2_500_000)]
)
def test_the_independent_reader_gives_the_content(content: bytes, object_format: ObjectFormat) -> None:
    odb = MemoryOdb(object_format)
    stored = store_content([content], odb)
    assert read(cast("Objects", odb.objects), format_pointer(stored.pointer)) == content


def test_the_independent_reader_follows_levels() -> None:
    odb = MemoryOdb()
    names = noise(20 * 45_000)
    chunks = [Chunk(100, None, Oid(names[at : at + 20])) for at in range(0, len(names), 20)]
    top = write_manifest(Manifest(100 * len(chunks), chunks), odb)
    found = list(manifest_entries(cast("Objects", odb.objects), top))
    assert found == [(100, chunk.oid) for chunk in chunks]
