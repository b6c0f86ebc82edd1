"""Where errors of a specification are, and that all of them are found."""

import json
from typing import Any

import pytest

from gitml.pipeline.spec import SpecError, load_pipeline
from gitml.pipeline.spec.load import Checked, check_pipeline
from gitml.pipeline.spec.positions import position
from tests.pipeline.test_spec_pachyderm import DATA, reads, stage, tree_with

JSON = """{
  "stages": [
    {"a": 1, "b": [10, {"c\\n": null}]},
    "x"
  ], "a": {"b": 1}, "a": {
    "b": 2}
}
null
[1,
 {"d": NaN}]
"""
YAML = """# comment
---
---
stages:
  - a: 1
    b: [10, {c: ~}]
  - x
---
- 1
- d: |
    text
  e: 2
"""


@pytest.mark.parametrize(
    ("text", "document", "steps", "found"),
    [
        (JSON, 0, ("stages",), (2, 3)),
        (JSON, 0, ("stages", 0, "b", 1, "c\n"), (3, 25)),
        (JSON, 0, ("stages", 0, "b", 0), (3, 20)),
        (JSON, 0, ("stages", 1), (4, 5)),
        (JSON, 0, ("stages", 0, "none", 3), (3, 5)),
        (JSON, 0, ("a", "b"), (6, 5)),
        (JSON, 1, (1, "d"), (10, 3)),
        (JSON, 2, (), None),
        (YAML, 0, ("stages", 0, "b", 1, "c"), (6, 14)),
        (YAML, 0, ("stages", 1), (7, 5)),
        (YAML, 1, (1, "e"), (12, 3)),
        (YAML, 1, (1, "none"), (10, 3)),
        ("a: [", 0, ("a",), None),
        ('{"a": {"b": 1,},}', 0, ("a", "b"), (1, 8)),
    ],
)
def test_positions(text: str, document: int, steps: tuple[str | int, ...], found: tuple[int, int] | None) -> None:
    assert position(text, document, steps) == found


def check(*files: str, **contents: Any) -> Checked:
    texts = {
        name.replace("_", "."): value if isinstance(value, str) else json.dumps(value, indent=1)
        for name, value in contents.items()
    }
    snapshot = tree_with({**DATA, **texts})
    document = b"pipeline.json" if "pipeline_json" in contents else None
    return check_pipeline(snapshot, document, [name.encode() for name in files])


def test_everything_wrong_is_found_at_once() -> None:
    found = check(
        pipeline_json={
            "stages": [
                {**stage("one", reads("images", globb="/")), "transform": {"cmd": "sh", "stdn": []}},
                {
                    **stage("two", {"cross": [reads("imags"), reads("images"), reads("pictures", joinOn="$1")]}),
                    "params": ["none.yaml"],
                    "metrics": ["a.txt"],
                    "transform": {"cmd": [], "accept_return_code": [900]},
                },
                stage("two", reads("images")),
                "none.json",
                3,
                "b.yaml",
                "c.json",
                stage("three", reads("one")),
            ],
            "images": {"a": {"cod": 1}},
        },
        b_yaml="pipeline: {name: four}\ntransform:\n  cmd: [a]\n  env: 3\ninput: {pfs: {repo: one}}\n",
        c_json='{"pipeline": 1,,}',
    )
    assert found.pipeline is None
    assert [(error.place.file, error.place.path) for error in found.problems] == [
        ("b.yaml", "transform.env"),
        ("c.json", ""),
        ("pipeline.json", "stages[0].transform.cmd"),
        ("pipeline.json", "stages[0].transform.stdn"),
        ("pipeline.json", "stages[0].input.pfs.globb"),
        ("pipeline.json", "stages[1].transform.cmd"),
        ("pipeline.json", "stages[1].transform.accept_return_code[0]"),
        ("pipeline.json", "stages[1].input.cross[0].pfs.repo"),
        ("pipeline.json", "stages[1].input.cross[2].pfs.joinOn"),
        ("pipeline.json", "stages[1].params[0]"),
        ("pipeline.json", "stages[1].metrics[0]"),
        ("pipeline.json", "stages[2].pipeline.name"),
        ("pipeline.json", "stages[3]"),
        ("pipeline.json", "stages[4]"),
        ("pipeline.json", "images.a.cod"),
    ]
    positions = [error.position for error in found.problems]
    assert positions[:2] == [(4, 3), (1, 16)]
    assert all(positions)
    assert found.problems[0].message == "b.yaml:4:3: transform.env: expected an object of strings, got a number"


def test_one_problem_ends_reading_where_not_all_are_asked_for() -> None:
    snapshot = tree_with({**DATA, "pipeline.json": '[\n {"pipelin": 1},\n {"transfrm": 2}]'})
    with pytest.raises(SpecError, match=r"^pipeline\.json:2:3: \[0\]\.pipelin: unknown field$"):
        load_pipeline(snapshot)


def test_files_are_checked_together_with_what_is_there() -> None:
    listed = {"stages": ["a.json"], "defaults": {"datum_tries": 2}}
    one, two = stage("one", reads("images")), stage("two", {"cross": [reads("one"), reads("pictures")]})
    found = check("a.json", "b.json", pipeline_json=listed, a_json=one, b_json=two)
    assert found.problems == ()
    assert found.pipeline is not None
    assert [(each.name, each.datum_tries) for each in found.pipeline.stages] == [("one", 2), ("two", 2)]
    assert [error.message for error in check("b.json", b_json=two).problems] == [
        "b.json:14:6: input.cross[0].pfs.repo: no stage and no path 'one'"
    ]
    cycle = [stage("one", reads("two")), stage("two", reads("one"))]
    assert "cycle" in check(pipeline_json=cycle).problems[0].message
