"""What the tasks of a run print, as it comes: from their files while a stage runs, the end from the run cache.

A runner removes the files of a stage as soon as its logs are in the run cache, so what a reader did not see in time is
there.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from gitml.pipeline.cache import RunCache
from gitml.record import field, record

_NAME = ".name"


def note_task(log: Path, stage: str, datum: str) -> None:
    """Put down beside a log whose it is, for readers; done before the log is made."""
    log.with_suffix(_NAME).write_text(f"{stage}\n{datum}\n", encoding="utf-8", errors="surrogateescape")


@record
class Piece:
    """Something that a task printed. `stage` and `datum` are empty if nobody said whose it is."""

    key: str
    stage: str
    datum: str
    data: bytes


@record(frozen=False)
class _Seen:
    offset: int = 0
    stage: str = ""
    datum: str = ""
    over: bool = False


@record(frozen=False)
class LiveLogs:
    """The logs of one run, from the beginning; ask again and again with `more`."""

    directory: Path
    """Of the run (`Lease.run_dir`)."""
    run: str
    cache: RunCache
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def more(self, *, ended: bool = False) -> Iterator[Piece]:
        """What was printed since the last time; once the run has `ended` also what only the run cache has."""
        there: set[str] = set()
        try:
            entries = sorted(os.scandir(self.directory / "log"), key=lambda entry: entry.name)
        except FileNotFoundError:
            entries = []
        for entry in entries:
            if not entry.name.endswith(".log"):
                continue
            key = entry.name.removesuffix(".log")
            there.add(key)
            yield from self._from_file(key, Path(entry.path))
        gone = [key for key, seen in self._seen.items() if key not in there and not seen.over]
        if gone or ended:
            self.cache.refresh()
        for key in gone:
            yield from self._from_cache(key)
        if ended:
            for key in self.cache.logs(self.run):
                if key not in there:
                    yield from self._from_cache(key)

    def _from_file(self, key: str, path: Path) -> Iterator[Piece]:
        seen = self._seen.setdefault(key, _Seen())
        try:
            with path.open("rb") as file:
                length = os.fstat(file.fileno()).st_size
                if length < seen.offset:
                    seen.offset = 0  # the task was begun anew by another run of the same id
                file.seek(seen.offset)
                data = file.read(length - seen.offset)
            if not seen.stage:
                words = path.with_suffix(_NAME).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
                seen.stage, seen.datum = words[0], words[1]
        except (FileNotFoundError, IndexError):
            return  # removed just now: the run cache has it
        seen.offset += len(data)
        if data:
            yield Piece(key, seen.stage, seen.datum, data)

    def _from_cache(self, key: str) -> Iterator[Piece]:
        seen = self._seen.setdefault(key, _Seen())
        if seen.over:
            return
        seen.over = True
        if not seen.stage:
            line = self.cache.task_line(self.run, key) or {}
            seen.stage, seen.datum = str(line.get("stage", "")), str(line.get("datum", ""))
        data = self.cache.log(self.run, key)[seen.offset :]
        if data:
            yield Piece(key, seen.stage, seen.datum, data)
