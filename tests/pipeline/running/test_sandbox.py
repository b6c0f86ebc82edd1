import errno
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitml.errors import UserError
from gitml.pipeline.bubblewrap import BubblewrapError
from gitml.pipeline.code import CodeFile
from gitml.pipeline.sandbox import Sandbox, choose_sandbox
from gitml.pipeline.task import TaskOutcome
from gitml.pipeline.view import Inside
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_EXECUTABLE, Entry

Run = Callable[..., TaskOutcome]


def script(odb: MemoryOdb, target: str, text: str = "#!/bin/sh\necho ran $0\n") -> CodeFile:
    return CodeFile(target, b"src", Entry(MODE_EXECUTABLE, odb.write("blob", text.encode())))


def output(outcome: TaskOutcome, name: str = "o") -> str:
    assert outcome.workspace is not None, outcome.message
    with outcome:
        return (outcome.workspace.out / name).read_text()


def test_inputs_and_output_are_below_pfs(run: Run) -> None:
    assert output(run("cat /pfs/x/a pfs/x/b > /pfs/out/o", {"x": {"a": "1", "b": "2"}})) == "12"
    assert output(run(["cp", "/pfs/x/a", "/pfs/out/o"], {"x": {"a": "1"}})) == "1"
    assert output(
        run('printf %s "$FILE" > /pfs/out/o; cp "$FILE" pfs/out', {"x": {"a": "1"}}, env=(("FILE", "/pfs/x/a"),))
    )


def test_nothing_else_is_below_pfs(run: Run) -> None:
    assert output(run("ls /pfs > /pfs/out/o", {"x": {"a": "1"}, "y": {"b": "2"}})).split() == ["out", "x", "y"]


def test_a_workspace_path_that_shells_would_split(run: Run, workspaces: Workspaces) -> None:
    assert "the run's" in str(workspaces.root)
    assert output(run("cp /pfs/x/* /pfs/out/o", {"x": {"a": "1"}})) == "1"


def test_code_mounted_at_an_absolute_place(run: Run, odb: MemoryOdb, sandbox: Sandbox) -> None:
    for target in ("/code/deep/go.sh", "/usr/src/app/go.sh", "/srv/go.sh", "/tmp/code/go.sh"):
        files = [script(odb, target, f"#!/bin/sh\ncat {target}.txt > $1\n"), script(odb, target + ".txt", "here")]
        if sandbox.name != "bwrap":  # what stands inside a script is not rewritten
            files[0] = script(odb, target, '#!/bin/sh\ncat "$0.txt" > $1\n')
        assert output(run([target, "/pfs/out/o"], code=files)) == "here"


def test_one_file_mounted_at_an_absolute_place(run: Run, odb: MemoryOdb) -> None:
    assert output(run("/app/go.sh > pfs/out/o", code=[script(odb, "/app/go.sh")], mounts=["/app/go.sh"]))


def test_working_directories(run: Run, odb: MemoryOdb, sandbox: Sandbox) -> None:
    code = [script(odb, "src/go.sh"), script(odb, "/code/go.sh")]
    assert output(run("ls src > pfs/out/o", code=code)) == "go.sh\n"
    assert output(run("ls > ../pfs/out/o", code=code, working_dir="src")) == "go.sh\n"
    assert output(run("ls > /pfs/out/o", code=code, working_dir="/code")) == "go.sh\n"
    assert output(run("cp pfs/x/a pfs/out/o", {"x": {"a": "1"}}, working_dir="/")) == "1"
    where = output(run("pwd > /pfs/out/o; echo $PWD >> /pfs/out/o")).split("\n")
    assert where[0] == where[1]
    assert where[0] == "/workspace" or (sandbox.name != "bwrap" and where[0].endswith("/work"))


def test_home_and_temporary_files_are_private(run: Run) -> None:
    text = "cd; ls -A . $TMPDIR > /pfs/out/o; touch f $TMPDIR/g; ls -A . $TMPDIR >> /pfs/out/o"
    for _ in range(2):
        names = output(run(text)).split()
        assert (names.count("f"), names.count("g")) == (1, 1)


