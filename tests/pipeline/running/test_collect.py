import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.code import CodeFile
from gitml.pipeline.collect import (
    Collected,
    DuplicateOutputError,
    OutputError,
    collect,
    is_reserved,
    merge_outputs,
)
from gitml.pipeline.datum import DatumInput
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.sandbox import Sandbox
from gitml.pipeline.secretstore import Granted
from gitml.pipeline.task import TaskOutcome
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.content import read_content, store_content
from gitml.store.odb import Kind, MemoryOdb
from gitml.store.pointer import format_pointer, parse_pointer
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, Entry, Snapshot, edit_tree, empty_tree, format_tree

Make = Callable[..., Workspace]
Run = Callable[..., TaskOutcome]


def git(cwd: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


LARGE = os.urandom(150_000)


class Counting(MemoryOdb):
    """Takes streams of any size, and keeps only how much came."""

    def __init__(self) -> None:
        super().__init__()
        self.streamed: list[int] = []

    def write_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> Oid:
        self.streamed.append(sum(len(piece) for piece in pieces))
        return self.write(kind, b"%d" % size)


@pytest.fixture
def workspace(make_workspace: Make) -> Iterator[Workspace]:
    with make_workspace() as made:
        yield made


def gather(workspace: Workspace, odb: MemoryOdb, tracked: bool = False) -> Collected:
    return collect(workspace, odb, is_tracked=lambda _: tracked, label="stage 'm', datum 'd'")  # type: ignore[arg-type]


def files(odb: MemoryOdb, tree: Oid) -> dict[bytes, tuple[int, bytes]]:
    return {path: (entry.mode, odb.read(entry.oid)[1]) for path, entry in Snapshot(odb, tree).walk()}


def test_files_directories_and_modes(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "d/e").mkdir(parents=True)
    (workspace.out / "d/a").write_bytes(b"1")
    (workspace.out / "d.x").write_bytes(b"")
    (workspace.out / "run").write_bytes(b"2")
    (workspace.out / "run").chmod(0o755)
    (workspace.out / "empty/deep").mkdir(parents=True)
    found = gather(workspace, odb)
    assert files(odb, found.tree) == {
        b"d/a": (MODE_FILE, b"1"), b"d.x": (MODE_FILE, b""), b"run": (MODE_EXECUTABLE, b"2"),
    }  # fmt: skip
    assert (found.files, found.size, dict(found.pointers), found.plain_large) == (3, 2, {}, ())


def test_no_output_is_the_empty_tree(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "empty").mkdir()
    found = gather(workspace, odb)
    assert found.tree == empty_tree(odb.format)
    assert odb.has(found.tree)


def test_large_content_becomes_a_pointer_where_git_would_make_one(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "edge").write_bytes(LARGE[:65536])
    (workspace.out / "below").write_bytes(LARGE[:65535])
    found = gather(workspace, odb, tracked=True)
    stored = files(odb, found.tree)
    assert stored[b"below"][1] == LARGE[:65535]
    pointer = parse_pointer(stored[b"edge"][1])
    assert b"".join(read_content(pointer, odb)) == LARGE[:65536]
    manifest, data_tree = found.pointers[b"edge"]
    assert manifest == pointer.manifest
    assert odb.read(data_tree)[0] == "tree"
    assert found.plain_large == ()


def test_large_content_elsewhere_is_a_plain_blob(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "big").write_bytes(LARGE)
    found = gather(workspace, odb)
    assert files(odb, found.tree)[b"big"][1] == LARGE
    assert (dict(found.pointers), found.plain_large) == ({}, ((b"big", len(LARGE)),))


def test_more_than_four_gibibytes(workspace: Workspace) -> None:
    size = (4 << 30) + (100 << 20)
    with (workspace.out / "huge").open("wb") as file:
        file.truncate(size)
    writer = Counting()
    found = gather(workspace, writer)
    assert writer.streamed == [size]
    assert (found.size, found.plain_large) == (size, ((b"huge", size),))


def test_names_may_be_any_bytes(run: Run, odb: MemoryOdb) -> None:
    with run(
        r"cd pfs/out; printf 1 > 'a b'; printf 2 > \"$(printf 'n\nl')\"; printf 3 > \"$(printf '\377')\"".replace(
            '\\"', '"'
        )
    ) as outcome:
        assert outcome.workspace is not None
        assert set(files(odb, gather(outcome.workspace, odb).tree)) == {b"a b", b"n\nl", b"\xff"}


def test_from_a_repository_and_back(repo: Path, tmp_path: Path) -> None:
    where = Repository.discover(repo)
    objects = where.objects_dir
    with GitOdb(where.git, where.format) as odb:
        with PackWriter(objects, where.format, reader=odb) as pack:
            pointer = Entry(MODE_FILE, pack.write("blob", format_pointer(store_content([LARGE], pack).pointer)))
            plain = Entry(MODE_FILE, pack.write_stream("blob", len(LARGE), iter([LARGE])))
            inputs = [DatumInput("x", b"p", b"p", pointer), DatumInput("y", b"q", b"q", plain)]
            pack.finish()
        with Workspaces(tmp_path / "w", odb) as workspaces, workspaces.create(inputs) as workspace:
            (workspace.out / "both").write_bytes(
                (workspace.pfs / "x/p").read_bytes() + (workspace.pfs / "y/q").read_bytes()
            )
            with PackWriter(objects, where.format, reader=odb) as pack:
                found = collect(workspace, pack, is_tracked=lambda _: True, label="")
                data_trees = [data_tree for _, data_tree in found.pointers.values()]
                pack.finish()
        with PackWriter(objects, where.format, reader=odb) as pack:
            merged = merge_outputs([("a", found.tree), ("b", tree_of(pack, "c"))], pack, pack)
            pack.finish()
        stored = parse_pointer(Snapshot(odb, merged).read(b"both"))
        assert b"".join(read_content(stored, odb)) == LARGE * 2
    git(repo, "fsck", "--strict")
    assert all(git(repo, "ls-tree", str(tree)) for tree in data_trees)


# --- links ---


@pytest.mark.parametrize("tracked", [True, False])
def test_links_to_inputs_take_the_content_over(run: Run, odb: MemoryOdb, tracked: bool) -> None:
    pointer = Entry(MODE_FILE, odb.write("blob", format_pointer(store_content([LARGE], odb).pointer)))
    plain = Entry(MODE_FILE, odb.write("blob", LARGE))
    inputs = {"x": {"d/small*": "1", "big": pointer, "plain": plain}}
    text = "cd pfs/out; ln -s /pfs/x/d/small s; ln -s ../x/big big; ln -s /pfs/x whole; ln -s ../x/plain p"
    with run(text, inputs) as outcome:
        assert outcome.workspace is not None
        found = gather(outcome.workspace, odb, tracked)
    snapshot = Snapshot(odb, found.tree)
    assert files(odb, found.tree).keys() == {b"s", b"big", b"p", b"whole/d/small", b"whole/big", b"whole/plain"}
    small = snapshot.get(b"s")
    assert small is not None
    assert small.mode == MODE_EXECUTABLE
    assert (snapshot.get(b"big") == pointer) is tracked
    assert (snapshot.get(b"p") == plain) is not tracked
    assert (parse_pointer(snapshot.read(b"p")).size if tracked else len(snapshot.read(b"p"))) == len(LARGE)
    assert set(found.pointers) == ({b"p", b"whole/big", b"whole/plain"} if tracked else set())


def test_a_link_to_an_input_that_was_changed_is_a_copy(run: Run, odb: MemoryOdb) -> None:
    with run("echo 2 > pfs/x/a; ln -s ../x/a pfs/out/a", {"x": {"a": "1\n"}}) as outcome:
        assert outcome.workspace is not None
        assert files(odb, gather(outcome.workspace, odb).tree) == {b"a": (MODE_FILE, b"2\n")}


@pytest.mark.parametrize("tracked", [True, False])
def test_links_to_empty_files_bring_the_content(
    tracked: bool, workspaces: Workspaces, tree: Callable[..., Snapshot], odb: MemoryOdb
) -> None:
    stored = store_content([LARGE], odb)
    pointer = Entry(MODE_FILE, odb.write("blob", format_pointer(stored.pointer)))
    files = tree({"small": "text", "run*": "#!/bin/sh\n", "big": LARGE, "sub/pointer": pointer, "edited": "text"})
    item = DatumInput("data", b"data", b"", Entry(MODE_TREE, files.root), empty_files=True)
    with workspaces.create([item]) as workspace:
        for name in ("small", "run", "big", "edited"):
            assert (workspace.pfs / "data" / name).stat().st_size == 0
            (workspace.out / name).symlink_to(f"/pfs/data/{name}")
        (workspace.out / "sub").symlink_to("../data/sub")
        (workspace.pfs / "data/edited").write_text("mine")
        (workspace.out / "copy").write_bytes((workspace.pfs / "data/small").read_bytes())
        found = gather(workspace, odb, tracked)
    out = Snapshot(odb, found.tree)
    for kept in (b"small", b"run"):
        assert out.get(kept) == files.get(kept)
    assert out.read(b"edited") == b"mine"
    assert out.read(b"copy") == b""
    expected = format_pointer(stored.pointer) if tracked else LARGE
    assert out.read(b"big") == out.read(b"sub/pointer") == expected
    assert found.size == 2 * len(LARGE) + len("text#!/bin/sh\nmine")
    assert sorted(found.pointers) == ([b"big"] if tracked else [])
    assert sorted(path for path, _ in found.plain_large) == ([] if tracked else [b"sub/pointer"])


def test_links_inside_the_output(run: Run, odb: MemoryOdb) -> None:
    text = "cd pfs/out; mkdir d; echo 1 > d/a; ln -s d/a l; ln -s l ll; ln -s /pfs/out/d e; ln -s $PWD/d/a d/b"
    with run(text) as outcome:
        assert outcome.workspace is not None
        found = files(odb, gather(outcome.workspace, odb).tree)
    assert found.keys() == {b"d/a", b"d/b", b"l", b"ll", b"e/a", b"e/b"}
    assert {data for _, data in found.values()} == {b"1\n"}


def test_links_through_links_of_the_input(make_workspace: Make, odb: MemoryOdb) -> None:
    with make_workspace({"x": {"d/a": "1", "l@": "d"}}) as workspace:
        (workspace.out / "o").symlink_to("../x/l/a")
        assert files(odb, gather(workspace, odb).tree) == {b"o": (MODE_FILE, b"1")}


def test_links_to_private_temporary_files(run: Callable[..., TaskOutcome], odb: MemoryOdb) -> None:
    text = """
mkdir -p "$TMPDIR/d/e"; echo 1 > "$TMPDIR/d/a"; echo 2 > "$TMPDIR/d/e/b"; chmod +x "$TMPDIR/d/a"
ln -s "$TMPDIR/d/a" pfs/out/file; ln -s "$TMPDIR/d" pfs/out/directory; ln -s e/b "$TMPDIR/d/inner"
"""
    with run(text) as outcome:
        assert outcome.workspace is not None
        assert files(odb, gather(outcome.workspace, odb).tree) == {
            b"file": (MODE_EXECUTABLE, b"1\n"),
            b"directory/a": (MODE_EXECUTABLE, b"1\n"),
            b"directory/e/b": (MODE_FILE, b"2\n"),
            b"directory/inner": (MODE_FILE, b"2\n"),
        }
        (outcome.workspace.out / "up").symlink_to("/tmp/../etc/passwd")
        with pytest.raises(OutputError, match="outside the workspace"):
            gather(outcome.workspace, odb)
    secret = Granted(values=(("s", b"a secret value"),))
    with run('echo a secret value > "$TMPDIR/s"; ln -s "$TMPDIR/s" pfs/out/s', granted=secret) as outcome:
        assert outcome.workspace is not None
        with pytest.raises(OutputError, match="outside the workspace"):
            gather(outcome.workspace, odb)


def test_links_to_what_lies_beside_code(run: Run, sandbox: Sandbox, odb: MemoryOdb) -> None:
    places = ["src/a"] + (["/code/d/a"] if sandbox.name == "bwrap" else [])
    code = [CodeFile(place, place.encode(), Entry(MODE_FILE, odb.write("blob", b"1"))) for place in places]
    text = """
echo 2 > src/made; ln -s $PWD/src/a pfs/out/a; ln -s ../../src/made pfs/out/made; ln -s ../../src pfs/out/all
test -d /code && { echo 3 > /code/d/made; ln -s /code/d/made pfs/out/mounted; ln -s /code/d pfs/out/d; }
true
"""
    expected = {b"a": b"1", b"made": b"2\n", b"all/a": b"1", b"all/made": b"2\n"}
    if len(places) == 2:
        expected |= {b"mounted": b"3\n", b"d/a": b"1", b"d/made": b"3\n"}
    with run(text, code=code, mounts=["/code/d"]) as outcome:
        assert outcome.workspace is not None
        found = files(odb, gather(outcome.workspace, odb).tree)
        assert {path: data for path, (_, data) in found.items()} == expected
        (outcome.workspace.out / "up").symlink_to("/code/../etc/passwd")
        with pytest.raises(OutputError, match=r"outside the workspace|does not exist"):
            gather(outcome.workspace, odb)
    secret = Granted(values=(("s", b"a secret value"),))
    for place in places:  # what is looked through for secrets is the output itself
        with run(f'ln -s "$(realpath {place})" pfs/out/s', code=code, mounts=["/code/d"], granted=secret) as outcome:
            assert outcome.workspace is not None
            with pytest.raises(OutputError, match=r"outside the workspace|neither an input"):
                gather(outcome.workspace, odb)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/passwd", "outside the workspace"),
        ("/tmp", "neither an input nor an output"),
        ("/tmp/../etc/passwd", "outside the workspace"),
        ("/tmp/nothing", "does not exist"),
        ("../../../../../../../etc/passwd", "outside the workspace"),
        ("..", "neither an input nor an output"),
        ("/pfs", "neither an input nor an output"),
        ("nothing", "does not exist"),
        ("/pfs/y/a", "does not exist"),
        ("bad", "leads round in a circle"),
        ("file/x", "does not exist"),
    ],
)
def test_links_that_lead_elsewhere(target: str, why: str, make_workspace: Make, odb: MemoryOdb) -> None:
    with make_workspace({"x": {"a": "1"}}, files={b"code.py": b"1"}) as workspace:
        (workspace.out / "file").touch()
        (workspace.out / "bad").symlink_to(target)
        with pytest.raises(OutputError, match=why) as caught:
            gather(workspace, odb)
    assert caught.value.path == b"bad"
    assert caught.value.message.startswith(f"stage 'm', datum 'd': output 'bad' is a link to '{target}', which")
    assert caught.value.hint


