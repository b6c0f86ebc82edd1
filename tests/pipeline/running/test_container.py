"""How container engines are called, and that no container is left. The engine here only writes down what it is told."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitml.errors import UserError
from gitml.pipeline.container import Apptainer, Container, Engine, EngineError, apptainer_image, remove_containers
from gitml.pipeline.images import choose_engine
from gitml.pipeline.limits import Means, Share
from gitml.pipeline.secretstore import Granted
from gitml.pipeline.spec.model import Resources
from gitml.pipeline.task import TaskOutcome, TaskStoppedError
from gitml.pipeline.unpack import ImageError
from gitml.pipeline.view import Inside
from tests.engine import FakeEngine

Run = Callable[..., TaskOutcome]
ID = "1" * 64
REPO = "sha256:" + "2" * 64
TOOL: dict[str, Any] = {"Id": ID, "RepoDigests": [f"reg/tool@{REPO}"], "Config": {"WorkingDir": "/srv", "Env": ["A=b"]}}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine on an otherwise empty PATH, called podman, docker and apptainer."""
    made = FakeEngine(tmp_path / "an engine", sys.executable)
    made.install("podman", "docker", "apptainer")
    made.have({"tool:1": TOOL})
    monkeypatch.setenv("PATH", str(made.bin))
    return made


@pytest.fixture(params=["podman", "docker"])
def sandbox(request: pytest.FixtureRequest, engine: FakeEngine) -> Iterator[Container]:
    found = Engine.find(request.param)
    assert found is not None
    made = Container(found, "tool:1", None, network=False, stop=None)
    yield made
    made.close()


def options(words: list[str]) -> dict[str, list[str]]:
    """The options of `run`, each with its values."""
    found: dict[str, list[str]] = {}
    for option, value in itertools.pairwise(words):
        if option.startswith("--"):
            name, _, own = option.partition("=")
            found.setdefault(name, []).append(own or value)
    return found


def test_a_command_in_a_container(run: Run, engine: FakeEngine, sandbox: Container, tmp_path: Path) -> None:
    engine.script('/bin/cat; echo "$TOKEN"')
    secret = tmp_path / "secret"
    secret.mkdir()
    granted = Granted(
        variables={"TOKEN": "very secret"}, directories={"/etc/s": secret}, values=((("t/k"), b"very secret"),)
    )
    outcome = run(
        ["tool", "--flag", "/pfs/x"], {"x": {"a": "1"}}, stdin=("line",), env=(("HTTP_PROXY", "p"), ("X", "a b")),
        granted=granted, limits=Resources(cpu=1.5, memory=1 << 30, disk=1 << 20), share=Share(gpus=("1",)),
        working_dir=None, mounts=["/code"],
    )  # fmt: skip
    assert (outcome.state, outcome.max_rss) == ("success", None)
    with outcome:
        assert outcome.workspace is not None
        assert (outcome.workspace.out / "made").exists()
        top = outcome.workspace.top
    (words,) = engine.calls("run")
    found = options(words)
    assert words[-4:] == [f"sha256:{ID}", "tool", "--flag", "/pfs/x"]
    assert words[words.index("--entrypoint") + 1] == ""
    assert (found["--workdir"], found["--network"], found["--user"]) == (
        ["/srv"],
        ["none"],
        [f"{os.getuid()}:{os.getgid()}"],
    )
    assert (found["--memory"], found["--memory-swap"], found["--cpus"]) == ([str(1 << 30)], [str(1 << 30)], ["1.5"])
    assert found["--ulimit"] == [f"fsize={1 << 20}:{1 << 20}"]
    assert (found["--cap-drop"], found["--pull"]) == (["ALL"], ["never"])
    assert found["--gpus" if sandbox.name == "docker" else "--device"] == [
        "device=1" if sandbox.name == "docker" else "nvidia.com/gpu=1"
    ]
    assert found["--mount"] == [
        f"type=bind,source={top / 'work'},target=/workspace", f"type=bind,source={top / 'work' / 'pfs'},target=/pfs",
        f"type=bind,source={top}/tmp,target=/tmp", f"type=bind,source={top}/mounts/code,target=/code",
        f"type=bind,source={secret},target=/etc/s,readonly",
    ]  # fmt: skip
    # values go through the environment; only what means something to the engine itself is on its command line
    assert {"TOKEN", "X", "HOME=/tmp/home", "HTTP_PROXY=p", "TMPDIR=/tmp"} <= set(found["--env"])
    assert "very secret" not in " ".join(words)
    environment = engine.environment("run")
    assert (environment["TOKEN"], environment["X"], environment["HOME"]) == ("very secret", "a b", os.environ["HOME"])
    log = (tmp_path / "task.log").read_text()
    assert "line\n***\n" in log
    assert Means.of(Resources(cpu=1, memory=1), sandbox.name, sandbox.holds).used == {
        "cpu": sandbox.name, "memory": sandbox.name,
    }  # fmt: skip


