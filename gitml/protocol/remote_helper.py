"""The conversation of git with a remote helper: lines in, requests out; replies as bytes.

A request is a line, or several lines up to an empty one (`fetch`, `push`). Source: git, Documentation/gitremote-helpers
and transport-helper.c, whose options go beyond what the documentation lists.
"""

from collections.abc import Iterable

from gitml.oid import ObjectFormat, Oid
from gitml.protocol.pktline import PeerError
from gitml.record import record

NOTHING_THERE = "there is no repository at"
"""How the helper says on standard error that a store is empty: to a clone a mistake, to the first push none."""

_LONGEST_LINE = 1 << 20
"""Bytes of a line that git never comes near; more is not git."""

_ESCAPES = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b'"': b'"', b"\\": b"\\",
}  # fmt: skip
_ESCAPED = {value[0]: b"\\" + key for key, value in _ESCAPES.items()}


@record
class Capabilities:
    """What can the helper do?"""


@record
class List:
    """Which refs are there? `for_push` if a push comes next."""

    for_push: bool


@record
class Option:
    """A setting for what comes next; `value` unquoted, empty where git gives none."""

    name: str
    value: bytes


@record
class Fetch:
    """Bring these objects and all that they reach; git lists some of them twice."""

    wants: tuple[Oid, ...]


@record
class Update:
    """A ref that is to move: `source` is an expression for the new value here, None to delete `target`."""

    source: str | None
    target: bytes
    force: bool


@record
class Push:
    """Move these refs of the remote."""

    updates: tuple[Update, ...]


@record
class End:
    """Nothing more will come."""


Request = Capabilities | List | Option | Fetch | Push | End


class HelperDecoder:
    """Takes bytes as they arrive, gives whole requests."""

    def __init__(self) -> None:
        self._data = b""
        self._batch: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Take the next bytes from git; nothing means that it has closed the pipe."""
        if data:
            self._data += data
        elif self._data or self._batch:
            raise PeerError("git went away in the middle of a request")
        else:
            self._data = b"\n"

    def next_request(self) -> Request | None:
        """The next request, None if it is not complete yet; raise `PeerError` for one that git does not make."""
        while True:
            line, found, rest = self._data.partition(b"\n")
            if not found:
                if len(line) > _LONGEST_LINE:
                    raise PeerError("a line from git has no end")
                return None
            self._data = rest
            if line.startswith((b"fetch ", b"push ")):
                self._batch.append(line)
            elif self._batch:
                if line:
                    raise PeerError(f"unexpected {line[:80]!r} from git in a batch")
                batch, self._batch = self._batch, []
                return _parse_batch(batch)
            else:
                return _parse_line(line)


def _parse_line(line: bytes) -> Request:
    word, _, rest = line.partition(b" ")
    if line == b"":
        return End()
    if line == b"capabilities":
        return Capabilities()
    if line in (b"list", b"list for-push"):
        return List(for_push=line != b"list")
    if word == b"option" and rest:
        name, _, value = rest.partition(b" ")
        return Option(name.decode("ascii", "replace"), unquote(value))
    raise PeerError(f"unknown request {line[:80]!r} from git")


def _parse_batch(lines: list[bytes]) -> Fetch | Push:
    kinds = {line.partition(b" ")[0] for line in lines}
    if kinds == {b"fetch"}:
        # as a dict: in order, each once
        return Fetch(tuple(dict.fromkeys(_parse_want(line) for line in lines)))
    if kinds == {b"push"}:
        return Push(tuple(_parse_update(line) for line in lines))
    raise PeerError("git mixes fetch and push in one batch")


def _parse_want(line: bytes) -> Oid:
    try:
        return Oid.parse(line.split(b" ", 2)[1])
    except ValueError:
        raise PeerError(f"bad request {line[:80]!r} from git") from None


def _parse_update(line: bytes) -> Update:
    spec = line[len(b"push ") :]
    force = spec.startswith(b"+")
    # a source may be HEAD:path; no ref has a colon
    source, found, target = spec[force:].rpartition(b":")
    if not found or not target:
        raise PeerError(f"bad request {line[:80]!r} from git")
    return Update(source.decode("utf-8", "surrogateescape") or None, target, force)


def format_capabilities() -> bytes:
    """What our helper can do."""
    return b"fetch\npush\noption\nobject-format\ncheck-connectivity\n\n"


def format_refs(object_format: ObjectFormat | None, head: bytes | None, refs: Iterable[tuple[bytes, Oid]]) -> bytes:
    """The refs of the remote; `head` is the branch that HEAD is, `object_format` None if git did not ask for it."""
    lines = [] if object_format is None else [b":object-format " + object_format.value.encode()]
    if head is not None:
        lines.append(b"@%b HEAD" % head)
    lines += [oid.hex().encode() + b" " + name for name, oid in refs]
    return b"".join(line + b"\n" for line in [*lines, b""])


def format_option_reply(known: bool, error: str | None = None) -> bytes:
    """Whether an option is known, or what is wrong with its value."""
    if error is not None:
        return b"error " + _one_line(error) + b"\n"
    return b"ok\n" if known else b"unsupported\n"


def format_fetched(*, connected: bool, keep: bytes | None = None) -> bytes:
    """A fetch is done; `connected` if git asked for it and nothing is missing.

    git removes the file `keep` when refs reach its pack. If that is the only pack that came and `connected` is said,
    git does not walk what is in it once more (connected.c: check_connected).
    """
    lines = [] if keep is None or b"\n" in keep else [b"lock " + keep]
    lines += [b"connectivity-ok"] if connected else []
    return b"".join(line + b"\n" for line in [*lines, b""])


def format_pushed(results: Iterable[tuple[bytes, str | None]]) -> bytes:
    """What became of each ref of a push: None, or why it did not move."""
    lines = [b"ok " + name if why is None else b"error " + name + b" " + quote(why.encode()) for name, why in results]
    return b"".join(line + b"\n" for line in [*lines, b""])


def quote(text: bytes) -> bytes:
    """`text` as git quotes it in C style: only if it holds control characters, quotes or backslashes."""
    if all(byte >= 0x20 and byte not in b'"\\\x7f' for byte in text):
        return text
    quoted = (_ESCAPED.get(b) or (b"\\%03o" % b if b < 0x20 or b == 0x7F else bytes([b])) for b in text)
    return b'"' + b"".join(quoted) + b'"'


def unquote(text: bytes) -> bytes:
    """What `quote` was given; raise `PeerError` for a quote that does not end."""
    if not text.startswith(b'"'):
        return text
    result = bytearray()
    at = 1
    while at < len(text):
        char = text[at : at + 1]
        if char == b'"' and at == len(text) - 1:
            return bytes(result)
        if char == b'"':
            break
        if char != b"\\":
            result += char
            at += 1
            continue
        escape = text[at + 1 : at + 2]
        if escape in _ESCAPES:
            result += _ESCAPES[escape]
            at += 2
            continue
        digits = text[at + 1 : at + 4]
        if len(digits) != 3 or digits.strip(b"01234567") or digits[0] > ord("3"):
            break
        result.append(int(digits, 8))
        at += 4
    raise PeerError(f"badly quoted {text[:80]!r} from git")


def _one_line(text: str) -> bytes:
    return " ".join(text.splitlines()).encode()
