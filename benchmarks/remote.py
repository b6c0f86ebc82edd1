"""What git remotes in object storage cost, beside plain copies of the same bytes, git-remote-s3 and plain git.

    python -m benchmarks.remote [--only PART] [--size MIB] [--commits N] [--files N] [--pushes N] [--runs N]

Parts: `large` (push and clone of one large file of data; peer: obstore moving the same pack), `history` (clone, and a
push of one commit, of a repository of many commits; peer: git-remote-s3), `changed` (bytes of a push after 1 % of a
file changed in ten places), `one-file` (bytes that one file of many costs), `requests` (of a small push, and of the
fetch after it), `pushes` (what ten thousand pushes leave; peer: `git clone` of the same repository).

Everything lies in one temporary directory, servers are on loopback: `rclone serve s3` and moto. Runs of us and of the
peer alternate. Times are the best of all runs, ratios of the best to the best, and the median of neighbours. Bytes
and requests are those that `GITML_TRACE_REMOTE` notes.
"""

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import obstore
from obstore.store import LocalStore, S3Store

from benchmarks.lab import ENVIRONMENT, git, timed
from gitml.git.repository import Repository
from gitml.protocol.remote_helper import Update
from gitml.remote.address import parse_address
from gitml.remote.push import push
from gitml.remote.store import Store
from gitml.remote.terms import Terms
from tests.stores import KEY, SECRET, address, make_bucket, serve_moto, serve_rclone

MIB = 1 << 20
BUCKET = "bucket"
SLACK = 2_000_000
"""Bytes that a file may cost beside its own."""


@dataclass(frozen=True, slots=True)
class Request:
    """A line of the trace."""

    verb: str
    key: str
    size: int


class Lab:
    """A directory, and what git does in it."""

    def __init__(self, top: Path, options: argparse.Namespace) -> None:
        self.top = top
        self.runs: int = options.runs
        self.size: int = options.size * MIB
        self.commits: int = options.commits
        self.files: int = options.files
        self.pushes: int = options.pushes
        self._trace = top / "trace"

    def make(self, name: str, *, data: bool = False) -> Path:
        """A new repository; with `data` one that keeps what is below data/ as chunks."""
        where = self.top / name
        git(self.top, "init", "-q", "-b", "main", name)
        if data:
            git(where, "ml", "install")
            git(where, "ml", "track", "data")
            (where / "data").mkdir()
        return where

    def commit(self, where: Path, message: str) -> None:
        """Commit everything."""
        git(where, "add", "-A")
        git(where, "commit", "-q", "-m", message)

    def requests_of(self, where: Path, *command: str) -> list[Request]:
        """The requests of everything that a git command starts."""
        self._trace.unlink(missing_ok=True)
        git(where, *command, GITML_TRACE_REMOTE=str(self._trace))
        lines = self._trace.read_text().splitlines() if self._trace.exists() else []
        found = [re.fullmatch(r"\d+ ([A-Z]+) (.*) (\d+) B [\d.]+ ms", line) for line in lines]
        return [Request(each[1], each[2], int(each[3])) for each in found if each]


def row(what: str, ours: float, peer: float, unit: str, bound: str, note: str = "") -> None:
    """A line of the table."""
    places = 0 if unit in ("bytes", "MB", "") else 2
    numbers = f"{ours:>14,.{places}f} {peer:>14,.{places}f} {unit:<6} {ours / peer:>7.3f}"
    print(f"{what:<58} {numbers}  {bound:<8} {note}", flush=True)


def compared(
    title: str, runs: int, ours: Callable[[], tuple[float, str]], peer: Callable[[], tuple[float, str]], bound: str
) -> None:
    """Time both in turn and print it. Each gives its seconds and something to note."""
    mine: list[float] = []
    theirs: list[float] = []
    note = ""
    for number in range(runs):
        for which in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            os.sync()
            seconds, said = ours() if which == "ours" else peer()
            (mine if which == "ours" else theirs).append(seconds)
            note = max(note, said)
    pairs = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    row(title, min(mine), min(theirs), "s", bound, f"pairs {pairs:.3f}{'; ' if note else ''}{note}")


