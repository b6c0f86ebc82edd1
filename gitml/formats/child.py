"""Reading model files in a process of its own, which can do little and not for long.

A reader may have a defect, and the file may be made to find it: so it gets limits for memory, time and files from the
system, and answers with JSON of limited length. Whatever goes wrong there, the caller gets a summary that says so.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitml.formats.compare import ModelDiff
from gitml.formats.summary import Summary


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader may take."""

    memory: int = 3 << 30
    """Bytes of address space; numpy alone reserves some hundred megabytes."""
    seconds: int = 60
    """Of processor time, and twice as much by the clock."""
    answer: int = 64 << 20
    """Bytes of its answer."""


def summarize(path: Path, name: str = "", limits: Limits | None = None) -> Summary:
    """What the file at `path` holds; `name` is what it is called in the repository."""
    answer = _ask(["summarize", name or path.name], [path], limits or Limits())
    return answer if isinstance(answer, Summary) else Summary.from_json(answer)


def compare(old: Path, new: Path, name: str = "", limits: Limits | None = None) -> ModelDiff:
    """How two versions of a file differ."""
    answer = _ask(["compare", name or new.name], [old, new], limits or Limits())
    return ModelDiff(old=answer, new=answer) if isinstance(answer, Summary) else ModelDiff.from_json(answer)


def _ask(arguments: Sequence[str], paths: Sequence[Path], limits: Limits) -> Mapping[str, Any] | Summary:
    """The answer of a reader, or an opaque summary."""
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # -I: neither the current directory nor the environment of the user chooses what is imported
    command = [sys.executable, "-I", "-m", "gitml.formats", str(limits.memory), str(limits.seconds), *arguments]
    command += map(str, paths)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            data = _read(process, limits)
        except TimeoutError:
            return Summary(format="unknown", opaque=f"reading it takes more than {2 * limits.seconds} s")
        if len(data) > limits.answer:
            process.kill()
            return Summary(format="unknown", opaque=f"a summary of more than {limits.answer} bytes")
        status = process.wait()
    if status == 0:
        try:
            return json.loads(data)  # type: ignore[no-any-return]
        except ValueError:
            pass
    reasons = {
        -signal.SIGXCPU: f"reading it takes more than {limits.seconds} s",
        -signal.SIGKILL: f"reading it takes more than {limits.seconds} s",
        _NO_MEMORY: f"reading it takes more than {limits.memory} bytes of memory",
    }
    return Summary(format="unknown", opaque=reasons.get(status, f"the reader ended with {status}"))


_NO_MEMORY = 77


def _read(process: "subprocess.Popen[bytes]", limits: Limits) -> bytes:
    """All that a process writes, up to a little more than it may; raise `TimeoutError`, with the process killed."""
    import threading  # noqa: PLC0415

    expired = threading.Event()

    def end() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(2 * limits.seconds, end)
    timer.start()
    try:
        assert process.stdout is not None
        data = process.stdout.read(limits.answer + 1)
    finally:
        timer.cancel()
    if expired.is_set():
        raise TimeoutError
    return data


def main(arguments: Sequence[str]) -> int:
    """Be the child: limit this process, read, answer on standard output."""
    import resource  # noqa: PLC0415 - not everywhere, and only here

    memory, seconds = int(arguments[0]), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _answer(arguments[2:])
    except MemoryError:
        return _NO_MEMORY
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


def _answer(arguments: Sequence[str]) -> dict[str, Any]:
    from gitml.formats.compare import compare as compare_summaries  # noqa: PLC0415
    from gitml.formats.detect import summarize as read  # noqa: PLC0415

    what, name, *paths = arguments
    files = [Path(path).open("rb") for path in paths]  # noqa: SIM115 - the process ends with them
    found = [read(file, os.fstat(file.fileno()).st_size, name) for file in files]
    if what == "summarize":
        return found[0].as_json()
    # a zip archive closes the file it was given
    files = [Path(path).open("rb") for path in paths]  # noqa: SIM115
    return compare_summaries(found[0], found[1], files[0], files[1]).as_json()
