"""What a file is as lines, one for each thing, so that `git diff` shows which of them changed."""

from collections.abc import Iterator

from gitml.formats.compare import kind_of
from gitml.formats.summary import Summary
from gitml.provenance.codec import harmless
from gitml.tables.diff import FileDiff, Statistics

_MOST = 2000
"""Lines of each kind."""
_LONGEST = 2000
"""Characters of a line; names in a file may be of any length."""


def lines_of(summary: Summary) -> list[str]:
    """The summary of a model, in an order that does not depend on the file's."""
    if summary.opaque:
        # what a broken pickle refers to is known all the same
        return [f"not readable as a model: {harmless(summary.opaque)}", *_names(summary)]
    found = [f"format: {summary.format}"]
    found += _some(f"{name}: {value}" for name, value in sorted(summary.facts.items()))
    found += _some(f"parameter {name} = {value}" for name, value in sorted(summary.parameters.items()))
    found += _some(f"feature {name}" for name in summary.features)
    found += _some(f"tensor {tensor.name} {kind_of(tensor)}" for tensor in summary.tensors)
    return found + _names(summary)


def lines_of_tables(found: FileDiff) -> list[str]:
    """The tables of a file that was compared with itself: the columns in their order, with what is in them."""
    if found.opaque:
        return [f"not readable as a table: {harmless(found.opaque)}"]
    lines = [f"format: {found.formats[1]}"]
    for table in found.tables:
        title = f"table {table.name}: " if table.name else ""
        if table.opaque:
            lines += _some(iter([f"{title}not readable: {table.opaque}"]))
            continue
        lines += _some(iter([f"{title}{table.rows[1]} rows"]))
        lines += _some(
            f"{'  ' if title else ''}column {column.name} {_statistics(column.new)}"
            for column in table.columns
            if column.new is not None
        )
    return lines


def _statistics(column: Statistics) -> str:
    said = [column.type]
    if column.least is not None and column.greatest is not None:
        said.append(f"{column.least} to {column.greatest}")
    if column.mean is not None:
        said.append(f"mean {column.mean:.6g}")
    said.append(f"{'' if column.exact else 'about '}{column.distinct} distinct")
    if column.missing:
        said.append(f"{column.missing} missing")
    if column.not_finite:
        said.append(f"{column.not_finite} not finite")
    return ", ".join(said)


def _names(summary: Summary) -> list[str]:
    uses = _some(f"uses {name}" for name in summary.globals)
    return [*uses, *_some(f"warning: {warning}" for warning in summary.warnings)]


def _some(lines: Iterator[str]) -> Iterator[str]:
    number = 0
    for number, line in enumerate(lines, 1):
        if number <= _MOST:
            yield harmless(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}... ({len(line)} characters)")
    if number > _MOST:
        yield f"... and {number - _MOST} more"
