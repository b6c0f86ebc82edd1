"""Whether two versions of an output are alike."""

from pathlib import Path

import pytest

from gitml.pipeline.likeness import unlike


@pytest.mark.parametrize(
    ("name", "old", "new", "tolerances", "said"),
    [
        ("m.json", '{"a": {"b": 1}}', '{"a": {"b": 1.0}}', {"": 0.0}, ""),
        ("m.json", '{"a": {"b": 1}}', '{"a":{"b":1}}', {}, "other bytes, equal values"),
        ("m.json", '{"a": {"b": 0.95}}', '{"a": {"b": 0.96}}', {"": 0.01}, ""),
        ("m.json", '{"a": {"b": 0.95}}', '{"a": {"b": 0.96}}', {"a.b": 0.001}, "a.b 0.95, now 0.96"),
        ("m.json", '{"a": 1}', '{"a": "1"}', {"": 5.0}, "a 1, now 1"),
        ("m.json", '{"a": 1}', '{"b": 1}', {"": float("inf")}, "a 1, now nothing; b nothing, now 1"),
        ("m.json", '{"a": NaN}', '{"a":NaN}', {"": 0.1}, ""),
        ("m.json", '{"a": true}', '{"a": 1}', {"": 1.0}, "a True, now 1"),
        ("m.json", "{", "{ ", {"": 1.0}, "1 bytes, now 2"),
        ("m.json", "[" * 100_000, "[" * 100_001, {"": 1.0}, "100,000 bytes, now 100,001"),
        ("m.yaml", "a: &a [*a]", "a: &a [*a] ", {"": 1.0}, "10 bytes, now 11"),
        ("m.yml", "a: 1", "a: 2", {"": 1.0}, ""),
        ("m.toml", "a = 1", "a = 2", {}, "a 1, now 2"),
        ("t.csv", "x,y\n1,a\n2,a\n", "x,y\n1.5,a\n2.25,a\n", {"x": 0.5}, ""),
        (
            "t.csv",
            "x,y\n1,a\n2,a\n",
            "x,y\n1.5,a\n2.25,b\n",
            {"x": 0.1},
            "x 1, now 1.5 (2 times, this is the largest); y a, now b",
        ),
        ("t.csv", "x\n1\n", "x\n1\n2\n", {"": 1.0}, "1 rows, now 2"),
        ("t.csv", "x\n1\n", "y\n1\n", {"": 1.0}, "other columns"),
        ("t.csv", "x,y\n1,\n", "x,y\n1,2\n", {"": 9.0}, "y nothing, now 2"),
        ("t.bin", "abc", "abd", {"": 9.0}, "other bytes, 3 as before"),
    ],
)
def test_alike(tmp_path: Path, name: str, old: str, new: str, tolerances: dict[str, float], said: str) -> None:
    before, after = tmp_path / "old", tmp_path / "new"
    before.write_text(old)
    after.write_text(new)
    assert unlike(name.encode(), before, after, tolerances) == said
