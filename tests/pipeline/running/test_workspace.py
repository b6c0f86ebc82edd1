import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.pipeline.code import CodeFile
from gitml.pipeline.contents import STAMP
from gitml.pipeline.datum import DatumInput
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.workspace import Workspace, WorkspaceError, Workspaces
from gitml.store.content import ContentError, store_content
from gitml.store.odb import MemoryOdb, MissingObjectError
from gitml.store.pointer import format_pointer
from gitml.store.tree import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_GITLINK,
    MODE_LINK,
    MODE_TREE,
    Entry,
    Snapshot,
    format_tree,
)

Make = Callable[..., Workspace]
Tree = Callable[..., Snapshot]
LARGE = os.urandom(200_000)


def listing(top: Path) -> dict[bytes, bytes]:
    found = {}
    for path in top.rglob("*"):
        below = os.fsencode(path.relative_to(top))
        if path.is_symlink():
            found[below] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file():
            found[below] = path.read_bytes()
        elif not list(path.iterdir()):
            found[below] = b"<empty>"
    return found


def pointer_to(odb: MemoryOdb, content: bytes, mode: int = MODE_FILE) -> Entry:
    return Entry(mode, odb.write("blob", format_pointer(store_content([content], odb).pointer)))


def test_a_file_datum_keeps_its_path_below_the_input(workspaces: Workspaces, tree: Tree) -> None:
    snapshot = tree({"a/b.txt": "1", "a/other.txt": "2"})
    entry = snapshot.get(b"a/b.txt")
    assert entry is not None
    with workspaces.create([DatumInput("x", b"data", b"a/b.txt", entry)]) as workspace:
        assert listing(workspace.work) == {b"pfs/x/a/b.txt": b"1", b"pfs/out": b"<empty>"}


def test_a_whole_input_and_a_directory_datum(workspaces: Workspaces, tree: Tree) -> None:
    snapshot = tree({"a/b.txt": "1", "c/d/e.txt": "2"})
    entry = snapshot.get(b"c")
    assert entry is not None
    inputs = [DatumInput("x", b"x", b"", Entry(MODE_TREE, snapshot.root)), DatumInput("y/z", b"x", b"c", entry)]
    with workspaces.create(inputs) as workspace:
        assert listing(workspace.pfs) == {
            b"x/a/b.txt": b"1", b"x/c/d/e.txt": b"2", b"y/z/c/d/e.txt": b"2", b"out": b"<empty>",
        }  # fmt: skip


def test_names_may_be_any_bytes(make_workspace: Make) -> None:
    with make_workspace({"x": {b"new\nline": "1", b"\xff\xfe": "2", b'quo"te \\': "3"}}) as workspace:
        assert set(listing(workspace.pfs / "x")) == {b"new\nline", b"\xff\xfe", b'quo"te \\'}


def test_placed_files_keep_the_executable_bit_and_have_one_time(make_workspace: Make, odb: MemoryOdb) -> None:
    files = {"run*": "#!/bin/sh", "plain": "1", "big": LARGE, "tool": pointer_to(odb, LARGE, MODE_EXECUTABLE)}
    with make_workspace({"x": files}) as workspace:
        status = {path.name: path.stat() for path in (workspace.pfs / "x").iterdir()}
        assert {name for name, each in status.items() if each.st_mode & stat.S_IXUSR} == {"run", "tool"}
        assert {each.st_mtime for each in status.values()} == {STAMP}


def test_scripts_of_an_image_can_be_run_whatever_their_mode(make_workspace: Make, odb: MemoryOdb) -> None:
    def file(place: str, text: bytes) -> CodeFile:
        return CodeFile(place, place.encode(), Entry(MODE_FILE, odb.write("blob", text)))

    script, long = b"#!/bin/sh\n", b"#!/bin/sh\n" + LARGE
    code = [file("/app/run.sh", script), file("/app/long.sh", long), file("/app/data", b"# 1"), file("run.sh", script)]
    with make_workspace({}, code=code, mounts=["/app"]) as workspace:
        for path, mode in (("run.sh", True), ("long.sh", True), ("data", False)):
            status = (workspace.mounts["/app"] / path).stat()
            assert (bool(status.st_mode & stat.S_IXUSR), status.st_mtime) == (mode, STAMP), path
        assert not (workspace.work / "run.sh").stat().st_mode & stat.S_IXUSR


def test_pointers_are_resolved_and_large_content_is_written_once(make_workspace: Make, odb: MemoryOdb) -> None:
    files = {"model": pointer_to(odb, LARGE), "small": pointer_to(odb, b"tiny"), "plain": LARGE}
    with make_workspace({"x": files}) as one, make_workspace({"x": files}) as two:
        assert listing(one.pfs / "x") == {b"model": LARGE, b"small": b"tiny", b"plain": LARGE}
        for name in ("model", "plain"):
            first, second = ((each.pfs / "x" / name).stat() for each in (one, two))
            linked = first.st_ino == second.st_ino
            assert linked == (first.st_nlink > 1)
            assert not linked or not first.st_mode & 0o222


