"""Another value for a parameter, in the text of its file."""

import pytest

from gitml.errors import UserError
from gitml.pipeline.override import Override, with_value


@pytest.mark.parametrize(
    ("name", "text", "key", "value", "expected"),
    [
        (b"p.yaml", "a: 1 # why\nb: {c: x}\n", "a", "0.5", "a: 0.5 # why\nb: {c: x}\n"),
        (b"p.yaml", "a: 1\nb: {c: x}\n", "b.c", "no: such", 'a: 1\nb: {c: "no: such"}\n'),
        (b"p.yaml", "l:\n- 1\n- 2\n", "l.1", "[3, 4]", "l:\n- 1\n- [3, 4]\n"),
        (b"p.yaml", "a.b: 1\na: {b: 2}\n", "a.b", "9", "a.b: 9\na: {b: 2}\n"),
        (b"p.json", '{"a": {"b": [1, 2]}}', "a.b", "null", '{"a": {"b": null}}'),
        (b"p.json", '{"a": 1}', "a", "fast", '{"a": "fast"}'),
        (b"p.toml", "[t]\nx = 1 # why\n", "t.x", "true", "[t]\nx = true # why\n"),
        (b"p.toml", "[t]\nx = 1\n", "t.x", "a b", '[t]\nx = "a b"\n'),
    ],
)
def test_one_place_changes(name: bytes, text: str, key: str, value: str, expected: str) -> None:
    assert with_value(name, text.encode(), key, value).decode() == expected


@pytest.mark.parametrize(
    ("name", "text", "key", "problem"),
    [
        (b"p.yaml", "a: 1\n", "b", "there is no 'b'"),
        (b"p.yaml", "a:\n  b: 1\n", "a", "cannot be changed in place"),
        (b"p.yaml", "x: &x 1\ny: *x\n", "y", "cannot be changed in place"),
        (b"p.toml", "x = [\n1]\n", "x", "cannot be changed in place"),
        (b"p.json", "{", "a", "cannot read parameter file"),
        (b"p.txt", "a", "a", "is not JSON, YAML or TOML"),
    ],
)
def test_what_cannot_be_changed(name: bytes, text: str, key: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        with_value(name, text.encode(), key, "5")


def test_what_is_typed() -> None:
    assert Override.parse("p.yaml:a.b=c=d") == Override(b"p.yaml", "a.b", "c=d")
    for text in ("p.yaml", "a=1", ":a=1", "p.yaml:=1"):
        with pytest.raises(UserError, match="is not FILE:KEY=VALUE"):
            Override.parse(text)
