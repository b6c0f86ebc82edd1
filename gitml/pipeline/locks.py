"""Which files fix the environment of a stage: the lock and requirement files beside its code.

Nothing here installs them. People do, and commands such as `uv run` do; so who reviews a command reviews them too.
They are part of what is trusted, not of keys: a lock file that a task reads is its code, and named as such.
"""

from collections.abc import Sequence

from gitml.pipeline.code import CodeFile
from gitml.pipeline.spec.model import Stage
from gitml.provenance.codec import bytes_of
from gitml.store.tree import Entry, Snapshot

LOCK_FILES = frozenset(
    {
        b"Cargo.lock", b"Gemfile.lock", b"Manifest.toml", b"Pipfile", b"Pipfile.lock", b"bun.lock", b"conda-lock.yml",
        b"constraints.txt", b"environment.yaml", b"environment.yml", b"flake.lock", b"go.sum", b"package-lock.json",
        b"pdm.lock", b"pixi.lock", b"pnpm-lock.yaml", b"poetry.lock", b"pylock.toml", b"renv.lock", b"requirements.in",
        b"requirements.lock", b"requirements.txt", b"uv.lock", b"yarn.lock",
    }
)  # fmt: skip
"""Names, in the directories of the code and above, up to the top."""


def lock_files(stage: Stage, code: Sequence[CodeFile], snapshot: Snapshot) -> tuple[tuple[bytes, Entry], ...]:
    """The lock and requirement files that belong to `stage` with this code: path and entry, sorted by path."""
    folders = {_parent(file.source) for file in code}
    place = stage.transform.working_dir
    if place and not place.startswith("/") and ".." not in place.split("/"):
        folders.add(b"/".join(part for part in bytes_of(place).split(b"/") if part not in (b"", b".")))
    above = {b""}
    while folders:
        above |= folders
        folders = {_parent(folder) for folder in folders} - above
    found = {}
    for folder in above:
        for name, entry in snapshot.among(folder, LOCK_FILES).items():
            if not entry.is_tree:
                found[folder + b"/" + name if folder else name] = entry
    return tuple(sorted(found.items()))


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
