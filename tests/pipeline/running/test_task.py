import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitml.pipeline.code import CodeFile
from gitml.pipeline.sandbox import Sandbox
from gitml.pipeline.task import NOT_EXECUTABLE, NOT_FOUND, TaskOutcome, TaskStoppedError
from gitml.pipeline.workspace import Workspaces
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, Entry

Run = Callable[..., TaskOutcome]


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], str]:
    return (tmp_path / "task.log").read_text


def attempts_in(log: Callable[[], str]) -> int:
    return log().count("--- attempt ")


def test_success_keeps_the_output(run: Run, log: Callable[[], str], tmp_path: Path) -> None:
    with run("echo 1 > /pfs/out/a; echo said; echo warned >&2") as outcome:
        assert (outcome.state, outcome.attempts, outcome.status, outcome.message) == ("success", 1, 0, "")
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "a").read_text() == "1\n"
        assert outcome.seconds > 0
    assert log() == "--- attempt 1 of 3: sh -e\nsaid\nwarned\n"
    assert list((tmp_path / "the run's/tasks").iterdir()) == []


def test_failure_is_tried_again_in_a_fresh_workspace(run: Run, log: Callable[[], str], tmp_path: Path) -> None:
    outcome = run("ls pfs/out pfs/x; echo 1 > pfs/out/a; rm pfs/x/in; exit 3", {"x": {"in": "1"}}, datum_tries=2)
    assert (outcome.state, outcome.attempts, outcome.status) == ("failed", 2, 3)
    assert outcome.message == "'sh' ended with exit status 3"
    assert outcome.workspace is None
    assert log().count("pfs/out:\n\npfs/x:\nin\n") == 2
    assert "attempt 2 of 2" in log()
    assert list((tmp_path / "the run's/tasks").iterdir()) == []


def test_a_later_attempt_may_succeed(run: Run, log: Callable[[], str]) -> None:
    each = [{}, {"files": {b"now": b""}}]
    with run("echo 1 > pfs/out/a; [ -e now ]", each=each) as outcome:
        assert (outcome.state, outcome.attempts, attempts_in(log)) == ("success", 2, 2)


def test_recovery_sticks_unless_an_attempt_succeeds(run: Run) -> None:
    recovers = {"err_cmd": ("sh",), "err_stdin": ("[ ! -e now ]",)}
    assert run("exit 1", datum_tries=2, each=[{}, {"files": {b"now": b""}}], **recovers).state == "recovered"
    with run("[ -e now ]", each=[{}, {"files": {b"now": b""}}], **recovers) as outcome:
        assert (outcome.state, outcome.attempts) == ("success", 2)


def test_other_exit_statuses_can_count_as_success(run: Run) -> None:
    with run("exit 7", accept_return_code=(7,)) as outcome:
        assert (outcome.state, outcome.status) == ("success", 7)


