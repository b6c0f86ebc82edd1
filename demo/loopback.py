"""Servers on loopback for as long as a block runs: what the story of object storage, tests and benchmarks start."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress


class ServerError(Exception):
    """A server did not start."""


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server until the block ends; it is ready once its port answers. Gives its process id.

    Raise `ServerError` if it ends by itself before that.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    said: list[bytes] = []
    drain = threading.Thread(target=said.extend, args=(process.stderr,))
    drain.start()
    try:
        while not _answers(port):
            if process.poll() is not None:
                drain.join()
                raise ServerError(f"{command[0]} ended: {b''.join(said).decode(errors='replace')}")
            threading.Event().wait(0.01)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        drain.join(timeout=5)
        process.stderr.close()


@contextmanager
def moto() -> Iterator[str]:
    """Moto's S3 server, which keeps everything in memory; gives its endpoint. Raise `ServerError`."""
    port = free_port()
    with process([sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


def make_bucket(endpoint: str, name: str) -> None:
    """Make a bucket; moto takes anybody's word."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request):
        pass


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