@pytest.mark.parametrize("target", [".", "..", "/pfs/out"])
def test_directories_that_hold_themselves(target: str, workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "d").mkdir()
    (workspace.out / "d/l").symlink_to(target)
    with pytest.raises(OutputError, match=r"'d/l'.* a directory that holds it"):
        gather(workspace, odb)


def test_two_directories_that_hold_each_other(workspace: Workspace, odb: MemoryOdb) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (workspace.out / name).mkdir()
        (workspace.out / name / "l").symlink_to(f"../{other}")
    with pytest.raises(OutputError, match="a directory that holds it"):
        gather(workspace, odb)


# --- what cannot be a result ---


def test_devices_are_refused(workspace: Workspace, odb: MemoryOdb) -> None:
    try:
        os.mknod(workspace.out / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")
    with pytest.raises(OutputError, match="'null' is a device"):
        gather(workspace, odb)


def test_special_files(workspace: Workspace, odb: MemoryOdb) -> None:
    os.mkfifo(workspace.out / "pipe")
    with pytest.raises(OutputError, match="'pipe' is a named pipe"):
        gather(workspace, odb)
    (workspace.out / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        # bound by a relative name: the path of a socket has a small limit
        here = Path.cwd()
        os.chdir(workspace.out)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        with pytest.raises(OutputError, match="'socket' is a socket"):
            gather(workspace, odb)


def test_a_link_to_a_named_pipe_does_not_hang(make_workspace: Make, odb: MemoryOdb) -> None:
    with make_workspace({"x": {"a": "1"}}) as workspace:
        os.mkfifo(workspace.pfs / "x/pipe")
        (workspace.out / "l").symlink_to("../x/pipe")
        with pytest.raises(OutputError, match="no file"):
            gather(workspace, odb)


RESERVED = [
    ".git", ".GIT", ".git ", ".git.", ".git. .", "git~1", "GIT~1", ".git:stream", ".g\u200cit", "\ufeff.git",
    "x\\.git", ".git\\x", ".gitattributes", ".GitAttributes", ".gitattributes ", "gitatt~1", ".gitmodules",
    "GITMOD~4", "gi7eba~1", "gi7d29~1", ".gitmodules::$INDEX",
]  # fmt: skip


@pytest.mark.parametrize("name", RESERVED)
def test_names_that_git_keeps(name: str, workspace: Workspace, odb: MemoryOdb) -> None:
    assert is_reserved(name.encode())
    (workspace.out / "d").mkdir()
    (workspace.out / "d" / name).touch()
    with pytest.raises(OutputError, match="git keeps for itself"):
        gather(workspace, odb)


@pytest.mark.parametrize(
    "name", [".gitignore", "git", ".github", "x.git", "git~12", ".gitx", "gitattributes", "\udcff"]
)
def test_names_that_git_does_not_keep(name: str) -> None:
    assert not is_reserved(os.fsencode(name))


def test_a_pointer_is_no_result(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "p").write_bytes(format_pointer(store_content([LARGE], odb).pointer))
    with pytest.raises(OutputError, match="text of a gitml pointer"):
        gather(workspace, odb)


def test_an_output_that_is_gone_or_replaced(workspace: Workspace, odb: MemoryOdb, tmp_path: Path) -> None:
    workspace.out.rmdir()
    with pytest.raises(OutputError, match="'/pfs/out' is gone"):
        gather(workspace, odb)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").touch()
    workspace.out.symlink_to(tmp_path / "secret")
    with pytest.raises(OutputError, match="'/pfs/out' cannot be read"):
        gather(workspace, odb)


def test_directories_too_deep(workspace: Workspace, odb: MemoryOdb) -> None:
    (workspace.out / "/".join("d" * 250)).mkdir(parents=True)
    with pytest.raises(OutputError, match="nested deeper"):
        gather(workspace, odb)


def test_files_that_cannot_be_read(odb: MemoryOdb) -> None:
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    privileged = os.geteuid() == 0
    try:
        with Workspaces(top / "run", odb) as workspaces, workspaces.create([]) as workspace:
            (workspace.out / "locked").touch(0)
            try:
                if privileged:
                    os.seteuid(65534)
                with pytest.raises(OutputError, match="'locked' cannot be read: Permission denied"):
                    gather(workspace, odb)
            finally:
                if privileged:
                    os.seteuid(0)
    finally:
        remove_tree(top)


class Meddling(Counting):
    """Changes a file while it is read."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self.meddle = meddle

    def write_stream(self, kind: Kind, size: int, pieces: Iterable[bytes]) -> Oid:
        self.meddle()
        return super().write_stream(kind, size, pieces)


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_files_that_change_while_read(change: str, workspace: Workspace) -> None:
    path = workspace.out / "f"
    path.write_bytes(LARGE)
    os.utime(path, (1, 1))
    changes = {"grow": LARGE + b"1", "shrink": b"", "rewrite": LARGE[::-1]}
    with pytest.raises(OutputError, match="changed while it was read"):
        gather(workspace, Meddling(lambda: path.write_bytes(changes[change])))


# --- merging ---


def tree_of(odb: MemoryOdb | PackWriter, *paths: str) -> Oid:
    entry = Entry(MODE_FILE, odb.write("blob", b"1"))
    return edit_tree(odb, odb, empty_tree(odb.format), {path.encode(): entry for path in paths})


def test_outputs_of_datums_are_united(odb: MemoryOdb) -> None:
    odb.write("tree", b"")
    parts = [
        ("one", tree_of(odb, "a", "d/x", "d/e/y")),
        ("two", tree_of(odb, "b", "d/z")),
        ("none", empty_tree(odb.format)),
    ]
    merged = merge_outputs(parts, odb, odb)
    assert merged == tree_of(odb, "a", "b", "d/x", "d/e/y", "d/z")
    assert merge_outputs([], odb, odb) == empty_tree(odb.format)
    assert merge_outputs(parts[2:], odb, odb) == empty_tree(odb.format)


@pytest.mark.parametrize(
    ("first", "second", "path", "how"),
    [
        (["d/a", "b"], ["d/a", "c"], b"d/a", "was written by two datums"),
        (["d"], ["d/a"], b"d", "is a file from one datum and a directory from another"),
        (["e/d/a"], ["e/d"], b"e/d", "is a file from one datum and a directory from another"),
    ],
)
def test_two_datums_at_one_path(odb: MemoryOdb, first: list[str], second: list[str], path: bytes, how: str) -> None:
    parts = [("one", tree_of(odb, *first)), ("other", tree_of(odb, "else")), ("two", tree_of(odb, *second))]
    with pytest.raises(DuplicateOutputError, match=how) as caught:
        merge_outputs(parts, odb, odb)
    assert (caught.value.path, caught.value.labels) == (path, ("one", "two"))
    assert caught.value.message.endswith(": one and two")


def test_ten_thousand_datums_write_few_trees(odb: MemoryOdb) -> None:
    file = Entry(MODE_FILE, odb.write("blob", b"1"))
    parts = []
    for number in range(10_000):
        entry = file
        for name in (f"{number}", f"{number % 100}", "d"):
            entry = Entry(MODE_TREE, odb.write("tree", format_tree([(name.encode(), entry)])))
        parts.append((str(number), entry.oid))
    before = set(odb.objects)
    merged = merge_outputs(parts, odb, odb)
    assert sum(1 for _ in Snapshot(odb, merged).walk()) == 10_000
    assert len(set(odb.objects) - before) == 102
