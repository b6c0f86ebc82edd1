"""Runs on a real Dask cluster: a scheduler, and workers that share only a data remote with the user."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import yaml

from gitml.pipeline.limits import size_below
from tests.cluster import Cluster, cluster
from tests.end_to_end.project import BIN, Project

pytest.importorskip("distributed")

DATUMS = int(os.environ.get("GITML_DASK_DATUMS", "100"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    top = tmp_path_factory.mktemp("dask")
    (top / "secrets" / "service").mkdir(parents=True)
    (top / "secrets" / "service" / "token").write_text("topsecret")
    settings = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "ml.workerSecrets"}
    with cluster(top / "cluster", 2, **settings, GIT_CONFIG_VALUE_0=str(top / "secrets")) as made:
        yield made


def project(tmp_path: Path, stage: dict[str, Any], address: str, **files: str | bytes) -> Project:
    """A project with one stage that reads `input`, and a remote for data; committed, not run."""
    made = Project(tmp_path / "project")
    made.path.mkdir()
    made.git("init", "-q")
    made.git("init", "-q", "--bare", str(tmp_path / "store.git"))
    made.git("remote", "add", "store", str(tmp_path / "store.git"))
    made.ml("install")
    for name, value in {"ml.auto": "off", "ml.dataRemote": "store", "ml.daskScheduler": address}.items():
        made.git("config", name, value)
    whole = {
        "pipeline": {"name": "up"},
        "transform": {"cmd": ["sh", "code/up.sh"]},
        "input": {"pfs": {"repo": "input", "glob": "/*"}},
        **stage,
    }
    made.write("pipeline.json", json.dumps({"executor": "dask", "stages": [whole]}))
    for name, content in files.items():
        made.write(name, content)
    return made


def refs(top: Path) -> list[str]:
    done = subprocess.run(
        ["git", "--git-dir", str(top / "store.git"), "for-each-ref", "--format=%(refname)"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return done.stdout.split()


def test_contents_may_stay_where_they_are(workers: Cluster, tmp_path: Path) -> None:
    script = (
        "cat pfs/input/* > pfs/out/$(ls pfs/input); head -c 200000 /dev/zero | tr '\\0' x >> pfs/out/$(ls pfs/input)"
    )
    here = project(tmp_path, {}, workers.address, **{"code/up.sh": script})
    second = {
        "pipeline": {"name": "size"},
        "transform": {"cmd": ["sh", "-c", "cat pfs/up/* | wc -c > pfs/out/size"]},
        "input": {"pfs": {"repo": "up", "glob": "/"}},
    }
    pipeline = json.loads(here.read("pipeline.json"))
    here.write("pipeline.json", json.dumps({**pipeline, "stages": [*pipeline["stages"], second]}))
    for name in ("a", "b"):
        here.write(f"input/{name}", name)
    here.ml("track", "up/**")
    here.git("config", "ml.bringLimit", "0")
    here.commit(wait=False)
    said = here.ml("run").stderr
    assert "0.4 MB of results stay at 'store' (ml.bringLimit)" in said
    # the next stage is computed where the contents are
    assert here.read("size/size").strip() == "400002"
    assert here.read("up/a").startswith("gitml pointer 1\n")
    assert here.is_clean()
    assert "nothing to commit" in here.ml("run").stdout
    here.git("push", "-q", "store", "main")
    here.ml("checkout")
    assert here.read("up/a") == "a" + "x" * 200_000


def test_a_process_takes_datum_after_datum_there_too(workers: Cluster, tmp_path: Path) -> None:
    script = """
    while true; do
      pachctl next datum
      . pfs/.env
      cat pfs/input/* > pfs/out/$(ls pfs/input)
    done
    """
    transform = {"cmd": ["sh", "code/up.sh"], "datum_batching": True}
    here = project(tmp_path, {"transform": transform}, workers.address, **{"code/up.sh": script})
    for number in range(6):
        here.write(f"input/{number}", f"{number}\n")
    here.commit(wait=False)
    assert "6 datums run" in here.ml("run").stdout
    assert here.read("up/5") == "5\n"
    assert "datum 2 of its process" in here.ml("logs", "up").stdout


@pytest.mark.timeout(600 + 2 * DATUMS)  # the datums are computed twice, once without a cluster
def test_a_run_on_a_cluster_gives_what_a_run_here_gives(workers: Cluster, tmp_path: Path) -> None:
    script = """
    name=$(basename pfs/input/*)
    cat pfs/input/* pfs/model/small params.json > "pfs/out/$name"
    echo "computed $name"
    case $name in *7) cat pfs/model/weights.bin pfs/input/* > "pfs/out/$name.bin" ;; esac
    [ $name != 3 ] || { chmod +x pfs/out/3; ln -s /pfs/model/weights.bin pfs/out/linked.bin; }
    """
    both = [{"pfs": {"repo": "input", "glob": "/*"}}, {"pfs": {"repo": "model", "glob": "/"}}]
    here = project(
        tmp_path, {"input": {"cross": both}, "params": ["params.json:a"]}, workers.address,
        **{"code/up.sh": script, "params.json": '{"a": 1, "b": 2}', "model/small": "small\n"},
    )  # fmt: skip
    for number in range(DATUMS):
        here.write(f"input/{number}", f"{number}\n")
    here.write("model/weights.bin", os.urandom(400_000))
    here.ml("track", "model/**", "up/**")
    here.commit(wait=False)

    doomed = workers.add()
    workers.wait()
    running = subprocess.Popen(["git-ml", "run"], cwd=here.path, env=here.environment(), stdout=PIPE, stderr=PIPE)
    place = workers.directory / f"worker-{doomed}" / "scratch"
    here.until(lambda: running.poll() is not None or any(place.glob("*/*/gitml/*/*/*/*/tasks/*")), 300)
    assert running.poll() is None, "the worker was to die in the middle"
    workers.kill(doomed)
    out, err = running.communicate(timeout=300 + DATUMS)
    assert running.returncode == 0, (out, err)
    assert f"{DATUMS} datums run".encode() in out
    assert here.is_clean()
    assert here.read("up/5") == '5\nsmall\n{\n "a": 1\n}\n'
    assert "computed 5" in here.ml("logs", "up").stdout
    assert not [name for name in refs(tmp_path) if "/tasks/" in name or "/worked/" in name]
    run = here.git("log", "-1", "--format=%(trailers:key=Gitml-Run,valueonly)").strip()
    assert re.search(rf"elsewhere +up: by dask on {os.uname().nodename} in ", here.ml("show", run).stdout)

    # everything is recorded as if it had been computed here
    assert "nothing to commit" in here.ml("run").stdout
    here.git("push", "-q", "store", "main")
    there = Project(tmp_path / "there")
    here.git("clone", "-q", "-o", "store", str(tmp_path / "store.git"), str(there.path))
    there.ml("install")
    there.ml("pull")
    assert (there.path / "up/7.bin").read_bytes() == (here.path / "model/weights.bin").read_bytes() + b"7\n"
    assert (there.path / "up/linked.bin").read_bytes() == (here.path / "model/weights.bin").read_bytes()
    assert there.json("run", "--executor", "local")["stages"][0]["cached"] == DATUMS
    there.ml("run", "up", "--force", "--executor", "local")
    assert there.head("HEAD:up") == here.head("HEAD:up")
    assert there.head("HEAD:.gitml") == here.head("HEAD:.gitml")


def test_who_stops_a_run_stops_the_workers(workers: Cluster, tmp_path: Path) -> None:
    script = "case $(ls pfs/input) in a*) cp pfs/input/* pfs/out ;; *) exec sleep 61.25 ;; esac"
    here = project(tmp_path, {}, workers.address, **{"code/up.sh": script})
    for name in ("a1", "a2", "b1", "b2", "b3"):
        here.write(f"input/{name}", name)
    here.commit(wait=False)
    running = subprocess.Popen(["git-ml", "run"], cwd=here.path, env=here.environment(), stdout=PIPE, stderr=PIPE)
    here.until(lambda: _sleeping() and here.executions() == 2, 300)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=300)
    assert running.returncode == 130
    here.until(lambda: not _sleeping(), 300)
    assert "would run 3 of 5 datums" in here.ml("run", "--dry-run").stdout
    assert not [name for name in refs(tmp_path) if "/tasks/" in name or "/worked/" in name]


def _sleeping() -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes() == b"sleep\x0061.25\x00":
                found.append(place.parent.name)
        except OSError:
            continue
    return found


def test_secrets_are_those_of_the_workers(workers: Cluster, tmp_path: Path) -> None:
    stage = {
        "transform": {
            "cmd": ["sh", "code/up.sh"],
            "secrets": [{"name": "service", "env_var": "TOKEN", "key": "token"}],
        }
    }
    here = project(tmp_path, stage, workers.address, **{"code/up.sh": 'echo "$TOKEN"; echo ${#TOKEN} > pfs/out/length'})
    here.write("input/a", "a")
    here.commit(wait=False)
    here.ml("secret", "set", "service", "token", "--file", "/dev/null", check=False)
    here.ml("run")
    assert here.read("up/length") == "9\n"
    assert "topsecret" not in here.ml("logs", "up").stdout


def test_what_kills_workers_fails_alone_and_a_scheduler_that_ends_is_said(tmp_path: Path) -> None:
    script = """
    case $(ls pfs/input) in
    bad) kill -9 $PPID; sleep 60 ;;
    slow) exec sleep 61.25 ;;
    *) cp pfs/input/* pfs/out ;;
    esac
    """
    with cluster(tmp_path / "cluster", 3, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as own:
        here = project(tmp_path, {"datum_tries": 1}, own.address, **{"code/up.sh": script})
        for name in ("a", "bad", "c", "d", "e"):
            here.write(f"input/{name}", name)
        here.git("config", "ml.sandbox", "none")  # in a sandbox no task can kill its worker
        here.commit(wait=False)
        done = here.ml("run", check=False)
        assert done.returncode == 2
        assert "datum 'input/bad': every worker that computed it died" in done.stdout
        assert "4 datums run" in done.stdout
        for process in own.workers:
            process.poll()
        assert sum(process.returncode is None for process in own.workers) == 1
        here.git("mv", "input/bad", "input/slow")
        here.commit(wait=False)
        running = subprocess.Popen(["git-ml", "run"], cwd=here.path, env=here.environment(), stdout=PIPE, stderr=PIPE)
        here.until(_sleeping, 300)
        own.end_scheduler()
        _, err = running.communicate(timeout=300)
        assert running.returncode == 2
        assert b"is gone" in err
        assert b"finished datums are kept" in err
        here.until(lambda: not _sleeping(), 300)


def settings(**values: str) -> dict[str, str]:
    """What sets variables below `ml` of git's configuration for a process."""
    found = {"GIT_CONFIG_COUNT": str(len(values))}
    for number, (name, value) in enumerate(values.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": f"ml.{name}", f"GIT_CONFIG_VALUE_{number}": value}
    return found


def test_workers_keep_no_more_than_they_may(tmp_path: Path) -> None:
    script = "cat pfs/input/* pfs/model/weights.bin | cksum > pfs/out/$(ls pfs/input)"
    both = [{"pfs": {"repo": "input", "glob": "/*"}}, {"pfs": {"repo": "model", "glob": "/"}}]
    shared = tmp_path / "shared"
    # less than one batch brings
    with cluster(tmp_path / "cluster", 3, **settings(workerDir=str(shared), workerCache="100k")) as own:
        here = project(tmp_path, {"input": {"cross": both}}, own.address, **{"code/up.sh": script})
        for number in range(20):
            here.write(f"input/{number}", f"{number}\n")
        here.write("model/weights.bin", os.urandom(200_000))
        here.ml("track", "model/**")
        here.commit(wait=False)
        own.wait()
        running = subprocess.Popen(["git-ml", "run"], cwd=here.path, env=here.environment(), stdout=PIPE, stderr=PIPE)
        here.until(lambda: running.poll() is not None or any(shared.glob("*/cache/*/sha1.git/objects/pack/*")), 300)
        assert running.poll() is None, "a worker was to die in the middle"
        own.kill(0)
        out, err = running.communicate(timeout=300)
        assert running.returncode == 0, (out, err)
        assert b"20 datums run" in out
        left = [path for path in shared.glob("*/cache/*") if path.is_dir()]
        assert sum(size_below(path)[0] for path in left) <= 100 << 10
    computed = here.head("HEAD:up")
    here.ml("run", "up", "--force", "--executor", "local")
    assert here.head("HEAD:up") == computed


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("much", "cannot read the setting 'ml.workerCache': bad numeric config value 'much'"),
        ("-1", "the setting 'ml.workerCache' is less than 0"),
    ],
)
def test_a_setting_of_a_worker_that_means_nothing_is_said(tmp_path: Path, value: str, said: str) -> None:
    with cluster(tmp_path / "cluster", 1, **settings(workerCache=value)) as own:
        here = project(tmp_path, {}, own.address, **{"code/up.sh": "cp pfs/input/* pfs/out"})
        here.write("input/a", "a")
        here.commit(wait=False)
        done = here.ml("run", check=False)
        assert own.said("worker-0").count("Compute Failed") == 3, "tried twice more"
    assert done.returncode == 2
    assert f"worker on '{os.uname().nodename}': {said}" in done.stderr


def test_what_the_page_starts_is_there() -> None:
    page = (Path(__file__).parents[2] / "docs" / "dask.md").read_text()
    shown = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    spec = yaml.safe_load(shown[1])["spec"]
    started = [container["args"] for side in ("worker", "scheduler") for container in spec[side]["spec"]["containers"]]
    started += [line.split("#")[0].split()[1:] for line in page.splitlines() if re.match(r"\$ (dask|python -m) ", line)]
    assert {tuple(words[:2]) for words in started} >= {("dask", "worker"), ("dask", "scheduler"), ("python", "-m")}
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for words in started:
        command = words[: 3 if words[0] == "python" else 2]
        # a program that asks for what it lacks says so before it explains itself
        told = subprocess.run([*command, "--help"], env=environment, capture_output=True, check=True, text=True).stdout
        assert [word for word in words if word.startswith("--") and f"{word} " not in told] == []
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(code, "dask.md", "exec")


WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"ml.daskScheduler": ""}, "there is no Dask scheduler to give tasks to; git config ml.daskScheduler"),
    ({"ml.dataRemote": None}, "workers get their inputs from a data remote, and none is set; git config"),
    ({}, "cannot reach the Dask scheduler at 'tcp://127.0.0.1:1'"),
    ({"ml.daskScheduler": "none.json"}, "there is no scheduler file 'none.json'"),
    ({"remote.store.url": "https://me:word@host/x"}, "the address of 'store' holds a password, which is not sent"),
]


PLACES: list[tuple[dict[str, str], str]] = [
    ({}, "local"),
    ({"setting": "dask"}, "dask"),
    ({"setting": "dask", "pipeline": "local"}, "local"),
    ({"setting": "local", "pipeline": "dask"}, "dask"),
    ({"pipeline": "local", "defaults": "dask"}, "dask"),
    ({"defaults": "dask", "stage": "local"}, "local"),
    ({"defaults": "local", "stage": "dask"}, "dask"),
    ({"setting": "local", "pipeline": "local", "stage": "local", "option": "dask"}, "dask"),
    ({"setting": "dask", "pipeline": "dask", "stage": "dask", "option": "local"}, "local"),
]


def test_what_says_where_stages_are_computed(tmp_path: Path) -> None:
    here = project(tmp_path, {}, "", **{"code/up.sh": "cp pfs/input/* pfs/out"})
    here.write("input/a", "a")
    stage = json.loads(here.read("pipeline.json"))["stages"][0]
    for said, expected in PLACES:
        whole: dict[str, Any] = {"stages": [{**stage, **({"executor": said["stage"]} if "stage" in said else {})}]}
        if "pipeline" in said:
            whole["executor"] = said["pipeline"]
        if "defaults" in said:
            whole["defaults"] = {"executor": said["defaults"]}
        here.write("pipeline.json", json.dumps(whole))
        here.git("add", "-A")
        here.git("commit", "-q", "--allow-empty", "-m", "one")
        here.git("config", "ml.executor", said.get("setting", ""))
        if "setting" not in said:
            here.git("config", "--unset", "ml.executor")
        option = ["--executor", said["option"]] if "option" in said else []
        done = here.ml("run", "--force", "up", *option, check=False)
        asked = "there is no Dask scheduler to give tasks to" in done.stderr
        assert ("dask" if asked else "local", done.returncode) == (expected, 2 if asked else 0), (said, done.stderr)


def test_what_is_missing_is_said_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "300ms")
    here = project(tmp_path, {}, "tcp://127.0.0.1:1", **{"code/up.sh": "cp pfs/input/* pfs/out"})
    here.write("input/a", "a")
    here.commit(wait=False)
    saved = here.read(".git/config")
    for settings, said in WRONG:
        for name, value in settings.items():
            here.git("config", *([name, value] if value is not None else ["--unset", name]))
        done = here.ml("run", check=False)
        assert done.returncode == 2
        assert said in done.stderr
        assert "me:word" not in done.stderr
        here.write(".git/config", saved)
    assert here.states() == {"up": "stale"}
    here.ml("run", "--executor", "local")
    assert here.states() == {"up": "fresh"}
    assert "use local or dask" in here.ml("run", "--executor", "slurm", check=False).stderr
    here.git("config", "ml.executor", "slurm")
    assert "unknown executor 'slurm'" in here.ml("run", "--force", "up", check=False).stderr
