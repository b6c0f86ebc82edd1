"""`--tolerance [NAME=]N`, as several commands take it."""

from collections.abc import Sequence

from gitml.errors import UserError


def parse_tolerances(given: Sequence[str]) -> dict[str, float]:
    """Name to number, `""` for all others; raise `UserError`."""
    found = {}
    for each in given:
        name, _, text = each.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value >= 0:
            raise UserError(f"'{each}' is no tolerance", hint="a number of at least 0, or METRIC=NUMBER")
        found[name] = value
    return found
