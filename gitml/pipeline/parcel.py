"""What a run and a worker tell each other, as values and as bytes.

Contents never travel this way: they go through the data remote, here are only their names. The bytes are pickles, as
those of everything that Dask carries; they are read only after both sides know that they mean the same by them.
"""

import pickle
from collections.abc import Iterator, Mapping
from typing import TypeVar

from gitml.oid import Oid
from gitml.pipeline.code import CodeFile
from gitml.pipeline.datum import Datum
from gitml.pipeline.spec.model import Stage
from gitml.record import record
from gitml.store.odb import ObjectReader
from gitml.store.tree import Entry, Snapshot

PROTOCOL = 3
"""Changes with everything that a pickle of these values holds."""

_Value = TypeVar("_Value")


@record(kw_only=True)
class Job:
    """What all tasks of a stage run have in common."""

    stage: Stage
    run: str
    commits: Mapping[str, str]
    """Commit of an input, by its name."""
    code: tuple[CodeFile, ...]
    files: Mapping[bytes, bytes]
    """Parameters, as files at repository paths."""
    attributes: Oid
    """A tree with the `.gitattributes` files that count for the outputs, and the archive of the stage's image."""
    object_format: str
    address: str
    """The data remote."""
    results: str
    """What the name of a ref for results begins with there."""
    data: str
    """What the name of a data commit begins with there."""
    sandbox: str
    """As `ml.sandbox`."""
    network: bool


@record
class Order:
    """One task to compute."""

    key: str
    datum: Datum


@record(kw_only=True)
class Done:
    """What became of one task; the members are those of `task.TaskOutcome` and `collect.Collected`."""

    key: str
    state: str
    attempts: int
    status: int | None
    message: str
    hint: str | None
    seconds: float
    max_rss: int | None
    cpu_seconds: float | None
    tree: Oid | None
    """None unless it succeeded."""
    files: int = 0
    size: int = 0
    plain_large: tuple[tuple[bytes, int], ...] = ()


@record(kw_only=True)
class Returned:
    """What a worker gives for a batch of orders."""

    done: tuple[Done, ...]
    commit: Oid
    """At the remote: `out/<key>` is an output tree, `log/<key>` a log."""
    data: Oid | None
    """A data commit at the remote with what is large in the outputs; None if nothing is."""
    item: tuple[bytes, Oid] | None
    """Path and manifest of one of these contents."""
    size: int
    """Bytes in outputs with such contents."""
    means: Mapping[str, str]
    notices: tuple[str, ...]
    sandbox: str
    host: str
    seconds: float
    """Time in tasks, their workspaces included; without what was fetched and pushed."""


def pack(value: object) -> bytes:
    """A value as bytes."""
    return pickle.dumps(value)


def unpack(data: bytes, kind: type[_Value]) -> _Value:
    """The value of the given kind that bytes hold; only for bytes of a side that may run commands here anyway."""
    value = pickle.loads(data)  # noqa: S301 - see the first lines
    assert isinstance(value, kind)
    return value


def files_below(odb: ObjectReader, entry: Entry, path: bytes) -> Iterator[tuple[bytes, Oid]]:
    """Path and oid of every regular file at and below an entry that stands at `path`."""
    if entry.is_file:
        yield path, entry.oid
    elif entry.is_tree:
        for below, found in Snapshot(odb, entry.oid).walk():
            if found.is_file:
                yield (path + b"/" + below if path else below), found.oid


def image_in(stage: Stage, snapshot: Snapshot) -> dict[bytes, Entry]:
    """Path and entry of the archive that has the image of a stage; nothing if the tree has none."""
    source = stage.transform.source
    entry = snapshot.get(source.path) if source is not None and source.path is not None else None
    return {source.path: entry} if source is not None and source.path is not None and entry is not None else {}
