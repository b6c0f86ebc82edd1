import threading
from collections.abc import Iterator

import pytest

from gitml.git.readahead import read_ahead


def test_blocks_come_in_order_from_another_thread() -> None:
    threads = set()

    def blocks() -> Iterator[int]:
        for number in range(1, 100):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(blocks())) == list(range(1, 100))
    assert threading.get_ident() not in threads
    assert list(read_ahead(iter(()))) == []


def test_the_next_block_is_read_while_the_last_one_is_in_use() -> None:
    began = threading.Event()

    def blocks() -> Iterator[int]:
        yield 1
        began.set()
        yield 2

    given = read_ahead(blocks())
    assert next(given) == 1
    assert began.wait(60)
    assert list(given) == [2]


def test_what_reading_raises_comes_in_its_place() -> None:
    def blocks() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    given = read_ahead(blocks())
    assert next(given) == 1
    with pytest.raises(OSError, match="gone"):
        next(given)


def test_whoever_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    given = read_ahead(iter(range(1, 1000)))
    assert next(given) == 1
    given.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
