"""What `git gc` makes of chunks: noise is not searched for deltas, and tables cost little more than git's own."""

import random

from gitml.git.localattributes import write_attributes
from tests.conftest import run_git

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


def histories(versions: int) -> list[bytes]:
    """Versions of a table: each day rows come at its end, and some of the others change, go or come."""
    chance = random.Random(5)

    def row(number: int) -> str:
        return f"{number},{chance.random():.6f},{chance.choice('abcdefgh')},{chance.randrange(10**6)}\n"

    rows = [row(number) for number in range(12_000)]
    found = []
    for version in range(versions):
        found.append("".join(rows).encode())
        for _ in range(20):
            rows[chance.randrange(len(rows))] = row(version)
            del rows[chance.randrange(len(rows))]
            rows.insert(chance.randrange(len(rows)), row(version))
        rows += [row(len(rows) + number) for number in range(200)]
    return found


def test_a_history_of_tables_costs_little_more_than_gits_own_packs(place: Place) -> None:
    plain = place.path.parent / "plain"
    plain.mkdir()
    run_git(plain, "init", "-q")
    for content in histories(12):
        place.commit({"table.csv": content})
        (plain / "table.csv").write_bytes(content)
        run_git(plain, "add", "-A")
        run_git(plain, "commit", "-q", "-m", "c")
    sizes = []
    for where in (place.path, plain):
        run_git(where, "gc", "-q", "--prune=now")
        sizes.append(sum(pack.stat().st_size for pack in (where / ".git/objects/pack").glob("*.pack")))
    assert sizes[0] <= 1.2 * sizes[1]
