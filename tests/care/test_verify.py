import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.care.repair import repair
from gitml.care.roots import only_below, read_needs, read_needs_of
from gitml.care.verify import Verified, verify
from gitml.git.packindex import PackIndex
from gitml.oid import Oid
from gitml.store.pointer import Pointer, format_pointer

from .conftest import Place, noise

LARGE = 1_500_000


def kinds(report: Verified) -> list[str]:
    return sorted(fault.kind for fault in report.faults)


def packs(place: Place) -> list[Path]:
    return sorted((place.path / ".git/objects/pack").glob("*.pack"))


def pack_with(place: Place, oid: Oid) -> Path:
    return next(
        pack for pack in packs(place) if PackIndex(pack.with_suffix(".idx"), place.repo.format).find(oid) is not None
    )


def overwrite(path: Path, at: int, data: bytes) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(place: Place, oid: Oid) -> Path:
    """Change one byte in the middle of a stored object."""
    pack = pack_with(place, oid)
    entries = sorted(
        (offset, name) for name, _, offset in PackIndex(pack.with_suffix(".idx"), place.repo.format).entries()
    )
    at = next(number for number, (_, name) in enumerate(entries) if name == oid)
    end = entries[at + 1][0] if at + 1 < len(entries) else pack.stat().st_size - 20
    middle = (entries[at][0] + end) // 2
    byte = pack.read_bytes()[middle]
    overwrite(pack, middle, bytes([byte ^ 1]))
    return pack


def test_a_sound_repository_is_sound(place: Place) -> None:
    place.commit({"a": noise(1, LARGE), "d/b": noise(2)})
    place.add("c", noise(3), session="1-s")
    report = place.verify()
    assert (report.contents, report.faults, report.packs) == (3, [], [])
    assert report.bytes == LARGE + 140_000


def test_content_without_a_data_commit_is_named_and_covered(place: Place) -> None:
    commit = place.commit({"a": noise(1)}, cover=False)
    place.add("b", noise(2))
    report = place.verify(deep=False)
    assert kinds(report) == ["uncovered", "uncovered"]
    assert [(use.path, use.where) for use in report.faults[0].uses] == [(b"a", commit), (b"a", "the index")]
    assert repair(place.repo, report).covered == 2
    place.sound()
    assert len(place.heads()) == 1
    assert len(place.refs("refs/ml/staged")) == 1
    place.gc()
    place.sound()


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)], ids=["sha1", "sha256"])
def test_a_flipped_bit_is_named_with_its_pack_and_put_right_from_a_remote(
    make: Callable[..., Place], tmp_path: Path, options: tuple[str, ...]
) -> None:
    place = make("here", *options)
    pointer = place.add("odd\n\udcff/a", noise(1, LARGE))
    place.commit()
    server = make("server.git", "--bare", *options)
    place.git("remote", "add", "origin", "../server.git")
    place.git("push", "-q", "origin", "HEAD", "refs/ml/data/*:refs/ml/data/*")
    place.gc()
    chunk = place.chunks(pointer)[1]
    pack = flip(place, chunk)
    assert place.verify(deep=False).faults == []
    report = place.verify()
    assert kinds(report) == ["corrupt"]
    assert pack.name in report.faults[0].what
    assert report.faults[0].oids == [chunk]
    assert report.faults[0].uses[0].path == b"odd\n\xff/a"
    done = repair(place.repo, report)
    assert done.objects["'origin'"] == 1
    place.sound()
    assert not pack.exists()
    assert (place.path / ".git/ml/damaged" / f"pack-{pack.name}").exists()
    assert server.git("fsck") == ""
    place.gc()
    place.sound()


def test_a_damaged_chunk_is_put_right_from_a_file(place: Place) -> None:
    content = noise(1, LARGE)
    pointer = place.add("a", content)
    place.commit()
    flip(place, place.chunks(pointer)[0])
    (place.path / "a").write_bytes(content[:-1] + b"!")
    report = place.verify()
    repair(place.repo, report)
    assert kinds(place.verify()) == ["corrupt"]
    (place.path / "a").write_bytes(content)
    repair(place.repo, place.verify())
    place.sound()


