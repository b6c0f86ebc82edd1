"""How values become bytes: canonical JSON, and git's byte names as text.

Canonical JSON is what digests are taken of, so it has exactly one form: members sorted by code point, no
spaces, ASCII only. Names that are not UTF-8 stand in it as surrogate escapes (PEP 383), which JSON writes as
`\\udc80` to `\\udcff`; nothing is lost either way.
"""

import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""A value that JSON can hold; floats are finite."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: object) -> bytes:
    """The one canonical JSON text of `value`; raise `ValueError` for NaN and infinities."""
    return _ENCODER.encode(value).encode("ascii")


def pretty(value: object) -> bytes:
    """Canonical JSON for files that people read and merge: one member a line, a newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def text_of(name: bytes) -> str:
    """A byte name as text, bytes that are not UTF-8 as surrogate escapes."""
    return name.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The byte name that `text_of` gave as text; raise `ValueError` for text that no name gives."""
    return text.encode("utf-8", "surrogateescape")


def printable(name: bytes | str) -> str:
    """A name for messages: whatever could steer a terminal or hide is escaped, one to one."""
    text = text_of(name) if isinstance(name, bytes) else name
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(char) for char in text)


def harmless(message: str) -> str:
    """A message that others wrote, for a terminal: as it is, but for characters that could steer or hide."""
    return message if message.isprintable() else "".join(c if c == "\\" else _escape(c) for c in message)


_SHORT = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def flat_name(name: str) -> str:
    """`name` as one name of a directory: `%` and `/` percent-encoded. `unflat_name` gives it back."""
    return name.replace("%", "%25").replace("/", "%2F")


def unflat_name(flat: str) -> str:
    """What `flat_name` was given."""
    return flat.replace("%2F", "/").replace("%25", "%")
