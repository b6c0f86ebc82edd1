"""Specifications in Jsonnet: what they may import, what is said of bad ones, and what their limits are."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gitml.pipeline import jsonnet
from gitml.pipeline.loading import check_pipeline, load_pipeline
from gitml.pipeline.spec import SpecError, load
from gitml.pipeline.spec.error import Place
from gitml.pipeline.spec.template import Refusal, Request, request
from tests.pipeline.test_spec import tree_with

pytest.importorskip("_jsonnet")

EDGES = """
local names = import 'lib/names.libsonnet';
// import "comment.libsonnet"
function(suffix, src='images', tries=3)
  assert std.length(suffix) > 0 : 'Must set suffix';
  {
    pipeline: { name: names.of('edges', suffix) },
    transform: { cmd: ['sh'], stdin: [importstr '../run.sh'] },
    input: { pfs: { repo: src, glob: '/*' } },
    datum_tries: tries,
  }
"""
FILES = {
    "t/edges.jsonnet": EDGES,
    "t/lib/names.libsonnet": "(import 'top.libsonnet') + { of(name, suffix):: name + self.dash + suffix }",
    "top.libsonnet": "{ dash:: '-' }",
    "run.sh": "cp /pfs/*/* /pfs/out",
    "images/a": "",
    "t/two.jsonnet": "[{pipeline: {name: n}, transform: {cmd: ['true']}} for n in ['one', 'two']]",
}


def pipeline_json(*stages: Any) -> dict[str, str]:
    return {**FILES, "pipeline.json": json.dumps({"stages": stages})}


def edges(**arguments: Any) -> dict[str, Any]:
    return {"file": "t/edges.jsonnet", "args": arguments}


def test_a_template_gives_stages_as_often_as_it_is_listed() -> None:
    asked: list[int] = []

    def evaluate(requests: Sequence[Request]) -> Sequence[str | Refusal]:
        asked.append(len(requests))
        return evaluator(requests)

    evaluator = jsonnet.Evaluator()
    files = pipeline_json(edges(suffix="1"), edges(suffix="2", src="edges-1", tries=1), "t/two.jsonnet")
    pipeline = load.load_pipeline(tree_with(files), evaluate)
    assert pipeline is not None
    found = {stage.name: (stage.datum_tries, [each.repo for each in stage.inputs]) for stage in pipeline.stages}
    assert found == {"edges-1": (3, ["images"]), "edges-2": (1, ["edges-1"]), "one": (3, []), "two": (3, [])}
    assert pipeline.stage("edges-1").transform.stdin == ("cp /pfs/*/* /pfs/out",)
    assert asked[0] == 3  # all in one process
    listed = load_pipeline(tree_with(pipeline_json("t/t*.jsonnet")))
    assert listed is not None
    assert [stage.name for stage in listed.stages] == ["one", "two"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (edges(suffix=""), "t/edges.jsonnet: Must set suffix (t/edges.jsonnet:"),
        (edges(), "t/edges.jsonnet: function parameter suffix not bound in call."),
        (edges(suffix="1", more="2"), "t/edges.jsonnet: function has no parameter more"),
        (edges(suffix="1", tries="x"), "t/edges.jsonnet: datum_tries: expected an integer, got 'x'"),
        (edges(**{"a-b": "1"}), "t/edges.jsonnet: 'a-b' is no name of an argument"),
        ({"file": "t/two.jsonnet", "args": {"a": 1}}, "t/two.jsonnet: it is no function, so it takes no arguments"),
        ({"file": "t/none.jsonnet"}, "pipeline.json:1:14: stages[0].file: 't/none.jsonnet' is not in the commit"),
        ({"file": "run.sh", "args": {"a": "b"}}, "only files that end in .jsonnet take arguments"),
        ({"file": 7}, "expected the path of a file, got a number"),
        ({"file": "t/two.jsonnet", "args": []}, "expected an object, got a list"),
        ({"file": "t/two.jsonnet", "arg": {}}, "stages[0].arg: unknown field"),
    ],
)
def test_what_is_wrong_is_said(item: Any, message: str) -> None:
    tree = tree_with(pipeline_json(item))
    with pytest.raises(SpecError) as caught:
        load_pipeline(tree)
    assert message in caught.value.message
    checked = check_pipeline(tree, b"pipeline.json")
    assert [message in error.message for error in checked.problems] == [True]


def test_an_argument_that_is_missing_is_named_in_the_form_it_is_given_in() -> None:
    with pytest.raises(SpecError) as caught:
        load_pipeline(tree_with(pipeline_json(edges())))
    assert caught.value.hint is not None
    assert '"args": {"suffix": …}' in caught.value.hint
    assert "--arg suffix=…" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.jsonnet: bad.jsonnet:2:1: "),
        ("import '../outside.libsonnet'", 'couldn\'t open import "../outside.libsonnet": it is not in the commit'),
        ("importstr '/etc/passwd'", "it is not in the commit"),
        ("local f(x) = f(x + 1); f(0)", "max stack frames exceeded"),
        ("std.length(std.range(0, 10000000000))", "it takes more than"),
        ("local f(x) = std.repeat(x, 1000); f(f(f(f('a'))))", "it takes more than"),
        ("7", "bad.jsonnet: expected a specification, got a number"),
    ],
)
def test_a_bad_template_costs_no_more_than_it_may(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "takes more" in message:
        monkeypatch.setattr(jsonnet, "CLOCK", 1.5)
    files = {"bad.jsonnet": text + "\n", "pipeline.json": '{"stages": ["bad.jsonnet"]}', "etc/hosts": ""}
    with pytest.raises(SpecError) as caught:
        load.load_pipeline(tree_with(files), jsonnet.Evaluator())
    assert message in caught.value.message


def test_one_that_never_ends_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonnet, "CLOCK", 2.5)
    bad = Request("bad.jsonnet", {"bad.jsonnet": b"std.length(std.range(0, 10000000000))"}, {})
    good = Request("good.jsonnet", {"good.jsonnet": b"function(a) a"}, {"a": [1]})
    first, second = jsonnet.Evaluator()([bad, good])
    assert isinstance(first, Refusal)
    assert json.loads(str(second)) == [1]


def test_what_an_evaluation_may_read() -> None:
    pointer = b"version https://example.org/none\n"
    files: dict[str, str | bytes] = {**FILES, "big.jsonnet": "importstr 'big.bin'", "big.bin": pointer}
    found = request(tree_with(files), b"t/edges.jsonnet", {}, Place("x"))
    assert set(found.sources) == {"t/edges.jsonnet", "t/lib/names.libsonnet", "top.libsonnet", "run.sh"}
    same = request(tree_with(FILES), b"t/edges.jsonnet", {}, Place("x"))
    other = request(tree_with({**FILES, "run.sh": "x"}), b"t/edges.jsonnet", {}, Place("x"))
    assert found.key == same.key != other.key
    assert request(tree_with(FILES), b"t/edges.jsonnet", {"a": "1"}, Place("x")).key != same.key
    large = {"a.jsonnet": "importstr 'b'", "b": "x" * (5 << 20)}
    with pytest.raises(SpecError, match="more than 4 MiB"):
        request(tree_with(large), b"a.jsonnet", {}, Place("x"))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonnet, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match="not installed") as caught:
        load.load_pipeline(tree_with(pipeline_json("t/two.jsonnet")), jsonnet.Evaluator())
    assert caught.value.hint == "pip install 'gitml[jsonnet]'"
    assert "gitml.pipeline.jsonnet" in sys.modules


def test_everything_loads_with_templates_evaluated() -> None:
    top = Path(jsonnet.__file__).parents[1]
    sources = [path for path in top.rglob("*.py") if "spec" not in path.parts and path.name != "loading.py"]
    bare = (
        r"from gitml\.pipeline\.spec(?:\.load)? import .*\b(?:load_pipeline|check_pipeline|effective_specification)\b"
    )
    assert [path for path in sources if re.search(bare, path.read_text())] == []