def test_a_reader_without_streams_will_do(tmp_path: Path, tree: Tree) -> None:
    odb = MemoryOdb()
    entry = pointer_to(odb, LARGE)
    with Workspaces(tmp_path / "w", odb) as workspaces:
        with workspaces.create([DatumInput("x", b"f", b"f", entry)]) as workspace:
            assert (workspace.pfs / "x/f").read_bytes() == LARGE
        with workspaces.create([DatumInput("x", b"f", b"f", Entry(MODE_FILE, odb.write("blob", LARGE)))]) as workspace:
            assert (workspace.pfs / "x/f").read_bytes() == LARGE


def test_content_that_is_missing_or_damaged_leaves_nothing_behind(
    workspaces: Workspaces, odb: MemoryOdb, tmp_path: Path
) -> None:
    entry = pointer_to(odb, LARGE)
    chunk = next(oid for oid, (_, data) in odb.objects.items() if data and data in LARGE)
    kept = odb.objects.pop(chunk)
    with pytest.raises(MissingObjectError):
        workspaces.create([DatumInput("x", b"f", b"f", entry)])
    odb.objects[chunk] = ("blob", kept[1][:-1] + b"?")
    with pytest.raises(ContentError):
        workspaces.create([DatumInput("x", b"f", b"f", entry)])
    assert list((tmp_path / "the run's" / "tasks").iterdir()) == []
    odb.objects[chunk] = kept
    with workspaces.create([DatumInput("x", b"f", b"f", entry)]) as workspace:
        assert (workspace.pfs / "x/f").read_bytes() == LARGE


def force_links(workspaces: Workspaces) -> None:
    workspaces._clones = False


def test_a_write_through_a_link_is_noticed_and_does_not_last(workspaces: Workspaces, make_workspace: Make) -> None:
    force_links(workspaces)
    with make_workspace({"x": {"big": LARGE}}) as guilty, make_workspace({"x": {"big": LARGE}}) as other:
        assert guilty.changed_inputs() == []
        victim = guilty.pfs / "x/big"
        victim.chmod(0o644)
        victim.write_bytes(LARGE[:-1])
        assert guilty.changed_inputs() == [b"x/big"]
        with make_workspace({"x": {"big": LARGE}}) as later:
            assert (later.pfs / "x/big").read_bytes() == LARGE
            assert later.changed_inputs() == []
        assert other.changed_inputs() == [b"x/big"]


def test_replacing_an_input_is_nobody_elses_business(workspaces: Workspaces, make_workspace: Make) -> None:
    force_links(workspaces)
    with make_workspace({"x": {"big": LARGE, "small": "1"}}) as workspace:
        (workspace.pfs / "x/big").unlink()
        (workspace.pfs / "x/big").write_bytes(b"mine")
        (workspace.pfs / "x/small").write_bytes(b"mine too")
        assert workspace.changed_inputs() == []


def test_untouched_inputs_are_known_by_their_entry(make_workspace: Make, odb: MemoryOdb, tree: Tree) -> None:
    pointer = pointer_to(odb, LARGE)
    small = Entry(MODE_FILE, odb.write("blob", b"1"))
    with make_workspace({"x": {"d/big": pointer, "a": small, "b": Entry(MODE_FILE, odb.write("blob", b"2"))}}) as here:
        assert here.untouched(b"x/d/big") == (pointer, True)
        assert here.untouched(b"x/a") == (small, False)
        (here.pfs / "x/a").rename(here.pfs / "x/b")
        assert here.untouched(b"x/b") is None
        (here.pfs / "x/d/new").write_bytes(b"")
        assert here.untouched(b"x/d/new") is None


def test_contents_that_no_task_uses_are_dropped_above_the_limit(tmp_path: Path, odb: MemoryOdb) -> None:
    entries = [Entry(MODE_FILE, odb.write("blob", os.urandom(100_000))) for _ in range(4)]
    with Workspaces(tmp_path / "w", odb, cache_limit=250_000) as workspaces:
        force_links(workspaces)
        for entry in entries:
            workspaces.create([DatumInput("x", b"f", b"f", entry)]).close()
        assert len(list((tmp_path / "w" / "cache").iterdir())) == 2
        with workspaces.create([DatumInput("x", b"f", str(n).encode(), e) for n, e in enumerate(entries)]) as workspace:
            assert len(list((tmp_path / "w" / "cache").iterdir())) == 4
            assert workspace.changed_inputs() == []


def test_links_stay_if_they_stay_inside_the_input(make_workspace: Make) -> None:
    files = {"a/l@": "../b", "b": "1", "d@": "a", "self@": "./b", "gone@": "a/none"}
    with make_workspace({"x": files}) as workspace:
        assert listing(workspace.pfs / "x") == {
            b"a/l": b"-> ../b", b"b": b"1", b"d": b"-> a", b"self": b"-> b", b"gone": b"-> a/none",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target"), [("l", "../y"), ("a/l", "../../y"), ("l", "/etc/passwd"), ("l", "a/../../y")]
)
def test_links_out_of_the_input_are_refused(name: str, target: str, make_workspace: Make) -> None:
    with pytest.raises(WorkspaceError, match="outside of it") as caught:
        make_workspace({"x": {name + "@": target, "a/k": "1"}})
    assert f"'{name}'" in caught.value.message
    assert f"'{target}'" in caught.value.message


