"""Reading files of models, and images, in a process of its own, which can do little and not for long.

A reader may have a defect, and the file may be made to find it: so it is `confined`, and opens no file but those that
it reads. Whatever goes wrong there, the caller gets a summary that says so.
"""

import codecs
import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gitml import confined
from gitml.formats.compare import ModelDiff
from gitml.formats.pixels import PixelDiff
from gitml.formats.summary import Summary
from gitml.record import record


@record
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
    given = [str(limits.memory), str(limits.seconds), *arguments, *map(str, paths)]
    answer = confined.ask("gitml.formats.child", given, clock=2 * limits.seconds, answer=limits.answer)
    if not isinstance(answer, confined.Failure):
        found: Mapping[str, Any] = answer
        return found
    ended = f"with exit code {answer.status}" if answer.status >= 0 else f"by signal {-answer.status}"
    reasons = {
        confined.Cause.CLOCK: f"reading it takes more than {2 * limits.seconds} s",
        confined.Cause.PROCESSOR: f"reading it takes more than {limits.seconds} s",
        confined.Cause.MEMORY: f"reading it takes more than {limits.memory} bytes of memory",
        confined.Cause.LENGTH: f"a summary of more than {limits.answer} bytes",
        confined.Cause.KILLED: "the reader was killed",
        confined.Cause.UNENDING: "the reader does not end",
    }
    return _opaque(reasons.get(answer.cause, f"the reader ended {ended}"))


def _opaque(why: str) -> Summary:
    return Summary(format="unknown", opaque=why)


def main(arguments: Sequence[str]) -> int:
    """Be the child: limit this process, read, answer on standard output."""
    gc.disable()  # nothing here lives longer than this process
    memory, seconds = int(arguments[0]), int(arguments[1])
    what, name, *paths = arguments[2:]
    confined.limit_memory(memory)
    confined.limit(seconds)
    return confined.give(lambda: _answer(what, name, paths))


def _answer(what: str, name: str, paths: Sequence[str]) -> dict[str, Any]:
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
    confined.limit_files()
    if what == "pixels":
        return compare_pixels(files[0], files[1]).as_json()
    found = [read(file, os.fstat(file.fileno()).st_size, name) for file in files]
    if what == "summarize":
        return found[0].as_json()
    return compare_summaries(found[0], found[1], files[0], files[1]).as_json()
