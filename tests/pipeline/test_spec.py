"""What `pipeline.json` may say, and the values it becomes."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.pipeline.key import spec_fields
from gitml.pipeline.spec import Pipeline, SpecError, load_pipeline
from gitml.pipeline.spec.fields import OBJECTS, Disposition, Field, Kind, camel
from gitml.pipeline.spec.model import (
    CodeMount,
    CrossInput,
    ImageSource,
    Leakage,
    Metric,
    ParamRef,
    PfsInput,
    Plot,
    Predictions,
    Resources,
    Secret,
    Transform,
    UnionInput,
)
from gitml.pipeline.spec.schema import schema_text
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, Entry, Snapshot, edit_tree, empty_tree

DATA = {
    "training/a.csv": "1",
    "input/x.csv": "2",
    "data/images/one.png": "3",
    "iris/python/train.py": "print()",
    "train.py": "print()",
    "params.yaml": "train: {alpha: 1}",
    "odd:name/params.json": "{}",
}


def tree_with(contents: Mapping[str, str | bytes]) -> Snapshot:
    odb = MemoryOdb()
    blobs = {
        path.encode(): Entry(MODE_FILE, odb.write("blob", text if isinstance(text, bytes) else text.encode()))
        for path, text in contents.items()
    }
    return Snapshot(odb, edit_tree(odb, odb, empty_tree(odb.format), blobs))


def load(spec: Any, **more: str) -> Pipeline:
    text = spec if isinstance(spec, str | bytes) else json.dumps(spec)
    pipeline = load_pipeline(tree_with({**DATA, "pipeline.json": text, **more}))
    assert pipeline is not None
    return pipeline


def stage(name: str = "model", **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["python3", "train.py"]},
        "input": {"pfs": {"repo": "training", "glob": "/"}},
        **fields,
    }


def reads(repo: str, **fields: str) -> dict[str, Any]:
    return {"pfs": {"repo": repo, "glob": "/", **fields}}


EVERYTHING = {
    "$schema": "pipeline.schema.json",
    "stages": [
        {
            "pipeline": {"name": "inference", "project": {"name": "default"}},
            "description": "predict",
            "transform": {
                "image": "iris:1",
                "cmd": ["python3", "predict.py"],
                "stdin": ["a", "b"],
                "err_cmd": ["true"],
                "err_stdin": ["c"],
                "accept_return_code": [1, "2"],
                "env": {"B_x": "2", "A": "1"},
                "working_dir": "/work",
                "image_pull_secrets": ["regcred"],
                "memory_volume": True,
                "user": "nobody",
                "debug": True,
                "secrets": [
                    {"name": "db", "env_var": "TOKEN", "key": "token"},
                    {"name": "s", "mount_path": "/etc//s/"},
                ],
            },
            "input": {
                "cross": [
                    {"pfs": {"repo": "model", "glob": "/", "repo_type": "user", "outer_join": False}},
                    {"union": [reads("input", name="in"), reads("data/images", name="in", branch="master")]},
                ]
            },
            "parallelism_spec": {"constant": "4"},
            "resource_requests": {"cpu": 0.5, "memory": "64M", "gpu": {"type": "nvidia.com/gpu", "number": 1}},
            "resource_limits": {"cpu": 2, "memory": "1.5Gi", "disk": "1e9"},
            "scheduling_spec": {"node_selector": {"a_b": "c"}, "priority_class_name": "high"},
            "datum_set_spec": {"size_bytes": "1000"},
            "tolerations": [{"key": "k", "operator": "EXISTS", "toleration_seconds": 5}],
            "metadata": {"labels": {"my_label": "x"}},
            "datum_timeout": "1h30m",
            "job_timeout": "2h",
            "reprocess_spec": "every_job",
            "output_branch": "master",
            "s3_out": False,
            "salt": "pepper",
        },
        {
            "pipeline": {"name": "model"},
            "transform": {"image": "iris:1", "cmd": ["python3", "train.py"]},
            "input": reads("/training/".strip("/")),
            "output": "results/model/",
            "code": ["train.py", {"/lib": "iris"}],
            "params": ["params.yaml:train.alpha", "params.yaml"],
            "metrics": [
                "all.json",
                {
                    "path": "m.json",
                    "name": "accuracy",
                    "goal": "max",
                    "tolerance": 0.01,
                    "noise": "sd",
                    "gate": {"min": 0.9},
                },
            ],
            "predictions": [
                {"path": "./p.csv", "id": "id", "prediction": "p"},
                {
                    "path": "q.csv",
                    "id": "id",
                    "prediction": "p",
                    "label": "y",
                    "score": "s",
                    "slices": ["a", "b"],
                    "labels": {"path": "training/a.csv", "id": "key"},
                },
            ],
            "plots": [
                {"path": "loss.csv", "y": ["train", "valid"], "x": "step", "title": "Loss"},
                {"path": "loss.csv", "y": ["rate"]},
                "confusion.PNG",
            ],
            "leakage": [
                {"train": "training/a.csv", "test": "inference/test.csv"},
                {"train": "training/a.csv", "test": "input/x.csv", "columns": ["a"]},
            ],
            "autoscaling": True,
        },
    ],
    "defaults": {"datum_tries": 1, "autoscaling": True, "transform": {"env": {"A": "0", "C": "3"}}},
    "images": {"iris:1": {"code": {"/code": "iris/python"}, "working_dir": "/code"}},
}


def test_a_tree_without_a_specification_has_no_pipeline() -> None:
    assert load_pipeline(tree_with(DATA)) is None


def test_every_supported_field_becomes_a_value() -> None:
    pipeline = load(EVERYTHING)
    model, inference = pipeline.stages
    assert (model.name, model.output, model.where) == ("model", b"results/model", "pipeline.json: stages[1]")
    assert model.code == (CodeMount(source=b"train.py", target="train.py"), CodeMount(source=b"iris", target="/lib"))
    assert model.params == (ParamRef(path=b"params.yaml", key="train.alpha"), ParamRef(path=b"params.yaml", key=None))
    assert model.metrics == (
        Metric(path="all.json"),
        Metric(path="m.json", name="accuracy", goal="max", tolerance=0.01, noise="sd", gate=(0.9, None)),
    )
    assert model.predictions == (
        Predictions(path="p.csv", id="id", prediction="p", labels_id="id"),
        Predictions(
            path="q.csv", id="id", prediction="p", label="y", labels=b"training/a.csv", labels_id="key", score="s",
            slices=("a", "b"),
        ),
    )  # fmt: skip
    assert model.plots == (
        Plot(path="loss.csv", y=("train", "valid"), x="step", title="Loss"),
        Plot(path="loss.csv", y=("rate",)),
        Plot(path="confusion.PNG"),
    )
    assert model.leakage == (
        Leakage(train=b"training/a.csv", test=b"inference/test.csv"),
        Leakage(train=b"training/a.csv", test=b"input/x.csv", columns=("a",)),
    )
    assert model.transform.env == (("A", "0"), ("C", "3"))
    assert model.transform.working_dir == "/code"
    assert (model.datum_tries, model.datum_timeout, model.parallelism, model.salt) == (1, None, 1, "")
    assert inference.transform == Transform(
        cmd=("python3", "predict.py"),
        stdin=("a", "b"),
        err_cmd=("true",),
        err_stdin=("c",),
        env=(("A", "1"), ("B_x", "2"), ("C", "3")),
        accept_return_code=(1, 2),
        working_dir="/work",
        image="iris:1",
        debug=True,
        user="nobody",
        memory_volume=True,
        secrets=(Secret(name="db", env_var="TOKEN", key="token"), Secret(name="s", mount_path="/etc/s")),
    )
    assert inference.code == (CodeMount(source=b"iris/python", target="/code"),)
    assert inference.input == CrossInput(
        inputs=(
            UnionInput(
                inputs=(
                    PfsInput(name="in", repo="input", path=b"input", upstream=None, glob="/"),
                    PfsInput(name="in", repo="data/images", path=b"data/images", upstream=None, glob="/"),
                )
            ),
            PfsInput(name="model", repo="model", path=b"results/model", upstream="model", glob="/"),
        )
    )
    assert (inference.description, inference.salt, inference.parallelism) == ("predict", "pepper", 4)
    assert (inference.datum_tries, inference.datum_timeout) == (1, 5400.0)
    assert inference.requests == Resources(cpu=0.5, memory=64_000_000, gpu=1)
    assert inference.limits == Resources(cpu=2.0, memory=3 << 29, disk=10**9)
    assert (model.requests, model.limits) == (Resources(), Resources())
    assert (inference.job_timeout, inference.every_job) == (7200.0, True)
    assert (inference.transform.memory_volume, model.transform.memory_volume) == (True, False)
    assert (model.job_timeout, model.every_job, model.transform.debug) == (None, False, False)


def test_where_the_files_of_an_image_come_from() -> None:
    pin = "sha256:" + "1" * 64
    entries = {
        "host": {"code": {"/code": "iris/python"}},
        "empty": {},
        "file": {"archive": "./training/a.csv", "digest": pin},
        "directory": {"archive": "iris"},
        "elsewhere": {"archive": "/srv/a b.tar"},
        "both": {"container": True, "code": {"/code": "iris/python"}},
        "pinned": {"container": True, "digest": pin},
        "not": {"container": False},
    }
    names = [*entries, "unknown", f"named@{pin}"]
    stages = [
        {"pipeline": {"name": f"s{n}"}, "transform": {"cmd": ["a"], "image": name}} for n, name in enumerate(names)
    ]
    found = load({"stages": stages, "images": entries}).stages
    snapshot = tree_with(DATA)
    blob, tree = snapshot.get(b"training/a.csv"), snapshot.get(b"iris")
    assert blob is not None
    assert tree is not None
    assert [stage.transform.source for stage in found] == [
        None,
        None,
        ImageSource(path=b"training/a.csv", content=f"100644 {blob.oid}", digest=pin),
        ImageSource(path=b"iris", content=f"040000 {tree.oid}"),
        ImageSource(file="/srv/a b.tar"),
        ImageSource(),
        ImageSource(digest=pin),
        None,
        ImageSource(),
        ImageSource(digest=pin),
    ]
    assert found[5].code == (CodeMount(source=b"iris/python", target="/code"),)
    # what says which image it is decides whether results can be reused; the host is as it was before there were images
    assert [spec_fields(stage).get("images") for stage in found] == [
        None,
        None,
        ["archive", f"100644 {blob.oid}", pin],
        ["archive", f"040000 {tree.oid}"],
        ["archive"],
        ["container"],
        ["container", pin],
        None,
        ["container"],
        ["container", pin],
    ]


def test_each_ignored_field_gives_one_notice() -> None:
    notices = load(EVERYTHING).notices
    assert [notice.split("'")[1] for notice in notices] == [
        "autoscaling",
        "datum_set_spec",
        "defaults.autoscaling",
        "metadata",
        "scheduling_spec",
        "tolerations",
        "transform.image_pull_secrets",
    ]
    assert notices[0] == "'autoscaling' is ignored: there are no pods to scale (pipeline.json: stages[1])"
    many = load([stage(str(n), autoscaling=True) for n in range(3)])
    assert many.notices == ("'autoscaling' is ignored: there are no pods to scale (pipeline.json: [0] and 2 more)",)


def test_a_minimal_stage_has_pachyderms_defaults() -> None:
    (only,) = load({"pipeline": {"name": "a/b.c-d_1"}, "transform": {"cmd": ["true"]}}).stages
    assert (only.name, only.output, only.input, only.code) == ("a/b.c-d_1", b"a/b.c-d_1", None, None)
    assert (only.parallelism, only.datum_tries, only.datum_timeout) == (1, 3, None)
    assert (only.transform.working_dir, only.transform.image, only.where) == (None, None, "pipeline.json")


ONE = json.dumps(stage("one"))
TWO = json.dumps(stage("two"))
YAML = """\
# two stages
pipeline: {name: one}
transform:
  cmd: [python3, train.py]
  stdin: |-
    x
