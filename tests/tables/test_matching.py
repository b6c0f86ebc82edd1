"""Rows matched by sorting hashes, bucket by bucket, are those that the plain engine matches with dictionaries."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.tables import matching, plain
from gitml.tables.diff import TableError
from gitml.tables.matching import Hashes, by_content, by_key, rows_among
from gitml.tables.profile import mixed
from gitml.tables.table import Match

EXTREME = {20: 0, 21: (1 << 64) - 1, 22: (1 << 56) - 1, 23: 1 << 56}
"""Some keys have the least and the largest hash, and those at the ends of buckets."""
KEYS = st.lists(st.sampled_from([1, 2, 3, 20, 21, 22, 23]), max_size=12) | st.lists(
    st.integers(0, 23), max_size=14, unique=True
)


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Keys and contents, each as a hash: who has the same content has the same key."""
    chosen = draw(KEYS)
    values = draw(st.lists(st.integers(0, 2), min_size=len(chosen), max_size=len(chosen)))
    keys = [EXTREME.get(key, mixed(key)) for key in chosen]
    content = [mixed(100 + 3 * key + value) for key, value in zip(chosen, values, strict=True)]
    return SimpleNamespace(keys=keys, content=content, rows=len(keys))


def hashes(keys: list[int], contents: list[int], size: int) -> Hashes:
    found = Hashes()
    for start in range(0, len(keys), size):
        found.add(*(np.array(each[start : start + size], np.uint64) for each in (keys, contents)))
    return found


def as_lists(match: Match | None) -> list[Any] | None:
    if match is None:
        return None
    rows = (match.added, match.removed, match.changed_old, match.changed_new)
    return [*(np.asarray(each).tolist() for each in rows), match.repeated]


@settings(deadline=None)
@given(tables(), tables(), st.integers(1, 14), st.sampled_from([1, 5, 1000]))
def test_rows_match_as_they_do_with_dictionaries(old: Any, new: Any, size: int, together: int) -> None:
    with patch.object(matching, "_TOGETHER", together):

        def keys() -> list[Hashes]:
            return [hashes(table.keys, table.content, size) for table in (old, new)]

        def contents() -> list[Hashes]:
            return [hashes(table.content, table.content, size) for table in (old, new)]

        for unique in (False, True):
            assert as_lists(by_key(*keys(), unique=unique)) == as_lists(
                plain.match(old, new, keyed=True, unique=unique)
            )
        assert as_lists(by_content(*contents())) == as_lists(plain.match(old, new, keyed=False))
        known = set(old.content)
        assert rows_among(*reversed(contents())).tolist() == [
            row for row, each in enumerate(new.content) if each in known
        ]


def test_a_row_takes_sixteen_bytes_and_has_a_number() -> None:
    found = hashes([mixed(number) for number in range(1000)], [0] * 1000, 100)
    assert sum(each.nbytes for first, second, _ in found._batches for each in (first, second)) == 16 * 1000
    assert sorted(found.part(range(256)).rows.tolist()) == list(range(1000))
    with patch.object(matching, "_MOST_ROWS", 1000), pytest.raises(TableError, match="more than 1,000 rows"):
        found.add(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def test_forty_bits_of_content_tell_rows_apart() -> None:
    for bit in range(64):
        old, new = hashes([7], [0], 1), hashes([7], [1 << bit], 1)
        found = by_key(old, new)
        assert found is not None
        assert len(found.changed_new) == (bit >= 24)


def test_no_row_is_lost_between_threads() -> None:
    keys = [mixed(number) for number in range(20_000)]
    old, new = (hashes(keys, [mixed(number + more) for number in range(len(keys))], 7000) for more in (0, 1))
    with patch.object(matching, "_TOGETHER", 1):
        found = by_key(old, new, unique=True)
    assert found is not None
    assert found.changed_new.tolist() == found.changed_old.tolist() == list(range(len(keys)))