def test_a_link_alone_is_no_input(workspaces: Workspaces, odb: MemoryOdb) -> None:
    with pytest.raises(WorkspaceError, match="outside"):
        workspaces.create([DatumInput("x", b"l", b"", Entry(MODE_LINK, odb.write("blob", b"out")))])


def test_submodules_are_refused(make_workspace: Make, odb: MemoryOdb) -> None:
    with pytest.raises(WorkspaceError, match="'sub' is a submodule"):
        make_workspace({"x": {"sub": Entry(MODE_GITLINK, Oid(bytes(20)))}})


@pytest.mark.parametrize("name", [b"..", b"", b"a/b"])
def test_a_forged_tree_cannot_write_elsewhere(name: bytes, workspaces: Workspaces, odb: MemoryOdb) -> None:
    entry = Entry(MODE_FILE, odb.write("blob", b"1"))
    root = odb.write("tree", format_tree([(name, entry)]))
    with pytest.raises(CorruptError):
        workspaces.create([DatumInput("x", b"x", b"", Entry(MODE_TREE, root))])


def code(odb: MemoryOdb, *targets: str, text: str = "code", mode: int = MODE_FILE) -> list[CodeFile]:
    return [CodeFile(target, target.encode(), Entry(mode, odb.write("blob", text.encode()))) for target in targets]


def test_code_and_parameters_stand_at_their_repository_paths(make_workspace: Make, odb: MemoryOdb) -> None:
    files = {b"conf/params.yaml": b"alpha: 1\n", b"src/train.py": b"only selected"}
    with make_workspace({}, code=code(odb, "src/train.py", "run.sh"), files=files) as workspace:
        assert listing(workspace.work) == {
            b"src/train.py": b"code", b"run.sh": b"code", b"conf/params.yaml": b"alpha: 1\n", b"pfs/out": b"<empty>",
        }  # fmt: skip


def test_code_at_absolute_places(make_workspace: Make, odb: MemoryOdb) -> None:
    files = code(odb, "/code/a.py", "/code/lib/b.py", "/usr/src/app/c.py", "/one/file.py")
    with make_workspace({}, code=files, mounts=["/code/", "/one/file.py", "/empty", "here"]) as workspace:
        assert set(workspace.mounts) == {"/code", "/usr/src/app", "/one/file.py", "/empty"}
        assert set(listing(workspace.mounts["/code"])) == {b"a.py", b"lib/b.py"}
        assert workspace.mounts["/one/file.py"].read_bytes() == b"code"
        assert workspace.mounts["/empty"].is_dir()


@pytest.mark.parametrize("target", ["pfs/x.py", "/pfs/x.py", "/x.py", "../x.py", "a//b"])
def test_code_cannot_be_put_everywhere(target: str, make_workspace: Make, odb: MemoryOdb) -> None:
    with pytest.raises(WorkspaceError):
        make_workspace({"x": {"a": "1"}}, code=code(odb, target))


def test_two_inputs_at_one_place_are_refused(workspaces: Workspaces, odb: MemoryOdb) -> None:
    for data in (b"1", LARGE):
        item = DatumInput("x", b"f", b"f", Entry(MODE_FILE, odb.write("blob", data)))
        with pytest.raises(WorkspaceError, match="two things want the place"):
            workspaces.create([item, item])


def test_everything_is_removed_whatever_its_modes(make_workspace: Make, workspaces: Workspaces, tmp_path: Path) -> None:
    workspace = make_workspace({"x": {"a/b": "1", "l@": "a"}})
    for name in ("locked", "locked/deep", "locked/deep/er"):
        (workspace.out / name).mkdir()
    (workspace.out / "locked/deep/er/file").touch()
    (workspace.out / "to-root").symlink_to("/")
    (workspace.out / "locked/deep").chmod(0)
    (workspace.out / "locked").chmod(0o500)
    workspace.close()
    assert list((tmp_path / "the run's/tasks").iterdir()) == []
    workspaces.close()
    assert not (tmp_path / "the run's").exists()
    remove_tree(tmp_path / "the run's")


def test_shells_can_hold_the_alias_of_any_path(tmp_path: Path, odb: MemoryOdb) -> None:
    with Workspaces(tmp_path / "a 'b' $c", odb) as workspaces, workspaces.create([]) as workspace:
        assert not set(str(workspace.alias)) & set(" '$")
        assert workspace.alias.samefile(workspace.top)
        alias = workspace.alias
    assert not os.path.lexists(alias.parents[1])


def test_a_lost_task_cannot_write_into_a_later_one(tmp_path: Path, odb: MemoryOdb) -> None:
    lost = Workspaces(tmp_path / "w", odb).create([]).out
    with Workspaces(tmp_path / "w", odb) as again, again.create([]) as workspace:
        assert not lost.exists()
        assert workspace.out != lost