---
pipeline:
    name: "two"
transform:
    cmd:
    - 'true'
""".replace("  stdin: |-\n    x\n", "")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"[{ONE}, {TWO}]", ["pipeline.json: [0]", "pipeline.json: [1]"]),
        (f"{ONE}\n{TWO}", ["pipeline.json: documents[0]", "pipeline.json: documents[1]"]),
        (f"---\n{ONE}\n--- \n[{TWO}]\n", ["pipeline.json: documents[0]", "pipeline.json: documents[1][0]"]),
        (YAML, ["pipeline.json: documents[0]", "pipeline.json: documents[1]"]),
        (f'\ufeff{{"stages": [{ONE}, {TWO},], }}', ["pipeline.json: stages[0]", "pipeline.json: stages[1]"]),
    ],
    ids=["array", "concatenated JSON", "JSON in YAML documents", "YAML", "trailing comma and byte order mark"],
)
def test_every_shape_of_file(text: str, where: list[str]) -> None:
    pipeline = load(text)
    assert [one.name for one in pipeline.stages] == ["one", "two"]
    assert [one.where for one in pipeline.stages] == where


def test_stages_may_name_files_and_globs() -> None:
    pipeline = load(
        {"stages": ["more/b.yaml", stage("one"), "specs/*.json"], "defaults": {"salt": "s"}},
        **{
            "more/b.yaml": "- pipeline: {name: yaml}\n  transform: {cmd: [a]}\n  $schema: x\n",
            "specs/2.json": TWO,
            "specs/3.json": json.dumps([stage("three")]),
            "specs/notes.txt": "not a specification",
        },
    )
    assert [(one.name, one.where, one.salt) for one in pipeline.stages] == [
        ("yaml", "more/b.yaml: [0]", "s"),
        ("one", "pipeline.json: stages[1]", "s"),
        ("two", "specs/2.json", "s"),
        ("three", "specs/3.json: [0]", "s"),
    ]


def test_a_glob_skips_pipeline_json_itself() -> None:
    assert [one.name for one in load({"stages": ["*.json"]}, **{"one.json": ONE}).stages] == ["one"]


def test_yaml_scalars_are_those_of_the_core_schema() -> None:
    text = """
