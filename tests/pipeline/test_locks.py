from collections.abc import Callable

from gitml.pipeline.code import code_files
from gitml.pipeline.locks import lock_files
from gitml.pipeline.settled import TracedSnapshot
from gitml.pipeline.spec.model import Stage
from gitml.store.tree import Snapshot

FILES = {
    "uv.lock": "top",
    "requirements.txt/not-a-file": "",
    "src/train.py": "",
    "src/requirements.txt": "near",
    "src/deeper/requirements.txt": "not above the code",
    "other/poetry.lock": "of something else",
    "lib/renv.lock": "of the working directory",
    "lib/README": "",
}


def paths(stage: Stage, snapshot: Snapshot) -> list[bytes]:
    return [path for path, _ in lock_files(stage, code_files(stage, snapshot, ()), snapshot)]


def test_lock_files_are_those_beside_the_code_and_above(
    tree: Callable[..., Snapshot], make_stage: Callable[..., Stage]
) -> None:
    snapshot = tree(FILES)
    assert paths(make_stage("s", ["python", "src/train.py"]), snapshot) == [b"src/requirements.txt", b"uv.lock"]
    assert paths(make_stage("s", ["true"]), snapshot) == [b"uv.lock"]
    assert paths(make_stage("s", ["true"], working_dir="./lib/"), snapshot) == [b"lib/renv.lock", b"uv.lock"]
    assert paths(make_stage("s", ["true"], working_dir="/pfs/lib"), snapshot) == [b"uv.lock"]
    assert paths(make_stage("s", ["true"], working_dir="../lib"), snapshot) == [b"uv.lock"]


def test_a_lock_file_that_is_absent_has_been_asked_for(
    tree: Callable[..., Snapshot], make_stage: Callable[..., Stage]
) -> None:
    made = tree({"src/train.py": ""})
    snapshot = TracedSnapshot(made.odb, made.root)
    assert paths(make_stage("s", ["python", "src/train.py"]), snapshot) == []
    assert {b"uv.lock", b"src/uv.lock"} <= snapshot.all_asked(), "a commit that adds one is looked at"
    assert b"" not in snapshot.all_asked(), "which would be every commit"
