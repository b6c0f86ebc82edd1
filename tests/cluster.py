"""A real Dask cluster on this machine: a scheduler and worker processes that share no directory and no home."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_QUIET = {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "spawn",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "false",
}


class Cluster:
    """`address` is the scheduler's; the directory of worker n is `directory / "worker-n"`.

    `enter` stands before every command: it runs it on the machine with the address `host`.
    """

    def __init__(
        self, directory: Path, extra: Mapping[str, str], *, host: str = "127.0.0.1", enter: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self._extra = extra
        self._enter = enter
        self.workers: list[subprocess.Popen[bytes]] = []
        directory.mkdir(parents=True)
        self._file = directory / "scheduler.json"
        self._scheduler = self._start(enter, "scheduler", "--host", host, "--port", "0", "--scheduler-file", self._file)
        end = time.monotonic() + 60
        while not self._file.exists() or not self._file.read_text():
            assert self._scheduler.poll() is None, self.said("scheduler")
            assert time.monotonic() < end, self.said("scheduler")
            time.sleep(0.02)
        self.address: str = json.loads(self._file.read_text())["address"]

    def add(self, *arguments: str, enter: Sequence[str] | None = None) -> int:
        """Start one more worker process, on another machine if `enter` says so; give its number."""
        number = len(self.workers)
        home = self.directory / f"worker-{number}"
        self.workers.append(
            self._start(
                self._enter if enter is None else enter,
                "worker", self.address, "--no-nanny", "--nthreads", "1", "--local-directory", home / "scratch",
                "--death-timeout", "60", *arguments, home=home,
            )
        )  # fmt: skip
        return number

    def wait(self) -> None:
        """Until all workers are there."""
        ready = f"""
import distributed
with distributed.Client({self.address!r}) as client:
    client.wait_for_workers({len(self.workers)}, timeout=120)
"""
        subprocess.run([*self._enter, sys.executable, "-c", ready], check=True, capture_output=True)

    def kill(self, number: int) -> None:
        """End a worker as a power cut does."""
        self.workers[number].kill()
        self.workers[number].wait()

    def end_scheduler(self) -> None:
        """End the scheduler without a word."""
        self._scheduler.kill()
        self._scheduler.wait()

    def said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def close(self) -> None:
        for process in [*self.workers, self._scheduler]:
            process.kill()
            process.wait()

    def _start(
        self, enter: Sequence[str], kind: str, *arguments: str | Path, home: Path | None = None
    ) -> subprocess.Popen[bytes]:
        home = home or self.directory / kind
        home.mkdir()
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in {"PATH", "LC_ALL", "TZ"} or name.startswith("PYTHON")
        }
        environment |= {"HOME": str(home), "TMPDIR": str(home), **_QUIET, **self._extra}
        with (self.directory / f"{home.name}.log").open("wb") as log:
            return subprocess.Popen(
                [*enter, sys.executable, "-m", "distributed.cli.dask_" + kind, "--no-dashboard", *map(str, arguments)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=home,
            )  # fmt: skip


@contextmanager
def cluster(
    directory: Path, workers: int, *, host: str = "127.0.0.1", enter: Sequence[str] = (), **environment: str
) -> Iterator[Cluster]:
    """A cluster that goes with the block; every process gets the variables."""
    made = Cluster(directory, environment, host=host, enter=enter)
    try:
        for _ in range(workers):
            made.add()
        yield made
    finally:
        made.close()
