"""How the text of `.gitattributes` files changes in a migration. Bytes in, bytes out; line ends stay what they are."""

import re
from collections.abc import Callable, Sequence

from gitml.git.tracking import quoted_pattern
from gitml.record import record

ML = b"filter=ml -text"
LFS = b"filter=lfs diff=lfs merge=lfs -text"

_LINE = re.compile(rb"""(\s*(?:"(?:\\.|[^"\\])*"|\S+))(.*)""", re.DOTALL)
_TEXT_RULES = {b"-text", b"binary", b"text", b"!text", b"text=auto"}


@record
class AttributeChange:
    """What happens to the attribute files of a tree: `rule` to the text of each, then `lines` to the top-level one."""

    rule: Callable[[bytes], bytes]
    lines: tuple[bytes, ...] = ()

    def changed(self, directory: bytes, text: bytes | None) -> bytes | None:
        """The new text of the file in `directory` (None: there is no such file)."""
        new = self.rule(text) if text is not None else None
        if new == b"" and text != b"":
            new = None
        return with_lines(new, self.lines) if self.lines and not directory else new


def unchanged(text: bytes) -> bytes:
    """The rule that changes nothing."""
    return text


def line(pattern: str, attributes: bytes) -> bytes:
    """One line of `.gitattributes`."""
    return quoted_pattern(pattern).encode("utf-8", "surrogateescape") + b" " + attributes


def exact_pattern(path: bytes) -> str:
    """The pattern of the top-level `.gitattributes` that matches one path only."""
    return "/" + re.sub(rb"([\\*?\[])", rb"\\\1", path).decode("utf-8", "surrogateescape")


def with_lines(text: bytes | None, lines: Sequence[bytes]) -> bytes:
    """`text` with those of `lines` at its end that it lacks; whether it ends with a line feed stays as it was."""
    old = text or b""
    present = {each.strip() for each in old.split(b"\n")}
    new = [each for each in lines if each.strip() not in present]
    if not new:
        return old
    end = b"\r\n" if b"\r\n" in old else b"\n"
    if not old:
        return b"".join(each + b"\n" for each in new)
    if old.endswith(b"\n"):
        return old + b"".join(each + end for each in new)
    return old + b"".join(end + each for each in new)


def lfs_to_gitml(text: bytes) -> bytes:
    """Every line with `filter=lfs` says `filter=ml` instead."""
    return _each_line(text, _lfs_to_gitml)


def gitml_to_lfs(text: bytes) -> bytes:
    """Every line with `filter=ml` says what git-lfs writes instead."""
    return _each_line(text, _gitml_to_lfs)


def without_gitml(text: bytes) -> bytes:
    """No line says `filter=ml` any more; lines that said nothing else are gone."""
    return _each_line(text, _without_gitml)


def _each_line(text: bytes, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """`text` with `edit` applied to the attributes of each line; a line left without any goes, unless it is a macro."""
    lines = text.split(b"\n")
    kept = []
    for each in lines:
        match = _LINE.match(each)
        if match is None or each.lstrip().startswith(b"#"):
            kept.append(each)
            continue
        words = match[2].split()
        new = edit(words)
        if new == words:
            kept.append(each)
        elif new or match[1].lstrip().startswith(b"[attr]"):
            kept.append(match[1] + b"".join(b" " + word for word in new) + (b"\r" if each.endswith(b"\r") else b""))
    if kept == [b""] and lines != [b""]:
        return b""
    return b"\n".join(kept)


def _lfs_to_gitml(words: list[bytes]) -> list[bytes]:
    if b"filter=lfs" not in words:
        return words
    new = [b"filter=ml" if word == b"filter=lfs" else word for word in words if word not in (b"diff=lfs", b"merge=lfs")]
    return new if _TEXT_RULES & set(new) else [*new, b"-text"]


def _gitml_to_lfs(words: list[bytes]) -> list[bytes]:
    if b"filter=ml" not in words:
        return words
    new: list[bytes] = []
    for word in words:
        if word == b"filter=ml":
            new += [b"filter=lfs", b"diff=lfs", b"merge=lfs"]
        elif word not in (b"diff=ml", b"merge=ml", b"!diff", b"!merge"):
            new.append(word)
    return new


def _without_gitml(words: list[bytes]) -> list[bytes]:
    if b"filter=ml" not in words:
        return words
    gone = (b"filter=ml", b"diff=ml", b"merge=ml", b"-text", b"!diff", b"!merge")
    return [word for word in words if word not in gone]
