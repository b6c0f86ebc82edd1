"""Commits that need not be evaluated: they touch nothing that was read when all was found to be fresh.

Where every stage is fresh and its record in the tree says so, an evaluation has read that tree by path and nothing
else. So its answer holds for every tree that has the same at those paths, the absent ones included. The paths and the
answer are kept beside the worktree's index. A commit costs one `git diff-tree` as long as it leaves the paths alone.
`git ml status` and `git ml run` then say without an evaluation what they would say with one. (The traces of Mokhov et
al., "Build systems à la carte", ICFP 2018.)
"""

import json
import os
from collections.abc import Set
from contextlib import suppress
from typing import Any

from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record
from gitml.store.odb import ObjectReader
from gitml.store.tree import Entry, Snapshot

_FILE = "ml/settled"
_HEAD = b"gitml settled 2 "
"""With the version of the rules: another one when stages are evaluated or keys made in another way."""


@record
class SettledStage:
    """A stage that is fresh: its name, the path of its output, and how many datums it has."""

    name: str
    output: str
    total: int


@record
class Settled:
    """What an evaluation found that found every stage fresh. Without `pipeline.json` there are no stages."""

    stages: tuple[SettledStage, ...]
    notices: tuple[str, ...]
    """What is to be said of `pipeline.json`."""
    places: tuple[bytes, ...]
    """What stages read or write and people change: files and directories."""


class TracedSnapshot(Snapshot):
    """A snapshot that notes every path it is asked for."""

    def __init__(self, odb: ObjectReader, root: Oid) -> None:
        super().__init__(odb, root)
        self.asked: set[bytes] = set()
        self._asked_among: dict[bytes, set[bytes]] = {}

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, as of any snapshot."""
        self.asked.add(path)
        return super().get(path)

    def among(self, path: bytes, names: Set[bytes]) -> dict[bytes, Entry]:
        """Some entries of a directory, as of any snapshot; also what is absent has been asked for."""
        self._asked_among.setdefault(path, set()).update(names)
        return super().among(path, names)

    def all_asked(self) -> set[bytes]:
        """Every path that was asked for."""
        return self.asked | {
            folder + b"/" + name if folder else name for folder, names in self._asked_among.items() for name in names
        }


def note_settled(repo: Repository, snapshot: TracedSnapshot, answer: Settled) -> None:
    """Everything is fresh at this snapshot, as an evaluation found that asked it alone."""
    if b"" not in snapshot.asked:
        _write(repo, snapshot.root, _format(answer) + b"\n" + b"\0".join(sorted(snapshot.all_asked())))


def is_settled(repo: Repository, tree: Oid) -> bool:
    """Whether an evaluation of this tree would find everything fresh, as it did the last time. Never wrongly true."""
    return _look_up(repo, tree) is not None


def settled(repo: Repository, tree: Oid) -> Settled | None:
    """What an evaluation of this tree would find, if that is known and everything is fresh. Never wrong."""
    found = _look_up(repo, tree)
    return None if found is None else _parse(found)


def noted(repo: Repository) -> Settled | None:
    """What was found when all was last found fresh, whether or not it still holds."""
    note = _read(repo)
    return None if note is None else _parse(note[1].partition(b"\n")[0])


def _look_up(repo: Repository, tree: Oid) -> bytes | None:
    """The noted answer if it holds for this tree."""
    note = _read(repo)
    if note is None:
        return None
    before, rest = note
    answer, _, paths = rest.partition(b"\n")
    if before == tree.hex():
        return answer
    # -t: also the directories on the way, which may be among what was asked for
    done = repo.git.run("diff-tree", "-r", "-t", "-z", "--name-only", "--no-renames", before, tree.hex(), check=False)
    if done.returncode != 0:
        return None  # that tree has been pruned
    if not set(paths.split(b"\0")).isdisjoint(done.stdout.split(b"\0")[:-1]):
        return None
    _write(repo, tree, rest)
    return answer


def _read(repo: Repository) -> tuple[str, bytes] | None:
    """The tree that a note is about, and the rest of it."""
    try:
        head, _, rest = (repo.git_dir / _FILE).read_bytes().partition(b"\n")
    except OSError:
        return None
    return (head.removeprefix(_HEAD).decode("ascii", "replace"), rest) if head.startswith(_HEAD) else None


def _write(repo: Repository, tree: Oid, rest: bytes) -> None:
    place = repo.git_dir / _FILE
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    with suppress(OSError):  # a note that is not there costs time only
        place.parent.mkdir(exist_ok=True)
        temporary.write_bytes(_HEAD + tree.hex().encode() + b"\n" + rest)
        temporary.replace(place)


def _format(answer: Settled) -> bytes:
    """The answer as one line."""
    document = {
        "stages": [[stage.name, stage.output, stage.total] for stage in answer.stages],
        "notices": answer.notices,
        "places": [path.decode("utf-8", "surrogateescape") for path in answer.places],
    }
    return json.dumps(document, ensure_ascii=True).encode()


def _parse(line: bytes) -> Settled | None:
    try:
        return _from_document(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return None  # damaged


def _from_document(document: Any) -> Settled:
    return Settled(
        stages=tuple(SettledStage(*stage) for stage in document["stages"]),
        notices=tuple(document["notices"]),
        places=tuple(text.encode("utf-8", "surrogateescape") for text in document["places"]),
    )