def test_a_truncated_pack_is_named_and_what_it_held_comes_back(make: Callable[..., Place]) -> None:
    place = make("here")
    place.commit({"a": noise(1, LARGE), "b": noise(2)})
    make("server.git", "--bare")
    place.git("remote", "add", "origin", "../server.git")
    place.git("push", "-q", "origin", "HEAD", "refs/ml/data/*:refs/ml/data/*")
    pack = max(packs(place), key=lambda each: each.stat().st_size)
    overwrite(pack, 0, b"PACK")
    os.truncate(pack, pack.stat().st_size // 2)
    report = place.verify(deep=False)
    assert [fault.path for fault in report.packs] == [pack]
    assert "corrupt" in kinds(report)
    place.repair()
    place.sound()


def test_a_pack_without_index_gets_one(place: Place) -> None:
    place.commit({"a": noise(1, LARGE)})
    place.gc()
    (pack,) = packs(place)
    pack.with_suffix(".idx").rename(pack.with_suffix(".gone"))
    (pack.parent / pack.with_suffix(".gone").name).unlink()
    for extra in pack.parent.glob("*.rev"):
        extra.unlink()
    place.git("commit-graph", "verify", check=False)
    report = place.verify()
    assert "git cannot read" in report.faults[0].what
    assert [(fault.path, fault.reindex) for fault in report.packs] == [(pack, True)]
    assert place.repair().reindexed == [pack]
    place.sound()


def test_what_is_missing_is_named_with_paths_and_commits(place: Place) -> None:
    pointer = Pointer(b"\x01" * 32, 70_000, Oid(b"\x11" * 20))
    blob = place.git("hash-object", "-w", "--stdin", data=format_pointer(pointer))
    place.git("update-index", "-z", "--index-info", data=b"100644 %s\td/a\0" % blob.encode())
    one = place.commit(cover=False)
    broken = place.git("hash-object", "-w", "--stdin", data=b"gitml pointer 1\nnonsense\n")
    place.git("update-index", "-z", "--index-info", data=b"100644 %s\tb\0" % broken.encode())
    two = place.commit(cover=False)
    report = place.verify()
    assert kinds(report) == ["malformed", "missing"]
    missing = report.of("missing")[0]
    assert missing.oids == [pointer.manifest]
    assert (missing.uses[0].path, missing.uses[0].where) == (b"d/a", one)
    assert report.of("malformed")[0].uses[0].where == two
    assert kinds(verify(place.repo, read_needs_of(place.repo, [f"{one}..{two}"]))) == ["malformed"]
    assert kinds(verify(place.repo, read_needs_of(place.repo, [one]))) == ["missing"]
    assert kinds(verify(place.repo, only_below(read_needs(place.repo), [b"d"]))) == ["missing"]


def test_what_an_alternate_has_is_not_missing(make: Callable[..., Place], tmp_path: Path) -> None:
    lender = make("lender")
    lender.commit({"a": noise(1, LARGE)})
    lender.git("clone", "-q", "--shared", ".", str(tmp_path / "borrower"))
    borrower = Place(tmp_path / "borrower")
    borrower.git("fetch", "-q", "origin", "+refs/ml/data/*:refs/ml/remotes/origin/data/*")
    borrower.sound()


def test_a_shallow_clone_is_checked_as_far_as_it_goes(make: Callable[..., Place], tmp_path: Path) -> None:
    place = make("here")
    place.commit({"a": noise(1)})
    place.commit({"a": noise(2)})
    place.git("clone", "-q", "--depth=1", f"file://{place.path}", str(tmp_path / "shallow"))
    shallow = Place(tmp_path / "shallow")
    shallow.git("fetch", "-q", "origin", "+refs/ml/data/*:refs/ml/remotes/origin/data/*")
    report = shallow.verify()
    assert (report.contents, report.faults) == (1, [])


def test_linked_worktrees_and_submodules_are_repositories_like_others(
    make: Callable[..., Place], tmp_path: Path
) -> None:
    place, part = make("here"), make("part")
    part.commit({"a": noise(1)})
    place.commit({"b": noise(2)})
    place.git("submodule", "--quiet", "add", str(part.path), "sub")
    sub = Place(place.path / "sub")
    sub.add("c", noise(3))
    sub.commit()
    sub.repair()
    place.git("worktree", "add", "-q", "--no-checkout", str(tmp_path / "w"))
    linked = Place(tmp_path / "w")
    linked.git("read-tree", "HEAD")
    linked.add("d", noise(4))
    linked.commit()
    for each, number in ((place, 2), (linked, 2)):
        assert each.verify().contents == number
        each.prune()
        each.sound()
    assert sub.verify().contents == 2  # repair fetched what the clone had left out
    sub.prune()
    sub.sound()


def test_what_is_missing_comes_back_from_a_remote(make: Callable[..., Place]) -> None:
    place = make("here")
    one = place.add("a", noise(1, LARGE))
    place.commit()
    place.add("b", noise(2))
    place.commit()
    make("server.git", "--bare")
    place.git("remote", "add", "origin", "../server.git")
    place.git("push", "-q", "origin", "HEAD", "refs/ml/data/*:refs/ml/data/*")
    pack = pack_with(place, one.manifest)
    for part in pack.parent.glob(f"{pack.stem}.*"):
        part.unlink()
    report = place.verify(deep=False)
    assert [one.manifest] in [fault.oids for fault in report.of("missing")]
    done = place.repair()
    assert done.objects["'origin'"] > 0
    place.sound()


def test_a_damaged_index_is_made_anew(place: Place) -> None:
    pointer = place.add("a", noise(1, LARGE))
    place.commit()
    pack = pack_with(place, pointer.manifest)
    overwrite(pack.with_suffix(".idx"), 1500, b"\xff\xff")
    report = place.verify()
    assert [(fault.path, fault.reindex) for fault in report.packs] == [(pack, True)]
    assert place.repair().reindexed == [pack]
    place.sound()
