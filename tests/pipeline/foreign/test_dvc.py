"""What becomes of stages of DVC, and what dvc.lock vouches for."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from gitml.pipeline.foreign.dvc import Surroundings, convert
from gitml.pipeline.foreign.dvclock import read_locks, vouch
from gitml.pipeline.foreign.dvcyaml import read_dvc_yaml
from gitml.pipeline.foreign.findings import Imported, Kind, Present
from gitml.pipeline.spec import Pipeline, SpecError, load_pipeline
from tests.pipeline.test_spec import tree_with

FILES = {"src/a.py": "a", "src/b.py": "b", "params.yaml": "train: {lr: 1, n: [1, 2]}\nseed: 3\n", "data/own.csv": "x"}


def imported(
    text: str | Mapping[str, str],
    *,
    root: str = "",
    files: Mapping[str, str] = FILES,
    data: Collection[str] = (),
    directories: Collection[str] = (),
    stages: Mapping[str, str] | None = None,
    named: Collection[str] = (),
) -> Imported:
    """What an import of dvc.yaml files gives."""
    yamls = {"dvc.yaml": text} if isinstance(text, str) else text
    result = Imported()
    declared = read_dvc_yaml(
        {path: each.encode() for path, each in yamls.items()},
        root,
        lambda path: files[path].encode() if path in files else None,
        result,
    )
    around = Surroundings(
        present=Present(files=frozenset({*files, *yamls}), stages=stages or {}),
        data=frozenset(data),
        directories=frozenset(directories),
        named=lambda _: frozenset(named),
    )
    convert(declared, around, result)
    return result


def entries(result: Imported) -> dict[str, Any]:
    return {entry["pipeline"]["name"]: entry for entry in result.entries if isinstance(entry, dict)}


def said(result: Imported, kind: Kind) -> list[str]:
    return [f"{each.where}: {each.what}" for each in result.findings if each.kind is kind]


def load(result: Imported, files: Mapping[str, str] = FILES) -> Pipeline:
    pipeline = load_pipeline(tree_with(dict(files) | {"pipeline.json": json.dumps({"stages": result.entries})}))
    assert pipeline is not None
    return pipeline


def test_a_chain_in_full() -> None:
    result = imported(
        """
stages:
  prepare:
    cmd: python src/a.py
    desc: Splits.
    deps: [src/a.py, data/own.csv, raw.csv]
    outs: [steps/prepared]
  train:
    wdir: src
    cmd: [python b.py, "echo 'done'"]
    deps: [b.py, ../steps/prepared/train.csv]
    params: [train.lr, "train.n[0]", {../other.json: }, {"../params.yaml": [seed]}, {cfg.py: [x]}]
    outs: [../model.pkl]
    metrics: [../m.json: {cache: false}]
    plots: [../loss.csv: {x: step, y: loss, title: Loss}, ../roc.json: {y: tpr}]
metrics: [m.json, nobody.json]
plots:
  - cm.png
  - Two: {x: step, y: {loss.csv: [train, test]}}