def test_paths_with_commas(engine: FakeEngine, run: Run, sandbox: Container, tmp_path: Path) -> None:
    odd = tmp_path / 'a,"b'
    odd.mkdir()
    with run(["tool"], granted=Granted(directories={"/etc/s": odd})) as outcome:
        assert outcome.state == "success"
    escaped = str(odd).replace('"', '""')
    assert options(engine.calls("run")[0])["--mount"][-1] == f'type=bind,"source={escaped}",target=/etc/s,readonly'


def test_how_containers_fail(run: Run, engine: FakeEngine, sandbox: Container) -> None:
    word = "docker" if sandbox.name == "docker" else "Error"
    engine.script(f"echo '{word}: no such file' >&2; exit 127")
    outcome = run(["tool"])
    assert (outcome.state, outcome.attempts, outcome.message) == ("failed", 1, "cannot start 'tool': no such file")
    word = "[FATAL tini (7)]" if sandbox.name == "docker" else "ERROR (catatonit:6):"
    engine.script(f"echo '{word} not there' >&2; exit {127 if sandbox.name == 'docker' else 1}")
    assert run(["tool"]).message == "cannot start 'tool': not there"
    engine.script("echo 'Error: of the program' >&2; exit 3")
    assert run(["tool"], datum_tries=1).message == "'tool' ended with exit status 3"
    engine.script("exit 137")
    message = run(["tool"], datum_tries=1, limits=Resources(memory=10**9)).message
    assert message == "'tool' was killed: its memory is limited to 1.0 GB"


@pytest.mark.parametrize("how", ["time", "stop"])
def test_no_container_is_left_when_a_task_must_end(run: Run, engine: FakeEngine, sandbox: Container, how: str) -> None:
    engine.script('trap "" TERM; while [ "$(/bin/ls "$RUNNING")" ]; do /bin/sleep 0.05; done')
    if how == "time":
        outcome = run(["tool"], datum_tries=1, datum_timeout=0.3, grace=0.1)
        assert "was ended after 0.3 s" in outcome.message
    else:
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(TaskStoppedError):
            run(["tool"], stop=stop, grace=0.1)
    assert engine.running() == []
    assert len(engine.calls("rm")) == 1


