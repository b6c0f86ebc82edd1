"""How long git waits for the filter with each of many new files: processor time, so that other programs do not matter.

    python -m benchmarks.conversation [--files N] [--runs N]

Speaks to a filter process as git does, file after file, with a pause after each answer in which git would write the
blob of the pointer. Prints, for each file, the processor time of the filter between the request and its answer, and
after it; once for files in the order of their names, which it prepares, and once in an order that it cannot guess.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.ingest import fresh
from benchmarks.lab import ENVIRONMENT, OURS, write_files
from gitml.protocol.pktline import FLUSH_PACKET, encode_content, encode_packet

_SIZE = 100 << 10
_PAUSE = 0.003
"""Seconds in which whatever the filter does after an answer ends."""


class Filter:
    """A filter process in a repository."""

    def __init__(self, place: Path) -> None:
        command = [*OURS.split(), "filter-process"]
        self._process = subprocess.Popen(
            command, cwd=place, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._clock = ~self._process.pid << 3 | 2  # Linux: the clock of the processor time of a process
        for lines in ([b"git-filter-client\n", b"version=2\n"], [b"capability=clean\n"]):
            self._send(b"".join(map(encode_packet, lines)) + FLUSH_PACKET)
            self._skip_to_flush()

    def processor_time(self) -> float:
        return time.clock_gettime(self._clock)

    def clean(self, name: str, content: bytes) -> float:
        """Have a file cleaned; give the processor time that the answer took."""
        before = self.processor_time()
        header = encode_packet(b"command=clean\n") + encode_packet(b"pathname=%s\n" % name.encode()) + FLUSH_PACKET
        self._send(b"".join([header, *encode_content(content), FLUSH_PACKET]))
        for _ in range(3):  # the status, the pointer, and that the status stands
            self._skip_to_flush()
        return self.processor_time() - before

    def close(self) -> None:
        self._to.close()
        if self._process.wait():
            raise SystemExit("the filter failed")

    def _send(self, data: bytes) -> None:
        self._to.write(data)
        self._to.flush()

    def _skip_to_flush(self) -> None:
        while (length := int(self._from.read(4), 16)) != 0:
            self._from.read(length - 4)


def measure(where: Path, source: Path, *, ordered: bool) -> tuple[float, float]:
    """Milliseconds for a file until the answer, and after it."""
    place = fresh(where, "gitml", source)
    names = sorted(path.name for path in source.iterdir())
    if not ordered:
        random.Random(1).shuffle(names)
    contents = {name: (source / name).read_bytes() for name in names}
    filters = Filter(place)
    answers, pauses = [], []
    for name in names:
        answers.append(filters.clean(name, contents[name]))
        before = filters.processor_time()
        time.sleep(_PAUSE)
        pauses.append(filters.processor_time() - before)
    filters.close()
    shutil.rmtree(place)
    return 1000 * median(answers), 1000 * median(pauses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source")
        source.mkdir()
        write_files(source, options.files, _SIZE, "random")
        for _ in range(options.runs):
            for title, ordered in (("in order", True), ("in any order", False)):
                answer, after = measure(Path(temporary), source, ordered=ordered)
                print(f"{title:12}  until the answer {answer:.2f} ms, after it {after:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
