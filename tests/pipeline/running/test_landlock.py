"""Real tasks under Landlock, also with what older kernels have of it."""

import errno
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitml.pipeline import landlock
from gitml.pipeline.landlock import LandlockError
from gitml.pipeline.readable import hidden_places, readable_places
from gitml.pipeline.sandbox import Sandbox, choose_sandbox
from gitml.pipeline.secretstore import Granted
from gitml.pipeline.task import TaskOutcome
from gitml.pipeline.view import Inside
from gitml.pipeline.workspace import Workspace

Run = Callable[..., TaskOutcome]
FORBIDDEN = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"


def landlocked(worktree: Path, abi: int = 1, *, network: bool = False) -> Sandbox:
    try:
        found = landlock.version()
        if found < abi:
            pytest.skip(f"this kernel has version {found} of Landlock, not {abi}")
        return choose_sandbox("landlock", worktree=worktree, network=network)
    except LandlockError as error:
        pytest.skip(f"Landlock does not work here: {error.reason}")


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    where = tmp_path / "repo"
    (where / ".git").mkdir(parents=True)
    (where / "file").write_text("of the repository")
    return where


@pytest.fixture
def sandbox(worktree: Path) -> Sandbox:
    return landlocked(worktree)


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], str]:
    return (tmp_path / "task.log").read_text


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the kernel say that its Landlock is of an older version; what is asked of it then is what that one knew."""
    real = landlock._syscall

    def says(version: int) -> None:
        def call(number: int, *arguments: bytes | int | None) -> tuple[int, int]:
            asked = number == landlock._CREATE_RULESET and arguments[0] is None
            return (version, 0) if asked else real(number, *arguments)

        monkeypatch.setattr(landlock, "_syscall", call)

    return says


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have every call for Landlock fail with an error."""

    def fails(fault: int) -> None:
        monkeypatch.setattr(landlock, "_syscall", lambda *_: (-1, fault))

    return fails


def output(outcome: TaskOutcome, name: str = "o") -> str:
    assert outcome.workspace is not None, outcome.message
    with outcome:
        return (outcome.workspace.out / name).read_text()


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(lines)]


# --- files ---


@pytest.mark.parametrize(
    "change",
    [
        "echo x > P/file", "echo x >> P/file", "truncate -s 0 P/file", "rm P/file", "mv P/file P/other", "touch P/new",
        "mkdir P/new", "ln -s a P/new", "ln P/file P/new", "mkfifo P/new", "rmdir P/empty", "mv P/file $TMPDIR/file",
        "echo x > $TMPDIR/new; mv $TMPDIR/new P/new", "ln P/file $TMPDIR/file; echo x > $TMPDIR/file",
    ],
)  # fmt: skip
def test_nothing_is_written_outside(
    run: Run, sandbox: Sandbox, tmp_path: Path, log: Callable[[], str], change: str
) -> None:
    if "version" in (sandbox.notice or "").partition("keep them from")[2]:
        pytest.skip("this kernel does not refuse all of it")
    place = tmp_path / "outside"
    (place / "empty").mkdir(parents=True)
    (place / "file").write_text("as it was")
    outcome = run(change.replace("P/", f"{place}/"), datum_tries=1)
    assert outcome.state == "failed"
    assert any(word in log() for word in ("ermission denied", "Invalid cross-device link", "not permitted"))
    assert sorted(path.name for path in place.iterdir()) == ["empty", "file"]
    assert (place / "file").read_text() == "as it was"


def test_what_is_not_declared_cannot_be_read(
    run: Run, worktree: Path, tmp_path: Path, make_workspace: Callable[..., Workspace], sealed_environment: Path
) -> None:
    (tmp_path / "beside").write_text("somebody's")
    (worktree / ".git" / "config").write_text("[core]")
    (sealed_environment / "diary").write_text("private")
    with make_workspace({"x": {"a": "of another task"}}) as other:
        files = [
            worktree / "file", worktree / ".git/config", tmp_path / "beside", sealed_environment / "diary",
            other.pfs / "x/a",
        ]  # fmt: skip
        seen = f"for each in {' '.join(map(repr, map(str, files)))}; do cat $each >> pfs/out/o || echo no; done"
        # what is in no argument of the shell is not rewritten
        quoted = seen.replace("$each", '"$each"') + "; for each in 'R' 'T'; do ls \"$each\" >> pfs/out/o || true; done"
        text = quoted.replace("'R'", f"'{worktree}'").replace("'T'", f"'{tmp_path}'")
        assert all(path.read_text() for path in files)
        assert output(run(f": > pfs/out/o; {text}")) == ""