def large(lab: Lab) -> None:
    """Push and clone of one file of noise."""
    work = lab.make("large", data=True)
    write_noise(work / "data" / "model", lab.size, 1)
    git(work, "ml", "add", "data")
    lab.commit(work, "model")
    pack = max((work / ".git" / "objects" / "pack").glob("*.pack"), key=lambda path: path.stat().st_size)
    for kind in ("rclone", "directory"):
        with ExitStack() as stack:
            places = lab.top / kind / BUCKET
            places.mkdir(parents=True)
            endpoint = stack.enter_context(serve_rclone(places.parent)) if kind == "rclone" else ""
            large_in(lab, kind, endpoint, work, pack)
        shutil.rmtree(places)


def large_in(lab: Lab, kind: str, endpoint: str, work: Path, pack: Path) -> None:
    """Push and clone of `work`, and copies of its pack, to and from one kind of store."""
    places = lab.top / kind / BUCKET
    names = (f"run{number}" for number in count())
    last = ""

    def url() -> str:
        if endpoint:
            return address(endpoint, BUCKET, last, "&single_writer=true")
        return f"ml::file://{places}/{last}"

    def store() -> S3Store | LocalStore:
        if not endpoint:
            return LocalStore(places)
        return S3Store(
            BUCKET, endpoint=endpoint, region="us-east-1", access_key_id=KEY, secret_access_key=SECRET,
            client_options={"allow_http": True},
        )  # fmt: skip

    def send() -> tuple[float, str]:
        nonlocal last
        if last:
            shutil.rmtree(places / last)
        last = next(names)
        return with_peak(*timed(work, f"git push -q '{url()}' main 'refs/ml/data/*:refs/ml/data/*'"))

    def put(synced: bool = False) -> tuple[float, str]:
        (places / "peer").unlink(missing_ok=True)
        start = time.perf_counter()
        obstore.put(store(), "peer", pack)
        if synced:
            with (places / "peer").open("rb") as file:
                os.fsync(file.fileno())
        return time.perf_counter() - start, ""

    def clone() -> tuple[float, str]:
        shutil.rmtree(lab.top / "clone.git", ignore_errors=True)
        return with_peak(*timed(lab.top, f"git clone -q --mirror '{url()}' clone.git"))

    def get() -> tuple[float, str]:
        target = lab.top / "got"
        target.unlink(missing_ok=True)
        start = time.perf_counter()
        with target.open("wb") as file:
            for part in obstore.get(store(), "peer"):
                file.write(part)
        return time.perf_counter() - start, ""

    size = lab.size // MIB
    compared(f"{kind}: push of {size} MiB; peer: obstore.put", lab.runs, send, put, "<= 1.4")
    if not endpoint:
        # a push is on the disk when it ends, what obstore has put is in memory
        compared(f"{kind}: the same; peer: obstore.put and fsync", lab.runs, send, lambda: put(synced=True), "<= 1.4")
    compared(f"{kind}: clone of {size} MiB; peer: obstore.get", lab.runs, clone, get, "<= 1.4")
    git(lab.top / "clone.git", "cat-file", "-e", "refs/heads/main^{tree}")
    shutil.rmtree(lab.top / "clone.git")


def with_peak(seconds: float, memory: dict[str, int]) -> tuple[float, str]:
    """Seconds, and the program that took the most memory."""
    name = max(memory, key=lambda each: memory[each])
    return seconds, f"peak {memory[name] / 1e6:4.0f} MB ({name}; <= 300)"


def history(lab: Lab) -> None:
    """Clone, and push of one commit, of a repository of many commits."""
    source = write_history(lab, "history", lab.commits)
    with serve_moto() as endpoint:
        make_bucket(endpoint, BUCKET)
        ENVIRONMENT["AWS_ENDPOINT_URL"] = endpoint
        urls = {"ours": f"ml::s3://{BUCKET}/ours", "peer": f"s3://{BUCKET}/peer"}
        for name, url in urls.items():
            timed(source, f"git push -q '{url}' main")
            timed(lab.top, f"git clone -q '{url}' {name}-work")

        numbers = count()

        def clone(name: str) -> tuple[float, str]:
            # nothing is removed: ext4 looks long for an inode while many have just become free
            return timed(lab.top, f"git clone -q '{urls[name]}' clone-{next(numbers)}")[0], ""

        def push_one(name: str) -> tuple[float, str]:
            where = lab.top / f"{name}-work"
            with (where / "d00" / "file0").open("a") as file:
                file.write("one line more\n")
            lab.commit(where, "one")
            return timed(where, "git push -q origin main")[0], ""

        title = f"moto, {lab.commits} commits"
        compared(f"{title}: clone; peer: git-remote-s3", 3 * lab.runs, lambda: clone("ours"), lambda: clone("peer"),
                 "<= 0.5")  # fmt: skip
        compared(f"{title}: push of one more; peer: git-remote-s3", 3 * lab.runs, lambda: push_one("ours"),
                 lambda: push_one("peer"), "<= 0.5")  # fmt: skip
        del ENVIRONMENT["AWS_ENDPOINT_URL"]


