"""Sketches: stable under small edits, spread evenly, and only where a delta can help."""

import base64
import random
import zlib

import numpy as np
import pytest

from gitml.store.sketch import REPEATS, SAMPLES, SPAN, is_compressible, sketch
from tests.store.samples import noise, table

FLOATS = np.frombuffer(noise(1 << 20), "<u4") / 2**32


@pytest.mark.parametrize(
    "chunk",
    [
        table(5000),
        table(100),
        b'{"name": "x", "values": [1, 2, 3]}\n' * 50,
        noise(100_000).hex().encode(),
        bytes(70_000),
        (np.arange(60_000) % 1000).astype("<f4").tobytes(),
        "\n".join(repr(float(value)) for value in FLOATS[:10_000]).encode(),
    ],
    ids=["table", "short table", "json", "hex", "zeros", "integers as floats", "decimal fractions"],
)
def test_text_and_tables_have_a_sketch(chunk: bytes) -> None:
    assert sketch(chunk) is not None


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        b"1234567",
        noise(65_536),
        noise(1 << 20),
        zlib.compress(table(100_000)),
        base64.b64encode(noise(200_000)),
        (FLOATS - 0.5).astype("<f4").tobytes(),
        ((np.frombuffer(noise(1 << 20), "<u8") >> 11) / 2**53 - 0.5).tobytes(),
        (FLOATS - 0.5).astype("<f2").tobytes(),
        ((FLOATS - 0.5).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes(),
    ],
    ids=["empty", "tiny", "random", "much random", "deflated", "base64", "float32", "float64", "float16", "bfloat16"],
)
def test_compressed_and_noisy_data_have_none(chunk: bytes) -> None:
    assert sketch(chunk) is None


def by_sorting(chunk: bytes) -> bool:
    """The rule as docs/format.md has it."""
    stride = len(chunk) // SAMPLES | 1
    samples = [chunk[at : at + 4] for at in range(0, len(chunk) - 3, stride)]
    return (len(samples) - len(set(samples))) * REPEATS >= len(samples)


def test_the_short_way_gives_the_same_whatever_came_before() -> None:
    dice = random.Random(7)
    answers = set()
    for _ in range(300):
        size = dice.choice([4, 5, 100, 8191, 8195, 16_383, 16_384, 40_000, 70_000])
        chunk = bytearray(dice.randbytes(size))
        for _ in range(dice.choice([0, size // 300, size // 256, size // 200, size // 20])):
            at, source = dice.randrange(size), dice.randrange(size)
            chunk[at : at + 4] = chunk[source : source + 4]
        del chunk[size:]
        answer = is_compressible(bytes(chunk))
        assert answer == by_sorting(bytes(chunk))
        answers.add(answer)
    assert answers == {True, False}


def test_most_small_edits_keep_the_sketch() -> None:
    chunk = table(10_000)
    places = range(1000, SPAN, 1500)
    kept = [sketch(chunk[:at] + b"edit" + chunk[at:]) == sketch(chunk) for at in places]
    assert sum(kept) >= len(kept) - 2


def test_bytes_beyond_the_span_do_not_matter() -> None:
    chunk = table(10_000)
    assert len(chunk) > SPAN
    assert sketch(chunk[:SPAN] + b"something else" * 1000) == sketch(chunk)


def test_the_first_digits_are_spread() -> None:
    marks = [sketch(table(1000, first=start)) for start in range(0, 128_000, 1000)]
    assert None not in marks
    assert len({mark >> 24 for mark in marks if mark is not None}) > 60


def test_views_and_bytes_give_the_same() -> None:
    chunk = table(3000)
    assert sketch(memoryview(b"x" + chunk)[1:]) == sketch(chunk)
