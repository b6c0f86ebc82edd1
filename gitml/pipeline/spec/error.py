"""What is wrong with a specification, and where.

Hides how a place is written, how foreign text is made safe to show, and how a remedy is found.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gitml.errors import UserError
from gitml.provenance import codec

SHOWN = 120
"""Characters of the user's own text that a message repeats at most."""

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


def printable(text: str) -> str:
    """`text` on one line, safe for a terminal, shortened when long."""
    if len(text) > SHOWN:
        text = text[: SHOWN - 1] + "…"
    return codec.printable(text)


def quoted(text: str | bytes) -> str:
    """`text` in quotes, safe to show; bytes are a repository path."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return f"'{printable(text)}'"


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a file: `pipeline.json: stages[2].input.pfs.glob`."""

    file: str
    path: str = ""

    def field(self, key: str) -> "Place":
        """The place of the value of `key` in the object here."""
        if _PLAIN_KEY.fullmatch(key):
            return Place(self.file, f"{self.path}.{key}" if self.path else key)
        return Place(self.file, f'{self.path}["{printable(key)}"]')

    def item(self, index: int) -> "Place":
        """The place of the item number `index`, from 0, of the list here."""
        return Place(self.file, f"{self.path}[{index}]")

    def __str__(self) -> str:
        return f"{printable(self.file)}: {self.path}" if self.path else printable(self.file)


class SpecError(UserError):
    """A specification that gitml does not accept. Carries the `place` as text and the `problem`."""

    def __init__(self, place: Place | str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{place}: {problem}", hint=hint)
        self.place = str(place)
        self.problem = problem


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be, None if none is close."""
    from difflib import get_close_matches  # only needed once something is wrong  # noqa: PLC0415

    folded = {name.lower().replace("_", ""): name for name in sorted(known)}
    found = get_close_matches(word.lower().replace("_", ""), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known word, None if none is close."""
    found = nearest(word, known)
    return f"did you mean {quoted(found)}?" if found is not None else None
