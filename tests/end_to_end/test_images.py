"""Stages in container images: real ones under bubblewrap and in podman, an engine that says what it was told."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import small_project
from tests.engine import FakeEngine
from tests.images import Member, configuration, digest, layer, oci, write_tar
from tests.sandboxes import require_bubblewrap

APPLETS = ("sh", "cat", "id", "ls", "env", "touch", "wc", "sleep", "cp", "head", "stat")
SETTINGS: dict[str, Any] = {
    "Env": ["PATH=/bin", "GREETING=hello"],
    "WorkingDir": "/srv/app",
    "User": "worker",
    "Entrypoint": ["/bin/false"],
    "Cmd": ["none"],
}
PASSWD = "root:x:0:0::/root:/bin/sh\nworker:x:1234:567::/home/worker:/bin/sh\n"


@pytest.fixture(scope="module")
def busybox() -> bytes:
    """A shell and its tools in one static program."""
    require_bubblewrap()
    for name in ("busybox", "busybox.static"):
        program = shutil.which(name)
        if (
            program is not None
            and b"not a dynamic"
            in subprocess.run(["ldd", program], capture_output=True, check=False).stdout
            + subprocess.run(["ldd", program], capture_output=True, check=False).stderr
        ):
            return Path(program).read_bytes()
    pytest.skip("there is no static busybox here: apt install busybox-static")


def base(busybox: bytes) -> bytes:
    links: list[Member] = [(f"bin/{name}", "->busybox") for name in APPLETS]
    return layer(
        ("bin/", ""), ("bin/busybox", busybox, 0o4755), *links, ("etc/passwd", PASSWD), ("srv/app/", ""),
        ("srv/app/part", "of the image\n"), ("top", "1"), ("lib64", "->/usr/lib"), ("usr/lib/x", "1"), ("proc/", ""),
    )  # fmt: skip


def stage(script: str, name: str = "seen", image: str = "tool:1", **fields: Any) -> dict[str, Any]:
    transform = {"image": image, "cmd": ["sh", "-e"], "stdin": script.splitlines()}
    return {
        "pipeline": {"name": name},
        "transform": {**transform, **fields.pop("transform", {})},
        "input": {"pfs": {"repo": "input", "glob": "/x.csv"}},
        "datum_tries": 1,
        **fields,
    }


LOOK = """\
id -u > /pfs/out/user
id -g >> /pfs/out/user
cat /pfs/input/x.csv part > /pfs/out/data
cat /code/tool.txt lib.txt > /pfs/out/code || cat /code/tool.txt /workspace/lib.txt > /pfs/out/code
env > /pfs/out/env
ls / > /pfs/out/root
touch /tmp/a "$HOME/b" /run/c /workspace/d
touch /bin/e 2> /pfs/out/refused || true
cat /proc/net/dev > /pfs/out/net
stat -c %a /bin/busybox > /pfs/out/mode
ls -A .. > /pfs/out/beside
"""


def test_a_stage_in_an_image_of_the_repository(tmp_path: Path, busybox: bytes) -> None:
    first = [base(busybox), layer(("srv/app/.wh.none", ""))]
    look = stage(LOOK, code=[{"/code": "tools"}, "lib.txt"])
    images = {"tool:1": {"archive": "images/tool.tar"}}
    project = small_project(tmp_path / "project", {"stages": [look], "images": images})
    (project.path / "images").mkdir()
    write_tar(oci(first, name="1", **SETTINGS), project.path / "images/tool.tar")
    project.write("tools/tool.txt", "tool\n")
    project.write("lib.txt", "lib\n")
    project.commit("first")
    assert project.states() == {"seen": "fresh"}, project.ml("logs", "seen", "--failed", check=False).stdout
    assert project.read("seen/user").split() == ["1234", "567"]
    assert project.read("seen/data") == project.read("input/x.csv") + "of the image\n"
    assert project.read("seen/code") == "tool\nlib\n"
    variables = dict(line.partition("=")[::2] for line in project.read("seen/env").splitlines())
    assert (variables["GREETING"], variables["PATH"], variables["HOME"]) == ("hello", "/bin", "/tmp/home")
    assert variables["PWD"] == "/srv/app"
    assert not {"LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV"} & variables.keys()
    assert set(project.read("seen/root").split()) == {
        "bin", "code", "dev", "etc", "lib64", "pfs", "proc", "run", "srv", "sys", "tmp", "top", "usr", "workspace",
    }  # fmt: skip
    assert "Read-only" in project.read("seen/refused")
    devices = [line.partition(":")[0].strip() for line in project.read("seen/net").splitlines() if ":" in line]
    assert devices == ["lo"]
    assert project.read("seen/mode") == "755\n"

    # the run says by what it ran, and in which image
    unpacked = digest(configuration(first, SETTINGS))
    run = (project.path / ".git/ml/latest").read_text()
    shown = project.ml("show", run).stdout
    assert f"seen: by bwrap, {unpacked}" in shown
    record = project.json("show", run)["runs"][0]["record"]
    assert (record["sandbox"], record["images"]) == ("bwrap", {"seen": {"by": "bwrap", "digest": unpacked}})
    kept = project.path / ".git/ml/images"
    assert sorted(os.listdir(kept)) == ["known", "lock", unpacked.replace(":", "-")]

    # another archive: what was computed in the other one is stale, and why says so
    second = [*first, layer(("srv/app/part", "of the second\n"))]
    write_tar(oci(second, name="1", **SETTINGS), project.path / "images/tool.tar")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "second image", GITML="0")
    assert "images" in project.stage("seen")["reason"]
    assert "images" in project.ml("why", "seen").stdout
    project.ml("run")
    assert project.read("seen/data").endswith("of the second\n")
    project.git("revert", "-n", "HEAD~1")
    executed = project.executions()
    project.commit("back")
    assert project.read("seen/data").endswith("of the image\n")
    assert project.executions() == executed, "the former image, so the former result"
    assert "1 of 1 datum" in project.ml("verify", "--recompute", check=False).stdout


def test_images_elsewhere_and_what_goes_wrong(tmp_path: Path, busybox: bytes) -> None:
    archive = tmp_path / "tool.tar"
    layers = [base(busybox)]
    write_tar(oci(layers, **{**SETTINGS, "User": "", "WorkingDir": "/"}), archive)
    pin = digest(configuration(layers, {**SETTINGS, "User": "", "WorkingDir": "/"}))
    text = "id -u > /pfs/out/a\npwd >> /pfs/out/a"
    stages = [
        stage(text),
        stage("x", "absent", "tool:2", transform={"cmd": ["/bin/none"]}),
        stage(text, "lost", "gone:a"),
    ]
    batched = "while pachctl next datum; do cat pfs/input/x.csv > pfs/out/b; done"
    stages.append(stage("", "batched", "tool:1", transform={"cmd": ["sh", "-c", batched], "datum_batching": True}))
    who = "id -u > /pfs/out/a; id -g >> /pfs/out/a"
    stages += [stage(who, "asked", transform={"user": "77:88"}), stage(who, "stranger", transform={"user": "nope"})]
    images: dict[str, Any] = {"tool:1": {"archive": str(archive)}, "gone:a": {"archive": str(tmp_path / "no.tar")}}
    images["tool:2"] = {"archive": str(archive), "digest": pin}
    project = small_project(tmp_path / "project", {"stages": stages, "images": images})
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "first", GITML="0")
    done = project.ml("run", check=False)
    assert done.returncode == 2
    assert project.read("seen/a") == "0\n/workspace\n"
    assert project.read("asked/a") == "77\n88\n"
    assert "tool.tar': it is to run as user 'nope', which it does not have" in done.stderr + done.stdout
    assert project.read("batched/b") == project.read("input/x.csv")
    assert f'to pin this one, put "digest": "{pin}"' in done.stderr + done.stdout
    assert "command '/bin/none' is not found" in project.stage("absent")["reason"]
    assert "no.tar': cannot read it: No such file" in done.stderr + done.stdout
    assert project.stage("lost")["state"] == "stale", "another clone may have it"
    images["tool:1"]["digest"] = "sha256:" + "0" * 64
    project.write("pipeline.json", json.dumps({"stages": stages[:1], "images": images}))
    project.git("commit", "-qam", "another pin", GITML="0")
    done = project.ml("run", check=False)
    assert "the archive has no image with digest sha256:000" in done.stderr + done.stdout
    project.git("config", "ml.sandbox", "none")
    assert "runs under bubblewrap, which 'ml.sandbox' forbids" in project.ml("run", check=False).stderr


def test_a_stage_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(tmp_path / "engine", sys.executable)
    monkeypatch.setenv("PATH", f"{engine.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "ml.container")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "apptainer")
    plain = stage("", "made", "tool:1", resource_limits={"memory": "1G"})
    project = small_project(tmp_path / "project", {"stages": [plain]})
    project.commit("no engine")
    if shutil.which("apptainer") is None:
        assert project.stage("made")["state"] == "stale", "another clone may have an engine"
        assert "no container engine for the image 'tool:1'" in project.ml("doctor", check=False).stdout
        assert "no container engine for the image 'tool:1'" in project.ml("run", check=False).stderr

    engine.install("podman")
    engine.have({"tool:1": {"Id": "1" * 64, "RepoDigests": ["reg/tool@sha256:" + "2" * 64]}})
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "podman")
    said = project.ml("run").stderr
    assert f'to pin this one, put "digest": "sha256:{"2" * 64}" into its entry in "images"' in said
    assert project.read("made/made") == "made\n"
    shown = project.ml("show", (project.path / ".git/ml/latest").read_text()).stdout
    assert f"made: by podman, sha256:{'1' * 64}" in shown
    assert "made: memory by podman" in shown
    assert "0 B" not in shown, "how much memory it took is not known"
    assert "podman runs the image 'tool:1'" in project.ml("doctor", check=False).stdout

    # pinned to what it was: computed once more, as the specification says more now, and without a word
    pin = {"container": True, "digest": "sha256:" + "2" * 64, "code": ["train.sh"]}
    project.write("pipeline.json", json.dumps({"stages": [plain], "images": {"tool:1": pin}}))
    project.git("commit", "-qam", "pinned", GITML="0")
    assert "images" in project.stage("made")["reason"]
    assert "pin" not in project.ml("run").stderr
    assert "1 of 1 datum" in project.ml("verify", "--recompute").stdout

    # a runner that is killed: its container goes at once
    engine.script('while [ "$(ls "$RUNNING")" ]; do sleep 0.1; done')
    project.write("input/x.csv", "slow\n")
    before = set(engine.running())
    project.commit("slow", wait=False)
    project.until(lambda: set(engine.running()) - before)
    project.kill_runner()
    project.until(lambda: not engine.running())


@pytest.fixture
def podman(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, busybox: bytes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """The real podman, with a store of its own that has the image `tool:1`; skips where it runs nothing."""
    if shutil.which("podman") is None:
        pytest.skip("there is no podman here: apt install podman")
    storage = tmp_path_factory.mktemp("p")  # podman waits for long where paths are long
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
    )
    # inside of a machine that is a container itself, limits cannot be raised
    (tmp_path / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n[engine]\n'
        'cgroup_manager = "cgroupfs"\n' + ('runtime = "runc"\n' if shutil.which("runc") else "")
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "ml.container")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "podman")

    def call(*words: str, data: bytes = b"", check: bool = True) -> str:
        done = subprocess.run(["podman", *words], input=data, capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.decode() if done.returncode == 0 else ""

    imported = call("import", "--change", "WORKDIR /srv/app", "--change", "ENV GREETING=hello", "--change",
                    "ENTRYPOINT /bin/false", "-", "tool:1", data=base(busybox), check=False)  # fmt: skip
    if not imported or call("run", "--rm", "--network", "none", "--entrypoint", "", "tool:1", "/bin/sh", "-c",
                            "echo works", check=False) != "works\n":  # fmt: skip
        pytest.skip("podman runs no container here")
    yield call
    call("rm", "--all", "--force", check=False)


def test_a_stage_in_a_container_of_the_real_podman(tmp_path: Path, podman: Callable[..., str]) -> None:
    look = """\
