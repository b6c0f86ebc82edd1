"""Paths that a specification names: which are allowed, and what the tree holds there."""

import re
from bisect import bisect_left
from collections.abc import Mapping

from gitml.pipeline.spec.error import Place, SpecError, nearest, quoted
from gitml.store.tree import MODE_GITLINK, MODE_LINK, Entry, Snapshot

LONGEST_PART = 255
"""Bytes of one name, on every file system in use."""

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_SHORT_NAME = re.compile(r"(git|gitml)~[0-9]+")
_HFS_IGNORES = dict.fromkeys([0x200C, 0x200D, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
"""Characters that HFS+ leaves out when it compares names (git's utf8.c, `next_hfs_char`)."""


def relative(text: str, place: Place, what: str) -> str:
    """`text` as a relative path without `.`, `..` and empty parts; `what` it is relative to, for messages.

    Empty: that directory itself. Raise `SpecError` for a path that is absolute or leads out of it.
    """
    if text.startswith("/") or _DRIVE.match(text):
        raise SpecError(place, f"{quoted(text)} is an absolute path", hint=f"write it relative to {what}")
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise SpecError(place, f"{quoted(text)} leaves {what}", hint="write it without '..'")
    return "/".join(parts)


def repository_path(text: str, place: Place) -> bytes:
    """`text` as a path of the repository, `b""` for its top.

    Raise `SpecError` for what `relative` refuses, and for what git or gitml keeps for itself: `.git` in any
    spelling that some file system takes for it, and `.gitml`.
    """
    path = relative(text, place, "the top of the repository")
    for number, part in enumerate(path.split("/")):
        if any(_is_reserved(name, "git") for name in part.split("\\")):
            raise SpecError(place, f"{quoted(text)} enters '.git'", hint="name files that are committed")
        if number == 0 and _is_reserved(part, "gitml"):
            raise SpecError(place, f"{quoted(text)} enters '.gitml', which gitml keeps for itself")
        if len(part.encode()) > LONGEST_PART:
            raise SpecError(place, f"{quoted(part)} is longer than {LONGEST_PART} bytes")
    return path.encode()


def _is_reserved(name: str, word: str) -> bool:
    """Whether some file system takes `name` for the directory `.<word>` (git's `is_hfs_dotgit`, `is_ntfs_dotgit`)."""
    folded = name.translate(_HFS_IGNORES).casefold().partition(":")[0].rstrip(" .")
    short = _SHORT_NAME.fullmatch(folded)
    return folded == f".{word}" or (short is not None and short[1] == word)


def inside(inner: bytes, outer: bytes) -> bool:
    """Whether `inner` is the path `outer` or lies below it."""
    return not outer or inner == outer or inner.startswith(outer + b"/")


class Outputs:
    """The output directories of all stages, by path."""

    def __init__(self, stages: Mapping[bytes, str]) -> None:
        self._stages = stages
        self._sorted = sorted(path + b"/" for path in stages)

    def above(self, path: bytes) -> str | None:
        """The stage whose output holds `path` or is it."""
        at = len(path)
        while at > 0:
            found = self._stages.get(path[:at])
            if found is not None:
                return found
            at = path.rfind(b"/", 0, at)
        return None

    def below(self, path: bytes) -> str | None:
        """A stage whose output is `path` or lies below it, the first by path."""
        prefix = path + b"/" if path else b""
        at = bisect_left(self._sorted, prefix)
        if at < len(self._sorted) and self._sorted[at].startswith(prefix):
            return self._stages[self._sorted[at][:-1]]
        return None


def entry_at(snapshot: Snapshot, path: bytes, place: Place, *, expected: str) -> Entry:
    """What the tree has at `path`; raise `SpecError` unless it is as `expected`: 'a file', 'a directory', 'either'."""
    entry = snapshot.get(path)
    if entry is None:
        raise SpecError(place, f"{quoted(path)} is not in the commit", hint=_missing_hint(snapshot, path))
    wanted = {"a file": entry.is_file, "a directory": entry.is_tree, "either": entry.is_file or entry.is_tree}
    if not wanted[expected]:
        expected = "a file or a directory" if expected == "either" else expected
        raise SpecError(place, f"{quoted(path)} is {kind_name(entry)}, expected {expected}")
    return entry


def kind_name(entry: Entry) -> str:
    """What an entry is, for messages."""
    if entry.mode == MODE_LINK:
        return "a symbolic link"
    if entry.mode == MODE_GITLINK:
        return "a submodule"
    return "a directory" if entry.is_tree else "a file"


def nearest_path(snapshot: Snapshot, path: bytes) -> str | None:
    """A path of the tree that `path` was most likely meant to be."""
    parent: bytes = b""
    for part in path.split(b"/"):
        names = snapshot.list(parent)
        if part in names:
            parent = parent + b"/" + part if parent else part
            continue
        known = [name.decode("utf-8", "surrogateescape") for name in names]
        found = nearest(part.decode("utf-8", "surrogateescape"), known)
        if found is None:
            return None
        prefix = parent.decode("utf-8", "surrogateescape") + "/" if parent else ""
        return prefix + found
    return None


def _missing_hint(snapshot: Snapshot, path: bytes) -> str:
    found = nearest_path(snapshot, path)
    return f"did you mean {quoted(found)}?" if found is not None else "commit it together with pipeline.json"
