"""Two versions of predictions aligned by example: which changed, which got worse, and where.

Examples whose id is missing, or occurs more than once in a version, are not compared, and counted. Labels are those of
the new version. If they are numbers, and one of them or of the predictions has a fraction, predictions are numbers too,
and judged by how far off they are; else they are classes, and right or wrong. `1` and `1.0` are one class. A prediction
that is missing is wrong as a class, and not judged as a number.
"""

import heapq
import math
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from gitml.record import field, record, replace
from gitml.tables.compare import cut, finite_number, format_of, guarded, is_masked, single
from gitml.tables.delimited import is_integer, is_number
from gitml.tables.diff import MASK, Cell, TableError
from gitml.tables.outcome import Example, Measure, PredictionDiff, Significance, Slice, Version
from gitml.tables.significance import NEEDS_SCIPY, has_scipy, of_pairs

SAMPLES = 10
_MOST_GROUPS = 200
"""Values of a column that still parts examples into groups."""
_SHOWN_GROUPS = 20
_FEW = 10
"""Examples of a group whose measure says little."""


@record(frozen=False)
class _Examples:
    """What was read of a version: columns of equal length, None for those that are not there."""

    ids: list[Cell]
    predictions: list[Cell]
    labels: list[Cell] | None = None
    scores: list[Cell] | None = None
    slices: dict[str, list[Cell]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@record
class _Judged:
    """Examples that can be judged, as columns of equal length."""

    ids: list[Cell]
    labels: list[Cell]
    old: list[Cell]
    new: list[Cell]
    old_scores: list[float | None]
    new_scores: list[float | None]
    slices: dict[str, list[Cell]]


@record
class _Verdicts:
    """How each judged example fares: 1 or 0 for right or wrong, or how far a number is off."""

    kind: str
    examples: _Judged
    old: list[float]
    new: list[float]


def compare_predictions(
    old: Version, new: Version, *, samples: int = SAMPLES, masked: Sequence[str] = ()
) -> PredictionDiff:
    """How the predictions of two versions differ; columns that `masked` (as of `fnmatch`) names are not shown."""

    def hide(column: str, cell: Cell) -> Cell:
        return cell and (MASK if is_masked(column, masked) else cut(cell))

    return guarded(lambda: _compare(old, new, samples, hide), lambda reason: PredictionDiff(opaque=reason))


def _compare(old: Version, new: Version, samples: int, hide: Callable[[str, Cell], Cell]) -> PredictionDiff:
    # groups are those of the new version
    before, now = _read(replace(old, slices=()), "old"), _read(new, "new")
    old_index, new_index = _Index(before.ids), _Index(now.ids)
    pairs = [(old_index.rows[id_], row) for id_, row in new_index.rows.items() if id_ in old_index.rows]
    old_rows, new_rows = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    was, is_now = _taken(before.predictions, old_rows), _taken(now.predictions, new_rows)
    blank = old_index.blank + new_index.blank
    warnings = [*before.warnings, *now.warnings]
    warnings += [f"rows without an id that are not compared: {blank}"] if blank else []
    found = PredictionDiff(
        id=new.id,
        rows=(len(before.ids), len(now.ids)),
        common=len(pairs),
        added=len(new_index.rows) - len(pairs),
        removed=len(old_index.rows) - len(pairs),
        repeated=(old_index.repeated, new_index.repeated),
    )
    if now.labels is None:
        return replace(found, changed=sum(map(operator.ne, was, is_now)), warnings=tuple(warnings))
    labels = _taken(now.labels, new_rows)
    relabelled = 0
    if before.labels is not None:
        relabelled = sum(
            one is not None and two is not None and one != two
            for one, two in zip(_taken(before.labels, old_rows), labels, strict=True)
        )
    kind, was, is_now, labels = _of_one_kind(was, is_now, labels)
    chosen = [place for place, label in enumerate(labels) if label is not None]
    if len(chosen) < len(labels):
        warnings.append(f"examples without a label that are not judged: {len(labels) - len(chosen)}")
    examples = _Judged(
        ids=[now.ids[new_rows[place]] for place in chosen],
        labels=_taken(labels, chosen), old=_taken(was, chosen), new=_taken(is_now, chosen),
        old_scores=_scores(before.scores, [old_rows[place] for place in chosen]),
        new_scores=_scores(now.scores, [new_rows[place] for place in chosen]),
        slices={name: [cells[new_rows[place]] for place in chosen] for name, cells in now.slices.items()},
    )  # fmt: skip
    verdicts = _right_or_wrong(examples) if kind == "classes" else _how_far_off(examples, warnings)
    return _judge(
        replace(found, kind=kind, changed=sum(map(operator.ne, was, is_now)), relabelled=relabelled), verdicts, new,
        samples, hide, warnings,
    )  # fmt: skip


class _Index:
    """The row of each id that stands once in a column."""

    def __init__(self, ids: Sequence[Cell]) -> None:
        self.rows: dict[Cell, int] = dict(zip(ids, range(len(ids)), strict=True))
        self.blank = ids.count(None)
        self.repeated = 0
        self.rows.pop(None, None)
        if len(self.rows) + self.blank < len(ids):
            again = [id_ for id_, count in Counter(ids).items() if count > 1 and id_ is not None]
            self.repeated = len(again)
            for id_ in again:
                del self.rows[id_]


def _read(version: Version, which: str) -> _Examples:
    """Read what a version has; raise `TableError` if ids or predictions are not there."""
    optional = [*filter(None, (version.label if version.labels is None else None, version.score)), *version.slices]
    cells = _columns(version.path, version.name, (version.id, version.prediction), optional, which)
    found = _Examples(ids=cells[version.id], predictions=cells[version.prediction])
    found.scores = cells.get(version.score) if version.score is not None else None
    found.slices = {name: cells[name] for name in version.slices if name in cells}
    elsewhere = [name for name in version.slices if name not in cells]
    if version.labels is None:
        found.labels = cells.get(version.label) if version.label is not None else None
    elif version.label is not None:
        more = _columns(version.labels, version.labels_name, (version.labels_id, version.label), elsewhere, which)
        index = _Index(more[version.labels_id])
        rows = [index.rows.get(id_) for id_ in found.ids]
        if index.repeated:
            found.warnings.append(f"{which}: ids that are repeated among the labels: {index.repeated}")

        def joined(name: str) -> list[Cell]:
            column = more[name]
            return [None if row is None else column[row] for row in rows]

        found.labels = joined(version.label)
        found.slices |= {name: joined(name) for name in elsewhere if name in more}
    given = {*cells, *found.slices}
    found.warnings += [f"{which}: there is no column {name!a}" for name in optional if name not in given]
    return found


def _columns(
    path: Path, name: str, required: Sequence[str], optional: Iterable[str], which: str
) -> dict[str, list[Cell]]:
    try:
        table = single(path, format_of(path, name))
    except TableError as error:
        raise TableError(f"{which} version of {name}: {error}") from None
    for column in required:
        if column not in table.names:
            raise TableError(f"there is no column {column!a} in the {which} version of {name}")
    wanted = [each for each in dict.fromkeys([*required, *optional]) if each in table.names]
    found: dict[str, list[Cell]] = table.cells(wanted)
    return found


def _taken(column: Sequence[Cell], rows: Iterable[int]) -> list[Cell]:
    return [column[row] for row in rows]


def _scores(column: Sequence[Cell] | None, rows: Sequence[int]) -> list[float | None]:
    return [None] * len(rows) if column is None else [finite_number(column[row]) for row in rows]


def _of_one_kind(
    old: list[Cell], new: list[Cell], labels: list[Cell]
) -> tuple[str, list[Cell], list[Cell], list[Cell]]:
    """The kind of these predictions, and all of them in one spelling."""
    known = {*labels} - {None}
    if not known or not all(label is not None and is_number(label) for label in known):
        return "classes", old, new, labels
    if any(value is not None and not value.is_integer() for value in map(finite_number, chain(known, old, new))):
        return "numbers", old, new, labels
    spelled = {cell: finite_number(cell) for cell in known.union(old, new)}
    # integers stay as they are: they may be longer than a double
    as_class = {
        cell: cell if value is None or cell is None or is_integer(cell) else str(int(value))
        for cell, value in spelled.items()
    }
    one, two, three = ([as_class.get(cell, cell) for cell in column] for column in (old, new, labels))
    return "classes", one, two, three


def _right_or_wrong(examples: _Judged) -> _Verdicts:
    old, new = (
        [float(cell == label) for cell, label in zip(column, examples.labels, strict=True)]
        for column in (examples.old, examples.new)
    )
    return _Verdicts("classes", examples, old, new)


def _how_far_off(examples: _Judged, warnings: list[str]) -> _Verdicts:
    columns = examples.labels, examples.old, examples.new
    numbers = list(zip(*(map(finite_number, column) for column in columns), strict=True))
    places = [place for place, each in enumerate(numbers) if None not in each]
    if len(places) < len(numbers):
        warnings.append(f"examples that are not judged, as a cell is no finite number: {len(numbers) - len(places)}")
    chosen = _Judged(
        ids=_taken(examples.ids, places),
        labels=_taken(examples.labels, places), old=_taken(examples.old, places), new=_taken(examples.new, places),
        old_scores=[examples.old_scores[place] for place in places],
        new_scores=[examples.new_scores[place] for place in places],
        slices={name: _taken(cells, places) for name, cells in examples.slices.items()},
    )  # fmt: skip
    off = [_distances(*numbers[place]) for place in places]
    return _Verdicts("numbers", chosen, [one for one, _ in off], [two for _, two in off])


def _distances(label: float | None, old: float | None, new: float | None) -> tuple[float, float]:
    assert label is not None
    assert old is not None
    assert new is not None
    return abs(old - label), abs(new - label)


def _judge(
    found: PredictionDiff, verdicts: _Verdicts, new: Version, samples: int, hide: Callable[[str, Cell], Cell],
    warnings: list[str],
) -> PredictionDiff:  # fmt: skip
    sign = 1.0 if verdicts.kind == "classes" else -1.0
    differences = [sign * (two - one) for one, two in zip(verdicts.old, verdicts.new, strict=True)]
    broken, fixed = sum(each < 0 for each in differences), sum(each > 0 for each in differences)
    discordant = (broken, fixed) if verdicts.kind == "classes" else None
    significance: Significance | None = None
    untested = "" if has_scipy() else NEEDS_SCIPY
    if not untested and all(map(math.isfinite, differences)):
        significance = of_pairs([sign * each for each in differences], discordant)
    slices = tuple(
        Slice(column=each.column, value=hide(each.column, each.value), count=each.count, old=each.old, new=each.new)
        for each in _worst(verdicts, sign, warnings)
    )
    return replace(
        found,
        judged=len(differences),
        broken=broken,
        fixed=fixed,
        measures=tuple(_measures(verdicts)),
        significance=significance,
        untested=untested,
        slices=slices,
        samples=tuple(_samples(verdicts, differences, new, samples, hide)),
        warnings=tuple(warnings),
    )


def _measures(verdicts: _Verdicts) -> Iterator[Measure]:
    if not verdicts.old:
        return
    if verdicts.kind == "classes":
        yield Measure(name="accuracy", old=_mean(verdicts.old), new=_mean(verdicts.new))
    else:
        yield Measure(name="mean absolute error", old=_mean(verdicts.old), new=_mean(verdicts.new))
        squares = [[each * each for each in column] for column in (verdicts.old, verdicts.new)]
        yield Measure(name="root mean squared error", old=_root(squares[0]), new=_root(squares[1]))
    scores = verdicts.examples.old_scores, verdicts.examples.new_scores
    old, new = ([score for score in column if score is not None] for column in scores)
    if old and new:
        yield Measure(name="mean score", old=_mean(old), new=_mean(new))


def _mean(values: Collection[float]) -> float | None:
    """The mean; None where it is beyond a double."""
    try:
        found = math.fsum(values) / len(values)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _root(squares: Collection[float]) -> float | None:
    mean = _mean(squares)
    return None if mean is None else math.sqrt(mean)


def _worst(verdicts: _Verdicts, sign: float, warnings: list[str]) -> list[Slice]:
    found: list[Slice] = []
    for name, cells in verdicts.examples.slices.items():
        groups: dict[Cell, list[float]] = {}
        for cell, one, two in zip(cells, verdicts.old, verdicts.new, strict=True):
            group = groups.get(cell)
            if group is None:
                if len(groups) == _MOST_GROUPS:
                    warnings.append(f"column {name!a} has more than {_MOST_GROUPS} values: no slices")
                    break
                group = groups[cell] = [0, 0.0, 0.0]
            group[0] += 1
            group[1] += one
            group[2] += two
        else:
            found += [
                Slice(column=name, value=cell, count=int(count), old=one / count, new=two / count)
                for cell, (count, one, two) in groups.items()
            ]

    def rank(each: Slice) -> tuple[bool, float, int, str, str]:
        assert each.old is not None
        assert each.new is not None
        return (each.count < _FEW, sign * (each.new - each.old), -each.count, each.column, each.value or "")

    return sorted(found, key=rank)[:_SHOWN_GROUPS]


def _samples(
    verdicts: _Verdicts, differences: Sequence[float], new: Version, most: int, hide: Callable[[str, Cell], Cell]
) -> Iterator[Example]:
    examples = verdicts.examples
    worse = [place for place, difference in enumerate(differences) if difference < 0]

    def rank(place: int) -> tuple[float, int, str]:
        loss = -differences[place]
        if verdicts.kind == "classes":
            # it was right with one, and is wrong with the other: how far it went from surely right to surely wrong
            loss = (examples.old_scores[place] or 0.0) + (examples.new_scores[place] or 0.0)
        text = examples.ids[place] or ""
        return -loss, len(text), text

    shows_score = new.score is not None and hide(new.score, "1") == "1"
    for place in heapq.nsmallest(most, worse, key=rank):
        yield Example(
            id=hide(new.id, examples.ids[place]),
            label=hide(new.label or "", examples.labels[place]),
            old=hide(new.prediction, examples.old[place]),
            new=hide(new.prediction, examples.new[place]),
            old_score=examples.old_scores[place] if shows_score else None,
            new_score=examples.new_scores[place] if shows_score else None,
        )
