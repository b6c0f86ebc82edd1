"""What became of predictions between two versions, as plain values, and their one JSON form. Cells are as in `diff`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gitml.record import asdict, record
from gitml.tables.diff import Cell


@record(kw_only=True)
class Version:
    """One version of the files, and what their columns are; names are those of the repository."""

    path: Path
    name: str
    id: str
    prediction: str
    label: str | None = None
    labels: Path | None = None
    """The table that has the label; None: the predictions have it."""
    labels_name: str = ""
    labels_id: str = ""
    score: str | None = None
    slices: tuple[str, ...] = ()


@record(kw_only=True)
class Measure:
    """A number for all judged examples, in both versions."""

    name: str
    """'accuracy', 'mean absolute error', 'root mean squared error' or 'mean score'."""
    old: float | None
    """None: there is none, or it is beyond a double."""
    new: float | None


@record(kw_only=True)
class Significance:
    """How sure the difference of the first measure is, new minus old. See `significance`."""

    difference: float
    low: float
    """The interval that holds it with 95 %."""
    high: float
    method: str
    """'bootstrap' or 't'."""
    p_value: float | None = None
    """Of McNemar's exact test; None for numbers."""


@record(kw_only=True)
class Slice:
    """A group of judged examples, and the first measure in it."""

    column: str
    value: Cell
    count: int
    old: float | None
    new: float | None


@record(kw_only=True)
class Example:
    """An example that got worse."""

    id: Cell
    label: Cell
    old: Cell
    """What was predicted."""
    new: Cell
    old_score: float | None = None
    new_score: float | None = None


@record(kw_only=True)
class PredictionDiff:
    """Predictions of two versions for the same examples."""

    kind: str = ""
    """'classes', 'numbers', or '' if nothing is known to be true."""
    id: str = ""
    """The column that tells examples apart."""
    rows: tuple[int, int] = (0, 0)
    common: int = 0
    """Examples that both versions have; all that follows is about them."""
    added: int = 0
    removed: int = 0
    repeated: tuple[int, int] = (0, 0)
    """Ids that occur more than once in a version; they are not compared."""
    changed: int = 0
    """Predictions that differ."""
    judged: int = 0
    """Examples with a label and, for numbers, two predictions that are some."""
    relabelled: int = 0
    """Labels that differ between the versions; the new ones judge both."""
    broken: int = 0
    """Of classes: right before, wrong now. Of numbers: further off than before."""
    fixed: int = 0
    measures: tuple[Measure, ...] = ()
    """The one that judges first."""
    significance: Significance | None = None
    """None: there is nothing to test, or `untested` says why it was not."""
    untested: str = ""
    slices: tuple[Slice, ...] = ()
    """Worst first; those of few examples last."""
    samples: tuple[Example, ...] = ()
    """The largest regressions."""
    warnings: tuple[str, ...] = ()
    opaque: str = ""
    """Why nothing is known."""

    def as_json(self) -> dict[str, Any]:
        """As a document; numbers that JSON lacks are null."""
        return {"schema": "gitml/prediction-diff/1", **_plain(asdict(self))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        fields = {name: each for name, each in value.items() if name != "schema"}
        return cls(
            **{
                **fields,
                "rows": tuple(value["rows"]),
                "repeated": tuple(value["repeated"]),
                "measures": tuple(Measure(**each) for each in value["measures"]),
                "significance": value["significance"] and Significance(**value["significance"]),
                "slices": tuple(Slice(**each) for each in value["slices"]),
                "samples": tuple(Example(**each) for each in value["samples"]),
                "warnings": tuple(value["warnings"]),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
