"""Templates of dvc.yaml. What is expected here is what DVC 3.67 makes of the same files."""

from collections.abc import Mapping
from typing import Any

import pytest

from gitml.pipeline.foreign.dvctemplate import parse_yaml, resolve
from gitml.pipeline.spec import SpecError

PARAMS = """
lr: 1e-3
big: 1_000
yes_: yes
nul: null
oct: 0o17
hex: 0x1F
neg: -5
f: 1.50
models: [a, b]
flags: [true, false, 0.1]
comp: [{n: x, v: 1}, {n: y, v: 2}]
dict: {us: {epochs: 3}, gb: {epochs: 5}}
2020: no
opts: {lr: 0.1, name: "a b", verbose: true, quiet: false, list: [1, "x y"], nested: {k: v, e: null}}
item: global
"""
OTHER = "zed: {a: 1, b: 2}\ndict: {fr: {epochs: 7}}\n"
VARS = "vars: [other.yaml, {inline: {x: [10, 20]}}, other.yaml]\n"


def resolved(stages: str, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    there = {"params.yaml": PARAMS, "other.yaml": OTHER, "sub/b/params.yaml": "x: 1"} | dict(files or {})
    document = parse_yaml((VARS + "stages:\n" + stages).encode(), "dvc.yaml")
    found = resolve(document, "dvc.yaml", lambda path: there[path].encode() if path in there else None)
    return {name: definition for name, (definition, _) in found.stages.items()}


def commands(stages: str) -> dict[str, Any]:
    return {name: definition["cmd"] for name, definition in resolved(stages).items()}


def test_values_in_texts() -> None:
    cmd = r"run ${lr} ${big} ${yes_} ${nul} ${neg} ${f} ${oct} ${hex} ${inline.x[1]} \${esc} ${ inline.x[0] } ${zed.b}"
    assert commands(f"  a: {{cmd: '{cmd}'}}\n") == {"a": "run 0.001 1000 yes None -5 1.5 15 31 20 ${esc} 10 2"}
    assert commands("  a: {cmd: 'run ${opts}'}\n") == {
        "a": "run --lr 0.1 --name 'a b' --verbose --list 1 'x y' --nested.k v --nested.e None"
    }


def test_a_value_alone_keeps_its_type_and_keys_are_texts_too() -> None:
    made = resolved(
        "  a: {cmd: '${models[0]}', frozen: '${flags[0]}', outs: [{'o/${models[1]}': {cache: '${neg}'}}]}\n"
    )
    assert made["a"] == {"cmd": "a", "frozen": True, "outs": [{"o/b": {"cache": -5}}]}


@pytest.mark.parametrize(
    ("foreach", "names"),
    [
        ("'${models}'", {"s@a": "a", "s@b": "b"}),
        ("[1, 2.50, true, x]", {"s@1": "1", "s@2.5": "2.5", "s@true": "true", "s@x": "x"}),
        # DVC names stages by the values as Python writes them if these come from elsewhere
        ("'${flags}'", {"s@True": "true", "s@False": "false", "s@0.1": "0.1"}),
        ("['${lr}', b]", {"s@0.001": "0.001", "s@b": "b"}),
        ("[x, [y]]", {"s@0": "x", "s@1": None}),
        ("[]", {}),
    ],
)
def test_foreach_over_a_list(foreach: str, names: dict[str, str | None]) -> None:
    cmd = "y" if None in names.values() else "x${item}"
    made = commands(f"  s: {{foreach: {foreach}, do: {{cmd: '{cmd}'}}}}\n")
    assert made == {name: cmd.replace("${item}", value or "") for name, value in names.items()}


def test_foreach_over_objects() -> None:
    assert commands("  s: {foreach: '${comp}', do: {cmd: '${item.n} ${item.v}'}}\n") == {"s@0": "x 1", "s@1": "y 2"}
    assert commands("  s: {foreach: '${dict}', do: {cmd: '${key} ${item.epochs}'}}\n") == {
        "s@us": "us 3",
        "s@gb": "gb 5",
        "s@fr": "fr 7",
    }
    assert commands("  s: {foreach: {1: a, b: {q: '${lr}'}}, do: {cmd: '${key}'}}\n") == {"s@1": "1", "s@b": "b"}


def test_a_matrix() -> None:
    made = commands(
        "  s:\n    matrix: {m: '${models}', g: [true, 0.5], c: '${comp}', l: '${flags}'}\n"
        "    cmd: ${item.m} ${item.g} ${item.c.n} ${item.l} ${key}\n"
    )
    assert len(made) == 24
    assert made["s@a-true-c0-True"] == "a true x true a-true-c0-True"
    assert made["s@b-0.5-c1-0.1"] == "b 0.5 y 0.1 b-0.5-c1-0.1"


def test_values_of_a_stage() -> None:
    made = resolved("  a: {wdir: 'sub/${models[1]}', vars: [params.yaml, {own: 5}], cmd: ['${own} ${x}', b]}\n")
    assert made == {"a": {"wdir": "sub/b", "cmd": ["5 1", "b"]}}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  a: {cmd: '${nothing}'}\n", "dvc.yaml: stages.a.cmd: there is no value 'nothing'"),
        ("  a: {cmd: '${models[7]}'}\n", "there is no value"),
        ("  a: {cmd: '${lr.x}'}\n", "there is no value"),
        ("  a: {cmd: 'x ${models}'}\n", "a list or an object"),
        ("  a: {cmd: x, outs: ['${dict}']}\n", "a list or an object"),
        ("  a: {cmd: 'x ${lr.}'}\n", "not the name of a value"),
        ("  a: {cmd: x, vars: ['${lr}.yaml']}\n", "not allowed here"),
        ("  a: {cmd: x, vars: [none.yaml]}\n", "there is no file 'none.yaml'"),
        ("  a: {cmd: x, vars: ['other.yaml:q']}\n", "there is no 'q' in 'other.yaml'"),
        ("  a: {cmd: x, vars: [{lr: 2}]}\n", "given twice"),
        ("  a: {foreach: 7, do: {cmd: x}}\n", "expected a list or an object"),
        ("  a: {matrix: {m: 7}, cmd: x}\n", "expected a list"),
        ("  a: [\n", "dvc.yaml:4:1: not YAML: "),
        ("  a: {x: &x [1], y: &y [" + "*x," * 999 + "], z: [" + "*y," * 999 + "]}\n", "too large"),
    ],
)
def test_what_dvc_refuses_too(stages: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolved(stages)
    assert message in caught.value.message