""",
        files=FILES | {"raw.csv": "1", "src/params.yaml": FILES["params.yaml"], "src/cfg.py": "", "other.json": "{}"},
        data=["raw.csv"],
        named=["src/lib.py", "raw.csv", "steps/prepared/x"],
    )  # fmt: skip
    made = entries(result)
    assert made["prepare"] == {
        "pipeline": {"name": "prepare"},
        "description": "Splits.",
        "transform": {
            "cmd": ["bash"],
            "stdin": [
                "ln -s /pfs/raw.csv raw.csv || exit",
                "mkdir -p steps || exit",
                "(",
                "python src/a.py",
                ") </dev/null || exit",
                "cp -a steps/prepared/. /pfs/out/ || exit",
            ],
        },
        "input": {"pfs": {"repo": "raw.csv", "name": "raw.csv", "glob": "/"}},
        "output": "steps/prepared",
        "code": ["src/a.py", "data/own.csv", "src/lib.py"],
        "datum_tries": 1,
    }
    assert made["train"] == {
        "pipeline": {"name": "train"},
        "transform": {
            "cmd": ["bash"],
            "stdin": [
                "mkdir -p steps/prepared || exit",
                "ln -s /pfs/train.csv steps/prepared/train.csv || exit",
                "mkdir -p src || exit",
                "(",
                "cd src || exit",
                "python b.py",
                ") </dev/null || exit",
                "(",
                "cd src || exit",
                "echo 'done'",
                ") </dev/null || exit",
                "mv model.pkl /pfs/out/model.pkl || exit",
                "mv m.json /pfs/out/m.json || exit",
                "mv loss.csv /pfs/out/loss.csv || exit",
                "mv roc.json /pfs/out/roc.json || exit",
            ],
        },
        "input": {"pfs": {"repo": "steps/prepared/train.csv", "name": "train.csv", "glob": "/"}},
        "code": ["src/b.py", "src/cfg.py", "src/lib.py"],
        "params": ["src/params.yaml", "other.json", "params.yaml:seed"],
        "metrics": ["m.json"],
        "plots": [
            {"path": "loss.csv", "y": ["loss"], "x": "step", "title": "Loss"},
            {"path": "loss.csv", "y": ["train", "test"], "x": "step", "title": "Two"},
        ],
        "datum_tries": 1,
    }
    ignored = said(result, Kind.IGNORED)
    assert [text.partition(": ")[2].partition(":")[0] for text in ignored] == ["roc.json", "nobody.json", "cm.png"]
    files = FILES | {"raw.csv": "1", "src/params.yaml": FILES["params.yaml"], "src/cfg.py": "", "src/lib.py": ""}
    pipeline = load(result, files | {"other.json": "{}"})
    assert [(stage.name, [each.upstream for each in stage.inputs]) for stage in pipeline.stages] == [
        ("prepare", [None]),
        ("train", ["prepare"]),
    ]


@pytest.mark.parametrize(
    ("outs", "files", "directories", "stages", "home", "moves"),
    [
        # one that is known to be a directory, or is in one that nothing else is in, stays
        (["data/p"], {}, ["data/p"], {}, "data/p", {"data/p": "data/p"}),
        (["m/a.pkl"], {}, [], {}, "m", {"m/a.pkl": "m/a.pkl"}),
        (["m/a.pkl"], {"m/.gitignore": ""}, [], {}, "m", {}),
        (["e/m.json", "e/p/q.csv"], {}, [], {}, "e", {"e/p/q.csv": "e/p/q.csv"}),
        (["m/a.pkl"], {"m/a.pkl": ""}, [], {}, "m", {}),
        # otherwise the outputs go where the stage is called
        (["m/a.pkl"], {"m/readme": ""}, [], {}, "s", {"m/a.pkl": "s/a.pkl"}),
        (["a.pkl", "m/b.pkl"], {}, [], {}, "s", {"a.pkl": "s/a.pkl", "m/b.pkl": "s/m/b.pkl"}),
        (["x"], {}, [], {}, "s", {"x": "s/x"}),
        (["x"], {}, ["x"], {}, "x", {"x": "x"}),
        (["x"], {"s/own": ""}, [], {}, "s-out", {"x": "s-out/x"}),
        (["x"], {}, [], {"o": "s"}, "s-out", {"x": "s-out/x"}),
        (["m/a.pkl"], {}, [], {"o": "m/b"}, "s", {}),
        ([], {}, [], {}, "s", {}),
    ],
)
def test_where_outputs_go(
    outs: list[str],
    files: dict[str, str],
    directories: list[str],
    stages: dict[str, str],
    home: str,
    moves: dict[str, str],
) -> None:
    text = json.dumps({"stages": {"s": {"cmd": "x", "outs": outs}, "t": {"cmd": "y", "deps": outs}}})
    result = imported(text, files=files, directories=directories, stages=stages)
    made = entries(result)
    assert made["s"].get("output", "s") == home
    read = made["t"].get("input", {})
    repos = {each["pfs"]["repo"] for each in read.get("cross", [read] if read else [])}
    assert set(moves.values()) <= repos
    load(result, {"keep": ""})


def test_no_output_goes_where_data_is_that_git_does_not_have() -> None:
    text = "stages: {s: {cmd: x, outs: [m/a.pkl]}}"
    assert "output" not in entries(imported(text, data=["m/raw.csv"]))["s"]
    assert entries(imported(text))["s"]["output"] == "m"


def test_a_directory_of_outputs_data_and_files_of_the_user() -> None:
    text = """
