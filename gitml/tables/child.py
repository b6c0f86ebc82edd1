"""Comparing tables in a process of its own, with limits: what is compared may come from anybody's pull request.

Memory, processor time and files are limited by the system, and the answer is JSON of limited length. Whatever goes
wrong there, the caller gets a difference that is opaque and says which limit it was.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitml.tables.diff import FileDiff, Overlap
from gitml.tables.outcome import PredictionDiff, Version
from gitml.tables.series import SeriesFile, read_series

_NO_MEMORY = 77
_SIGNS = (b"memory allocation", b"out of memory", b"cannot allocate", b"memoryerror", b"start new thread")
"""What code says that ran out of memory and could not raise, or had none for the stack of a thread."""
_HEARD = 16
"""Blocks of what is said that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a comparison may take."""

    memory: int = 4 << 30
    """Bytes of address space, of which about 1 GiB is only reserved."""
    seconds: int = 120
    """By the clock. Of processor time, twice as much."""
    answer: int = 64 << 20
    """Bytes of the answer."""


def compare_in_child(
    old: Path, new: Path, name: str = "", *, key: Sequence[str] = (), samples: int = 10, masked: Sequence[str] = (),
    limits: Limits | None = None,
) -> FileDiff:  # fmt: skip
    """How two versions of a file differ, as `compare.compare` gives it."""
    request = {
        "what": "compare", "paths": [os.fspath(old), os.fspath(new)], "name": name or new.name, "key": list(key),
        "samples": samples, "masked": list(masked),
    }  # fmt: skip
    answer = _ask(request, limits or Limits())
    return FileDiff(opaque=answer) if isinstance(answer, str) else FileDiff.from_json(answer)


def overlap_in_child(
    train: Path, test: Path, key: Sequence[str] | None = None, columns: Sequence[str] | None = None, *,
    samples: int = 10, masked: Sequence[str] = (), limits: Limits | None = None,
) -> Overlap:  # fmt: skip
    """Which rows of `test` also appear in `train`, as `compare.overlap` gives it."""
    request = {
        "what": "overlap", "paths": [os.fspath(train), os.fspath(test)], "key": key and list(key),
        "columns": columns and list(columns), "samples": samples, "masked": list(masked),
    }  # fmt: skip
    answer = _ask(request, limits or Limits())
    return Overlap(opaque=answer) if isinstance(answer, str) else Overlap.from_json(answer)


def predictions_in_child(
    old: Version, new: Version, *, samples: int = 10, masked: Sequence[str] = (), limits: Limits | None = None
) -> PredictionDiff:
    """How the predictions of two versions differ, as `predictions.compare_predictions` gives it."""
    sides = [
        {name: os.fspath(each) if isinstance(each, Path) else each for name, each in asdict(version).items()}
        for version in (old, new)
    ]
    answer = _ask(
        {"what": "predictions", "versions": sides, "samples": samples, "masked": list(masked)}, limits or Limits()
    )
    return PredictionDiff(opaque=answer) if isinstance(answer, str) else PredictionDiff.from_json(answer)


def series_in_child(
    path: Path, name: str, x: str | None, y: Sequence[str], *, limits: Limits | None = None
) -> SeriesFile:
    """Columns to be drawn, as `series.read_series` gives them."""
    answer = _ask(
        {"what": "series", "paths": [os.fspath(path)], "name": name, "x": x, "y": list(y)}, limits or Limits()
    )
    return SeriesFile(opaque=answer) if isinstance(answer, str) else SeriesFile.from_json(answer)


def _ask(request: Mapping[str, Any], limits: Limits) -> Mapping[str, Any] | str:
    """The answer of a child, or why there is none."""
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # -I: neither the current directory nor the environment of the user chooses what is imported
    command = [sys.executable, "-I", "-m", "gitml.tables", str(limits.memory), str(limits.seconds), json.dumps(request)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.kill()

        said: list[bytes] = []
        timer = threading.Timer(limits.seconds, end)
        listener = threading.Thread(target=_listen, args=(process.stderr, said))
        timer.start()
        listener.start()
        try:
            data = process.stdout.read(limits.answer + 1)
            if len(data) > limits.answer:
                process.kill()
                return f"the difference takes more than {limits.answer} bytes"
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
            listener.join()
    if status == 0:
        try:
            return json.loads(data)  # type: ignore[no-any-return]
        except ValueError:
            return "the comparison gave no answer"
    if expired.is_set():
        return f"comparing takes more than {limits.seconds} s"
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"comparing takes more than {2 * limits.seconds} s of processor time"
    if status == _NO_MEMORY or _is_about_memory(b"".join(said)):
        return f"comparing takes more than {limits.memory} bytes of memory"
    return f"the comparison ended with {status}"


def _listen(stream: Any, said: list[bytes]) -> None:
    """Read all that is said, and keep its beginning."""
    while data := stream.read(4096):
        if len(said) < _HEARD:
            said.append(data)


def _is_about_memory(said: bytes) -> bool:
    text = said.lower()
    return any(each in text for each in _SIGNS)


def main(arguments: Sequence[str]) -> int:
    """Be the child: limit this process, compare, answer on standard output."""
    import resource

    memory, seconds = int(arguments[0]), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_CPU, (2 * seconds, 2 * seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # libraries that find no memory while they load fail in as many ways as there are libraries
    request = json.loads(arguments[2])
    if request["what"] == "predictions":
        gc.disable()  # millions of small objects, none in a cycle: looking for some takes half of the time
    _load(with_statistics=request["what"] == "predictions")
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        answer = json.dumps(_answer(request))
    except MemoryError:
        return _NO_MEMORY
    sys.stdout.write(answer)
    sys.stdout.flush()
    return 0


def _load(*, with_statistics: bool) -> None:
    """Load what compares, and start its threads."""
    if with_statistics:
        from gitml.tables.significance import has_scipy

        if has_scipy():
            import scipy.stats  # noqa: F401 - loading it is all that is wanted
    from gitml.tables.compare import has_polars

    if has_polars():
        import numpy as np
        import polars as pl

        np.sort(pl.DataFrame({"x": [1, 2], "y": [3, 4]}).select(pl.all().sort())["x"].to_numpy())


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    from gitml.tables.compare import Options, compare, overlap

    if request["what"] == "predictions":
        from gitml.tables.predictions import compare_predictions

        old, new = map(_version, request["versions"])
        return compare_predictions(old, new, samples=request["samples"], masked=request["masked"]).as_json()
    paths = [Path(each) for each in request["paths"]]
    if request["what"] == "series":
        return read_series(paths[0], request["name"], request["x"], request["y"]).as_json()
    if request["what"] == "overlap":
        found = overlap(
            paths[0], paths[1], request["key"], request["columns"], samples=request["samples"], masked=request["masked"]
        )
        return found.as_json()
    options = Options(key=tuple(request["key"]), samples=request["samples"], masked=tuple(request["masked"]))
    return compare(paths[0], paths[1], request["name"], options).as_json()


def _version(given: Mapping[str, Any]) -> Version:
    labels = given["labels"]
    return Version(
        **{
            **given,
            "path": Path(given["path"]),
            "labels": None if labels is None else Path(labels),
            "slices": tuple(given["slices"]),
        }
    )