def test_a_task_runs_when_descriptors_are_above_a_thousand(run: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip("this machine allows fewer descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    try:
        with run("true", datum_tries=1) as outcome:
            assert (outcome.state, outcome.message) == ("success", "")
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_signal_is_named(run: Run) -> None:
    outcome = run("kill -9 $$", datum_tries=1)
    assert outcome.status == 128 + signal.SIGKILL
    assert outcome.message == "'sh' ended with exit status 137 (SIGKILL)"


def test_the_error_command_recovers_a_datum(run: Run, log: Callable[[], str]) -> None:
    outcome = run(
        "echo left > pfs/out/a; exit 1", datum_tries=2, err_cmd=("sh",), err_stdin=("cat /pfs/out/a", "exit 5"),
        accept_return_code=(5,),
    )  # fmt: skip
    assert (outcome.state, outcome.attempts, outcome.status, outcome.workspace) == ("recovered", 2, 1, None)
    assert log().count("error command: sh\nleft\n") == 2


def test_the_error_command_may_fail_too(run: Run, log: Callable[[], str]) -> None:
    outcome = run("exit 1", datum_tries=2, err_cmd=("false",))
    assert (outcome.state, outcome.status) == ("failed", 1)
    assert "'false' ended with exit status 1" in log()


def test_a_missing_command_fails_at_once(run: Run, log: Callable[[], str]) -> None:
    outcome = run(["trian"])
    assert (outcome.state, outcome.attempts, outcome.status) == ("failed", 1, NOT_FOUND)
    assert outcome.message == "command 'trian' is not found"
    assert "/usr/bin" in (outcome.hint or "")
    assert "error command" not in log()


def test_the_error_command_runs_also_where_the_command_cannot_start(
    run: Run, log: Callable[[], str], odb: MemoryOdb
) -> None:
    fields: dict[str, Any] = {"err_cmd": ("sh",), "err_stdin": ("cat /pfs/x/in", "[ ! -e now ]")}
    for command, status in (["trian"], NOT_FOUND), (["/no/such/train.sh"], NOT_FOUND), (["./train.sh"], NOT_EXECUTABLE):
        code = [CodeFile("train.sh", b"", Entry(MODE_FILE, odb.write("blob", b"#!/bin/sh\n")))]
        outcome = run(command, {"x": {"in": "seen\n"}}, code=code, **fields)
        assert (outcome.state, outcome.attempts, outcome.status) == ("recovered", 1, status)
        assert log().endswith("--- error command: sh\nseen\n")
    assert run(["trian"], files={b"now": b""}, **fields).state == "failed"
    broken = [CodeFile("train.sh", b"", Entry(MODE_EXECUTABLE, odb.write("blob", b"#!/no/such/shell\n")))]
    outcome = run(["./train.sh"], code=broken, err_cmd=("true",))
    assert (outcome.state, outcome.attempts) == ("recovered", 1)
    outcome = run(["true"], working_dir="nowhere", err_cmd=("true",))
    assert (outcome.state, outcome.attempts) == ("failed", 1), "nothing can start there"


def test_a_command_that_is_not_in_the_workspace(run: Run) -> None:
    outcome = run(["src/train.sh"])
    assert outcome.message == "command 'src/train.sh' is not found in the workspace"
    assert "'code'" in (outcome.hint or "")


def test_a_command_that_is_not_executable(run: Run, odb: MemoryOdb) -> None:
    code = [CodeFile("train.sh", b"", Entry(MODE_FILE, odb.write("blob", b"#!/bin/sh\n")))]
    outcome = run(["./train.sh"], code=code)
    assert (outcome.attempts, outcome.status) == (1, NOT_EXECUTABLE)
    assert outcome.message == "command './train.sh' is not executable"
    assert run(["./train.sh"], code=code, env=(("PATH", "."),)).status == NOT_EXECUTABLE
    assert run(["train.sh"], code=code, env=(("PATH", "."),)).message == "command 'train.sh' is not executable"


def test_programs_of_an_image_are_found_by_name(run: Run, odb: MemoryOdb) -> None:
    text = b'#!/bin/sh\nprintf %s "${0##*/} $1" > "$2"\n'
    code = [
        CodeFile(place, b"", Entry(MODE_FILE, odb.write("blob", text))) for place in ("/go/bin/tool", "/opt/x/bin/app")
    ]
    mounts = ["/go/bin", "/opt/x"]
    for name in ("tool", "app"):
        with run([name, "1", "/pfs/out/o"], code=code, mounts=mounts, image="acme/x:1") as outcome:
            assert outcome.workspace is not None, outcome.message
            assert (outcome.workspace.out / "o").read_text() == f"{name} 1"
    for fields in ({}, {"image": "acme/x:1", "env": (("PATH", "/usr/bin:/bin"),)}):
        outcome = run(["tool"], code=code, mounts=mounts, **fields)
        assert outcome.message == "command 'tool' is not found"


def test_an_interpreter_that_is_missing(run: Run, odb: MemoryOdb) -> None:
    code = [CodeFile("train.sh", b"", Entry(MODE_EXECUTABLE, odb.write("blob", b"#!/no/such\n")))]
    outcome = run(["./train.sh"], code=code)
    assert (outcome.state, outcome.attempts) == ("failed", 1)
    assert outcome.message == "cannot start './train.sh': No such file or directory"


def test_a_shell_that_misses_a_command_is_not_asked_again(run: Run, log: Callable[[], str]) -> None:
    outcome = run("no-such-tool")
    assert (outcome.attempts, outcome.status) == (1, 127)
    assert "a command it calls was not found" in outcome.message
    assert "no-such-tool" in log()


def test_no_command_and_no_directory(run: Run, make_stage: Callable[..., object]) -> None:
    outcome = run("true", working_dir="nowhere")
    assert outcome.attempts == 1
    assert outcome.message.startswith("working directory '")


def test_arguments_that_are_too_long(run: Run) -> None:
    outcome = run(["true", "x" * 200_000])
    assert (outcome.state, outcome.attempts) == ("failed", 1)
    assert "Argument list too long" in outcome.message


def test_a_time_limit_ends_the_whole_group(run: Run, tmp_path: Path, log: Callable[[], str]) -> None:
    outcome = run("echo begun; sleep 600 & sleep 600", datum_timeout=1.0, datum_tries=1)
    assert outcome.state == "failed"
    assert outcome.message == "'sh' was ended after 1 s, the time limit of a datum"
    assert "begun" in log()


def test_a_command_may_end_itself_in_time(run: Run, log: Callable[[], str]) -> None:
    outcome = run("trap 'echo tidied; exit 4' TERM; while true; do sleep 0.1; done", datum_timeout=2.0, datum_tries=1)
    assert outcome.status == 4
    assert "tidied" in log()


def test_a_command_that_ignores_the_end_is_killed(run: Run) -> None:
    outcome = run("trap '' TERM; while true; do sleep 0.1; done", datum_timeout=2.0, datum_tries=1, grace=0.3)
    assert outcome.status == 128 + signal.SIGKILL


@pytest.mark.parametrize("redirect", ["", ">/dev/null 2>&1"])
def test_what_stays_in_the_background_is_killed(run: Run, sandbox: Sandbox, redirect: str) -> None:
    # A task that leaves writers behind neither hangs nor changes its outputs later.
    writer = f"(while true; do date +%N > pfs/out/$each; sleep 0.01; done) {redirect} &"
    with run(f"for each in 1 2 3 4 5 6 7 8; do {writer} done; sleep 0.3; echo done") as outcome:
        assert outcome.state == "success"
        assert outcome.workspace is not None
        first = [file.stat().st_mtime_ns for file in sorted(outcome.workspace.out.iterdir())]
        time.sleep(0.1)
        assert [file.stat().st_mtime_ns for file in sorted(outcome.workspace.out.iterdir())] == first
        assert len(first) == 8


def test_standard_input(run: Run) -> None:
    with run(["cp", "/dev/stdin", "pfs/out/a"], stdin=("one", "two")) as outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "a").read_text() == "one\ntwo\n"


def test_without_standard_input_there_is_its_end(run: Run) -> None:
    with run(["cp", "/dev/stdin", "pfs/out/a"]) as outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "a").read_text() == ""