def test_what_is_declared_and_installed_can_be_read(run: Run) -> None:
    inputs = {"x": {"a": "1", "b/c": "2"}}
    assert output(run("cat /pfs/x/a /pfs/x/b/c > /pfs/out/o; test -r /etc/passwd; ls /usr > $TMPDIR/l", inputs)) == "12"
    code = python(
        "import ctypes, json, sqlite3, ssl, subprocess, sys, tempfile",
        "subprocess.run([sys.executable, '-c', 'import decimal'], check=True)",
        "with tempfile.NamedTemporaryFile() as file: file.write(b'1')",
        "open('pfs/out/o', 'w').write(sys.prefix)",
    )
    assert output(run(code)) == sys.prefix


def test_programs_start_programs_and_files_move(run: Run) -> None:
    text = """
start=$PWD; cd $TMPDIR; git init -q r; cd r; echo 1 > f; git add f
git -c user.name=A -c user.email=a@b commit -qm one; git gc -q; git log --format=%s > ../said
cd - > /dev/null; mkdir a b; echo 1 > a/f; mv a/f b/g; ln b/g b/h; mv a b/; rm -r b
sh -c "cat said | tr a-z A-Z > said2"; mv said2 $start/pfs/out/o; echo said > /dev/stdout
"""
    assert output(run(text)) == "ONE\n"


def test_memory_is_shared_between_processes_of_a_task_alone(run: Run) -> None:
    code = python(
        "import multiprocessing as m, os",
        "from multiprocessing.shared_memory import SharedMemory",
        "if __name__ == '__main__':",
        "    memory = SharedMemory(create=True, size=8); memory.buf[0] = 7",
        "    with m.get_context('fork').Pool(2) as pool: total = sum(pool.map(abs, [1, -2, 3]))",
        "    m.Lock(); memory.close(); memory.unlink()",
        "    try: os.listdir('/dev/shm'); total = -1",
        "    except PermissionError: pass",
        "    open('pfs/out/o', 'w').write(str(total))",
    )
    assert output(run(code)) == "6"


def test_secrets_can_be_read_and_not_changed(run: Run, worktree: Path, log: Callable[[], str]) -> None:
    place = worktree / ".git/ml/secrets/s"
    place.mkdir(parents=True)
    (place / "key").write_text("value")
    granted = Granted(directories={"/secret": place})
    assert output(run("wc -c < /secret/key > pfs/out/o", granted=granted)).strip() == "5"
    assert run("echo x > /secret/key", granted=granted, datum_tries=1).state == "failed"
    assert run("echo x > /secret/new", granted=granted, datum_tries=1).state == "failed"
    assert (place / "key").read_text() == "value"
    assert "ermission denied" in log()


@pytest.mark.skipif(os.getuid() != 0, reason="nobody else makes devices")
def test_root_makes_no_devices(run: Run) -> None:
    assert run("mknod $TMPDIR/d c 1 5", datum_tries=1).state == "failed"


