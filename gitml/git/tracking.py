"""The lines of `.gitattributes` that put files under gitml, edited as bytes: every other byte stays as it is."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from gitml.errors import UserError
from gitml.git.repository import Repository

_GLOB = re.compile(r"[*?\[\\]")
_ATTRIBUTES = " filter=ml -text"


def patterns_for(repo: Repository, given: str) -> list[str]:
    """The patterns of `.gitattributes` that `given` stands for, which is one or the name of a file or directory.

    A directory means all below it. A name at which nothing is yet may become either, so it gives both. Names of what
    is there are taken literally, whatever characters they have. Raise `UserError`.
    """
    if not given.strip() or "\0" in given or "\n" in given:
        raise UserError(f"'{given}' is not a pattern of .gitattributes")
    if given.startswith("!"):
        raise UserError(
            "negative patterns do not exist in .gitattributes",
            hint="write the exception there by hand: PATTERN -filter",
        )
    name = given.rstrip("/")
    place = repo.worktree / name.lstrip("/") if repo.worktree is not None else None
    if place is not None and name and place.is_dir():
        return [f"{literal_pattern(name)}/**"]
    if given.endswith("/"):
        return [f"{name}/**"]
    if place is not None and os.path.lexists(place):
        return [literal_pattern(name)]
    return [given] if _GLOB.search(given) else [given, f"{given}/**"]


def track(repo: Repository, patterns: Iterable[str]) -> list[str]:
    """Add lines that put `patterns` under gitml; give the patterns that were new.

    Raise `UserError` if the file is a symbolic link, through which git would not read it.
    """
    path = _file(repo)
    data = _read(path)
    known = {pattern for pattern in map(_pattern_of, data.splitlines()) if pattern is not None}
    added = [pattern for pattern in dict.fromkeys(patterns) if quoted_pattern(pattern) not in known]
    if added:
        newline = b"\r\n" if b"\r\n" in data else b"\n"
        if data and not data.endswith(b"\n"):
            data += newline
        _write(path, data + b"".join(os.fsencode(attribute_line(pattern)) + newline for pattern in added))
    return added


def untrack(repo: Repository, patterns: Iterable[str]) -> list[str]:
    """Remove the lines of `patterns`; give those that had one."""
    path = _file(repo)
    lines = _read(path).splitlines(keepends=True)
    present = set(map(_pattern_of, lines))
    gone = [pattern for pattern in dict.fromkeys(patterns) if quoted_pattern(pattern) in present]
    unwanted = set(map(quoted_pattern, gone))
    if gone:
        _write(path, b"".join(line for line in lines if _pattern_of(line) not in unwanted))
    return gone


def tracked_patterns(repo: Repository) -> list[str]:
    """The patterns of the top-level `.gitattributes` that are under gitml, as they stand there."""
    return [pattern for line in _read(_file(repo)).splitlines() if (pattern := _pattern_of(line)) is not None]


def committed_patterns(repo: Repository) -> list[str]:
    """As `tracked_patterns`, of the newest commit."""
    data = repo.git.run("cat-file", "blob", "HEAD:.gitattributes", check=False).stdout
    return [pattern for line in data.splitlines() if (pattern := _pattern_of(line)) is not None]


def attribute_line(pattern: str) -> str:
    """The line of `.gitattributes` that puts a pattern under gitml.

    Without `merge=ml`: the driver of an older clone keeps our side, which would drop the other side of data. Clones say
    it for themselves (`localattributes`).
    """
    return quoted_pattern(pattern) + _ATTRIBUTES


def literal_pattern(name: str) -> str:
    """The pattern that means just this name, whatever characters it has."""
    return _GLOB.sub(_escaped, name)


def quoted_pattern(pattern: str) -> str:
    """A pattern as it stands in `.gitattributes`."""
    # git reads C-style quotes around patterns with blanks
    if any(char.isspace() or char in '"\\' for char in pattern) or pattern.startswith(("#", "!")):
        escaped = pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
        return f'"{escaped}"'
    return pattern


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def _file(repo: Repository) -> Path:
    if repo.worktree is None:
        raise UserError("a bare repository has no files to track")
    path = repo.worktree / ".gitattributes"
    if path.is_symlink():
        raise UserError("'.gitattributes' is a symbolic link, which git does not follow", hint="make it a file")
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _write(path: Path, data: bytes) -> None:
    """Replace the file as a whole: a full disk leaves the old one."""
    temporary = path.with_name(f".gitattributes.{os.urandom(4).hex()}.tmp")
    try:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _pattern_of(line: bytes) -> str | None:
    text = os.fsdecode(line).strip().replace("\t", " ")
    if text.startswith('"'):
        end = 1
        while end < len(text) and text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        pattern, rest = text[: end + 1], text[end + 1 :]
    else:
        pattern, _, rest = text.partition(" ")
    return pattern if "filter=ml" in rest.split() else None
