"""What the figures of `git ml info` mean, to the byte."""

from gitml.care.roots import only_below, read_needs
from gitml.care.usage import Usage, largest, measure
from gitml.oid import Oid

from .conftest import Place, noise

SIZE = 70_000


def usage(place: Place, *paths: bytes) -> Usage:
    needs = read_needs(place.repo)
    return measure(place.repo, only_below(needs, paths) if paths else needs, needs)


def on_disk(place: Place, *oids: Oid) -> int:
    listed = "".join(f"{oid}\n" for oid in oids).encode()
    return sum(map(int, place.git("cat-file", "--batch-check=%(objectsize:disk)", data=listed).split()))


def test_versions_are_counted_one_by_one_and_chunks_once(place: Place) -> None:
    one = place.add("d/a", noise(1, SIZE))
    place.add("d/same", noise(1, SIZE))
    place.add("b", noise(2, SIZE))
    place.commit()
    two = place.add("d/a", noise(3, 2 * SIZE))
    place.commit()
    found = usage(place)
    assert (found.total.versions, found.total.logical, found.total.distinct) == (4, 5 * SIZE, 4 * SIZE)
    assert found.total.deduplication == 5 / 4
    assert found.total.absent == 0
    assert found.directories[b"d"].distinct == 3 * SIZE
    assert found.paths[b"d/a"].versions == 2
    assert found.paths[b"d/same"].logical == SIZE
    assert largest(found, 2) == [(b"d/a", 2 * SIZE), (b"b", SIZE)]
    # noise does not shrink, so chunks and manifests are what they are, with the few bytes around them
    assert 3 * SIZE < found.directories[b"d"].disk < 3 * SIZE + 1000
    assert found.only_local == found.total.disk
    assert found.reclaimable == 0
    assert usage(place, b"b").total.logical == SIZE
    assert one.manifest != two.manifest


def test_what_could_go_and_what_a_remote_has_are_told(place: Place) -> None:
    place.commit({"a": noise(1, SIZE)})
    seen = place.git("rev-parse", next(iter(place.refs("refs/ml/data"))))
    place.git("update-ref", f"refs/ml/remotes/origin/data/{seen}", seen)
    place.git("switch", "-q", "-c", "side")
    gone = place.add("s", noise(2, SIZE))
    place.commit()
    assert SIZE < usage(place).only_local < SIZE + 500
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", "side")
    place.forget()
    (chunk,) = (oid for oid in place.chunks(gone) if oid != gone.manifest)
    assert usage(place).reclaimable == on_disk(place, gone.manifest, chunk)


def test_text_shrinks_by_deflate_and_deltas(place: Place) -> None:
    lines = b"".join(b"%d;%x;a line of a table\n" % (number, number * 7919) for number in range(8000))
    place.commit({"t": lines})
    place.git("gc", "-q")
    by_deflate = usage(place).total
    assert by_deflate.compression > 3
    place.commit({"t": lines.replace(b"4711;", b"4712;", 1)})
    place.git("gc", "-q")
    total = usage(place).total
    assert total.logical == 2 * len(lines)
    # a chunk and the manifest are others
    assert total.distinct > by_deflate.distinct + 50_000
    assert total.disk < by_deflate.disk + 500
    assert total.compression > by_deflate.compression
