"""What `pipeline.json` may not say: one message each, with its place and a remedy."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import jsonschema
import pytest

from gitml.oid import Oid
from gitml.pipeline.spec import SpecError, load_pipeline
from gitml.pipeline.spec.documents import MAX_BYTES
from gitml.pipeline.spec.fields import OBJECTS, Disposition, camel
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, MODE_GITLINK, MODE_LINK, Entry, Snapshot, edit_tree, empty_tree

DATA = {
    "training/a.csv": "1",
    "input/x.csv": "2",
    "src/train.py": "print()",
    "params.yaml": "alpha: 1",
    "specs/nested.json": '{"stages": []}',
    "specs/broken.json": '{\n "pipeline": [}',
    "specs/typo.yaml": "pipeline: {name: a}\ntransform: {cmd: [a], stdn: [b]}\n",
    "specs/empty.json": "\n",
    "specs/names.json": '["other.json"]',
}


def tree_with(contents: Mapping[str, str | bytes]) -> Snapshot:
    odb = MemoryOdb()
    entries = {
        path.encode(): Entry(MODE_FILE, odb.write("blob", text if isinstance(text, bytes) else text.encode()))
        for path, text in contents.items()
    }
    entries[b"link"] = Entry(MODE_LINK, odb.write("blob", b"training"))
    entries[b"module"] = Entry(MODE_GITLINK, Oid(bytes(20)))
    return Snapshot(odb, edit_tree(odb, odb, empty_tree(odb.format), entries))


def failure(spec: Any) -> SpecError:
    text = spec if isinstance(spec, str | bytes) else json.dumps(spec)
    with pytest.raises(SpecError) as raised:
        load_pipeline(tree_with({**DATA, "pipeline.json": text}))
    assert raised.value.message.isprintable()
    assert raised.value.hint is None or raised.value.hint.isprintable()
    return raised.value


def stage(name: str = "model", **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"name": name},
        "transform": {"cmd": ["python3", "train.py"]},
        "input": {"pfs": {"repo": "training", "glob": "/"}},
        **fields,
    }


def reads(repo: str, **fields: str) -> dict[str, Any]:
    return {"pfs": {"repo": repo, "glob": "/", **fields}}


def predicts(**fields: Any) -> dict[str, Any]:
    return stage(predictions=[{"path": "p.csv", "id": "id", "prediction": "p", **fields}])


def runs(**fields: Any) -> dict[str, Any]:
    return stage(transform={"cmd": ["a"], **fields})


class Case(NamedTuple):
    """A file and the message it gives."""

    spec: Any
    message: str
    hint: str | None = None
    """Part of the hint; None: there is none."""
    schema_tells: bool = False


PLACE = "pipeline.json: "
HIDDEN = [
    ".git",
    ".GIT",
    ".Git",
    "git~1",
    "GIT~2",
    ".git ",
    ".git.",
    ".git::$INDEX_ALLOCATION",
    ".g\u200cit",
    "a\\.git",
]

SYNTAX = [
    Case('{"stages": [\n  {"pipeline" 1}]}', "pipeline.json:2:15: not JSON: expecting ':' delimiter"),
    Case("a: [1\n", "pipeline.json:2:1: neither JSON nor YAML: did not find expected ',' or ']'"),
    Case("", PLACE + "no specification in it", '{"stages": []}'),
    Case("---\n---\n", PLACE + "no specification in it", '{"stages": []}'),
    Case("hello", PLACE + "expected a specification, got a string"),
    Case(b'{"a": "\xff"}', "pipeline.json:1:8: not UTF-8 text", "save the file as UTF-8"),
    Case("a: \x01", PLACE + "neither JSON nor YAML: it holds control characters"),
    Case("a: &x [1]\nb: *x\n", "pipeline.json:2:4: YAML alias '*x'", "write the value out"),
    Case("a: !!python/name:os.system\n", "pipeline.json:1:4: YAML tag", "without a tag"),
    Case("a: !!set {b}\n", "pipeline.json:1:4: YAML tag", "without a tag"),
    Case("? [a]\n: b\n", "pipeline.json:1:3: a key that is not a string"),
    Case("a: 0755\n", "pipeline.json:1:4: '0755' is not a plain decimal number", "quote it"),
    Case("a: 0x1f\n", "pipeline.json:1:4: '0x1f' is not a plain decimal number", "quote it"),
    Case('{"a": NaN}', PLACE + "a: 'NaN' is not a number that gitml can read"),
    Case('{"a": 1e999}', PLACE + "a: '1e999' is not a number"),
    Case('{"a": %s}' % ("9" * 5000), PLACE + "a: '99999"),
    Case('{"a": "\\u0000"}', PLACE + "a: a string with a NUL character"),
    Case('{"a": ["\\ud800"]}', PLACE + "a[0]: a string with half of a surrogate pair", "write the character itself"),
    Case("[" * 100_000, PLACE + "nested too deep"),
    Case("[" * 70 + "]" * 70, PLACE + "nested too deep"),
    Case("- " * 3000 + "a", PLACE + "nested too deep"),
    Case(" " * (MAX_BYTES + 1), PLACE + "too large", "several files"),
    Case({"stages": ["specs/nested.json"]}, "specs/nested.json: stages: 'stages' outside the one object", "move it"),
    Case({"stages": ["specs/broken.json"]}, "specs/broken.json:2:15: not JSON: expecting value"),
    Case({"stages": ["specs/typo.yaml"]}, "specs/typo.yaml: transform.stdn: unknown field", "did you mean 'stdin'?"),
    Case({"stages": ["specs/empty.json"]}, "specs/empty.json: no specification in it", "stages"),
    Case({"stages": ["specs/names.json"]}, "specs/names.json: [0]: expected a specification, got a string"),
    Case({"stages": ["specs/typo.yml"]}, PLACE + "stages[0]: 'specs/typo.yml' is not in the commit", "specs/typo.yaml"),
    Case({"stages": ["none/*.json"]}, PLACE + "stages[0]: no file matches 'none/*.json'"),
    Case({"stages": ["specs/[.json"]}, PLACE + "stages[0]: glob '/specs/[.json'", "backslash"),
    Case({"stages": ["specs"]}, PLACE + "stages[0]: 'specs' is a directory, expected a file"),
    Case({"stages": ["pipeline.json"]}, PLACE + "stages[0]: 'pipeline.json' lists itself"),
    Case({"stages": ["../a.json"]}, PLACE + "stages[0]: '../a.json' leaves the top of the repository", "'..'"),
    Case({"stages": [[stage()]]}, PLACE + "stages[0]: expected a specification or the path", None, True),
    Case({"stages": {"a": stage()}}, PLACE + "stages: expected a list of stages, got an object", None, True),
    Case([stage(), {"stages": []}], PLACE + "[1].stages: 'stages' outside the one object", "move it", True),
    Case({"stages": [], "pipeline": {}}, PLACE + "pipeline: unknown field", "beside 'pipeline' and 'transform'", True),
]

FIELDS = [
    Case(stage(transfrom={}), PLACE + "transfrom: unknown field", "did you mean 'transform'?", True),
    Case(stage(datumTimout="1s"), PLACE + "datumTimout: unknown field", "did you mean 'datumTimeout'?", True),
    Case(stage(cmd=["a"]), PLACE + "cmd: unknown field", "'cmd' belongs in 'transform'", True),
    Case(stage(xyzzy=1), PLACE + "xyzzy: unknown field", None, True),
    Case({**stage(), "a\nb": 1}, PLACE + '["a\\nb"]: unknown field', None, True),
    Case(runs(err_cmd=["a"], errCmd=["b"]), PLACE + "transform.errCmd: given twice, as 'err_cmd' and 'errCmd'"),
    Case(
        {"stages": [stage("a"), stage("b"), stage("c", input={"pfs": {"repo": "input", "glob": ["/"]}})]},
        PLACE + "stages[2].input.pfs.glob: expected a string, got a list",
        None,
        True,
    ),
    Case(runs(cmd="a b"), PLACE + "transform.cmd: expected a list of strings, got a string", "[...]", True),
    Case(runs(cmd=["a", 1]), PLACE + "transform.cmd[1]: expected a string, got a number", '"..."', True),
    Case(runs(env={"A": 1}), PLACE + "transform.env.A: expected a string, got a number", '"..."', True),
    Case(runs(env={"a=b": "c"}), PLACE + "transform.env[\"a=b\"]: 'a=b' cannot be the name"),
    Case(
        runs(accept_return_code=[True]),
        PLACE + "transform.accept_return_code[0]: expected an integer, got true",
        None,
        True,
    ),
    Case(runs(acceptReturnCode=[256]), PLACE + "transform.acceptReturnCode[0]: 256 is not a return code", "between"),
    Case(runs(working_dir="/code/../.."), PLACE + "transform.working_dir: '/code/../..' leaves the workspace", "'..'"),
    Case(stage(transform=[]), PLACE + "transform: expected an object, got a list", None, True),
    Case(stage(transform=None), PLACE + "'transform' is missing"),
    Case(runs(cmd=[]), PLACE + "transform.cmd: an empty command", "for instance", True),
    Case(runs(cmd=[""]), PLACE + "transform.cmd: an empty command", "for instance"),
    Case(stage(transform={}), PLACE + "transform: 'cmd' is missing", "the entry point of an image is not used"),
    Case(stage(transform={"stdin": ["ls"]}), PLACE + "transform: 'cmd' is missing", '["sh"]'),
    Case({"transform": {"cmd": ["a"]}}, PLACE + "'pipeline' is missing", None, True),
    Case(stage(pipeline={}), PLACE + "pipeline: 'name' is missing", None, True),
    Case(
        stage(pipeline={"name": "a", "project": {"name": "p/q"}}),
        PLACE + "pipeline.project.name: 'p/q' is not a name for a project",
        "letters",
        True,
    ),
    Case(
        stage(input=reads("training", project="-p")),
        PLACE + "input.pfs.project: '-p' is not a name for a project",
        "letters",
    ),
    Case(
        stage(input=reads("trainin", project="p")),
        PLACE + "input.pfs.repo: no stage and no path 'p/trainin'",
        "commit a file there",
    ),
    Case(
        stage(input=reads("training", repo_type="meta")),
        PLACE + "input.pfs.repo_type: not supported: there are no repositories of specifications and of datums",
        "git ml ls datums",
        True,
    ),
    Case(
        stage(tolerations=[{"operator": "EXIST"}]),
        PLACE + "tolerations[0].operator: expected one of EMPTY, EXISTS, EQUAL, got 'EXIST'",
        "did you mean 'EXISTS'?",
        True,
    ),
    Case(stage(tolerations=[{"effect": 4}]), PLACE + "tolerations[0].effect: expected one of ALL_EFFECTS", None, True),
    Case(stage(datum_tries=1.5), PLACE + "datum_tries: expected an integer, got '1.5'", None, True),
    Case(stage("-a"), PLACE + "pipeline.name: '-a' is not a name for a stage", "letters", True),
    Case(stage("a//b"), PLACE + "pipeline.name: 'a//b' is not a name", "letters", True),
    Case(stage("a/../b"), PLACE + "pipeline.name: 'a/../b' is not a name", "letters", True),
    Case(stage("a\n\x1b[31mb"), PLACE + "pipeline.name: 'a\\n\\u001b[31mb' is not a name", "letters", True),
    Case(stage("a" * 201), PLACE + "pipeline.name: 'aaa", "at most 200", True),
    Case(stage(datum_tries="x"), PLACE + "datum_tries: expected an integer, got 'x'", None, True),
    Case(stage(datum_tries=1.5), PLACE + "datum_tries: expected an integer, got '1.5'", None, True),
    Case(stage(datum_tries=-1), PLACE + "datum_tries: less than 0", None, True),
    Case(stage(parallelism_spec={"constant": 2**63}), PLACE + "parallelism_spec.constant: an integer of more than 64"),
    Case(
        stage(datum_timeout=60), PLACE + 'datum_timeout: expected a duration such as "60s", got a number', '"60s"', True
    ),
    Case(stage(datum_timeout="soon"), PLACE + "datum_timeout: expected a duration", "units", True),
    Case(stage(datum_timeout="-1s"), PLACE + "datum_timeout: expected a duration", "units", True),
    Case(stage(datum_timeout="9" * 400 + "h"), PLACE + "datum_timeout: a duration of more than 10000 years"),
    Case(
        stage(reprocess_spec="every_jobs"), PLACE + "reprocess_spec: expected 'until_success' or", "'every_job'", True
    ),
    Case(stage(autoscaling="yes"), PLACE + "autoscaling: expected true or false, got a string", None, True),
    Case(stage(resource_limits={"cpus": 1}), PLACE + "resource_limits.cpus: unknown field", "'cpu'", True),
    Case(runs(secrets=[{"name": "a"}]), PLACE + "transform.secrets[0]: a secret that goes nowhere", "mount_path"),
    Case(runs(secrets=[{"name": "a", "env_var": "A"}]), PLACE + "transform.secrets[0]: 'env_var' without 'key'", "key"),
    Case(
        runs(secrets=[{"name": "../a", "env_var": "A", "key": "b"}]),
        PLACE + "transform.secrets[0].name: '../a' cannot name a secret",
        "letters",
    ),
    Case(
        runs(secrets=[{"name": "a", "env_var": "PATH", "key": "b"}]),
        PLACE + "transform.secrets[0].env_var: 'PATH' cannot be the variable of a secret",
    ),
    Case(
        runs(secrets=[{"name": "a", "mountPath": "/pfs/a"}]),
        PLACE + "transform.secrets[0].mountPath: a secret cannot be mounted at '/pfs/a'",
        "/etc",
    ),
    Case(stage(egress={"URL": "models"}), PLACE + "egress.URL: 'models' is no place for egress", "absolute path", True),
    Case(stage(egress={"URL": "ftp://a/b"}), PLACE + "egress.URL: 'ftp://a/b' is no place for egress", "s3://", True),
    Case(stage(egress={"url": "s3://a"}), PLACE + "egress.url: unknown field", "'URL'"),
    Case(
        stage(egress={"URL": "s3://a", "objectStorage": {"url": "s3://b"}}),
        PLACE + "egress.objectStorage.url: egress to two places",
        "'object_storage'",
    ),
    Case(stage(egress={"URL": "s3://k:s@bucket/a"}), PLACE + "egress.URL: credentials do not belong", "Egress"),
    Case(stage(egress={"URL": "s3:///a"}), PLACE + "egress.URL: the address 's3:///a' names no bucket"),
    Case(stage(resource_limits={"memory": "many"}), PLACE + "resource_limits.memory: expected a size such", "Gi"),
    Case(stage(resource_requests={"cpu": -1}), PLACE + "resource_requests.cpu: less than 0", None, True),
    Case(
        {"stages": [], "defaults": {"createPipelineRequest": {"salt": "1"}}},
        PLACE + "defaults.createPipelineRequest: unknown field",
        "take it out",
        True,
    ),
    Case({"stages": [], "defaults": {"salt": 1}}, PLACE + "defaults.salt: expected a string", '"..."', True),
]

NAMES_AND_PATHS = [
    Case([stage("a"), stage("a")], PLACE + "[1].pipeline.name: a second stage called 'a'", "[0].pipeline.name"),
    Case(
        [stage("a", output="x"), stage("b", output="./x/")],
        PLACE + "[1].output: the output 'x' is also the output of stage 'a'",
        "its own",
    ),
    Case(
        [stage("a", output="x/y/z"), stage("b", output="x")],
        PLACE + "[0].output: the output 'x/y/z' lies inside 'x', the output of stage 'b'",
        "its own",
    ),
    Case(stage("training"), PLACE + "input.pfs.repo: stage 'training' reads its own output 'training'"),
    Case(stage("a", output="b/c", input=reads("a")), PLACE + "input.pfs.repo: stage 'a' reads its own output 'b/c'"),
    Case(
        stage("a", output="b/c", input=reads("b/c/d")), PLACE + "input.pfs.repo: stage 'a' reads its own output 'b/c/d'"
    ),
    Case(
        stage(output="training/out"),
        PLACE + "input.pfs.repo: the input 'training' holds its own output, 'training/out'",
        "directories of their own",
    ),
    Case(
        [stage("a", output="input/made"), stage("b", input=reads("input"))],
        PLACE + "[1].input.pfs.repo: the input 'input' holds the output of stage 'a', 'input/made'",
        "directories of their own",
    ),
    Case(stage(input=reads(".")), PLACE + "input.pfs.repo: the input '.' holds its own output, 'model'", "directories"),
    Case(stage(input=reads("trainin")), PLACE + "input.pfs.repo: no stage and no path 'trainin'", "'training'"),
    Case(stage(input=reads("src/trian.py")), PLACE + "input.pfs.repo: no stage and no path", "'src/train.py'"),
    Case([stage("first"), stage("b", input=reads("frist"))], PLACE + "[1].input.pfs.repo: no stage", "'first'"),
    Case(
        stage(input=reads("nowhere")), PLACE + "input.pfs.repo: no stage and no path 'nowhere'", "commit a file there"
    ),
    Case(stage(input=reads("link")), PLACE + "input.pfs.repo: 'link' is a symbolic link, expected files"),
    Case(stage(input=reads("module")), PLACE + "input.pfs.repo: 'module' is a submodule, expected files"),
    Case(stage(input=reads("/data")), PLACE + "input.pfs.repo: '/data' is an absolute path", "relative"),
    Case(stage(input=reads("C:\\data")), PLACE + "input.pfs.repo: 'C:\\\\data' is an absolute path", "relative"),
    Case(stage(input=reads("a/../b")), PLACE + "input.pfs.repo: 'a/../b' leaves the top", "'..'"),
    Case(stage(input=reads("")), PLACE + "input.pfs.repo: an empty name", "upstream stage"),
    Case(stage(output="."), PLACE + "output: the output cannot be the top of the repository", "name a directory"),
    Case(stage(output=""), PLACE + "output: the output cannot be the top of the repository", "name a directory"),
    Case(stage(output="/"), PLACE + "output: '/' is an absolute path", "relative"),
    Case(stage(output="../out"), PLACE + "output: '../out' leaves the top of the repository", "'..'"),
    Case(stage(output=".gitml/records"), PLACE + "output: '.gitml/records' enters '.gitml'"),
    Case(stage(output=".GitML"), PLACE + "output: '.GitML' enters '.gitml'"),
    Case(stage(output="a" * 256), PLACE + "output: 'aaa"),
    Case(stage(output="params.yaml/out"), PLACE + "output: 'params.yaml' is a file, expected a directory"),
    Case(stage(output="link/out"), PLACE + "output: 'link' is a symbolic link, expected a directory"),
    Case(stage(output="module"), PLACE + "output: 'module' is a submodule, expected a directory"),
    Case(
        {"stages": ["specs/typo.yaml"], "defaults": {"output": "specs"}},
        "specs/typo.yaml: transform.stdn: unknown field",
        "stdin",
    ),
    Case(
        [stage("a", input=reads("c")), stage("b", input=reads("a")), stage("c", input=reads("b")), stage("d")],
        PLACE + "[0].input: the stages form a cycle: a -> b -> c -> a",
        "no stage makes",
    ),
    Case(
        [stage("z", input=reads("a")), stage("a", input=reads("b")), stage("b", input=reads("a"))],
        PLACE + "[1].input: the stages form a cycle: a -> b -> a",
        "no stage makes",
    ),
]

INPUTS = [
    Case(stage(input={}), PLACE + "input: no kind of input is given", "'cross'", True),
    Case(stage(input={**reads("input"), "union": []}), PLACE + "input: 'pfs' and 'union' in one input", "one of", True),
    Case(stage(input={"cross": []}), PLACE + "input.cross: an empty list", None, True),
    Case(stage(input={"cross": reads("input")}), PLACE + "input.cross: expected a list of objects", None, True),
    Case(stage(input={"pfs": {"repo": "input"}}), PLACE + "input.pfs: 'glob' is missing", None, True),
    Case(stage(input={"pfs": {"glob": "/"}}), PLACE + "input.pfs: 'repo' is missing", None, True),
    Case(stage(input={"pfs": {"repo": "input", "glob": ""}}), PLACE + "input.pfs.glob: an empty glob", '"/*"'),
    Case(stage(input={"pfs": {"repo": "input", "glob": "/[a"}}), PLACE + "input.pfs.glob: glob '/[a'", "backslash"),
    Case(stage(input=reads("input", name="out")), PLACE + "input.pfs.name: an input cannot be called 'out'", "'name'"),
    Case(
        stage(input=reads("input", name=".env")), PLACE + "input.pfs.name: an input cannot be called '.env'", "'name'"
    ),
    Case(stage(input=reads("input", name="..")), PLACE + "input.pfs.name: an input cannot be called '..'", "'name'"),
    Case(stage(input=reads("input", name="a/b")), PLACE + "input.pfs.name: an input cannot be called 'a/b'", "without"),
    Case(
        stage(input=reads("input", name="a\nb")),
        PLACE + "input.pfs.name: an input cannot be called 'a\\nb'",
        "printable",
    ),
    Case(
        stage(input={"cross": [reads("input", name="a"), {"union": [reads("training", name="a")]}]}),
        PLACE + "input.cross[1]: two inputs are called 'a'",
        "another 'name'",
    ),
]

ADDITIONS = [
    Case(stage(code=["src/trian.py"]), PLACE + "code[0]: 'src/trian.py' is not in the commit", "'src/train.py'"),
    Case(stage(code={"/code": "none"}), PLACE + "code[\"/code\"]: 'none' is not in the commit", "commit it"),
    Case(stage(code="src"), PLACE + "code: expected a list of paths, or an object from", "[...]", True),
    Case(stage(code=[1]), PLACE + "code[0]: expected a string, got a number", '"..."', True),
    Case(stage(code=["../x"]), PLACE + "code[0]: '../x' leaves the top", "'..'"),
    Case(
        stage(code=["model/x.py"]), PLACE + "code[0]: 'model/x.py' lies in the output of stage 'model'", "as an input"
    ),
    Case(stage(code=["link"]), PLACE + "code[0]: 'link' is a symbolic link, expected a file or a directory"),
    Case(stage(code={"/pfs": "src"}), PLACE + "code[\"/pfs\"]: code cannot be mounted at '/pfs'", "'/code'"),
    Case(stage(code={"/": "params.yaml"}), PLACE + "code[\"/\"]: 'params.yaml' is a file, expected a directory"),
    Case(stage(code={"/pfs/x": "src"}), PLACE + "code[\"/pfs/x\"]: code cannot be mounted at '/pfs/x'", "'/code'"),
    Case(stage(code={"pfs": "src"}), PLACE + "code.pfs: code cannot be mounted at 'pfs'"),
    Case(stage(code={"../x": "src"}), PLACE + "code[\"../x\"]: '../x' leaves the workspace", "'..'"),
    Case(stage(code=["src", {"src": "params.yaml"}]), PLACE + "code[1].src: two paths are mounted at 'src'"),
    Case(stage(params=["parms.yaml"]), PLACE + "params[0]: 'parms.yaml' is not in the commit", "'params.yaml'"),
    Case(stage(params=["params.yaml:"]), PLACE + "params[0]: 'params.yaml:' names no key", "train.alpha"),
    Case(stage(params=["params.yaml:a..b"]), PLACE + "params[0]: 'params.yaml:a..b' names no key", "train.alpha"),
    Case(stage(params=[":a"]), PLACE + "params[0]: ':a' names no file"),
    Case(stage(params=["src/train.py"]), PLACE + "params[0]: 'src/train.py' is not a file of parameters", ".toml"),
    Case(stage(params=["params.yaml:a", "params.yaml:a"]), PLACE + "params[1]: 'params.yaml:a' is named twice"),
    Case(
        stage(params=["model/p.json"]), PLACE + "params[0]: 'model/p.json' lies in the output of stage", "as an input"
    ),
    Case(stage(params="params.yaml"), PLACE + "params: expected a list of strings", "[...]", True),
    Case(stage(metrics=["../m.json"]), PLACE + "metrics[0]: '../m.json' leaves the output directory", "'..'"),
    Case(stage(metrics=["m.txt"]), PLACE + "metrics[0]: 'm.txt' is not a file of numbers", ".json"),
    Case(stage(metrics=[{"name": "a"}]), PLACE + "metrics[0]: 'path' is missing", None, True),
    Case(stage(metrics=["m.json", "m.json"]), PLACE + "metrics[1]: 'm.json' is named twice", "'name'"),
    Case(
        stage(metrics=[{"path": "m.json", "name": "a", "noise": "a"}]),
        PLACE + "metrics[0].noise: 'a' is no other number of the file",
    ),
    Case(stage(metrics=[{"path": "m.json", "noise": "b"}]), PLACE + "metrics[0]: 'noise' without 'name'", "judged"),
    Case(stage(metrics=[{"path": "m.json", "goal": "max"}]), PLACE + "metrics[0]: 'goal' without 'name'", "judged"),
    Case(
        stage(metrics=[{"path": "m.json", "name": "a", "goal": "up"}]),
        PLACE + "metrics[0].goal: expected 'max' or 'min', got 'up'",
        None,
        True,
    ),
    Case(
        stage(metrics=[{"path": "m.json", "name": "a", "tolerance": -1}]),
        PLACE + "metrics[0].tolerance: less",
        None,
        True,
    ),
    Case(
        stage(metrics=[{"path": "m.json", "name": "a", "gate": {}}]), PLACE + "metrics[0].gate: neither 'min' nor 'max'"
    ),
    Case(
        stage(metrics=[{"path": "m.json", "name": "a", "gate": {"min": 2, "max": 1}}]),
        PLACE + "metrics[0].gate: 'min' is greater than 'max'",
    ),
    Case(stage(metrics=[{"path": "m.json", "nam": "a"}]), PLACE + "metrics[0].nam: unknown field", "'name'", True),
    Case(stage(predictions=["p.csv"]), PLACE + "predictions[0]: expected an object, got a string", None, True),
    Case(stage(predictions={"path": "p.csv"}), PLACE + "predictions: expected a list of objects", None, True),
    Case(
        stage(predictions=[{"path": "p.csv", "id": "i"}]), PLACE + "predictions[0]: 'prediction' is missing", None, True
    ),
    Case(predicts(path="../p.csv"), PLACE + "predictions[0].path: '../p.csv' leaves the output directory", "'..'"),
    Case(predicts(path="."), PLACE + "predictions[0].path: '.' names no file"),
    Case(predicts(labl="y"), PLACE + "predictions[0].labl: unknown field", "'label'", True),
    Case(predicts(id=""), PLACE + "predictions[0].id: an empty name of a column"),
    Case(predicts(slices="a"), PLACE + "predictions[0].slices: expected a list of strings", "[...]", True),
    Case(predicts(slices=["a", "a"]), PLACE + "predictions[0].slices[1]: 'a' is named twice"),
    Case(predicts(labels={"path": "params.yaml"}), PLACE + "predictions[0].labels: 'labels' without 'label'", "truth"),
    Case(
        predicts(label="y", labels={"path": "parms.yaml"}),
        PLACE + "predictions[0].labels.path: 'parms.yaml' is not in the commit",
        "'params.yaml'",
    ),
    Case(
        stage(predictions=[{"path": "p.csv", "id": "i", "prediction": "p"}] * 2),
        PLACE + "predictions[1].path: 'p.csv' is named twice",
    ),
    Case(stage(plots=["loss.csv"]), PLACE + "plots[0]: 'loss.csv' is not an image", '"y"'),
    Case(stage(plots=["../a.png"]), PLACE + "plots[0]: '../a.png' leaves the output directory", "'..'"),
    Case(stage(plots=["a.png", "./a.png"]), PLACE + "plots[1]: a second plot of the same in 'a.png'"),
    Case(stage(plots=[{"path": "loss.csv"}]), PLACE + "plots[0]: 'y' is missing", None, True),
    Case(stage(plots=[{"path": "loss.csv", "y": []}]), PLACE + "plots[0].y: no column to draw", None, True),
    Case(
        stage(plots=[{"path": "a/..", "y": ["a"]}]), PLACE + "plots[0].path: 'a/..' leaves the output directory", "'..'"
    ),
    Case(stage(plots=[{"path": "a", "y": ["a"], "titel": "b"}]), PLACE + "plots[0].titel: unknown", "'title'", True),
    Case(
        stage(plots=[{"path": "a", "y": ["a"]}, {"path": "./a", "y": ["a"]}]),
        PLACE + "plots[1]: a second plot of the same in 'a'",
    ),
    Case(stage(leakage=[{"train": "params.yaml"}]), PLACE + "leakage[0]: 'test' is missing", None, True),
    Case(
        stage(leakage=[{"train": "params.yaml", "test": "params.yaml"}]),
        PLACE + "leakage[0]: 'train' and 'test' are both 'params.yaml'",
    ),
    Case(
        stage(leakage=[{"train": "params.yaml", "test": "src"}]),
        PLACE + "leakage[0].test: 'src' is a directory, expected a file",
    ),
    Case(stage(leakage=[{"train": "params.yaml", "tests": "a"}]), PLACE + "leakage[0].tests: unknown", "'test'", True),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"archive": "none.tar"}}},
        PLACE + "images.a.archive: 'none.tar' is not in the commit",
        "commit it",
    ),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"archive": "/srv/../a.tar"}}},
        PLACE + "images.a.archive: '/srv/../a.tar' has '..' in it",
        "without it",
    ),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"archive": "."}}},
        PLACE + "images.a.archive: '.' names no archive",
        "a tar file",
    ),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"archive": "params.yaml", "container": True}}},
        PLACE + "images.a.container: 'archive' and 'container' exclude each other",
    ),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"container": True, "digest": "sha256:12"}}},
        PLACE + "images.a.digest: 'sha256:12' is no digest",
        "64 hex digits",
    ),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"digest": "sha256:" + "0" * 64}}},
        PLACE + "images.a: 'digest' without an image",
        '"container": true',
    ),
    Case(
        {"stages": [runs(image="iris:v1")], "images": {"iris:v2": {}}},
        PLACE + "stages[0].transform.image: nothing stands for the image 'iris:v1'",
        'did you mean \'iris:v2\'? If not, say {"iris:v1": {"container": true}}',
    ),
    Case({"stages": [], "images": ["a"]}, PLACE + "images: expected an object from image", None, True),
    Case({"stages": [], "images": {"a": {"cod": {}}}}, PLACE + "images.a.cod: unknown field", "'code'", True),
    Case(
        {"stages": [runs(image="a")], "images": {"a": {"code": {"/code": "none"}}}},
        PLACE + "images.a.code[\"/code\"]: 'none' is not in the commit",
        "commit it",
    ),
]

ALL = [*SYNTAX, *FIELDS, *NAMES_AND_PATHS, *INPUTS, *ADDITIONS]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.message[:60])
def test_bad_files_are_one_message_with_place_and_remedy(case: Case) -> None:
    error = failure(case.spec)
    given = error if re.match(r"[^ ]+:\d+", case.message) else error.at(None)
    assert given.message.startswith(case.message)
    assert error.position is not None or not error.place.path
    assert "\n" not in error.message
    if case.hint is None:
        assert error.hint is None
    else:
        assert error.hint is not None
        assert case.hint in error.hint


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("path", ["{}", "a/{}/b"])
def test_no_path_enters_the_git_directory(name: str, path: str) -> None:
    for spec in (
        stage(output=path.format(name)),
        stage(input=reads(path.format(name))),
        stage(code=[path.format(name)]),
    ):
        assert " enters '.git'" in failure(spec).message


@pytest.mark.parametrize("name", [".github", ".gitignore", "git", "git~", "x.git", ".gitmlx", "sub/.gitml"])
def test_names_that_only_look_like_it_are_allowed(name: str) -> None:
    tree = tree_with({**DATA, "pipeline.json": json.dumps(stage(output=name))})
    pipeline = load_pipeline(tree)
    assert pipeline is not None
    assert pipeline.stages[0].output == name.encode()


def test_an_output_may_not_hold_the_files_of_the_specification() -> None:
    contents = {
        **DATA,
        "specs/one.json": json.dumps(stage(output="specs")),
        "pipeline.json": '{"stages": ["specs/o*"]}',
    }
    with pytest.raises(SpecError, match=r"the output 'specs' holds the specification 'specs/one\.json'"):
        load_pipeline(tree_with(contents))


def test_pipeline_json_must_be_a_file() -> None:
    with pytest.raises(SpecError, match=r"'pipeline\.json' is a directory, expected a file"):
        load_pipeline(tree_with({"pipeline.json/a": "{}"}))


def set_value(name: str, key: str, value: Any) -> dict[str, Any]:
    """A stage in which the field `key` of the object `name` is set."""
    made = stage()
    homes = {
        "stage": made,
        "pipeline": made["pipeline"],
        "project": made["pipeline"].setdefault("project", {}),
        "transform": made["transform"],
        "input": made["input"],
        "pfs": made["input"]["pfs"],
        "parallelism_spec": made.setdefault("parallelism_spec", {}),
        "egress": made.setdefault("egress", {}),
    }
    if name == "cron":
        made["input"] = {"cron": {"name": "tick", "spec": "@daily", key: value}}
    else:
        homes[name][key] = value
    return made


REFUSED = [
    (name, key, field)
    for name, fields in OBJECTS.items()
    for key, field in fields.items()
    if field.disposition in {Disposition.NEVER, Disposition.REMOVED}
]


@pytest.mark.parametrize(("name", "key", "field"), REFUSED, ids=lambda part: part if isinstance(part, str) else "")
def test_fields_of_pachyderm_that_are_refused_say_why_and_what_to_do(name: str, key: str, field: Any) -> None:
    for spelling in {key, camel(key)}:
        error = failure(set_value(name, spelling, "other"))
        assert error.place.path.endswith(f".{spelling}" if name != "stage" else spelling)
        assert error.problem == field.about
        assert error.hint == field.hint
        assert error.hint
    assert not SCHEMA.is_valid(set_value(name, key, "other"))
    for harmless in (None, False, "", [], 0, *field.harmless):
        load_pipeline(tree_with({**DATA, "pipeline.json": json.dumps(set_value(name, key, harmless))}))


def test_what_is_refused_for_good_is_little() -> None:
    assert {key for _, key, field in REFUSED if field.disposition is Disposition.NEVER} == {
        "pod_spec",
        "sql_database",
        "s3_out",
        "service",
        "spout",
        "determined",
        "tf_job",
        "repo_type",
        "s3",
    }


SCHEMA = jsonschema.Draft7Validator(
    json.loads((files("gitml.pipeline.spec") / "pipeline.schema.json").read_text("utf-8"))
)


@pytest.mark.parametrize("case", [case for case in ALL if case.schema_tells], ids=lambda case: case.message[:60])
def test_the_schema_refuses_what_it_can_tell(case: Case) -> None:
    assert not SCHEMA.is_valid(case.spec)
