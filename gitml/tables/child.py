"""Comparing tables in a process of its own, with limits: what is compared may come from anybody's pull request.

It is `confined`. Whatever goes wrong there, the caller gets a difference that is opaque and says which limit it was.
"""

import gc
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitml import confined
from gitml.record import asdict, record
from gitml.tables.diff import FileDiff, Overlap
from gitml.tables.outcome import PredictionDiff, Version
from gitml.tables.series import SeriesFile, read_series


@record(kw_only=True)
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
    given = [str(limits.memory), str(limits.seconds), json.dumps(request)]
    answer = confined.ask("gitml.tables.child", given, clock=limits.seconds, answer=limits.answer)
    if not isinstance(answer, confined.Failure):
        found: Mapping[str, Any] = answer
        return found
    reasons = {
        confined.Cause.CLOCK: f"comparing takes more than {limits.seconds} s",
        confined.Cause.PROCESSOR: f"comparing takes more than {2 * limits.seconds} s of processor time",
        confined.Cause.MEMORY: f"comparing takes more than {limits.memory} bytes of memory",
        confined.Cause.LENGTH: f"the difference takes more than {limits.answer} bytes",
        confined.Cause.KILLED: "the comparison was killed",
        confined.Cause.UNENDING: "the comparison does not end",
        confined.Cause.NONSENSE: "the comparison gave no answer",
    }
    return reasons.get(answer.cause, f"the comparison ended with {answer.status}")


def main(arguments: Sequence[str]) -> int:
    """Be the child: limit this process, compare, answer on standard output."""
    memory, seconds = int(arguments[0]), int(arguments[1])
    confined.limit(2 * seconds)
    request = json.loads(arguments[2])
    if request["what"] == "predictions":
        gc.disable()  # millions of small objects, none in a cycle: looking for some takes half of the time
    # libraries that find no memory while they load fail in as many ways as there are libraries
    _load(with_statistics=request["what"] == "predictions")
    confined.limit_memory(memory)
    return confined.give(lambda: _answer(request))


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
