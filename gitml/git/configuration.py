"""The configuration as git resolves it, read with one process."""

import os
import re
from collections.abc import Iterator, Mapping

from gitml.record import record

_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|\d+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off", "")


@record
class Configuration:
    """The values of every variable, those that count last, in the order of `git config --list`."""

    values: Mapping[str, tuple[str | None, ...]]
    """By name: section and variable in lower case, a subsection as it is. None: a variable without `=`."""

    def text(self, name: str) -> str | None:
        """The value of a variable, None if it is not set."""
        found = self.values.get(_normal(name))
        return None if found is None else found[-1] or ""

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a variable."""
        return tuple(value or "" for value in self.values.get(_normal(name), ()))

    def boolean(self, name: str, default: bool) -> bool:
        """The value as git reads booleans (git-config, '--type'); `default` if it is not set, or none."""
        found = self.values.get(_normal(name))
        if found is None:
            return default
        value = found[-1]
        if value is None or value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        number = _integer(value)
        return default if number is None else number != 0

    def integer(self, name: str, default: int) -> int:
        """The value as git reads integers, with `k`, `m` or `g`; `default` if it is not set, or none."""
        number = _integer(self.text(name) or "")
        return default if number is None else number

    def below(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Name without `prefix`, and value, of every variable below it: `remote.origin.`."""
        start = _normal(prefix)
        for name, values in self.values.items():
            if name.startswith(start):
                for value in values:
                    yield name[len(start) :], value or ""


def parse_configuration(listing: bytes) -> Configuration:
    """What `git config -z --list` prints."""
    values: dict[str, tuple[str | None, ...]] = {}
    for entry in os.fsdecode(listing).split("\0"):
        name, equals, value = entry.partition("\n")
        if name:
            values[name] = (*values.get(name, ()), value if equals else None)
    return Configuration(values)


def _normal(name: str) -> str:
    """Section and variable in lower case, as git lists them."""
    section, dot, rest = name.partition(".")
    subsection, last, variable = rest.rpartition(".")
    return f"{section.lower()}{dot}{subsection}{last}{variable.lower()}"


def _integer(text: str) -> int | None:
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    sign, digits, unit = match.groups()
    # a leading 0 means octal, as in C
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
    try:
        return int(f"{sign}{digits}", base) * _UNITS[unit.lower()]
    except ValueError:
        return None