def test_a_command_need_not_read_its_input(run: Run) -> None:
    with run(["true"], stdin=("x" * 100_000,) * 20) as outcome:
        assert outcome.state == "success"


def test_more_input_and_output_than_pipes_hold(run: Run, tmp_path: Path) -> None:
    with run(["cat"], stdin=("x" * 99_999,) * 5, log_limit=1 << 20) as outcome:
        assert outcome.state == "success"
    assert (tmp_path / "task.log").stat().st_size == 500_000 + len("--- attempt 1 of 3: cat\n")


def test_a_long_log_keeps_its_head_and_tail(run: Run, log: Callable[[], str]) -> None:
    outcome = run("seq 100000", log_limit=2000)
    outcome.close()
    text = log()
    assert text.startswith("--- attempt 1 of 3: sh -e\n1\n2\n")
    assert text.endswith("99999\n100000\n")
    assert "bytes left out" in text
    assert len(text) < 2100


def test_stopping_ends_a_task_promptly(run: Run, tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(TaskStoppedError):
        run("sleep 600", stop=stop)
    assert list((tmp_path / "the run's/tasks").iterdir()) == []
    with pytest.raises(TaskStoppedError):
        run("true", stop=stop)


def test_a_changed_shared_input_fails_the_task(run: Run, workspaces: Workspaces) -> None:
    workspaces._clones = False
    script = "chmod u+w pfs/x/big; echo more >> pfs/x/big"
    outcome = run(script, {"x": {"big": "x" * 100_000}}, datum_tries=2)
    assert (outcome.state, outcome.attempts) == ("failed", 2)
    assert outcome.message == "input '/pfs/x/big' was changed while the task ran"
    with run("cp pfs/x/big pfs/out", {"x": {"big": "x" * 100_000}}) as later:
        assert later.workspace is not None
        assert (later.workspace.out / "big").stat().st_size == 100_000


def test_memory_is_measured(run: Run) -> None:
    size = 40 << 20
    with run([sys.executable, "-c", f"x = b'1' * {size}; import time; time.sleep(0.6)"]) as outcome:
        assert outcome.state == "success"
        assert outcome.max_rss is not None
        assert size < outcome.max_rss < 5 * size


def test_processor_time_is_measured_and_waiting_is_none(run: Run, request: pytest.FixtureRequest) -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(30_000_000))'])"
    with run([sys.executable, "-c", busy]) as worked, run(["sleep", "0.5"]) as waited:
        if "bwrap" in request.node.name:
            assert worked.cpu_seconds is waited.cpu_seconds is None
            return
        assert worked.cpu_seconds is not None
        assert waited.cpu_seconds is not None
        # what a child of the command took counts
        assert worked.cpu_seconds > 0.1 > waited.cpu_seconds


def test_many_tasks_at_once(run: Run, workspaces: Workspaces) -> None:
    done: list[str] = []

    def one(number: int) -> None:
        with run(f"cat pfs/x/a > pfs/out/{number}", {"x": {"a": "y" * 70_000}}) as outcome:
            done.append(outcome.state)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["success"] * 6


def test_no_descriptor_is_left(run: Run) -> None:
    run("true").close()
    before = len(os.listdir("/proc/self/fd"))
    run("exit 1").close()
    run("sleep 5", datum_timeout=0.3, datum_tries=1, grace=0.1).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_task_tells_how_it_ran_if_asked(run: Run, log: Callable[[], str], sandbox: Sandbox) -> None:
    with run("true", {"x": {"in": "1"}}, debug=True, env=(("PRIVATE", "value"),)):
        pass
    said = log()
    assert f"--- sandbox {sandbox.name}, in " in said
    assert "--- input /pfs/x: " in said
    assert "PRIVATE" in said
    assert "value" not in said
    assert "--- status 0 after " in said
