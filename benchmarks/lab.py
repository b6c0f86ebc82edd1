"""What the benchmarks share: content to store, commands to time, and the memory of everything they start."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
ENVIRONMENT |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "gc.auto", "GIT_CONFIG_VALUE_0": "0"}
for role in ("AUTHOR", "COMMITTER"):
    ENVIRONMENT |= {f"GIT_{role}_NAME": "Bench", f"GIT_{role}_EMAIL": "bench@example.org"}
OURS = f"{sys.executable} -P -m gitml"


class Peak:
    """The peak memory of every program that descends from a process, by the name of the program."""

    def __init__(self, pid: int) -> None:
        self.bytes: dict[str, int] = {}
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        self._ended.set()
        self._thread.join()
        return self.bytes

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for pid in family(self._pid):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                if "VmHWM" in fields:
                    name = fields["Name"].strip()
                    peak = int(fields["VmHWM"].split()[0]) * 1024
                    self.bytes[name] = max(peak, self.bytes.get(name, 0))


class Together:
    """The most memory that a process and all that it starts hold at one time: what is resident of each, added up."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most = pid, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._ended.wait(0.02):
            held = 0
            for pid in family(self._pid):
                try:
                    held += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
                except OSError:
                    continue
            self._most = max(self._most, held)


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def git(where: Path, *arguments: str, **extra: str) -> None:
    subprocess.run(["git", *arguments], cwd=where, env=ENVIRONMENT | extra, check=True, stdout=subprocess.DEVNULL)


def timed(where: Path, command: str) -> tuple[float, dict[str, int]]:
    started = time.perf_counter()
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=where, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = Peak(process.pid)
    message = process.communicate()[1].decode()
    seconds = time.perf_counter() - started
    memory = peak.stop()
    if process.returncode:
        raise SystemExit(f"{command}: {process.returncode}\n{message}")
    return seconds, memory


def told(memory: dict[str, int]) -> str:
    """Peak memory as text. What ended before it was first looked at has none."""
    highest = (f"{program} {peak / 1e6:.0f} MB" for program, peak in sorted(memory.items()))
    return ", ".join(highest) or "too short to be seen"


def write_files(where: Path, count: int, size: int, kind: str) -> None:
    """`count` files of `size` bytes: noise, float32 numbers as of weights, or rows of text."""
    rng = random.Random(1)
    for number in range(count):
        with (where / f"{number:05}.bin").open("wb") as file:
            left = size
            while left > 0:
                if kind == "random":
                    piece = rng.randbytes(min(left, 1 << 20))
                elif kind == "float":
                    import numpy as np  # noqa: PLC0415 - only here

                    values = np.random.default_rng(rng.getrandbits(32)).normal(0, 0.02, 1 << 18)
                    piece = values.astype("float32").tobytes()
                else:
                    rows = (f"{rng.random():.4f},{rng.randint(0, 99)},{rng.choice('abc')}\n" for _ in range(80_000))
                    piece = "".join(rows).encode()
                file.write(piece[:left])
                left -= len(piece)
