"""A summary as lines, one for each thing, so that `git diff` shows which of them changed."""

from collections.abc import Iterator

from gitml.formats.compare import kind_of
from gitml.formats.summary import Summary
from gitml.provenance.codec import harmless

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