stages:
  one: {cmd: x, outs: [d/one.txt]}
  two: {cmd: x, outs: [d/sub/two.txt]}
  all: {cmd: y, deps: [d, other/one.txt]}
  three: {cmd: x, outs: [other/one.txt]}
"""
    files = {"d/own": "", "d/sub/own": "", "d/more/a": "", "d/more/b": "", "d/one.txt": "", "d/big.csv": ""}
    result = imported(text, files=files, data=["d/big.csv"])
    made = entries(result)["all"]
    assert made["code"] == ["d/more", "d/own", "d/sub/own"]
    assert [(each["pfs"]["name"], each["pfs"]["repo"]) for each in made["input"]["cross"]] == [
        ("one.txt", "one/one.txt"),
        ("two.txt", "two/two.txt"),
        ("big.csv", "d/big.csv"),
        ("other_one.txt", "other/one.txt"),
    ]
    assert "ln -s /pfs/other_one.txt other/one.txt || exit" in made["transform"]["stdin"]
    assert said(result, Kind.TODO) == [
        "one: 'd/one.txt' of the former pipeline is in its old place: mkdir -p one && git mv d/one.txt one/one.txt"
    ]
    load(result, files)


def test_generated_stages_and_several_files() -> None:
    result = imported(
        {
            "dvc.yaml": "stages: {s: {foreach: [a b, '1'], do: {cmd: 'x ${item}', outs: ['o/${item}.txt']}}}",
            "sub/dvc.yaml": "stages: {s: {cmd: x, deps: ['../o/1.txt'], outs: [y]}}",
        }
    )
    made = entries(result)
    assert list(made) == ["s/a-b", "s/1", "sub/s"]
    assert made["s/a-b"]["transform"]["stdin"][-1] == "mv 'o/a b.txt' '/pfs/out/a b.txt' || exit"
    assert made["sub/s"]["input"]["pfs"]["repo"] == "s/1/1.txt"
    assert made["sub/s"].get("output", "sub/s") == "sub/s"
    assert said(result, Kind.MAPPED)[0].startswith("dvc.yaml: values stand for '${…}' in s/a-b, s/1: ")
    load(result, {"keep": ""})
    # of a directory alone: its stages have their plain names
    alone = entries(imported({"sub/dvc.yaml": "stages: {s: {cmd: x, outs: [y]}}"}, root="sub"))
    assert alone["s"]["output"] == "sub/s"


def test_what_cannot_be_done_or_means_nothing_here() -> None:
    result = imported(
        """
stages:
  far: {cmd: x, deps: ["s3://b/x"]}
  away: {cmd: x, outs: [/tmp/x]}
  up: {cmd: x, wdir: ..}
  there: {cmd: x}
  own: {cmd: x, deps: [data/own.csv], outs: [data/own.csv]}
  again: {cmd: x, outs: [q/r]}
  once: {cmd: x, outs: [q]}
  fine: {cmd: x, frozen: true, always_changed: true, deps: [none.py, with.dvc], outs: [o: {persist: true}]}