echo $GREETING > /pfs/out/greeting
pwd >> /pfs/out/greeting
cat /pfs/input/x.csv part > /pfs/out/data
ls / > /pfs/out/root
cat /proc/net/dev > /pfs/out/net
cat /code/tool.txt > /pfs/out/code
env > /pfs/out/env
"""
    slow = stage("trap '' TERM\ntouch /pfs/out/a\nsleep 1000", "slow", datum_timeout="1s")
    images = {"tool:1": {"container": True, "code": {"/code": "tools"}}}
    project = small_project(tmp_path / "project", {"stages": [stage(look), slow], "images": images})
    project.write("tools/tool.txt", "tool\n")
    project.commit("first")
    assert project.states() == {"seen": "fresh", "slow": "failed"}, project.ml("logs", check=False).stdout
    assert "was ended after 1 s" in project.stage("slow")["reason"]
    assert podman("ps", "--all", "--quiet") == "", "no container outlives its task"
    assert project.read("seen/greeting") == "hello\n/srv/app\n"
    assert project.read("seen/data") == project.read("input/x.csv") + "of the image\n"
    assert project.read("seen/code") == "tool\n"
    assert {"bin", "pfs", "top", "workspace"} <= set(project.read("seen/root").split())
    assert [line.partition(":")[0].strip() for line in project.read("seen/net").splitlines() if ":" in line] == ["lo"]
    assert (project.path / "seen/data").stat().st_uid == os.getuid()
    # a runner that is killed takes its container along
    slow["datum_timeout"] = "1000s"
    project.write("pipeline.json", json.dumps({"stages": [stage(look), slow], "images": images}))
    project.write("input/x.csv", "other\n")
    project.commit("longer", wait=False)
    project.until(lambda: podman("ps", "--quiet"))
    project.kill_runner()
    project.until(lambda: not podman("ps", "--all", "--quiet"))
