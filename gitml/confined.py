"""Reading in a process that can do little and not for long: what is read may come from anybody's pull request.

The system limits its memory, processor time and files, and its answer is JSON of limited length. Whatever goes wrong
there, the caller gets a `Failure` that says which limit it was. What the other process does is `main` of a module: it
is given arguments, calls `limit` and `limit_memory`, and ends with what `give` returns.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import IO, Any

from gitml.record import record

_NO_MEMORY = 77
_SIGNS = (b"memory allocation", b"out of memory", b"cannot allocate", b"memoryerror", b"start new thread")
"""What code says that ran out of memory and could not raise, or had none for the stack of a thread."""
_HEARD = 16
"""Blocks of what is said that are kept."""
_ENDING = 5
"""Seconds from the end of an answer to the end of the process."""
_START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from importlib import import_module; "
    "sys.exit(import_module(sys.argv.pop(1)).main(sys.argv[1:]))"
)
"""gitml need not be installed for the interpreter: where it lies is the first argument."""


class Cause(Enum):
    """Why there is no answer."""

    CLOCK = auto()
    PROCESSOR = auto()
    MEMORY = auto()
    LENGTH = auto()
    """The answer is too long."""
    KILLED = auto()
    UNENDING = auto()
    """The answer has ended, the process has not."""
    NONSENSE = auto()
    """The answer is no JSON."""
    ENDED = auto()
    """It ended with some other status."""


@record
class Failure:
    """That there is no answer."""

    cause: Cause
    status: int
    """How the process ended: an exit code, or a signal as a negative number."""


def ask(module: str, arguments: Sequence[str], *, clock: float, answer: int) -> Any:
    """What `main` of a module gives for these arguments: a value of JSON, or a `Failure`.

    `clock`: seconds, after which the process is killed. `answer`: bytes of the longest answer that is taken.
    """
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # -I: neither the current directory nor the environment of the user chooses what is imported
    command = [sys.executable, "-I", "-W", "ignore", "-c", _START, str(Path(__file__).resolve().parents[1]), module]
    with subprocess.Popen(
        [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.kill()

        said: list[bytes] = []
        timer = threading.Timer(clock, end)
        listener = threading.Thread(target=_listen, args=(process.stderr, said))
        timer.start()
        listener.start()
        try:
            data = process.stdout.read(answer + 1)
            if len(data) > answer:
                process.kill()
                return Failure(Cause.LENGTH, process.wait())
            try:
                status = process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                return Failure(Cause.UNENDING, process.wait())
        except BaseException:
            process.kill()  # an interrupt, of which it has not heard
            raise
        finally:
            timer.cancel()
            listener.join()
    if status == 0:
        try:
            return json.loads(data)
        except ValueError:
            return Failure(Cause.NONSENSE, status)
    return Failure(_cause(status, b"".join(said), expired=expired.is_set()), status)


def limit(processor: int) -> None:
    """Be the other process: take no more than so many seconds of processor time, and write no file."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(size: int) -> None:
    """Be the other process: take no more than so many bytes of address space."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def limit_files() -> None:
    """Be the other process: open no more files."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def give(work: Callable[[], object]) -> int:
    """Be the other process: write what `work` gives, a value of JSON, to standard output; the exit code."""
    try:
        sys.stdout.write(json.dumps(work()))
    except MemoryError:
        return _NO_MEMORY
    sys.stdout.flush()
    return 0


def _listen(stream: IO[bytes], said: list[bytes]) -> None:
    """Read all that is said, and keep its beginning."""
    while data := stream.read(4096):
        if len(said) < _HEARD:
            said.append(data)


def _cause(status: int, said: bytes, *, expired: bool) -> Cause:
    if expired:
        return Cause.CLOCK
    if status == -signal.SIGXCPU:
        return Cause.PROCESSOR
    text = said.lower()
    if status == _NO_MEMORY or any(each in text for each in _SIGNS):
        return Cause.MEMORY
    return Cause.KILLED if status == -signal.SIGKILL else Cause.ENDED
