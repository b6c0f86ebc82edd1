"""Reading files of models, and images, in a process of its own, which can do little and not for long.

A reader may have a defect, and the file may be made to find it: so it gets limits for memory, time and files from the
system, and answers with JSON of limited length. Whatever goes wrong there, the caller gets a summary that says so.
"""

import codecs
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gitml.formats.compare import ModelDiff
from gitml.formats.pixels import PixelDiff
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
    if not isinstance(answer, Summary) and answer["schema"] == "gitml/model/1":
        answer = Summary.from_json(answer)
    return ModelDiff(old=answer, new=answer) if isinstance(answer, Summary) else ModelDiff.from_json(answer)


def compare_images(old: Path, new: Path, limits: Limits | None = None) -> PixelDiff:
    """How two images differ, as `pixels.compare_pixels` gives it."""
    answer = _ask(["pixels", ""], [old, new], limits or Limits())
    if not isinstance(answer, Summary) and "schema" in answer:
        answer = Summary.from_json(answer)
    return PixelDiff(problem=answer.opaque) if isinstance(answer, Summary) else PixelDiff.from_json(answer)


def _ask(arguments: Sequence[str], paths: Sequence[Path], limits: Limits) -> Mapping[str, Any] | Summary:
    """The answer of a reader, or an opaque summary."""
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # -I: neither the current directory nor the environment of the user chooses what is imported
    command = [sys.executable, "-I", "-W", "ignore", "-c", _START, str(Path(__file__).resolve().parents[2])]
    command += [str(limits.memory), str(limits.seconds), *arguments, *map(str, paths)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            data = _read(process, limits)
        except TimeoutError:
            return _opaque(f"reading it takes more than {2 * limits.seconds} s")
        except BaseException:
            process.kill()  # an interrupt, of which it has not heard
            raise
        if len(data) > limits.answer:
            process.kill()
            return _opaque(f"a summary of more than {limits.answer} bytes")
        try:
            status = process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            return _opaque("the reader does not end")
    if status == 0:
        try:
            return json.loads(data)  # type: ignore[no-any-return]
        except ValueError:
            pass
    reasons = {
        -signal.SIGXCPU: f"reading it takes more than {limits.seconds} s",
        -signal.SIGKILL: "the reader was killed",
        _NO_MEMORY: f"reading it takes more than {limits.memory} bytes of memory",
    }
    ended = f"with exit code {status}" if status >= 0 else f"by signal {-status}"
    return _opaque(reasons.get(status, f"the reader ended {ended}"))


_START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from gitml.formats.child import main; sys.exit(main(sys.argv[1:]))"
)
"""gitml need not be installed for the interpreter: where it lies is the first argument."""
_NO_MEMORY = 77
_ENDING = 5
"""Seconds from the end of an answer to the end of the process."""


def _opaque(why: str) -> Summary:
    return Summary(format="unknown", opaque=why)


def _read(process: "subprocess.Popen[bytes]", limits: Limits) -> bytes:
    """All that a process writes, up to a little more than it may; raise `TimeoutError`, with the process killed."""
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

    gc.disable()  # nothing here lives longer than this process
    memory, seconds = int(arguments[0]), int(arguments[1])
    what, name, *paths = arguments[2:]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _answer(what, name, paths, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0)))
        sys.stdout.write(json.dumps(answer))
    except MemoryError:
        return _NO_MEMORY
    sys.stdout.flush()
    return 0


def _answer(what: str, name: str, paths: Sequence[str], no_more_files: Callable[[], None]) -> dict[str, Any]:
    from gitml.formats.compare import compare as compare_summaries  # noqa: PLC0415 - after the limits are set
    from gitml.formats.detect import summarize as read  # noqa: PLC0415 - as above
    from gitml.formats.pixels import compare_pixels, load  # noqa: PLC0415 - as above

    if what == "pixels":
        load()
    elif what == "compare":
        import numpy  # noqa: F401, PLC0415 - its files, before none can be opened
    for codec in ("cp437", "raw_unicode_escape", "unicode_escape", "latin-1"):
        codecs.lookup(codec)  # they are files, too: of zip archives and old pickles
    files: list[IO[bytes]] = []
    for path in paths:
        try:
            if not Path(path).is_file():
                return _opaque("not a file").as_json()
            files.append(Path(path).open("rb"))  # noqa: SIM115 - the process ends with them
        except OSError as error:
            return _opaque(f"cannot be read: {(error.strerror or str(error)).lower()}").as_json()
    no_more_files()
    if what == "pixels":
        return compare_pixels(files[0], files[1]).as_json()
    found = [read(file, os.fstat(file.fileno()).st_size, name) for file in files]
    if what == "summarize":
        return found[0].as_json()
    return compare_summaries(found[0], found[1], files[0], files[1]).as_json()