def changed(lab: Lab) -> None:
    """Bytes of a push, by an ordinary push with hooks, after 1 % of a file changed in ten places."""
    work = lab.make("changed", data=True)
    model = work / "data" / "model"
    write_noise(model, lab.size, 2)
    git(work, "ml", "add", "data")
    lab.commit(work, "model")
    git(work, "remote", "add", "origin", f"ml::file://{lab.top}/store")
    git(work, "push", "-q", "-u", "origin", "main")
    rng = random.Random(3)
    with model.open("r+b") as file:
        for part in range(10):
            file.seek(part * lab.size // 10 + 12_345)
            file.write(rng.randbytes(lab.size // 1000))
    lab.commit(work, "1 %")
    requests = lab.requests_of(work, "push", "-q", "origin", "main")
    sent = sum(each.size for each in requests if each.verb == "PUT")
    row(f"push after 1 % of {lab.size // MIB} MiB in ten places: sent; the file", sent, lab.size, "bytes", "<= 0.03",
        f"{len(requests)} requests")  # fmt: skip


def one_file(lab: Lab) -> None:
    """Bytes that one file of many costs, from nothing to the file."""
    for data in (False, True):
        kind = "by gitml" if data else "plain"
        work = lab.make(f"many-{data}", data=data)
        (work / "data").mkdir(exist_ok=True)
        for number in range(lab.files):
            write_noise(work / "data" / f"{number}", MIB, number)
        if data:
            git(work, "ml", "add", "data")
        lab.commit(work, "files")
        url = f"ml::file://{lab.top}/store-{data}"
        git(work, "push", "-q", url, "main")
        name = f"one-{data}"
        wanted = f"data/{lab.files // 2}"
        if data:
            requests = lab.requests_of(lab.top, "clone", "-q", url, name)
            install = ["git", "ml", "install", "--no-fetch"]
            # it says with its exit code that files are left as pointers
            subprocess.run(install, cwd=lab.top / name, env=ENVIRONMENT, capture_output=True, check=False)
        else:
            requests = lab.requests_of(lab.top, "clone", "-q", "--filter=blob:none", "--no-checkout", url, name)
        first = sum(each.size for each in requests if each.verb == "GET")
        command = ["ml", "checkout", wanted] if data else ["checkout", "-q", "HEAD", "--", wanted]
        more = lab.requests_of(lab.top / name, *command)
        if (lab.top / name / wanted).read_bytes() != (work / wanted).read_bytes():
            raise SystemExit(f"{wanted} is not what it was")
        received = first + sum(each.size for each in more if each.verb == "GET")
        row(f"one of {lab.files} files of 1 MiB, {kind}: received; allowed", received, MIB + SLACK, "bytes", "<= 1",
            f"clone {first:,} bytes in {len(requests)} requests, file {received - first:,} in {len(more)}")  # fmt: skip
        shutil.rmtree(work)


def requests(lab: Lab) -> None:
    """How often a small push, and the fetch after it, ask the store."""
    with serve_moto() as endpoint:
        make_bucket(endpoint, BUCKET)
        url = address(endpoint, BUCKET, "small")
        work = write_history(lab, "small", 20)
        git(work, "remote", "add", "origin", url)
        git(work, "push", "-q", "-u", "origin", "main")
        git(lab.top, "clone", "-q", url, "reader")
        pushed, fetched = [], []
        for number in range(20):
            (work / "d00" / "file0").write_text(f"{number}\n")
            lab.commit(work, "small")
            pushed.append(len(lab.requests_of(work, "push", "-q", "origin", "main")))
            fetched.append(len(lab.requests_of(lab.top / "reader", "fetch", "-q", "origin")))
        row("requests of a small push, most of 20; allowed", max(pushed), 6, "", "<= 1", f"usually {pushed[3]}")
        row("requests of the fetch after it; allowed", max(fetched), 6, "", "<= 1", f"usually {fetched[3]}")


def pushes(lab: Lab) -> None:
    """Ten thousand pushes of a small commit each, and a clone of what they leave."""
    source = write_history(lab, "pushes", lab.pushes)
    listed = subprocess.run(
        ["git", "rev-list", "--reverse", "main"],
        cwd=source,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    where = lab.top / "store"
    store = Store(parse_address(f"file://{where}"), source / ".git" / "ml" / "stores")
    repo = Repository.discover(source)
    took, sizes = [], []
    for number, oid in enumerate(listed, 1):
        start = time.perf_counter()
        state = store.read()
        (result,) = push(repo, store, state, [Update(oid, b"refs/heads/main", False)], Terms(leases={}))
        took.append(time.perf_counter() - start)
        if result[1] is not None:
            raise SystemExit(f"push {number}: {result[1]}")
        if number % 1000 == 0 or number == len(listed):
            now = store.read()
            assert now is not None
            sizes = sorted((pack.size for pack in now.packs), reverse=True)
            print(f"    {number} pushes: {len(sizes)} packs, {sum(sizes):,} bytes, median {spread(took[-1000:])}",
                  flush=True)  # fmt: skip
    print(f"    packs: {', '.join(f'{size:,}' for size in sizes)}")
    state_size = (where / "refs.json").stat().st_size
    print(f"    refs.json: {state_size:,} bytes; files in the store: {sum(1 for _ in where.rglob('*'))}")

    def clone(url: str, name: str) -> tuple[float, str]:
        shutil.rmtree(lab.top / name, ignore_errors=True)
        return timed(lab.top, f"git clone -q '{url}' {name}")[0], ""

    compared(
        f"clone after {len(listed)} pushes; peer: git clone file://", lab.runs,
        lambda: clone(f"ml::file://{where}", "ours"), lambda: clone(f"file://{source}", "peer"), "seconds",
    )  # fmt: skip
    git(lab.top / "ours", "fsck", "--connectivity-only")


def spread(times: Sequence[float]) -> str:
    """The median and the longest of some times."""
    return f"{statistics.median(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f} ms"


def write_noise(path: Path, size: int, seed: int) -> None:
    """A file that nothing makes smaller."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(rng.randbytes(min(MIB, size - start)))


def write_history(lab: Lab, name: str, commits: int) -> Path:
    """A repository of many commits: three hundred files of some kB, of which each commit changes a line in two."""
    where = lab.make(name)
    with subprocess.Popen(
        ["git", "fast-import", "--quiet"], cwd=where, env=ENVIRONMENT, stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        for part in _stream(commits):
            process.stdin.write(part)
    if process.returncode:
        raise SystemExit("git fast-import failed")
    git(where, "reset", "-q", "--hard", "main")
    # as `git gc` leaves it: fast-import hardly looks for differences
    git(where, "repack", "-a", "-d", "-f", "-q")
    return where


def _stream(commits: int) -> Iterator[bytes]:
    rng = random.Random(4)
    words = [f"{rng.getrandbits(40):x}" for _ in range(2000)]
    files = {
        f"d{number % 20:02}/file{number}": [" ".join(rng.choices(words, k=8)) for _ in range(60)]
        for number in range(300)
    }
    names = list(files)
    for number in range(commits):
        yield b"commit refs/heads/main\n"
        yield f"committer Bench <bench@example.org> {1_700_000_000 + 60 * number} +0000\n".encode()
        message = f"commit {number}"
        yield f"data {len(message)}\n{message}\n".encode()
        for name in names if number == 0 else rng.sample(names, 2):
            lines = files[name]
            if number:
                lines[rng.randrange(len(lines))] = " ".join(rng.choices(words, k=8))
            content = "\n".join(lines) + "\n"
            yield f"M 100644 inline {name}\ndata {len(content)}\n{content}\n".encode()


PARTS = {
    "requests": requests,
    "history": history,
    "changed": changed,
    "one-file": one_file,
    "large": large,
    "pushes": pushes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="only these parts; may be repeated")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument("--files", type=int, default=1000, help="of which one is wanted")
    parser.add_argument("--pushes", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ENVIRONMENT.update(
        AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1"
    )
    print(f"{'what; peer':<58} {'gitml':>14} {'peer':>14} {'':<6} {'ratio':>7}  bound")
    for name in options.only or PARTS:
        with tempfile.TemporaryDirectory(prefix="gitml-remote-") as temporary:
            ENVIRONMENT["HOME"] = temporary
            PARTS[name](Lab(Path(temporary).resolve(), options))


if __name__ == "__main__":
    main()
