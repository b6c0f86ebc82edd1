from collections.abc import Callable

import pytest

from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.code import CodeFile, code_files
from gitml.pipeline.spec.model import CodeMount, PfsInput, Stage
from gitml.store.tree import MODE_GITLINK, Entry, Snapshot

MakeTree = Callable[..., Snapshot]
MakeStage = Callable[..., Stage]
MakeInput = Callable[..., PfsInput]


def targets(stage: Stage, snapshot: Snapshot, outputs: tuple[bytes, ...] = ()) -> list[str]:
    return [file.target for file in code_files(stage, snapshot, outputs)]


FILES = {
    "train.py": "import os, helper\nfrom pkg.sub import thing\nfrom pkg import *\n",
    "helper.py": "import train\nfrom util import deep as d\n",  # a cycle
    "util/deep.py": "import absent_module",
    "pkg/__init__.py": "",
    "pkg/sub.py": "from . import sibling\nfrom .inner import leaf\nfrom ..above import no\n",
    "pkg/sibling.py": "def f():\n    from .late import x\n",
    "pkg/late.py": "",
    "pkg/inner/__init__.py": "",
    "pkg/inner/leaf.py": "from .. import cousin",
    "pkg/cousin.py": "",
    "pkg/unused.py": "",
    "src/run.py": "import local\nimport helper\n",
    "src/local.py": "",
    "broken.py": "import helper\ndef (:\n",
    "run.sh*": "echo",
    "sql/a.sql": "",
    "sql/b.sql": "",
    "data/x.csv": "",
    "model/old.py": "",
    "conf.yaml": "a: 1",
}
PKG_SUB = [
    f"pkg/{name}.py" for name in ("__init__", "cousin", "inner/__init__", "inner/leaf", "late", "sibling", "sub")
]
TRAIN = sorted(["helper.py", "train.py", "util/deep.py", *PKG_SUB])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cmd": ["python3", "train.py"]}, TRAIN),
        ({"cmd": ["python3", "./src/../train.py"]}, TRAIN),
        ({"cmd": ["python", "src/run.py"]}, sorted(["src/run.py", "src/local.py", *TRAIN])),
        ({"cmd": ["python", "run.py"], "working_dir": "src"}, sorted(["src/run.py", "src/local.py", *TRAIN])),
        ({"cmd": ["python", "-m", "pkg.sub"]}, sorted(PKG_SUB)),
        ({"cmd": ["python", "-m", "pkg"]}, ["pkg/__init__.py"]),
        ({"cmd": ["python", "-c", "import pkg.late"]}, ["pkg/__init__.py", "pkg/late.py"]),
        ({"cmd": ["python3"], "stdin": ("import os", "import pkg.late")}, ["pkg/__init__.py", "pkg/late.py"]),
        ({"cmd": ["python", "broken.py"]}, ["broken.py"]),
        ({"cmd": ["./run.sh", "sql"]}, ["run.sh", "sql/a.sql", "sql/b.sql"]),
        ({"cmd": ["run.sh"]}, []),
        ({"cmd": ["tool", "--config=conf.yaml"]}, ["conf.yaml"]),
        ({"cmd": ["sh", "-ec", "cat 'sql/a.sql' >x && psql <sql/b.sql; true"]}, ["sql/a.sql", "sql/b.sql"]),
        ({"cmd": ["bash"], "stdin": ("# sql/b.sql", 'X=1 psql "$(cat sql/a.sql)"')}, ["sql/a.sql"]),
        ({"cmd": ["sh"], "stdin": ("for f in 'x", "do cat sql/a.sql")}, ["sql/a.sql"]),
        ({"cmd": ["sh"], "stdin": ("cd src && python local.py",)}, ["src/local.py"]),
        ({"cmd": ["sh", "-c", "pkg run; util"]}, []),
        ({"cmd": ["true"], "err_cmd": ["sh"], "err_stdin": ("cat conf.yaml",)}, ["conf.yaml"]),
        ({"cmd": ["cat", "/pfs/data/x.csv", "../train.py", "", ".", "nothing"]}, []),
    ],
)
def test_code_that_commands_name(
    tree: MakeTree, make_stage: MakeStage, fields: dict[str, object], expected: list[str]
) -> None:
    assert targets(make_stage("s", **fields), tree(FILES)) == expected


