"""Datums handed to a process that goes on: `datum_batching`."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitml.pipeline.batch import Processes
from gitml.pipeline.collect import collect
from gitml.pipeline.datum import Datum
from gitml.pipeline.environment import task_environment
from gitml.pipeline.sandbox import Sandbox
from gitml.pipeline.spec.model import Resources, Stage
from gitml.pipeline.task import TaskOutcome, TaskStoppedError
from gitml.pipeline.workspace import Workspace, Workspaces
from gitml.store.tree import Snapshot
from tests.pipeline.running.conftest import StreamOdb, whole

LOOP = """
echo started
n=0
while true; do
  pachctl next datum
  n=$((n + 1))
  . /pfs/.env
  BODY
done
"""


class Batch:
    """A stage and its processes. `run("text")` gives it a datum with one input `x`, which has the file `in`."""

    def __init__(self, sandbox: Sandbox, workspaces: Workspaces, tree: Any, make_stage: Any, where: Path) -> None:
        self._sandbox = sandbox
        self._workspaces = workspaces
        self._tree = tree
        self._make_stage = make_stage
        self._where = where
        self.processes = Processes()
        self.stop = threading.Event()
        self.command = ["sh"]
        self.script = ""
        self.fields: dict[str, Any] = {}

    def run(self, text: str) -> TaskOutcome:
        stage: Stage = self._make_stage(
            "stage", self.command, stdin=tuple(self.script.splitlines()), datum_batching=True, **self.fields
        )
        datum = Datum((whole("x", self._tree({"in": text})),))

        def make(*, inputs: bool = True, code: bool = True) -> Workspace:
            return self._workspaces.create(datum.inputs if inputs else (), files={b"code.sh": b"c"} if code else None)

        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        return self.processes.run_task(
            stage,
            make=make,
            sandbox=self._sandbox,
            environment=task_environment(stage, datum, environ=environ, datum_id=f"id of {text}", job_id="job"),
            log=self._where / f"{text}.log",
            stop=self.stop,
            grace=1.0,
        )

    def log(self, text: str) -> str:
        return (self._where / f"{text}.log").read_text()


@pytest.fixture
def batch(
    sandbox: Sandbox, workspaces: Workspaces, tree: Callable[..., Snapshot], make_stage: Any, tmp_path: Path
) -> Iterator[Batch]:
    made = Batch(sandbox, workspaces, tree, make_stage, tmp_path)
    with made.processes:
        yield made
    assert list((tmp_path / "the run's/tasks").iterdir()) == [], "nothing stays behind"


def written(outcome: TaskOutcome) -> dict[str, str]:
    with outcome:
        assert outcome.workspace is not None, outcome
        return {path.name: path.read_text() for path in outcome.workspace.out.iterdir() if path.is_file()}


def test_one_process_sees_one_datum_after_another(batch: Batch, odb: StreamOdb) -> None:
    body = (
        "echo doing $PACH_DATUM_ID; ls pfs > pfs/out/names; ls pfs/out >> pfs/out/names",
        "cat code.sh pfs/x/in > pfs/out/got; ln -s $x/in pfs/out/link; echo > pfs/left",
        "sh -c 'echo $n, $x, $PACH_DATUM_ID' > pfs/out/seen",
    )
    batch.script = "mkdir -p pfs/out; echo > pfs/out/early; echo > pfs/early\n" + LOOP.replace("BODY", "; ".join(body))
    first = batch.run("one")
    assert (first.state, first.attempts, first.status) == ("success", 1, 0)
    second = batch.run("two")
    for outcome, text in ((first, "one"), (second, "two")):
        assert outcome.workspace is not None
        found = collect(outcome.workspace, odb, is_tracked=lambda _: False, label="")
        output = Snapshot(odb, found.tree)
        assert output.read(b"got") == b"c" + text.encode()
        assert output.read(b"link") == text.encode(), "a link to an input is that of its datum"
        assert output.read(b"names") == b"out\nx\nnames\n", "what the datum before left is gone"
        assert output.read(b"seen").endswith(f", id of {text}\n".encode())
    written(first)
    assert written(second)["seen"].startswith(", /"), "what a child sees is what '.env' said last"
    assert batch.log("one") == "--- attempt 1 of 3, in a new process: sh\nstarted\ndoing id of one\n"
    assert batch.log("two") == "--- attempt 1 of 3, datum 2 of its process: sh\ndoing id of two\n"


def test_a_failure_that_is_told_costs_an_attempt_and_no_process(batch: Batch) -> None:
    batch.script = LOOP.replace("pachctl next datum", 'git-ml next-datum --error "$why"; why=').replace(
        "BODY", '[ "$n" -gt 1 ] || why="not   yet,\nreally"; echo $n > pfs/out/n'
    )
    outcome = batch.run("one")
    assert (outcome.state, outcome.attempts) == ("success", 2)
    assert written(outcome) == {"n": "2\n"}
    assert batch.log("one").splitlines() == [
        "--- attempt 1 of 3, in a new process: sh", "started", "--- 'sh' says: not yet, really",
        "--- attempt 2 of 3, datum 2 of its process: sh",
    ]  # fmt: skip


def test_a_process_that_ends_is_followed_by_another(batch: Batch) -> None:
    batch.script = LOOP.replace("BODY", 'echo $n > pfs/out/n; [ "$(cat pfs/x/in)" != bad ] || exit 3')
    batch.fields = {"datum_tries": 2}
    assert written(batch.run("one")) == {"n": "1\n"}
    outcome = batch.run("bad")
    assert (outcome.state, outcome.attempts, outcome.status) == ("failed", 2, 3)
    assert outcome.message == "'sh' ended with exit status 3"
    assert "datum 2 of its process" in batch.log("bad")
    assert "attempt 2 of 2, in a new process" in batch.log("bad")
    assert written(batch.run("two")) == {"n": "1\n"}
    # an end that would be fine elsewhere is none here
    batch.script = LOOP.replace("BODY", 'echo 1 > pfs/out/a; [ "$n" -lt 2 ] || exit 0')
    batch.processes.__exit__(None, None, None)
    assert written(batch.run("three")) == {"a": "1\n"}
    assert written(batch.run("four")) == {"a": "1\n"}
    assert "'sh' ended with exit status 0 instead of asking for the next datum" in batch.log("four")


def test_the_error_command_sees_what_the_command_saw(batch: Batch) -> None:
    batch.script = LOOP.replace("BODY", "echo half > pfs/out/half; exit 1")
    batch.fields = {
        "err_cmd": ("sh", "-c", 'cat pfs/x/in pfs/out/half; echo " of $PACH_DATUM_ID"; [ "$(cat pfs/x/in)" = mild ]'),
        "datum_tries": 2,
    }
    mild = batch.run("mild")
    assert (mild.state, mild.attempts, mild.workspace) == ("recovered", 2, None)
    assert batch.log("mild").count("mildhalf\n of id of mild\n") == 2
    assert batch.run("hard").state == "failed"
    # a command that cannot do any datum: the error command is asked about each all the same
    batch.processes.__exit__(None, None, None)
    batch.script = "echo hello"
    for _ in range(2):
        assert [batch.run(text).state for text in ("mild", "hard")] == ["recovered", "failed"]
    batch.command = ["no-such-command"]
    assert [batch.run(text).state for text in ("mild", "hard")] == ["recovered", "failed"]


def test_time_is_limited_for_each_datum(batch: Batch) -> None:
    batch.script = LOOP.replace("BODY", 'if [ "$(cat pfs/x/in)" = slow ]; then sleep 60; fi; echo 1 > pfs/out/a')
    batch.fields = {"datum_timeout": 0.7, "datum_tries": 1}
    assert written(batch.run("one")) == {"a": "1\n"}
    slow = batch.run("slow")
    assert (slow.state, slow.attempts) == ("failed", 1)
    assert slow.message == "'sh' was ended after 0.7 s, the time limit of a datum"
    assert written(batch.run("two")) == {"a": "1\n"}


def test_a_command_that_never_asks_is_told_once(batch: Batch) -> None:
    batch.script = "cat pfs/x/in"
    for text in ("one", "two"):
        outcome = batch.run(text)
        assert (outcome.state, outcome.message) == ("failed", "'sh' ended with exit status 1")
        assert outcome.attempts == 3
    batch.script = "echo hello"
    outcome = batch.run("three")
    assert (outcome.attempts, outcome.message) == (1, "'sh' ended without asking for a datum")
    assert "pachctl next datum" in str(outcome.hint)
    assert batch.run("four").attempts == 0, "it would be no better for the others"
    batch.script = "pachctl list repo\ngit-ml status\npachctl next datum --eror x"
    batch.processes.__exit__(None, None, None)
    batch.processes.__init__()  # type: ignore[misc]
    assert batch.run("five").status == 129
    assert "pachctl: in a task there is only 'pachctl next datum'" in batch.log("five")
    assert "unknown argument '--eror'" in batch.log("five")
    batch.command = ["no-such-command"]
    assert batch.run("six").message == "command 'no-such-command' is not found"


def test_a_stop_ends_it(batch: Batch) -> None:
    batch.script = LOOP.replace("BODY", "echo 1 > pfs/out/a; [ $n -lt 2 ] || sleep 60")
    written(batch.run("one"))
    threading.Timer(0.3, batch.stop.set).start()
    with pytest.raises(TaskStoppedError):
        batch.run("two")


def test_what_a_datum_may_leave_is_limited_for_each(batch: Batch) -> None:
    batch.script = LOOP.replace("BODY", 'head -c "$(cat pfs/x/in)" /dev/zero | tee pfs/out/b > pfs/out/a')
    batch.fields = {"limits": Resources(disk=1_000_000), "datum_tries": 1}
    assert len(written(batch.run("400000"))["a"]) == 400_000
    assert len(written(batch.run("400001"))["b"]) == 400_001
    assert "it wrote 1.2 MB, and its disk space is limited to 1.0 MB" in batch.run("600000").message