artifacts: {m: {path: x}}
""",
        data=["with.dvc"],
        stages={"there": "there"},
    )
    assert list(entries(result)) == ["again", "fine"]
    assert [text.partition(":")[2].partition(":")[0].strip() for text in said(result, Kind.REFUSED)] == [
        "stages.far",
        "stages.away",
        "stages.up",
        "there",
        "own",
        "once",
    ]
    assert len(said(result, Kind.IGNORED)) == 3
    assert said(result, Kind.TODO) == [
        "dvc.yaml: stages.fine.outs: 'o' is not there when the command starts",
        "fine: there is no 'none.py': commit it",
        "fine: 'with.dvc' is with DVC: git ml migrate import --from dvc",
    ]


@pytest.mark.parametrize(
    "text",
    ["7", "stages: 7", "stages: {a: 7}", "stages: {a: {}}", "stages: {a: {cmd: {}}}", "stages: {a: {cmd: x, deps: y}}",
     "stages: {a: {cmd: x, dep: [y]}}", "metrics: 7", "stages: {a: {foreach: [1]}}"],
)  # fmt: skip
def test_what_dvc_would_not_read(text: str) -> None:
    with pytest.raises(SpecError):
        imported(text)


class Worktree:
    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find(self, path: str) -> bytes | None:
        return self._files[path].encode() if path in self._files else None

    def digests(self, path: str) -> frozenset[str]:
        return frozenset({md5(self._files[path])}) if path in self._files else frozenset()


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


CHAIN = """
stages:
  b: {cmd: run b, deps: [o/x], outs: [p]}
  a: {cmd: run a, deps: [src/a.py, big.csv], params: [train.lr, {other.json: }], outs: [o]}
"""
LOCK = {
    "schema": "2.0",
    "stages": {
        "a": {
            "cmd": "run a",
            "deps": [{"path": "src/a.py", "md5": md5("a")}, {"path": "big.csv", "md5": "55"}],
            "params": {"params.yaml": {"train.lr": 1}, "other.json": {"q": 2}},
            "outs": [{"path": "o", "md5": "77.dir"}],
        },
        "b": {"cmd": "run b", "deps": [{"path": "o/x", "md5": md5("x")}], "outs": [{"path": "p", "md5": "99"}]},
    },
}


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({}, ["a", "b"]),
        ({"src/a.py": "changed"}, ["b"]),
        ({"o/x": "changed"}, ["a"]),
        ({"params.yaml": "train: {lr: 2}"}, ["b"]),
        ({"other.json": '{"q": 3}'}, ["b"]),
        ({"big.csv.dvc": "56"}, ["b"]),
        ({"dvc.yaml": CHAIN.replace("run a", "run A")}, ["b"]),
        ({"dvc.yaml": CHAIN.replace("src/a.py, ", "")}, ["b"]),
        ({"dvc.lock": "{"}, []),
        ({"dvc.lock": ""}, []),
        ({"dvc.lock": "stages: 7\nschema: '2.0'"}, []),
    ],
)
def test_outputs_that_belong_to_the_present_inputs(change: dict[str, str], accepted: list[str]) -> None:
    files = FILES | {"dvc.yaml": CHAIN, "dvc.lock": json.dumps(LOCK), "o/x": "x", "other.json": '{"q": 2}'}
    files |= {"big.csv.dvc": "55"} | change
    worktree, result = Worktree(files), Imported()
    declared = read_dvc_yaml({"dvc.yaml": files["dvc.yaml"].encode()}, "", worktree.find, result)
    convert(declared, Surroundings(present=Present(files=frozenset(files)), data=frozenset()), result)
    locks = read_locks(["dvc.yaml"], worktree.find, result)
    if accepted:
        assert locks.directories(declared.stages) == {"o"}
    result.findings.clear()
    vouch(declared.stages, locks, {"big.csv": files["big.csv.dvc"]}, worktree, result)
    commands = "; ".join(f"git ml accept {name}" for name in accepted)
    assert [each.what.rpartition(": ")[2] for each in result.findings] == ([commands] if accepted else [])
