"""What `git gc` makes of chunks: noise is not searched for deltas."""

from gitml.git.localattributes import write_attributes

from .conftest import Place, noise


def deltas(place: Place) -> set[str]:
    """Every object that is a delta in a pack, after all packs were made anew."""
    place.git("repack", "-q", "-a", "-d", "-f")
    found = set()
    for index in (place.repo.objects_dir / "pack").glob("*.idx"):
        listed = (line.split() for line in place.git("verify-pack", "-v", str(index)).splitlines())
        found |= {fields[0] for fields in listed if len(fields) == 7 and len(fields[0]) == 40}
    return found


def test_chunks_of_noise_are_never_deltas(place: Place) -> None:
    content = noise(1, 150_000)
    pointers = [place.add("x", content)]
    place.commit()
    # only one byte is another, so git would find deltas if it searched
    pointers.append(place.add("x", content[:70_000] + b"!" + content[70_001:]))
    place.commit()
    chunks = {oid.hex() for pointer in pointers for oid in place.chunks(pointer)}
    assert deltas(place) & chunks
    write_attributes(place.repo, [])
    assert not deltas(place) & chunks