pipeline: {name: one}
transform:
  cmd: [yes, on, 2020-01-01, "5", !!str 6, 1.2.3, 12:30]
input: ~
datum_tries: 5
autoscaling: false
"""
    (one,) = load(text).stages
    assert one.transform.cmd == ("yes", "on", "2020-01-01", "5", "6", "1.2.3", "12:30")
    assert one.datum_tries == 5


def test_defaults_merge_field_by_field_and_null_takes_out() -> None:
    pipeline = load(
        {
            "stages": [
                stage("a", transform={"cmd": ["x"], "env": {"A": None, "B": "own"}}, datumTimeout=None),
                stage("b", input=None),
            ],
            "defaults": {
                "transform": {"env": {"A": "1", "B": "2", "C": "3"}, "stdin": ["l"]},
                "datum_timeout": "5s",
                "input": reads("input"),
            },
        }
    )
    first, second = pipeline.stages
    assert first.transform.env == (("B", "own"), ("C", "3"))
    assert first.transform.stdin == ("l",)
    assert (first.datum_timeout, second.datum_timeout) == (None, 5.0)
    assert second.input is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("1.5h", 5400), ("1h30m10s", 5410), ("250ms", 0.25), ("0s", None), (".5s", 0.5)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert load(stage(datum_timeout=text)).stages[0].datum_timeout == seconds


@pytest.mark.parametrize(
    ("glob", "normal"), [("/", "/"), ("/*/", "/*"), ("urls/*", "/urls/*"), ("**", "/**"), ("//", "/")]
)
def test_globs_are_normalised(glob: str, normal: str) -> None:
    assert load(stage(input={"pfs": {"repo": "training", "glob": glob}})).stages[0].inputs[0].glob == normal


def test_an_upstream_output_may_be_absent_and_be_named_by_stage_or_path() -> None:
    stages = [
        stage("by-name", input=reads("up/model")),
        stage("by-path", input=reads("results/m")),
        stage("below", input=reads("results/m/weights")),
        stage("up/model", output="results/m"),
    ]
    pipeline = load({"stages": stages})
    assert [one.name for one in pipeline.stages] == ["up/model", "by-name", "by-path", "below"]
    assert [one.inputs[0].upstream for one in pipeline.stages] == [None, "up/model", "up/model", "up/model"]
    assert [one.inputs[0].path for one in pipeline.stages][1:] == [b"results/m", b"results/m", b"results/m/weights"]
    assert [one.inputs[0].name for one in pipeline.stages][1:] == ["model", "m", "weights"]


def test_a_stage_name_comes_before_a_path() -> None:
    pipeline = load({"stages": [stage("input", output="made"), stage("b", input=reads("input"))]})
    assert pipeline.stage("b").inputs[0].path == b"made"


def test_an_input_may_be_one_file() -> None:
    (source,) = load(stage(input=reads("training/a.csv"))).stages[0].inputs
    assert (source.path, source.name) == (b"training/a.csv", "a.csv")


def test_inputs_are_sorted_by_their_first_leaf() -> None:
    nested = {"cross": [reads("training", name="z"), {"union": [reads("input", name="y"), reads("input", name="b")]}]}
    (one,) = load(stage(input={"cross": [reads("input", name="c"), nested]})).stages
    assert [leaf.name for leaf in one.inputs] == ["b", "y", "z", "c"]


def test_order_follows_the_file_where_nothing_else_decides() -> None:
    stages = [stage("z", input=reads("m")), stage("b"), stage("m"), stage("a"), stage("y", input=reads("b"))]
    assert [one.name for one in load(stages).stages] == ["b", "m", "z", "a", "y"]


def test_code_may_hold_outputs_and_parameter_files_may_hold_colons_in_directories() -> None:
    (one,) = load(stage(code={"/code": "."}, params=["odd:name/params.json:a.b"])).stages
    assert one.code == (CodeMount(source=b"", target="/code"),)
    assert one.params == (ParamRef(path=b"odd:name/params.json", key="a.b"),)


# --- both spellings, any order ---


def respelled(value: Any, name: str) -> Any:
    """`value`, the object `name` of the table, in camelCase."""
    if not isinstance(value, dict):
        return value
    fields = OBJECTS[name]
    return {camel(key): respelled_field(inner, fields[key]) for key, inner in value.items()}


def respelled_field(value: Any, field: Field) -> Any:
    if field.object is None:
        return value
    if isinstance(value, list):
        return [respelled(item, field.object) for item in value]
    return respelled(value, field.object)


def respelled_document(document: dict[str, Any]) -> dict[str, Any]:
    return {
        **document,
        "stages": [respelled(one, "stage") for one in document["stages"]],
        "defaults": respelled(document["defaults"], "stage"),
        "images": {name: respelled(entry, "image") for name, entry in document["images"].items()},
    }


def shuffled(value: Any, order: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order.sample(list(value), len(value))}
    return value


def plain_values(field: Field) -> st.SearchStrategy[Any]:
    """Values of a field that has no object in it."""
    text = st.sampled_from(["a", "x y", "été"])
    if "enum" in field.schema:
        return st.sampled_from(field.schema["enum"])
    return {
        Kind.STRING: text,
        Kind.BOOLEAN: st.booleans(),
        Kind.INTEGER: st.integers(0, 255) | st.integers(0, 255).map(str),
        Kind.NUMBER: st.floats(0, 9),
        Kind.DURATION: st.sampled_from(["60s", "1.5h", "2m3s"]),
        Kind.STRINGS: st.lists(text, max_size=3),
        Kind.INTEGERS: st.lists(st.integers(0, 255), max_size=3),
        Kind.STRING_MAP: st.dictionaries(st.sampled_from(["err_cmd", "a_b", "C"]), text),
    }[field.kind]


@st.composite
def specifications(draw: st.DrawFn) -> dict[str, Any]:
    """A stage with any of the plain fields that are accepted, in 'transform' and beside it."""
    made = stage("one")
    for home, name in ((made, "stage"), (made["transform"], "transform")):
        for key, field in OBJECTS[name].items():
            usable = field.disposition in {Disposition.SUPPORTED, Disposition.IGNORED} and field.object is None
            special = key in {"cmd", "image", "output", "output_branch", "code", "params", "spec_commit"}
            if usable and not special and draw(st.booleans()):
                home[key] = draw(plain_values(field))
    return made


def test_the_camel_case_twin_of_a_full_document_is_the_same_pipeline() -> None:
    twin = respelled_document(EVERYTHING)
    assert "errCmd" in json.dumps(twin)
    assert "err_cmd" not in json.dumps(twin)
    assert load(twin) == load(EVERYTHING)


@settings(deadline=None, max_examples=40)
@given(specifications())
def test_the_camel_case_twin_is_the_same_pipeline(spec: dict[str, Any]) -> None:
    assert load([respelled(spec, "stage")]) == load([spec])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32))
def test_the_order_of_keys_means_nothing(seed: int) -> None:
    assert load(shuffled(EVERYTHING, Random(seed))) == load(EVERYTHING)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_a_pipeline_or_one_error(data: bytes) -> None:
    problem = ""
    try:
        load_pipeline(tree_with({"pipeline.json": data}))
    except SpecError as error:
        problem = error.message
    assert problem.isprintable()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(OBJECTS["stage"])), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(sorted({*OBJECTS["stage"], *OBJECTS["document"], "nonsense"})), JSON_VALUES, max_size=4
    )
)
def test_any_json_gives_a_pipeline_or_one_error(value: dict[str, Any]) -> None:
    problem = ""
    try:
        load({**stage(), **value})
    except SpecError as error:
        problem = error.message
    assert problem.isprintable()


# --- the JSON Schema ---


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"URL": "s3://bucket/dir"}, "s3://bucket/dir"),
        ({"URL": "s3://bucket/a?region=eu-west-1"}, "s3://bucket/a?region=eu-west-1"),
        ({"objectStorage": {"url": "gcs://bucket"}}, "gs://bucket"),
        ({"object_storage": {"url": "wasb://account/container/a/b"}}, "az://container/a/b"),
        ({"URL": "wasbs://container@account.blob.core.windows.net/a"}, "az://container/a"),
        ({"URL": "azblob://container/a"}, "az://container/a"),
        ({"URL": "file:///srv/models"}, "file:///srv/models"),
        ({"URL": "/srv/50%?#1"}, "file:///srv/50%25%3F%231"),
        (None, ""),
    ],
)
def test_egress_goes_to_one_place_however_it_is_written(given: Any, place: str) -> None:
    spec = {
        "pipeline": {"name": "model"},
        "transform": {"cmd": ["a"]},
        "input": {"pfs": {"repo": "training", "glob": "/"}},
        "egress": given,
    }
    (stage,) = load(spec).stages
    assert stage.egress == place


def the_schema() -> Any:
    return json.loads((files("gitml.pipeline.spec") / "pipeline.schema.json").read_text("utf-8"))


VALIDATOR = jsonschema.Draft7Validator(the_schema())


def test_the_schema_file_is_what_the_table_says() -> None:
    shipped = (files("gitml.pipeline.spec") / "pipeline.schema.json").read_text("utf-8")
    assert shipped == schema_text(), (
        "write it again: python -c 'from gitml.pipeline.spec.schema import *; print(schema_text(), end=\"\")'"
        " > gitml/pipeline/spec/pipeline.schema.json"
    )
    jsonschema.Draft7Validator.check_schema(the_schema())


@pytest.mark.parametrize(
    "valid",
    [
        EVERYTHING,
        respelled_document(EVERYTHING),
        stage(),
        [stage("a"), stage("b")],
        {"stages": []},
        {"stages": ["specs/*.json", stage()]},
        {**stage(), "$schema": "x"},
    ],
    ids=["everything", "camelCase", "one", "array", "empty", "files", "own $schema"],
)
def test_the_schema_accepts_valid_files(valid: Any) -> None:
    VALIDATOR.validate(valid)


@settings(deadline=None, max_examples=40)
@given(specifications())
def test_the_schema_accepts_what_the_parser_accepts(spec: dict[str, Any]) -> None:
    VALIDATOR.validate(respelled(spec, "stage"))


# --- the documentation ---

PAGE = (Path(__file__).parents[2] / "docs" / "pipeline.md").read_text("utf-8")


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_valid(example: str) -> None:
    listed = {
        "pipelines/edges.json": json.dumps(stage("edges")),
        "pipelines/more/montage.yaml": "pipeline: {name: montage}\ntransform: {cmd: [a]}\n",
        "src/features/__init__.py": "",
        "tables/a.csv": "",
    }
    assert load(example, **listed).stages
    VALIDATOR.validate(json.loads(example))


def test_the_page_names_every_field() -> None:
    named = set(re.findall(r"[A-Za-z_0-9$]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))
    explained = {"document", "stage", "pipeline", "transform", "input", "pfs", "parallelism_spec", "metric", "image"}
    assert {key for name in explained for key in OBJECTS[name]} <= named


def test_the_templates_are_valid() -> None:
    found = list((Path(__file__).parents[2] / "templates").glob("*/pipeline.json"))
    assert found
    for file in found:
        text = file.read_text("utf-8")
        assert load(text, **{"params.json": "{}"}).notices == ()
        VALIDATOR.validate(json.loads(text))
