"""What is wrong with a specification, and where.

Hides how a place is written, how foreign text is made safe to show, how a remedy is found, and whether reading goes on
after something wrong.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, ParamSpec, TypeVar

from gitml.errors import UserError
from gitml.provenance import codec

SHOWN = 120
"""Characters of the user's own text that a message repeats at most."""

Step = str | int
"""From an object to a member, or from a list to an item."""

_T = TypeVar("_T")
_D = TypeVar("_D")
_P = ParamSpec("_P")
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


class Place(NamedTuple):
    """A value of a file: `pipeline.json: stages[2].input.pfs.glob`.

    One is made for every value that is read, and hardly any is ever shown: so it holds steps, and the text comes last.
    """

    file: str
    steps: tuple[Step, ...] = ()
    document: int | None = None
    """Of a file with several documents: which one, from 0."""

    def field(self, key: str) -> "Place":
        """The place of the value of `key` in the object here."""
        return Place(self.file, (*self.steps, key), self.document)

    def item(self, index: int) -> "Place":
        """The place of the item number `index`, from 0, of the list here."""
        return Place(self.file, (*self.steps, index), self.document)

    @property
    def path(self) -> str:
        """The JSON path; empty for the file as a whole."""
        found = "" if self.document is None else f"documents[{self.document}]"
        for step in self.steps:
            if isinstance(step, int):
                found += f"[{step}]"
            elif _PLAIN_KEY.fullmatch(step):
                found += f".{step}" if found else step
            else:
                found += f'["{printable(step)}"]'
        return found

    def __str__(self) -> str:
        path = self.path
        return f"{printable(self.file)}: {path}" if path else printable(self.file)


class SpecError(UserError):
    """A specification that gitml does not accept: what is the `problem`, at which `place`.

    `position` is line and column in the file, from 1; None where it is not known yet.
    """

    def __init__(
        self, place: Place, problem: str, *, hint: str | None = None, position: tuple[int, int] | None = None
    ) -> None:
        parts = [printable(place.file), *(str(number) for number in position or ())]
        super().__init__(f"{':'.join(parts)}: {f'{place.path}: ' if place.path else ''}{problem}", hint=hint)
        self.place = place
        self.problem = problem
        self.position = position

    def at(self, position: tuple[int, int] | None) -> "SpecError":
        """The same error with its position."""
        return SpecError(self.place, self.problem, hint=self.hint, position=position)


class Findings:
    """What is found in a specification besides values: what is wrong with it, and fields that mean nothing here.

    Reading ends with the first problem, which is raised, unless `everything` is asked for: then problems are kept, and
    whoever reads goes on without the value.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.problems: list[SpecError] = []
        self._ignored: dict[tuple[str, str], list[str]] = {}
        self._remarks: dict[str, None] = {}

    def refuse(self, error: SpecError) -> None:
        """Keep a problem, or raise it."""
        if not self.everything:
            raise error
        self.problems.append(error)

    def guarded(self, otherwise: _D, read: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T | _D:
        """What `read` gives with these arguments; `otherwise` if that has a problem which is kept."""
        try:
            return read(*arguments, **options)
        except SpecError as error:
            self.refuse(error)
            return otherwise

    def ignore(self, name: str, why: str, owner: Place) -> None:
        """The field `name` is set in the stage at `owner`, and means nothing."""
        owners = self._ignored.setdefault((name, why), [])
        if str(owner) not in owners:
            owners.append(str(owner))

    def remark(self, text: str, place: Place) -> None:
        """What is allowed at `place` and hardly ever meant, as a sentence."""
        self._remarks[f"{text} ({place})"] = None

    def notices(self) -> tuple[str, ...]:
        """One sentence for each ignored field, sorted, and the remarks."""
        ignored = tuple(
            f"{quoted(name)} is ignored: {why} ({owners[0]}{f' and {len(owners) - 1} more' if owners[1:] else ''})"
            for (name, why), owners in sorted(self._ignored.items())
        )
        return (*ignored, *self._remarks)


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