def test_inputs_and_results_are_not_code(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    stage = make_stage("s", ["tool", "data/x.csv", "model/old.py", "sql", ".gitml/x"], pfs_input("data"))
    snapshot = tree({**FILES, ".gitml/x": "", "sql/out/r": ""})
    assert targets(stage, snapshot, (b"model", b"sql/out")) == ["sql/a.sql", "sql/b.sql"]


def test_a_file_carries_its_entry_and_source(tree: MakeTree, make_stage: MakeStage) -> None:
    snapshot = tree(FILES)
    entry = snapshot.get(b"run.sh")
    assert entry is not None
    assert code_files(make_stage("s", ["./run.sh"]), snapshot, ()) == (CodeFile("run.sh", b"run.sh", entry),)


def test_links_bring_what_they_lead_to(tree: MakeTree, make_stage: MakeStage) -> None:
    snapshot = tree(
        {"bin/go@": "../src/run.py", "src/run.py": "import local", "src/local.py": "", "a@": "b", "b@": "a"}
    )
    assert targets(make_stage("s", ["python", "bin/go"]), snapshot) == ["bin/go", "src/local.py", "src/run.py"]
    assert targets(make_stage("s", ["cat", "a"]), snapshot) == ["a", "b"]


def test_an_executable_python_script_needs_no_suffix(tree: MakeTree, make_stage: MakeStage) -> None:
    snapshot = tree({"go*": "#!/usr/bin/env python3\nimport helper\n", "helper.py": ""})
    assert targets(make_stage("s", ["./go"]), snapshot) == ["go", "helper.py"]


def test_bytes_that_are_not_python_do_not_fail(tree: MakeTree, make_stage: MakeStage) -> None:
    snapshot = tree({"a.py": b"\0\xff", "b.py": "(" * 5000, "c.py": 'import h\nx = "\\d"\n', "h.py": ""})
    assert targets(make_stage("s", ["x", "a.py", "b.py", "c.py"]), snapshot) == ["a.py", "b.py", "c.py", "h.py"]


def test_names_that_are_not_utf8(tree: MakeTree, make_stage: MakeStage) -> None:
    snapshot = tree({b"sql/\xff.sql": ""})
    assert targets(make_stage("s", ["cat", "sql"]), snapshot) == ["sql/\udcff.sql"]


def test_declared_code_is_laid_at_its_target(tree: MakeTree, make_stage: MakeStage) -> None:
    mounts = (
        CodeMount(source=b"sql", target="/code"),
        CodeMount(source=b"conf.yaml", target="etc/c.yaml"),
        CodeMount(source=b"src", target="."),
    )
    found = code_files(make_stage("s", ["python", "train.py"], code=mounts), tree(FILES), ())
    assert [(file.target, file.source) for file in found] == [
        ("/code/a.sql", b"sql/a.sql"),
        ("/code/b.sql", b"sql/b.sql"),
        ("etc/c.yaml", b"conf.yaml"),
        ("local.py", b"src/local.py"),
        ("run.py", b"src/run.py"),
    ]


def test_the_whole_repository_as_code_leaves_data_and_results_out(
    tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput
) -> None:
    snapshot = tree(
        {
            "a.py": "",
            "data/x": "",
            "model/m": "",
            ".gitml/records/s.json": "",
            "sub": Entry(MODE_GITLINK, Oid(bytes(20))),
        }
    )
    stage = make_stage("s", None, pfs_input("data"), code=(CodeMount(source=b"", target="/code"),))
    assert targets(stage, snapshot, (b"model",)) == ["/code/a.py"]


def test_declared_code_that_is_missing(tree: MakeTree, make_stage: MakeStage) -> None:
    with pytest.raises(UserError) as caught:
        code_files(make_stage("s", code=(CodeMount(source=b"nope", target="/code"),)), tree(FILES), ())
    assert caught.value.message == "code 'nope' of stage 's' is missing"


def test_two_files_at_one_target(tree: MakeTree, make_stage: MakeStage) -> None:
    mounts = (CodeMount(source=b"train.py", target="x.py"), CodeMount(source=b"helper.py", target="x.py"))
    with pytest.raises(UserError) as caught:
        code_files(make_stage("s", code=mounts), tree(FILES), ())
    assert "'train.py' and 'helper.py' at 'x.py'" in caught.value.message
