"""Trees and stages in memory."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gitml.pipeline.spec.model import Input, PfsInput, Stage, Transform
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_LINK, Entry, Snapshot, edit_tree, empty_tree

Files = Mapping[str | bytes, str | bytes | Entry | None]
MakeTree = Callable[..., Snapshot]


@pytest.fixture
def odb() -> MemoryOdb:
    """An empty object database."""
    return MemoryOdb()


@pytest.fixture
def tree(odb: MemoryOdb) -> MakeTree:
    """Make a snapshot of files: `tree({"a/b": "text"})`, or of `base` with some set and some removed (None).

    A name that ends in `*` is executable, `name@` is a symbolic link to its text; an entry stands as it is.
    """

    def make(files: Files, base: Snapshot | None = None) -> Snapshot:
        changes: dict[bytes, Entry | None] = {}
        for key, content in files.items():
            name = key.encode() if isinstance(key, str) else key
            if content is None or isinstance(content, Entry):
                changes[name] = content
                continue
            mode = {b"*": MODE_EXECUTABLE, b"@": MODE_LINK}.get(name[-1:], MODE_FILE)
            data = content.encode() if isinstance(content, str) else content
            changes[name.rstrip(b"*@")] = Entry(mode, odb.write("blob", data))
        return Snapshot(odb, edit_tree(odb, odb, base.root if base else empty_tree(odb.format), changes))

    return make


def pfs(name: str, glob: str = "/", path: str | None = None, upstream: str | None = None) -> PfsInput:
    return PfsInput(name=name, repo=name, path=(path or name).encode(), upstream=upstream, glob=glob)


@pytest.fixture
def pfs_input() -> Callable[..., PfsInput]:
    """Make a pfs input: `pfs_input("data", "/*", path=..., upstream=...)`."""
    return pfs


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    """Make a stage: `make_stage("model", ["python", "train.py"], input, stdin=..., params=...)`."""

    def make(name: str, cmd: list[str] | None = None, input: Input | None = None, **fields: Any) -> Stage:  # noqa: A002
        of_transform = {
            field: fields.pop(field)
            for field in (
                "stdin",
                "err_cmd",
                "err_stdin",
                "env",
                "accept_return_code",
                "datum_batching",
                "working_dir",
                "image",
                "debug",
                "secrets",
            )
            if field in fields
        }
        fields.setdefault("output", name.encode())
        return Stage(name=name, transform=Transform(cmd=tuple(cmd or ["true"]), **of_transform), input=input, **fields)

    return make