def test_a_program_that_is_hidden_is_not_found(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    outcome = run([str(program)])
    assert (outcome.status, outcome.attempts) == (127, 1)
    assert "is not found in the workspace" in outcome.message
    assert "put its directory on PATH" in (outcome.hint or "")


def test_the_way_into_a_control_group_is_open(
    sandbox: Sandbox, make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    door, beside = tmp_path / "cgroup.procs", tmp_path / "memory.max"
    door.touch()
    beside.touch()
    with make_workspace() as workspace:
        view = sandbox.view(workspace)
        inside = Inside(command=["sh", "-c", f"echo 1 > {door}; echo 2 > {beside}"], directory=view.directory(None))
        command = view.arguments(inside, None)
        done = view.start(lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE), [door])
        assert b"ermission denied" in done.communicate()[1]
    assert (door.read_text(), beside.read_text()) == ("1\n", "")


def test_libraries_that_variables_name_can_be_read(
    worktree: Path, make_workspace: Callable[..., Workspace], sealed_environment: Path
) -> None:
    landlocked(worktree)
    libraries, beside = sealed_environment / "lib/mine", sealed_environment / "lib/file"
    libraries.mkdir(parents=True)
    (libraries / "a").write_text("1")
    beside.write_text("2")
    environ = {**os.environ, "LD_LIBRARY_PATH": f"{libraries}:relative:"}
    sandbox = choose_sandbox("landlock", worktree=worktree, environ=environ)
    with make_workspace() as workspace:
        assert said(sandbox, workspace, f"print(open('{libraries}/a').read())") == "1\n"
        assert "PermissionError" in said(sandbox, workspace, f"open('{beside}')")


# --- network, signals ---


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as result:
        yield result


def test_tcp_is_refused_unless_the_network_is_allowed(
    worktree: Path, make_workspace: Callable[..., Workspace], server: socket.socket
) -> None:
    lines = ("import socket", f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))")
    listening = ("import socket", "socket.create_server(('127.0.0.1', 0))", "print('listens')")
    closed, opened = landlocked(worktree, 4), landlocked(worktree, 4, network=True)
    with make_workspace() as workspace:
        assert "PermissionError" in said(closed, workspace, *lines)
        assert "PermissionError" in said(closed, workspace, *listening)
        assert said(opened, workspace, *lines) == ""
        assert said(opened, workspace, *listening) == "listens\n"
    assert "UDP" in (closed.notice or "")
    assert "UDP" not in (opened.notice or "")


def test_processes_outside_are_out_of_reach(worktree: Path, make_workspace: Callable[..., Workspace]) -> None:
    sandbox = landlocked(worktree, 6)
    name = f"\0gitml-{secrets.token_hex(8)}"
    with make_workspace() as workspace, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        connect = ("import socket", f"socket.socket(socket.AF_UNIX).connect({name!r})")
        assert "PermissionError" in said(sandbox, workspace, *connect)
        assert "PermissionError" in said(sandbox, workspace, "import os", f"os.kill({os.getpid()}, 0)")
        among = ("import os, subprocess", "p = subprocess.Popen(['sleep', '9'])", "p.kill(); print(p.wait())")
        assert said(sandbox, workspace, *among) == "-9\n"
        environ = f"open('/proc/{os.getpid()}/environ').read(1)"
        assert "PermissionError" in said(sandbox, workspace, environ)
        capabilities = "print([line for line in open('/proc/self/status') if line.startswith('CapEff')])"
        assert "CapEff:\\t0000000000000000" in said(sandbox, workspace, capabilities)


def said(sandbox: Sandbox, workspace: Workspace, *lines: str) -> str:
    view = sandbox.view(workspace)
    command = view.arguments(Inside(command=python(*lines), directory=view.directory(None)), None)
    done = view.start(
        lambda: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={}
        ),
        [],
    )
    return done.communicate()[0].decode()


def test_we_keep_our_own_rights_and_descriptors(run: Run, tmp_path: Path) -> None:
    run("true").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run("true").close()
        run(["no-such-program"]).close()
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "file").write_text("1")
    assert (tmp_path / "file").read_text() == "1"


# --- what kernels have of it ---


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (1, ["TCP (version 4 does)", "cutting off files (version 3 does)", "renamed into another directory"]),
        (2, ["TCP (version 4 does)", "cutting off files (version 3 does)"]),
        (3, ["TCP (version 4 does)", "signals to your processes (version 6 does)"]),
        (5, ["signals to your processes (version 6 does)"]),
        (6, []),
    ],
)
def test_older_versions_are_used_and_told_of(
    version: int, missing: list[str], worktree: Path, old_kernel: Callable[[int], None], server: socket.socket,
    make_workspace: Callable[..., Workspace], tmp_path: Path,
) -> None:  # fmt: skip
    landlocked(worktree, max(version, 4))
    old_kernel(version)
    sandbox = landlocked(worktree)
    assert sandbox.name == f"landlock-abi{version}"
    assert [each for each in missing if each not in (sandbox.notice or "")] == []
    assert ("version 4 does" in (sandbox.notice or "")) == (version < 4)
    target = tmp_path / "outside"
    target.write_text("as it was")
    connect = ("import socket", f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))")
    move = ("import os", "os.makedirs('a'); os.makedirs('b'); open('a/f', 'w'); os.rename('a/f', 'b/f')")
    with make_workspace() as workspace:
        at = f"import os; os.chdir({str(workspace.work)!r})"
        assert ("PermissionError" in said(sandbox, workspace, *connect)) == (version >= 4)
        assert ("cross-device" in said(sandbox, workspace, at, *move)) == (version < 2)
        assert ("PermissionError" in said(sandbox, workspace, f"import os; os.truncate({str(target)!r}, 1)")) == (
            version >= 3
        )
        assert "PermissionError" in said(sandbox, workspace, f"open({str(worktree / 'file')!r})")


