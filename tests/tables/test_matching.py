"""Rows matched by sorting hashes are those that the plain engine matches with dictionaries."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gitml.tables import plain
from gitml.tables.matching import Sorted, by_content, by_key, rows_among
from gitml.tables.table import Match

# few values, so that keys and contents repeat; the largest and the least hash as well
HASHES = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 21, (1 << 64) - 1])
KEYS = st.lists(HASHES, max_size=12) | st.lists(st.integers(0, 20), max_size=14, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> Any:
    keys = draw(KEYS)
    content = draw(st.lists(HASHES, min_size=len(keys), max_size=len(keys)))
    return SimpleNamespace(keys=[keys], content=content, rows=len(keys))


def array(values: list[int]) -> Any:
    return np.array(values, np.uint64)


def as_lists(match: Match) -> list[Any]:
    rows = (match.added, match.removed, match.changed_old, match.changed_new)
    return [*(np.asarray(each).tolist() for each in rows), match.repeated]


@given(tables(), tables())
def test_rows_match_as_they_do_with_dictionaries(old: Any, new: Any) -> None:
    keys = Sorted.of(array(old.keys[0])), Sorted.of(array(new.keys[0]))
    contents = array(old.content), array(new.content)
    assert as_lists(by_key(keys, contents)) == as_lists(plain.match(old, new, 0))
    assert as_lists(by_content(*contents)) == as_lists(plain.match(old, new, None))
    assert keys[0].has_repeated() == (len(set(old.keys[0])) < old.rows)
    known = set(old.content)
    assert rows_among(contents[1], contents[0]).tolist() == [
        row for row, each in enumerate(new.content) if each in known
    ]
