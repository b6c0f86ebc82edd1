"""Digests that results are found by. A change here makes every known result unknown: a new format number."""

from gitml.oid import Oid
from gitml.pipeline.code import CodeFile
from gitml.pipeline.datum import Datum, DatumInput
from gitml.pipeline.key import command_digest, stage_key, task_key
from gitml.pipeline.params import Params
from gitml.pipeline.spec.model import Stage, Transform
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, Entry

A, B, C = Oid(bytes(20)), Oid(bytes(range(20))), Oid(bytes(range(32)))

SMALL = Stage(name="model", transform=Transform(cmd=("true",)), input=None, output=b"model")
LARGE = Stage(
    name="größe/x",
    transform=Transform(
        cmd=("python", "train.py"),
        stdin=("line", ""),
        err_cmd=("sh",),
        err_stdin=("exit 1",),
        env=(("A", "1"), ("B", "ä")),
        accept_return_code=(3, 1),
        working_dir="src",
        image="python:3.11",
    ),
    input=None,
    output=b"out",
    salt="s",
)
CODE = (CodeFile("/code/a.py", b"a.py", Entry(MODE_EXECUTABLE, B)), CodeFile("b\udcff", b"b\xff", Entry(MODE_FILE, C)))
PARAMS = Params({"p.yaml": {"": {"$date": "2024-05-06"}}, "q.json": {"a.b": 1.0, "c": None}}, {})
DATUM = Datum(
    (
        DatumInput("images", b"data/images", b"x/\xff\n.png", Entry(MODE_FILE, A)),
        DatumInput("m", b"model", b"", Entry(MODE_TREE, B)),
    )
)


def test_task_keys() -> None:
    assert (
        task_key(SMALL, (), Params({}, {}), Datum(()))
        == "8886568c48222395631374eeb00f08440ab95231ed63e9a7cfc5dee6abbee2ad"
    )
    assert task_key(LARGE, CODE, PARAMS, DATUM) == "65e325b94667e4a80707e9445b66916e7a829a04b4474ccfe0ecbbf74f954f74"


def test_stage_keys() -> None:
    assert stage_key(SMALL, []) == "b2345dd64e4c0643b46cb0d4f7d7db2be0d6a9321cc0e6523eca8cf16f9fe6ae"
    assert (
        stage_key(LARGE, ["00" * 32, "ff" * 32]) == "b829122be209f4fa321b61b1a22160bf780e5955dccd9889fcd508b01750bda1"
    )


def test_command_digests() -> None:
    assert command_digest(SMALL, (), ()) == "b1e0f7554ee7af1617dffde300eb1ec8fce0353b881ed2bb793f449334622e41"
    assert command_digest(LARGE, CODE, ()) == "e0c37f725d744301dbfdf035f3bfa46e73502b14a444a31dfc4858a873a621b8"


def test_datum_ids() -> None:
    assert Datum(()).id == "e3657f2df27d457ee23dd6603ecb175d151223bb01e7d0f6a8aaa6ca6e1cb446"
    assert DATUM.id == "9f2b79354219c10520a9ee12eaecf3ad1c3daa2efa177e386396a7c536213f01"