def test_a_command_gets_exactly_its_environment(run: Run) -> None:
    names = {line.partition("=")[0] for line in output(run("env > pfs/out/o", {"x": {"a": "1"}})).splitlines()}
    assert names - {"_", "OLDPWD", "SHLVL"} == {
        "HOME", "TMPDIR", "PWD", "PATH", "PYTHONDONTWRITEBYTECODE", "x", "PACH_JOB_ID", "PACH_OUTPUT_COMMIT_ID",
        "PACH_DATUM_ID", "PPS_PIPELINE_NAME", "PPS_PROJECT_NAME",
    }  # fmt: skip


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is closed to root")
def test_a_directory_of_programs_that_is_closed_is_passed_over(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0)
    try:
        search = f"{closed}/bin:/usr/bin:/bin"
        choose_sandbox(sandbox.name.partition("-")[0], environ={"PATH": search})
        assert output(run("echo 1 > pfs/out/o", environ={"PATH": search})) == "1\n"
    finally:
        closed.chmod(0o700)


# --- bubblewrap alone ---


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a private /tmp does not hide."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    yield path.resolve()
    shutil.rmtree(path)


def inside(sandbox: Sandbox, workspace: Workspace, text: str) -> str:
    view = sandbox.view(workspace)
    done = subprocess.run(
        view.arguments(Inside(command=["/bin/sh", "-c", text], directory=view.directory(None)), None),
        capture_output=True,
        check=False,
        text=True,
    )
    return done.stdout + done.stderr


def bubblewrap(
    *, worktree: Path | None = None, git_dir: Path | None = None, network: bool = False, **environ: str
) -> Sandbox:
    try:
        return choose_sandbox("bwrap", worktree=worktree, git_dir=git_dir, network=network, environ=environ)
    except BubblewrapError as error:
        pytest.skip(f"bubblewrap does not work here: {error.reason}")


def test_the_repository_is_hidden_but_for_its_interpreters(
    place: Path, make_workspace: Callable[..., Workspace]
) -> None:
    worktree, git_dir, other = place / "repo", place / "git", place / "other"
    for path in (worktree / ".venv/bin", worktree / "bin", worktree / "data", git_dir, other):
        path.mkdir(parents=True)
        (path / "file").touch()
    (worktree / ".venv/pyvenv.cfg").touch()
    search = f"{worktree}/.venv/bin:{worktree}/bin:{worktree}:/bin"
    sandbox = bubblewrap(worktree=worktree, git_dir=git_dir, PATH=search)
    with make_workspace() as workspace:
        found = inside(sandbox, workspace, f"cd {place}; find . -type f")
        assert set(found.split()) == {
            "./other/file",
            "./repo/.venv/bin/file",
            "./repo/.venv/pyvenv.cfg",
            "./repo/bin/file",
        }
        for path in (place, worktree, worktree / "bin", Path("/usr"), Path("/etc")):
            assert "ead-only" in inside(sandbox, workspace, f"touch {path}/x")


