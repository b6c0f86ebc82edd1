"""Which stages and datums are meant by what was typed."""

import pytest

from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.choice import Choice, datum_filter
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.spec.model import PfsInput, Pipeline, Stage, Transform
from gitml.store.tree import MODE_FILE, Entry


def stage(name: str, upstream: str | None) -> Stage:
    source = upstream or "data"
    leaf = PfsInput(name=source, repo=source, path=source.encode(), glob="/", upstream=upstream)
    return Stage(name=name, transform=Transform(cmd=("true",)), input=leaf, output=name.encode())


CHAIN = Pipeline(stages=(stage("a", None), stage("b", "a"), stage("c", "b"), stage("other", None)))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), "a b c other"),
        (Choice(stages=frozenset({"b"})), "a b"),
        (Choice(stages=frozenset({"b"}), single=True), "b"),
        (Choice(stages=frozenset({"b"}), downstream=True), "a b c"),
        (Choice(stages=frozenset({"b"}), downstream=True, single=True), "b c"),
        (Choice(until=frozenset({"b"})), "a b"),
        (Choice(stages=frozenset({"a"}), downstream=True, until=frozenset({"b"})), "a b"),
        (Choice(stages=frozenset({"other"}), until=frozenset({"b"})), ""),
    ],
)
def test_stages(choice: Choice, expected: str) -> None:
    assert sorted(choice.of(CHAIN)) == expected.split()


def test_only_what_was_typed_is_named() -> None:
    assert Choice(stages=frozenset({"b"}), downstream=True).names("b")
    assert not Choice(stages=frozenset({"b"}), downstream=True).names("c")
    assert not Choice().names("b")


def test_a_stage_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no stage 'd'") as caught:
        Choice(stages=frozenset({"a"}), until=frozenset({"d"})).check(CHAIN)
    assert caught.value.hint == "stages: a, b, c, other"


def datum(*paths: str) -> Datum:
    entry = Entry(MODE_FILE, Oid(bytes(20)))
    return Datum(tuple(DatumInput("in", b"in", path.encode(), entry) for path in paths))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/a.csv", ["a.csv"]),
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv", "deep/b.csv"]),
        ("deep/*", ["deep/b.csv", "deep/c.txt"]),
        (datum("deep/c.txt").id[:12], ["deep/c.txt"]),
        (datum("deep/c.txt").id[:7], []),
        ("b", []),
    ],
)
def test_datums(pattern: str, expected: list[str]) -> None:
    chosen = datum_filter([pattern])
    names = ["a.csv", "deep/b.csv", "deep/c.txt"]
    assert [name for name in names if chosen(datum(name))] == expected


def test_a_datum_of_several_inputs_is_meant_by_any_of_them_or_its_label() -> None:
    pair = datum("a.csv", "m.bin")
    assert datum_filter(["in/m.bin"])(pair)
    assert datum_filter(["in/a.csv × in/m.bin"])(pair)
    assert datum_filter(["no", "*.bin"])(pair)
    assert not datum_filter(["no"])(pair)
