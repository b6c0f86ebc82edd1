"""Tables that changed, and rows to test on that are trained on."""

from collections.abc import Iterator, Sequence

from gitml.provenance.codec import text_of
from gitml.record import replace
from gitml.review.blocks import ABSENT, MOST_NAMED, MOST_WARNINGS, Block, Cell, Tone, count, first_rows, number
from gitml.review.comparison import Comparison, LeakageChange
from gitml.tables.diff import Column, Overlap, Row, Statistics, TableDiff

_MOST_SAMPLES = 5
"""Rows of a table that are shown of each kind."""
_LONGEST_ROW = 300
"""Characters of such a row."""
_DRIFT = 0.1
"""Population stability index from which on a column is said to have moved: below it is taken for none."""


def table_blocks(comparison: Comparison) -> Iterator[Block]:
    """Leakage first, then a block for each table, and one for some of its rows."""
    yield from _leakage(comparison)
    for each in comparison.tables:
        title = f"Table: {text_of(each.path)}"
        if each.diff is None or each.diff.opaque:
            why = each.problem if each.diff is None else f"opaque: {each.diff.opaque}"
            yield Block(key="tables", title=title, notes=(Cell(why, name=True),))
            continue
        for table in each.diff.tables:
            yield from _table(f"{title}, {table.name}" if table.name else title, table)
        for names, what in ((each.diff.added, "added"), (each.diff.removed, "removed")):
            if names:
                yield Block(
                    key="tables", title=f"{title}, {what}", notes=tuple(Cell(name, name=True) for name in names)
                )


def _leakage(comparison: Comparison) -> Iterator[Block]:
    if not comparison.leakage:
        return
    yield Block(
        key="tables", title="Leakage: rows to test on that are trained on", columns=("train", "test", "before", "now"),
        rows=tuple(map(_leak, comparison.leakage)),
    )  # fmt: skip
    for each in comparison.leakage:
        if each.new is not None and each.new.sample:
            title = f"Leakage: {text_of(each.test)}, some rows that are in {text_of(each.train)}"
            yield Block(key="tables", title=title, text=tuple(_samples("=", each.new.sample)), folded=True)


def _leak(change: LeakageChange) -> tuple[Cell, ...]:
    before = change.old.shared if change.old is not None and not change.old.opaque else 0
    known = change.new is not None and not change.new.opaque
    now = change.new.shared if change.new is not None and known else before
    tone = Tone.BAD if now > before or not known else Tone.GOOD if now < before else Tone.PLAIN
    names = (Cell(text_of(path), name=True) for path in (change.train, change.test))
    return *names, _shared(change.old), replace(_shared(change.new), tone=tone)


def _shared(found: Overlap | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    if found.opaque:
        return Cell(f"opaque: {found.opaque}", name=True)
    return Cell(f"{found.shared:,} of {found.rows[1]:,} ({100 * found.share:.3g} %)")


def _table(title: str, table: TableDiff) -> Iterator[Block]:
    if table.opaque:
        yield Block(key="tables", title=title, notes=(Cell(f"opaque: {table.opaque}", name=True),))
        return
    kinds = ((table.added, "added"), (table.removed, "removed"), (table.changed, "changed"))
    counts = ", ".join(f"{count:,} {word}" for count, word in kinds if count) or "none changed"
    notes = [Cell(f"{table.rows[0]:,} → {count(table.rows[1], 'row')}: {counts}")]
    if table.key:
        notes.append(Cell("rows by " + ", ".join(table.key), name=True))
    notes += [Cell("columns in another order")] if table.reordered else []
    notes += [Cell(warning, name=True) for warning in table.warnings[:MOST_WARNINGS]]
    columns = [column for column in table.columns if _tells(column)]
    yield Block(
        key="tables", title=title, columns=("column", "before", "now", ""), notes=tuple(notes),
        rows=first_rows(map(_column, columns), len(columns), MOST_NAMED),
    )  # fmt: skip
    samples = [*_samples("-", table.sample_removed), *_samples("+", table.sample_added)]
    for old, new in table.sample_changed[:_MOST_SAMPLES]:
        samples += [*_samples("-", [old]), *_samples("+", [new])]
    if samples:
        yield Block(key="tables", title=f"{title}, some rows", text=tuple(samples), folded=True)


def _tells(column: Column) -> bool:
    """Whether there is something to say of a column."""
    if column.old is None or column.new is None or column.old.type != column.new.type or column.changed:
        return True
    moved = column.drift is not None and column.drift >= _DRIFT
    categories = any(each is not None and each.count for each in (column.appeared, column.vanished))
    return moved or categories or column.old.missing != column.new.missing


def _column(column: Column) -> tuple[Cell, ...]:
    said = [f"changed in {count(column.changed, 'row')}"] if column.changed else []
    if column.drift is not None and column.drift >= _DRIFT:
        said.append(f"drift {column.drift:.2f}")
    counts_only = True
    for found, word in ((column.appeared, "new"), (column.vanished, "gone")):
        if found is not None and found.count:
            counts_only = False
            names = ", ".join(text for text, _ in found.frequent[:3])
            said.append(f"{word}: {names}" + (f" and {found.count - 3} more" if found.count > 3 else ""))
    return (
        Cell(column.name, name=True),
        _side(column.old),
        _side(column.new),
        Cell("; ".join(said), name=not counts_only),
    )


def _side(found: Statistics | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    said = [found.type]
    if found.mean is not None:
        said.append(f"mean {number(found.mean)}")
    if found.missing:
        said.append(f"{found.missing:,} missing")
    return Cell(", ".join(said))


def _samples(sign: str, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:_MOST_SAMPLES]:
        yield (
            f"{sign} "
            + ", ".join(f"{name}={'' if cell is None else cell}" for name, cell in row.items())[:_LONGEST_ROW]
        )