def test_a_virtual_environment_below_tmp_works(make_workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    sandbox = bubblewrap(worktree=tmp_path)
    with make_workspace() as workspace:
        assert inside(sandbox, workspace, f"{sys.executable} -c 'import sys; print(sys.prefix)'").strip() == sys.prefix


def test_there_is_no_network_unless_allowed(make_workspace: Callable[..., Workspace]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, make_workspace() as workspace:
        connect = (
            f"{sys.executable} -c 'import socket; socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]}))'"
        )
        assert "refused" in inside(bubblewrap(), workspace, connect)
        assert inside(bubblewrap(network=True), workspace, connect) == ""


@pytest.mark.parametrize(
    ("user", "expected"),
    [("nobody", None), ("4711", "4711 0"), ("4711:4712", "4711 4712"), ("nobody:4712", None), ("nobody-such", "")],
)
def test_a_task_is_the_user_that_is_asked_for(
    user: str, expected: str | None, make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    try:
        sandbox = choose_sandbox("bwrap", worktree=tmp_path / "repo", user=user)
    except BubblewrapError as error:
        pytest.skip(f"bubblewrap does not work here: {error.reason}")
    if expected is None:
        nobody = pwd.getpwnam("nobody")
        expected = f"{nobody.pw_uid} {user.partition(':')[2] or nobody.pw_gid}"
    with make_workspace() as workspace:
        view = sandbox.view(workspace)
        command = "echo $(id -u) $(id -g) > /pfs/out/o; mkdir /pfs/out/d; touch /pfs/out/d/e; test -O /pfs/out/o"
        inside = Inside(command=["sh", "-ec", command], directory="/workspace", variables={"PATH": os.defpath})
        subprocess.run(view.arguments(inside, None), check=True, env=view.variables(inside))
        found = (workspace.out / "o").read_text().strip()
        made = (workspace.out / "d/e").stat()
        assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())
    if expected:
        assert (found, sandbox.notice) == (expected, None)
    else:
        assert found == f"{os.getuid()} {os.getgid()}"
        assert sandbox.notice == "commands run as you: this machine has not user 'nobody-such'"


def test_processes_outside_are_out_of_sight(make_workspace: Callable[..., Workspace]) -> None:
    with make_workspace() as workspace:
        assert str(os.getpid()) not in inside(bubblewrap(), workspace, "cd /proc; echo [0-9]*").split()


# --- the choice, and the stand-in alone ---


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitml.pipeline.landlock._syscall", lambda *_: (-1, errno.ENOSYS))


@pytest.mark.usefixtures("no_landlock")
def test_without_bubblewrap_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox = choose_sandbox("auto")
    assert sandbox.name == "none"
    assert sandbox.notice is not None
    assert "'bwrap' is not installed" in sandbox.notice
    with pytest.raises(UserError, match="'bwrap' is not installed"):
        choose_sandbox("bwrap")


@pytest.mark.usefixtures("no_landlock")
def test_a_bubblewrap_that_is_forbidden_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    sandbox = choose_sandbox("auto")
    assert sandbox.name == "none"
    assert "No permissions to create new namespace" in (sandbox.notice or "")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match="unknown sandbox 'docker'"):
        choose_sandbox("docker")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/pfs", "W/pfs"),
        ("/pfs/", "W/pfs/"),
        ("--data=/pfs/x/a", "--data=W/pfs/x/a"),
        ("-o/pfs/out/a", "-oW/pfs/out/a"),
        ("cp -r/pfs/x '/pfs/out'", "cp -rW/pfs/x 'W/pfs/out'"),
        ("/pfs/x:/pfs/y", "W/pfs/x:W/pfs/y"),
        ("for f in /pfs/x/*; do cat $f>/pfs/out/o; done", "for f in W/pfs/x/*; do cat $f>W/pfs/out/o; done"),
        ("python /code/train.py", "python M/code/train.py"),
        ("/code", "M/code"),
        ("a/pfs/x", "a/pfs/x"),
        ("$HOME/pfs/x ${A}/pfs ../pfs ~/pfs ./pfs", "$HOME/pfs/x ${A}/pfs ../pfs ~/pfs ./pfs"),
        ("s3://pfs/x", "s3://pfs/x"),
        ("/pfsx /pfs-x /pfs.x /codex", "/pfsx /pfs-x /pfs.x /codex"),
        ("é/pfs/x", "é/pfs/x"),
    ],
)
def test_what_the_stand_in_rewrites(
    text: str, expected: str, make_workspace: Callable[..., Workspace], odb: MemoryOdb
) -> None:
    with make_workspace(code=[script(odb, "/code/train.py")]) as workspace:
        got = choose_sandbox("none").view(workspace).rewrite(text)
        work, mounts = f"{workspace.alias}/work", f"{workspace.alias}/mounts"
        assert got.replace(work, "W").replace(mounts, "M") == expected