def test_a_guard_ends_containers_when_the_runner_dies(engine: FakeEngine, tmp_path: Path) -> None:
    engine.script('while [ "$(/bin/ls "$RUNNING")" ]; do /bin/sleep 0.05; done')
    code = f"""
import sys, signal, os
from pathlib import Path
from gitml.pipeline.container import Container, Engine
from gitml.pipeline.view import Inside
from gitml.pipeline.workspace import Workspaces
from gitml.store.odb import MemoryOdb
import subprocess
workspace = Workspaces(Path({str(tmp_path / "work")!r}), MemoryOdb()).create(())
view = Container(Engine.find("podman"), "tool:1", None, network=False, stop=None).view(workspace)
subprocess.Popen(view.arguments(Inside(command=["x"], directory="/"), None))
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True) as runner:
        until(engine.running)
        (name,) = engine.running()
        runner.send_signal(signal.SIGKILL)
        until(lambda: not engine.running())
    assert engine.calls("rm")[0] == ["rm", "--force", name]
    label = options(engine.calls("run")[0])["--label"][0]
    assert engine.calls("ps")[0] == ["ps", "--all", "--quiet", "--filter", f"label={label}"]
    until(lambda: len(engine.calls("ps")) == 3)  # it looks again for what was just starting, and ends
    # the next runner knows the container too, by the workspace
    (engine.home / "running" / name).touch()
    remove_containers([tmp_path / "work"])
    assert engine.running() == []


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_which_image_it_is(engine: FakeEngine) -> None:
    podman = Engine.find("podman")
    assert podman is not None

    def container(name: str, digest: str | None = None) -> Container:
        return Container(podman, name, digest, network=False, stop=None)

    here = container("tool:1")
    assert here.image == {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A": "b"}
    assert (here.digest, here.pin, engine.calls("pull")) == (f"sha256:{ID}", REPO, [])
    assert container("tool:1", f"sha256:{ID}").digest == container("tool:1", REPO).digest == f"sha256:{ID}"
    with pytest.raises(EngineError, match="podman cannot fetch the image 'reg:5000/tool:2': Error: no route") as caught:
        container("reg:5000/tool:2")
    assert "an archive" in str(caught.value.hint)
    engine.offer({"Id": "3" * 64, "RepoDigests": ["tool@sha256:" + "4" * 64]})
    assert container("reg:5000/tool:2").digest == f"sha256:{'3' * 64}"
    assert container("reg:5000/tool:1", "sha256:" + "4" * 64).digest == f"sha256:{'3' * 64}"
    assert engine.calls("pull")[-1] == ["pull", "reg:5000/tool@sha256:" + "4" * 64]
    with pytest.raises(EngineError, match=f"no image 'tool:1' with digest sha256:{'5' * 64}"):
        container("tool:1", "sha256:" + "5" * 64)
    stop = threading.Event()
    stop.set()
    with pytest.raises(EngineError, match="stopped"):
        Container(podman, "other", None, network=False, stop=stop)


def test_which_engine_it_is(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("auto", "tool:1").name == "podman"
    assert choose_engine("docker", "tool:1").name == "docker"
    (engine.home / "broken").touch()
    assert choose_engine("auto", "tool:1").name == "apptainer"
    with pytest.raises(ImageError, match=r"no container engine for the image 'x' \(docker: Cannot connect"):
        choose_engine("docker", "x")
    with pytest.raises(UserError, match="unknown container engine 'lxc'"):
        choose_engine("lxc", "x")
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(ImageError, match=r"no container engine for the image 'x'$") as caught:
        choose_engine("auto", "x")
    assert "install podman, docker or apptainer; or say in" in str(caught.value.hint)


def test_apptainer(engine: FakeEngine, make_workspace: Callable[..., Any], tmp_path: Path) -> None:
    found = Engine.find("apptainer")
    assert found is not None
    images = tmp_path / "images"
    with pytest.raises(EngineError, match="no route"):
        apptainer_image(found, "tool:1", images, None)
    assert os.listdir(images) == []
    engine.offer({})
    (images / "fetch-999999999-x.sif").touch()  # of a process that was killed
    file = apptainer_image(found, "tool:1", images, None)
    assert apptainer_image(found, "tool:1", images, None) == file
    assert os.listdir(images) == [file.name]
    pulled = engine.calls("pull")[-1]
    assert (pulled[:2], pulled[-1], len(engine.calls("pull"))) == (["pull", "--force"], "docker://tool:1", 2)
    sandbox = Apptainer(found, file, network=False)
    view = sandbox.view(workspace := make_workspace({"x": {"a": "1"}}, mounts=["/code"]))
    inside = Inside(command=["tool", "-x"], directory=view.directory(None), variables={"A": "1", "HOME": "/tmp/home"})
    words = view.arguments(inside, None)
    assert words[-5:] == ["--pwd", "/workspace", str(file), "tool", "-x"]
    top = workspace.top
    assert [value for option, value in itertools.pairwise(words) if option in {"--bind", "--network", "--home"}] == [
        f"{top}/tmp/home:/tmp/home", "none", f"{workspace.work}:/workspace", f"{workspace.pfs}:/pfs", f"{top}/tmp:/tmp",
        f"{top}/mounts/code:/code",
    ]  # fmt: skip
    environment = view.variables(inside)
    assert (environment["APPTAINERENV_A"], environment["HOME"]) == ("1", os.environ["HOME"])
    assert "APPTAINERENV_HOME" not in environment
    assert (sandbox.digest or "").startswith("sha256:")
    assert sandbox.fault(255, b"FATAL:   no such program\n") == "no such program"
    workspace.close()
