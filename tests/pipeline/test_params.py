import json
import tomllib
from collections.abc import Callable

import pytest
import yaml

from gitml.errors import UserError
from gitml.pipeline.params import Params, plain, read_params
from gitml.pipeline.spec.model import ParamRef, Stage
from gitml.provenance.codec import canonical
from gitml.store.tree import Snapshot

MakeTree = Callable[..., Snapshot]
MakeStage = Callable[..., Stage]

YAML = """
# comment
model: {C: 1.0, kind: svm, tiny: 1.0e-05}
split: {seed: 7, "a.b": dotted}
day: 2024-05-06
limit: .inf
other: secret
"""


@pytest.fixture
def read(tree: MakeTree, make_stage: MakeStage) -> Callable[..., Params]:
    def run(files: dict[str, str | bytes], *refs: tuple[str, str | None]) -> Params:
        params = tuple(ParamRef(path=path.encode(), key=key) for path, key in refs)
        return read_params(make_stage("s", params=params), tree(files))

    return run


def test_selected_keys_and_nothing_else(read: Callable[..., Params]) -> None:
    params = read({"p.yaml": YAML}, ("p.yaml", "model.C"), ("p.yaml", "split"))
    assert params.value == {"p.yaml": {"model.C": 1.0, "split": {"seed": 7, "a.b": "dotted"}}}
    assert yaml.safe_load(params.files[b"p.yaml"]) == {"model": {"C": 1.0}, "split": {"seed": 7, "a.b": "dotted"}}


def test_a_key_inside_a_selected_table(read: Callable[..., Params]) -> None:
    params = read({"p.yaml": YAML}, ("p.yaml", "model.C"), ("p.yaml", "model"))
    assert yaml.safe_load(params.files[b"p.yaml"]) == {"model": {"C": 1.0, "kind": "svm", "tiny": 1e-05}}


def test_keys_that_hold_dots(read: Callable[..., Params]) -> None:
    params = read({"p.yaml": YAML}, ("p.yaml", "split.a.b"))
    assert params.value == {"p.yaml": {"split.a.b": "dotted"}}
    assert yaml.safe_load(params.files[b"p.yaml"]) == {"split": {"a.b": "dotted"}}


def test_yaml_keeps_types_that_json_text_would_lose(read: Callable[..., Params]) -> None:
    params = read({"p.yaml": YAML}, ("p.yaml", None))
    assert yaml.safe_load(params.files[b"p.yaml"]) == yaml.safe_load(YAML)
    whole = params.value["p.yaml"][""]
    assert isinstance(whole, dict)
    assert whole["day"] == {"$date": "2024-05-06"}
    assert whole["limit"] == {"$float": "inf"}


def test_toml_and_json_keep_their_format(read: Callable[..., Params]) -> None:
    files: dict[str, str | bytes] = {
        "d/p.toml": "at = 2024-05-06T07:08:09Z\n[a]\nb = [1, 2]\nc = 3\n",
        "p.json": '{"x": {"y": NaN}, "z": 1}',
    }
    params = read(files, ("d/p.toml", "a.b"), ("d/p.toml", "at"), ("p.json", "x"))
    assert tomllib.loads(params.files[b"d/p.toml"].decode())["a"] == {"b": [1, 2]}
    assert params.value["d/p.toml"] == {"a.b": [1, 2], "at": {"$datetime": "2024-05-06T07:08:09+00:00"}}
    assert json.dumps(json.loads(params.files[b"p.json"])) == '{"x": {"y": NaN}}'
    assert params.value["p.json"] == {"x": {"y": {"$float": "nan"}}}


def test_layout_and_comments_change_nothing(read: Callable[..., Params]) -> None:
    one = read({"p.yaml": "a: 1\nb: {c: 2}\n"}, ("p.yaml", None))
    two = read({"p.yaml": "# why\nb:\n  c:   2\na: 1\n"}, ("p.yaml", None))
    assert canonical(one.value) == canonical(two.value)


def test_no_params_are_no_files(read: Callable[..., Params]) -> None:
    assert read({}) == Params({}, {})


@pytest.mark.parametrize(
    ("files", "ref", "message", "hint"),
    [
        ({}, ("p.yaml", "a"), "parameter file 'p.yaml' of stage 's' is missing", "commit it"),
        ({"params.yaml": ""}, ("parms.yaml", "a"), "parameter file 'parms.yaml'", "the nearest file is 'params.yaml'"),
        (
            {"p.yaml": YAML},
            ("p.yaml", "modle.C"),
            "parameter 'modle.C' of stage 's' is not in 'p.yaml'",
            "the nearest key is 'model.C'",
        ),
        ({"p.json": "[1]"}, ("p.json", "a"), "parameter 'a' of stage 's' is not in 'p.json'", "has no keys"),
        ({"p.json": "{"}, ("p.json", "a"), "cannot read parameter file 'p.json': Expecting", None),
        ({"p.json": "[" * 100_000}, ("p.json", "a"), "cannot read parameter file 'p.json'", None),
        ({"p.yaml": "a: [1"}, ("p.yaml", "a"), "cannot read parameter file 'p.yaml'", None),
        ({"p.yaml": "a: !!python/name:os.system"}, ("p.yaml", "a"), "cannot read parameter file 'p.yaml'", None),
        ({"p.toml": b"\xff"}, ("p.toml", "a"), "cannot read parameter file 'p.toml'", None),
        ({"p.ini": "x"}, ("p.ini", None), "parameter file 'p.ini' of stage 's' is not JSON, YAML or TOML", "code"),
        ({"p.yaml": "a: &x [*x]"}, ("p.yaml", "a"), "too large, too deep or contains itself", None),
        ({"p.json": '{"a": "\\ud800"}'}, ("p.json", "a"), "not Unicode", None),
    ],
)
def test_what_is_wrong_is_said(
    read: Callable[..., Params], files: dict[str, str | bytes], ref: tuple[str, str], message: str, hint: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        read(files, ref)
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_a_small_file_that_stands_for_a_huge_value(read: Callable[..., Params]) -> None:
    lines = ["a0: &a0 [1, 1]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(UserError, match="too large"):
        read({"p.yaml": "\n".join(lines)}, ("p.yaml", None))


def test_values_that_json_lacks_stay_apart() -> None:
    values: list[object] = [
        {"1": "a"},
        {1: "a"},
        {"$float": "nan"},
        float("nan"),
        float("inf"),
        1,
        1.0,
        True,
        "1",
        b"1",
        {1, 2},
        [1, 2],
        None,
        {"$map": [[1, "a"]]},
    ]
    assert len({canonical(plain(value, "f")) for value in values}) == len(values)
    assert plain({2: "b", 1: "a"}, "f") == plain({1: "a", 2: "b"}, "f")
