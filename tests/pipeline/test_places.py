"""Where values stand in JSON, YAML and TOML."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.pipeline.places import Spot, line_of, spot_of, spots

JSON = b'{\n  "model": {"C": 1.5,\n    "layers": [1,\n      {"deep": "a\\"b"}]},\n  "a.b": null\n}\n'
YAML = b"# comment\nmodel:\n  C: 1.5   # why\n  kinds:\n    - a\n    - deep: x\nflow: {one: [1, 2]}\n'a.b': ''\n"
TOML = b"""top = "a # b" # c
[model]
C = 1.5 # why
list = [
 1,
]
[model.deep]
x.y = 2
[[many]]
C = 3
["a.b"]
z = 1
"""


@pytest.mark.parametrize(
    ("name", "text", "key", "line", "value"),
    [
        (b"p.json", JSON, "model", 2, '{"C": 1.5,\n    "layers": [1,\n      {"deep": "a\\"b"}]}'),
        (b"p.json", JSON, "model.C", 2, "1.5"),
        (b"p.json", JSON, "model.layers.1.deep", 4, '"a\\"b"'),
        (b"p.json", JSON, "a.b", 5, "null"),
        (b"p.yaml", YAML, "model.C", 3, "1.5"),
        (b"p.yaml", YAML, "model.kinds", 4, None),
        (b"p.yaml", YAML, "model.kinds.1.deep", 6, "x"),
        (b"p.yml", YAML, "flow.one", 7, "[1, 2]"),
        (b"p.yml", YAML, "a.b", 8, "''"),
        (b"in/p.toml", TOML, "top", 1, '"a # b"'),
        (b"p.toml", TOML, "model.C", 3, "1.5"),
        (b"p.toml", TOML, "model.list", 4, None),
        (b"p.toml", TOML, "model.deep.x.y", 8, "2"),
        (b"p.toml", TOML, "a.b.z", 12, "1"),
    ],
)
def test_places(name: bytes, text: bytes, key: str, line: int, value: str | None) -> None:
    spot = spot_of(spots(name, text), key)
    assert spot is not None
    assert (spot.line, line_of(name, text, key)) == (line, line)
    assert (text.decode()[spot.start : spot.end] if spot.end >= 0 else None) == value


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        (b"p.json", JSON, "model.D"),
        (b"p.json", JSON, "many.C"),
        (b"p.json", b'{"a": ', "a"),
        (b"p.json", b"[" * 100_000, "a"),
        (b"p.json", b"\xff", "a"),
        (b"p.yaml", b"a: [", "a"),
        (b"p.yaml", b"", "a"),
        (b"p.toml", TOML, "many.C"),
        (b"p.txt", b"a", "a"),
    ],
)
def test_what_cannot_be_found(name: bytes, text: bytes, key: str) -> None:
    assert line_of(name, text, key) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(_VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_the_characters_of_a_place_are_its_value(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    def check(spot: Spot, expected: object) -> None:
        assert json.loads(text[spot.start : spot.end]) == expected
        members = dict(enumerate(expected)) if isinstance(expected, list) else expected
        if isinstance(members, dict):
            assert list(spot.members) == list(map(str, members))
            for key, inner in members.items():
                check(spot.members[str(key)], inner)

    found = spots(b"p.json", text.encode("utf-8", "surrogatepass"))
    if found is not None:  # lone surrogates are no UTF-8
        check(found, value)
