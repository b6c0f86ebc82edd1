"""Commits as values: what a raw commit object says, and back to the same bytes; trailers of messages."""

import re
from collections.abc import Iterable, Mapping

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.record import record

_IDENTITY = re.compile(rb"(.*?) ?<([^>]*)>(?: (-?\d+) ([+-]\d+))?")
_TRAILER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*) ?: *(.*)")
_REVERTS = re.compile(rb"^This reverts commit ([0-9a-f]{40}(?:[0-9a-f]{24})?)\b", re.MULTILINE)


@record
class Signature:
    """Who and when: `time` in seconds since 1970, `offset` as git writes time zones (`+0100`)."""

    name: bytes
    email: bytes
    time: int
    offset: str = "+0000"


@record
class Commit:
    """A commit; `extra` holds further headers (`gpgsig`, `encoding`) in order, continuation lines joined by LF."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: bytes
    extra: tuple[tuple[bytes, bytes], ...] = ()


def parse_commit(data: bytes) -> Commit:
    """The commit that a raw commit object holds; raise `CorruptError` if it is malformed."""
    head, _, message = data.partition(b"\n\n")
    headers: list[tuple[bytes, bytes]] = []
    for line in head.removesuffix(b"\n").split(b"\n"):
        if line.startswith(b" ") and headers:
            key, value = headers[-1]
            headers[-1] = key, value + b"\n" + line[1:]
        else:
            key, _, value = line.partition(b" ")
            headers.append((key, value))
    first = dict(reversed(headers))
    try:
        return Commit(
            tree=Oid.parse(first[b"tree"]),
            parents=tuple(Oid.parse(value) for key, value in headers if key == b"parent"),
            author=parse_signature(first[b"author"]),
            committer=parse_signature(first[b"committer"]),
            message=message,
            extra=tuple(item for item in headers if item[0] not in {b"tree", b"parent", b"author", b"committer"}),
        )
    except (KeyError, ValueError) as error:
        raise CorruptError(f"malformed commit object: {error}") from None


def format_commit(commit: Commit) -> bytes:
    """The raw commit object."""
    lines = [b"tree " + commit.tree.hex().encode()]
    lines += [b"parent " + parent.hex().encode() for parent in commit.parents]
    lines += [b"author " + _format_signature(commit.author), b"committer " + _format_signature(commit.committer)]
    lines += [key + b" " + value.replace(b"\n", b"\n ") for key, value in commit.extra]
    return b"\n".join(lines) + b"\n\n" + commit.message


def format_trailers(trailers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """`Key: value` lines for the end of a message; a line feed inside a value becomes a continuation line."""
    pairs = trailers.items() if isinstance(trailers, Mapping) else trailers
    return b"".join(f"{key}: {value}\n".replace("\n", "\n ").removesuffix(" ").encode() for key, value in pairs)


def parse_trailers(message: bytes) -> dict[str, str]:
    """The trailers in the last paragraph of a message; of a repeated key the last value.

    As in git-interpret-trailers the paragraph must not be the subject, and must hold nothing but trailers, their
    continuation lines and `(cherry picked from ...)`.
    """
    paragraphs = re.split(rb"\n[ \t]*\n+", message.rstrip())
    if len(paragraphs) < 2:
        return {}
    found: dict[str, str] = {}
    key = None
    for line in paragraphs[-1].split(b"\n"):
        match = _TRAILER.fullmatch(line.rstrip())
        if match is not None:
            key = match[1].decode()
            found[key] = match[2].decode("utf-8", "surrogateescape")
        elif line[:1] in (b" ", b"\t") and key is not None:
            found[key] += "\n" + line.strip().decode("utf-8", "surrogateescape")
        elif not line.startswith(b"(cherry picked from "):
            return {}
    return found


def reverted_by(message: bytes) -> list[Oid]:
    """The commits that a message says it reverts, in the words of `git revert`."""
    return [Oid.parse(name.decode()) for name in _REVERTS.findall(message)]


def parse_signature(value: bytes) -> Signature:
    """`Name <email> time offset` as git writes it; raise `ValueError`."""
    match = _IDENTITY.fullmatch(value)
    if match is None:
        raise ValueError(f"identity {value!r}")
    return Signature(match[1], match[2], int(match[3] or 0), (match[4] or b"+0000").decode())


def _format_signature(signature: Signature) -> bytes:
    return b"%s <%s> %d %s" % (signature.name, signature.email, signature.time, signature.offset.encode())
