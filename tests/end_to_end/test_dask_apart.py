"""A run on a Dask cluster whose workers are on machines that share nothing with the user's but a git server."""

import os
import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.cluster import cluster
from tests.end_to_end.test_dask import project
from tests.machines import ADDRESS, machines

pytest.importorskip("distributed")


def test_workers_need_nothing_of_the_user_but_the_remote(tmp_path: Path) -> None:
    top = tmp_path / "user"
    top.mkdir()
    script = "cat pfs/input/* > pfs/out/$(ls pfs/input); head -c 100000 /dev/zero >> pfs/out/$(ls pfs/input)"
    with machines() as every:
        server = ["git", "daemon", "--export-all", "--enable=receive-pack", f"--listen={ADDRESS}", f"--base-path={top}"]
        with (
            subprocess.Popen([*every.enter, *server], stdout=PIPE, stderr=PIPE) as daemon,
            cluster(tmp_path / "cluster", 0, host=ADDRESS, enter=every.enter) as own,
        ):
            try:
                here = project(top, {}, own.address, **{"code/up.sh": script})
                here.git("remote", "set-url", "store", f"git://{ADDRESS}/store.git")
                for number in range(8):
                    here.write(f"input/{number}", f"{number}\n")
                here.write("input/large", os.urandom(200_000))
                here.ml("track", "input/large", "up/**")
                here.commit(wait=False)

                there = subprocess.run([*every.another(top), "ls", top], capture_output=True, check=True)
                assert there.stdout == b""
                for _ in range(3):
                    own.add(enter=every.another(top))
                own.wait()
                networks = {Path(f"/proc/{process.pid}/ns/net").readlink() for process in own.workers}
                assert len({*networks, Path(f"/proc/{daemon.pid}/ns/net").readlink()}) == 4
                command = [*every.enter, "git-ml", "run"]
                running = subprocess.Popen(command, cwd=here.path, env=here.environment(), stdout=PIPE, stderr=PIPE)
                place = own.directory / "worker-0" / "scratch"
                here.until(lambda: running.poll() is not None or any(place.glob("*/*/gitml/*/*/*/*/tasks/*")), 300)
                assert running.poll() is None, "the worker was to die in the middle"
                own.kill(0)
                out, err = running.communicate(timeout=300)
                assert running.returncode == 0, (out, err)
                assert b"9 datums run" in out
            finally:
                daemon.terminate()  # git passes that on to the daemon proper
    assert here.read("up/5") == "5\n" + "\0" * 100_000
    assert (here.path / "up/large").read_bytes() == (here.path / "input/large").read_bytes() + bytes(100_000)
    computed = here.head("HEAD:up")
    here.ml("run", "up", "--force", "--executor", "local")
    assert here.head("HEAD:up") == computed
