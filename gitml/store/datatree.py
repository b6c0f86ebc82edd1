"""The data tree of one file: the tree that makes its chunks reachable, named so that git finds good deltas.

`git pack-objects` sorts delta candidates by a hash of the last 16 characters of their names and compares
neighbours only. So a chunk is named by its sketch: an edited chunk keeps its name and meets its former self, on
repack and, because thin packs look up the same path in what the remote has, on push. The order of chunks is in the
manifest alone. Hides how entries are named and fanned out.
"""

from collections.abc import Iterable

from gitml.oid import Oid
from gitml.store.manifest import Chunk, Manifest, ManifestError, encode_manifest
from gitml.store.odb import ObjectWriter
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, format_tree

MANIFEST_NAME = b"manifest"
"""Name of the top manifest in a data tree."""

SKETCH_CONSTANT = b"mlchunk-"
"""What stands before the sketch: with its 8 digits, the 16 characters by which git sorts delta candidates."""

INCOMPRESSIBLE_SUFFIX = b".mlx"
"""How names of incompressible chunks end, for `*.mlx -delta` in `info/attributes`."""

MAX_ENTRIES = 2048
"""A directory with more entries than this is split by the next two digits of the fan-out key."""

_Named = tuple[bytes, bytes, Oid]
"""Fan-out key, name, oid."""


def write_data_tree(manifest_oid: Oid, manifest: Manifest, writer: ObjectWriter) -> Oid:
    """Write the data tree of the file with `manifest`; give its oid. No content is read.

    Raise `ManifestError` if `manifest_oid` is not the canonical encoding of `manifest`: the tree would not hold
    the pieces that the stored manifest refers to.
    """
    encoded = encode_manifest(manifest, writer.format)
    if writer.format.oid_of("blob", encoded.top) != manifest_oid:
        raise ManifestError("not the canonical encoding of its chunks", manifest_oid)
    named = list(_names([*manifest.chunks, *(chunk for chunk, _ in encoded.pieces)]))
    return _write(named, 0, writer, [(MANIFEST_NAME, Entry(MODE_FILE, manifest_oid))])


def _names(chunks: Iterable[Chunk]) -> Iterable[_Named]:
    """Each distinct chunk with its name, in order of first occurrence."""
    seen: set[Oid] = set()
    occurrences: dict[int, int] = {}
    for chunk in chunks:
        if chunk.oid in seen:
            continue
        seen.add(chunk.oid)
        if chunk.sketch is None:
            yield chunk.oid, chunk.oid.hex().encode() + INCOMPRESSIBLE_SUFFIX, chunk.oid
            continue
        occurrence = occurrences.get(chunk.sketch, 0)
        occurrences[chunk.sketch] = occurrence + 1
        # the low byte of the occurrence first, so that many chunks of one sketch still spread
        key = chunk.sketch.to_bytes(4, "big") + occurrence.to_bytes(8, "little")
        yield key, b"%02d-%s%08x" % (occurrence, SKETCH_CONSTANT, chunk.sketch), chunk.oid


def _write(named: list[_Named], depth: int, writer: ObjectWriter, more: Iterable[tuple[bytes, Entry]] = ()) -> Oid:
    """Write the directory that holds `named`, whose keys agree in the first `depth` bytes, and `more`."""
    if len(named) <= MAX_ENTRIES:
        entries = [(name, Entry(MODE_FILE, oid)) for _, name, oid in named]
    else:
        groups: dict[int, list[_Named]] = {}
        for item in named:
            groups.setdefault(item[0][depth], []).append(item)
        entries = [
            (b"%02x" % digit, Entry(MODE_TREE, _write(group, depth + 1, writer))) for digit, group in groups.items()
        ]
    return writer.write("tree", format_tree([*entries, *more]))
