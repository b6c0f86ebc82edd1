"""`git ml` without the start of an interpreter: a process that has read all modules forks for each command.

Nine tenths of the processor time of a short command go into reading modules. A command of a test is still a process of
its own, with its own environment, directory, pipes and exit; only what git does before it (`git ml` becomes `git-ml`)
and the reading of modules is left out. Hooks, filters, runners, workers and whatever a test starts itself begin from
nothing, as always. `GITML_COLD=1` starts every command from nothing.

Run as a program this is that process: it takes requests from a socket until nobody has the other end any more.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

COLD = bool(os.environ.get("GITML_COLD"))
Done = subprocess.CompletedProcess[bytes]


class Warm:
    """The process that forks, seen from the tests of one pytest process."""

    def __init__(self) -> None:
        # a packet is a request; it has no address, so nobody else can send one
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(its.fileno())], pass_fds=[its.fileno()], cwd="/"
            )
        exec_path = subprocess.run(["git", "--exec-path"], capture_output=True, check=True, text=True).stdout.strip()
        self._exec_path = exec_path
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # a fork of the tests that outlives them holds the socket open
            self._process.kill()
            self._process.wait()

    def run(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Done:
        """Run `git ml` with these arguments to its end, nothing on its standard input."""
        # as git hands it on
        variables = {**environment, "PATH": f"{self._exec_path}{os.pathsep}{environment['PATH']}"}
        message = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "environment": variables}).encode()
        output, errors = os.pipe(), os.pipe()
        mine, its = socket.socketpair()
        with mine:
            with its, open(os.devnull, "rb") as nothing:  # noqa: PTH123 - no path
                try:
                    files = [its.fileno(), nothing.fileno(), output[1], errors[1]]
                    socket.send_fds(self._socket, [b"x"], files)
                finally:
                    os.close(output[1])
                    os.close(errors[1])
            mine.sendall(message)
            mine.shutdown(socket.SHUT_WR)
            said = _read_all(output[0], errors[0])
            status = mine.recv(64)
        assert status, "the process that forks has gone"
        return subprocess.CompletedProcess(["git", "ml", *arguments], int(status), *said)


def _read_all(*files: int) -> list[bytes]:
    """Everything that comes until the last writer has closed; closes the files too."""
    parts: dict[int, list[bytes]] = {file: [] for file in files}
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                part = os.read(key.fd, 1 << 16)
                parts[key.fd].append(part)
                if not part:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [b"".join(parts[file]) for file in files]


@cache
def warm() -> Warm:
    """The one of this pytest process, started when it is first asked for."""
    return Warm()


def can_be_warm(arguments: Sequence[str], extra: Mapping[str, str]) -> bool:
    """Whether a command is the same when it does not begin from nothing."""
    if COLD or "--help" in arguments:  # git itself opens the manual page
        return False
    # what git and an interpreter read when they start
    return not any(name == "PATH" or name.startswith(("GIT_", "PYTHON", "LC_", "LANG", "LD_")) for name in extra)


# the process itself


def serve(requests: socket.socket) -> int:
    """Fork for each request; give 0 when the tests have ended, and in a forked process the exit code of its command."""
    from gitml.__main__ import main
    from gitml.cli.main import COMMANDS, build

    build(list(COMMANDS))
    assert len(os.listdir("/proc/self/task")) == 1, "reading a module started a thread, which no fork takes along"
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # what is there before a fork is neither looked at nor taken apart after it: pages that are written to are copied
    gc.collect()
    gc.freeze()
    asked: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for file in (woken, requests.fileno()):
            selector.register(file, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                _tell(asked)
            if requests.fileno() not in ready:
                continue
            _, files, _, _ = socket.recv_fds(requests, 1, 4)
            if not files:
                return 0
            connection = socket.socket(fileno=files.pop(0))
            with connection.makefile("rb") as lines:
                request = json.loads(lines.read())
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (requests, connection, *asked.values()):
                    other.close()
                for end in (woken, waker):
                    os.close(end)
                break
            asked[pid] = connection
            for file in files:
                os.close(file)
    for number, (file, name) in enumerate(zip(files, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(file, number)
        os.close(file)
        # the object of before knows what its file could do
        old = getattr(sys, name)
        new = open(  # noqa: SIM115 - as long as the process
            number, old.mode, encoding=old.encoding, errors=old.errors, closefd=False
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["git-ml", *request["arguments"]]
    return _end(main(request["arguments"]))


def _end(code: int) -> NoReturn:
    """End as the interpreter would, but leave its memory to the system."""
    threading._shutdown()  # type: ignore[attr-defined] # what the interpreter calls, and nothing public does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _tell(asked: dict[int, socket.socket]) -> None:
    """Tell those who asked how their commands ended."""
    for pid in list(asked):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with asked.pop(pid) as connection, suppress(OSError):
                connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