def test_a_version_that_is_not_known_yet_is_used_as_the_newest_that_is(old_kernel: Callable[[int], None]) -> None:
    old_kernel(99)
    assert landlock.version() == landlock.KNOWN


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errno.ENOSYS, "this kernel has none; Linux has it from 5.13 on"),
        (errno.EOPNOTSUPP, "this kernel was started without it"),
        (errno.EPERM, "it may not be used here"),
    ],
)
def test_without_landlock_the_reason_is_told(
    fault: int, reason: str, no_landlock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_landlock(fault)
    with pytest.raises(LandlockError, match=reason):
        choose_sandbox("landlock")
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox = choose_sandbox("auto")
    assert sandbox.name == "none"
    assert "'bwrap' is not installed; Landlock: " in (sandbox.notice or "")
    assert reason in (sandbox.notice or "")


def test_landlock_takes_the_place_of_a_bubblewrap_that_is_forbidden(
    worktree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = landlocked(worktree).name
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bwrap").write_text(FORBIDDEN)
    (tmp_path / "bin/bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    sandbox = choose_sandbox("auto", worktree=worktree)
    assert sandbox.name == expected
    assert "No permissions to create new namespace" in (sandbox.notice or "")


def test_a_worktree_that_is_everything_is_refused() -> None:
    landlocked(Path("/nonexistent"))
    with pytest.raises(LandlockError, match="the worktree is '/'"):
        choose_sandbox("landlock", worktree=Path("/"))


# --- what can be read ---


def test_interpreters_of_a_home_with_what_they_read(tmp_path: Path) -> None:
    home = tmp_path / "home/ada"
    for name in (
        ".local/bin", ".local/lib/python", ".local/share/keyrings", ".local/share/uv/python/cpython/bin", "conda/bin",
        ".local/share/uv/python/cpython/lib", "conda/conda-meta", ".pyenv/shims", ".pyenv/libexec", "bin", ".ssh",
        "project/env/bin", "project/tools/bin", "project/tools/lib", "project/data",
    ):  # fmt: skip
        (home / name).mkdir(parents=True)
    (home / ".local/share/uv/python/cpython/bin/python3.12").touch()
    (home / ".local/bin/python").symlink_to(home / ".local/share/uv/python/cpython/bin/python3.12")
    (home / "bin/data").symlink_to(home / "project/data")
    (home / "project/env/pyvenv.cfg").touch()
    hidden = hidden_places([home / "project"], {"HOME": str(home)})
    names = (".local/bin", "conda/bin", ".pyenv/shims", "bin", "project/env/bin", "project/tools/bin", ".", "project")
    found = readable_places(hidden, [home / "project"], [home / name for name in names])
    assert [str(path.relative_to(home)) for path in found if path.is_relative_to(home)] == [
        ".local/bin", ".local/lib", ".local/share/uv/python/cpython", ".pyenv", "bin", "conda", "project/env",
        "project/tools/bin",
    ]  # fmt: skip
    outside = [str(path) for path in found if not path.is_relative_to(home)]
    assert "/usr" in outside
    assert "/etc" in outside
    assert not any(Path("/tmp").is_relative_to(path) or Path("/dev").is_relative_to(path) for path in outside)


def test_what_lies_beside_a_hidden_directory_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = hidden_places([Path("/usr/lib/x/repo")], {"HOME": "/"})
    found = readable_places(hidden, [Path("/usr/lib/x/repo")], [])
    assert Path("/usr/bin").resolve() in found
    assert Path("/usr") not in found
    assert Path("/usr/lib") not in found
