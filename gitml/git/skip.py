"""Which large files stay pointers until somebody asks for them: the patterns of `ml.skip`.

A pattern is matched as in `.gitattributes`: one without a slash against the name alone, another against the whole path
from the top; `*` and `?` stop at a slash, `**` does not; a directory means all below it.
"""

import os
import re
from collections.abc import Iterable

from gitml.git.repository import Repository

_PIECES = re.compile(rb"\*\*/|/\*\*$|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|\\.|.", re.DOTALL)


class SkipPatterns:
    """Tells which paths are skipped."""

    def __init__(self, patterns: Iterable[str]) -> None:
        alternatives = [_expression(os.fsencode(pattern)) for pattern in patterns if pattern]
        self._expression = re.compile(b"|".join(alternatives), re.DOTALL) if alternatives else None

    def __bool__(self) -> bool:
        return self._expression is not None

    def match(self, path: bytes) -> bool:
        """Whether a path (from the top of the repository) is skipped."""
        return self._expression is not None and self._expression.fullmatch(path) is not None


def read_skip(repo: Repository) -> SkipPatterns:
    """The patterns that are configured; `ml.skip` may be given several times."""
    return SkipPatterns(repo.configuration.all("ml.skip"))


def wants_pointers() -> bool:
    """Whether the environment says that content is not wanted: `GITML_SKIP_SMUDGE=1`."""
    return os.environ.get("GITML_SKIP_SMUDGE", "0") not in ("", "0")


def _expression(pattern: bytes) -> bytes:
    anchored = b"/" in pattern.rstrip(b"/")
    stem = pattern.strip(b"/")
    parts = [b"" if anchored else b"(?:.*/)?"]
    parts += [_piece(piece) for piece in _PIECES.findall(stem)]
    return b"(?:%s(?:/.*)?)" % b"".join(parts)


def _piece(piece: bytes) -> bytes:
    match piece:
        case b"**/":
            return b"(?:.*/)?"
        case b"/**":
            return b"/.*"
        case b"**":
            return b".*"
        case b"*":
            return b"[^/]*"
        case b"?":
            return b"[^/]"
    if len(piece) > 2 and piece[:1] == b"[":
        negated = piece[1:2] in (b"!", b"^")
        inner = piece[2 if negated else 1 : -1].replace(b"\\", b"\\\\").replace(b"[", b"\\[").replace(b"]", b"\\]")
        return b"[%s%s]" % (b"^/" if negated else b"", inner)
    return re.escape(piece[1:] if len(piece) == 2 else piece)
