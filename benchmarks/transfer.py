"""What push, fetch and clone send and take, beside plain git moving the same packs.

    python benchmarks/transfer.py [--size MIB] [--only PART] [--keep]

Bytes are counted on the pipes of upload-pack and receive-pack, all connections of a command together. The server is a
bare repository over file:// with uploadpack.allowFilter. Peers: `git clone` and `git push` of the same packs without
gitml (mirrored, no content filled in), and the size of the content.
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

BIN = Path(sys.executable).parent
MIB = 1 << 20


class Lab:
    """A directory with a counted server and clones."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.server = top / "server.git"
        self.url = f"file://{self.server}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT")},
            "HOME": str(top), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        (top / ".gitconfig").write_text(
            "[user]\n\tname = a\n\temail = a@b\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
        )
        for name, pipe in {"upload": 'git-upload-pack "$@" | tee -a', "receive": "tee -a"}.items():
            script = top / name
            end = "" if name == "upload" else ' | git-receive-pack "$@"'
            script.write_text(f"#!/bin/sh\n{pipe} '{top}/{name}.bytes'{end}\n")
            script.chmod(0o755)
        self.git(top, "init", "-q", "--bare", str(self.server))
        self.git(self.server, "config", "uploadpack.allowFilter", "true")
        self.git(self.server, "config", "core.bigFileThreshold", "1g")

    def git(self, where: Path, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=where, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def counted(self, where: Path, *arguments: str) -> tuple[int, int, float]:
        """Bytes received and sent by a git command, and its seconds."""
        for name in ("upload", "receive"):
            (self.top / f"{name}.bytes").unlink(missing_ok=True)
        start = time.perf_counter()
        self.git(where, *arguments)
        seconds = time.perf_counter() - start
        sizes = [self._size("upload"), self._size("receive")]
        return sizes[0], sizes[1], seconds

    def _size(self, name: str) -> int:
        path = self.top / f"{name}.bytes"
        return path.stat().st_size if path.exists() else 0

    def work(self, name: str) -> Path:
        where = self.top / name
        self.git(self.top, "init", "-q", str(where))
        self.git(where, "ml", "install")
        (where / ".gitattributes").write_text("data/** filter=ml -text\n")
        (where / "data").mkdir()
        self.git(where, "remote", "add", "origin", self.url)
        self.count(where)
        return where

    def count(self, where: Path) -> None:
        self.git(where, "config", "remote.origin.uploadpack", str(self.top / "upload"))
        self.git(where, "config", "remote.origin.receivepack", str(self.top / "receive"))

    def clone(self, name: str, *, everything: bool = False) -> Path:
        where = self.top / name
        self.git(self.top, "clone", "-q", "-b", "main", self.url, str(where))
        self.count(where)
        self.git(where, "ml", "install")
        if everything:
            self.git(where, "ml", "fetch", "--all")
        return where

    def commit(self, where: Path, message: str) -> None:
        self.git(where, "add", "-A")
        self.git(where, "commit", "-q", "-m", message)


def line(what: str, ours: float, peer: float, unit: str, bound: str) -> None:
    print(f"{what:<58} {ours:>12,.0f} {peer:>14,.0f} {unit:<6} {ours / peer:>8.4f}  {bound}")


def large_file(lab: Lab, size: int) -> None:
    rng = random.Random(1)
    work = lab.work("large")
    place = work / "data" / "model"
    with place.open("wb") as file:
        for _ in range(size):
            file.write(rng.randbytes(MIB))
    lab.commit(work, "model")
    total = size * MIB
    # the peer moves the same packs: all refs, nothing prepared by us
    twin = lab.top / "twin.git"
    ours, theirs, taken, peer_taken = [], [], [], []
    for _ in range(3):
        shutil.rmtree(twin, ignore_errors=True)
        lab.git(lab.top, "init", "-q", "--bare", str(twin))
        start = time.perf_counter()
        lab.git(work, "push", "-q", "--no-verify", f"file://{twin}", "main", "refs/ml/data/*:refs/ml/data/*")
        theirs.append(time.perf_counter() - start)
        shutil.rmtree(lab.server)
        lab.git(lab.top, "init", "-q", "--bare", str(lab.server))
        lab.git(lab.server, "config", "uploadpack.allowFilter", "true")
        for ref in ("refs/remotes", "refs/ml/remotes"):
            lab.git(work, "for-each-ref", ref)
            subprocess.run(
                f"git for-each-ref --format='delete %(refname)' {ref} | git update-ref --stdin",
                shell=True, cwd=work, env=lab.environment, check=True,
            )  # fmt: skip
        start = time.perf_counter()
        lab.git(work, "push", "-q", lab.url, "main")
        ours.append(time.perf_counter() - start)
        for name in ("mirror.git", "full"):
            shutil.rmtree(lab.top / name, ignore_errors=True)
        start = time.perf_counter()
        lab.git(lab.top, "clone", "-q", "--mirror", lab.url, "mirror.git")
        peer_taken.append(time.perf_counter() - start)
        start = time.perf_counter()
        lab.git(lab.top, "clone", "-q", "-b", "main", lab.url, "full")
        lab.git(lab.top / "full", "ml", "install")
        taken.append(time.perf_counter() - start)
    line(f"push of {size} MiB against git push, ms", min(ours) * 1000, min(theirs) * 1000, "ms", "<= 1.3")
    line(f"clone and checkout of {size} MiB against git clone, ms", min(taken) * 1000, min(peer_taken) * 1000, "ms",
         "<= 1.3 (ours also writes the file)")  # fmt: skip
    lab.git(work, "fetch", "-q", "origin")
    reader = lab.clone("reader")
    editor = lab.clone("editor")
    for where, message in ((work, "1 % in the clone that has all"), (editor, "1 % in a clone with single objects")):
        lab.git(where, "pull", "-q", "--no-edit", "origin", "main")
        with (where / "data" / "model").open("r+b") as file:
            for part in range(10):
                file.seek(part * total // 10 + 12_345)
                file.write(rng.randbytes(total // 1000))
        lab.commit(where, message)
        received, sent, _ = lab.counted(where, "push", "-q", "origin", "main")
        line(f"push after {message}: sent", sent, total, "bytes", "<= 0.03")
        line("  received by that push", received, total, "bytes", "")
        received, _, _ = lab.counted(reader, "pull", "-q")
        line("pull of it: received", received, total, "bytes", "<= 0.03")


def tables(lab: Lab, _size: int) -> None:
    rng = random.Random(2)

    def row(number: int) -> str:
        return f"{number},{rng.random():.6f},{rng.choice('abcdefgh')},{rng.randrange(10**6)}\n"

    for name, size, edit, bound in (("line", 1_000_000, 1, 2000), ("day", 4_000_000, 0, 30_000)):
        work = lab.work(name)
        rows = [row(number) for number in range(size // 21)]
        (work / "data" / "table.csv").write_text("".join(rows))
        lab.commit(work, "table")
        shutil.rmtree(lab.server)
        lab.git(lab.top, "init", "-q", "--bare", str(lab.server))
        lab.git(lab.server, "config", "uploadpack.allowFilter", "true")
        lab.git(work, "push", "-q", "-u", "origin", "main")
        reader, single = lab.clone(f"{name}-all", everything=True), lab.clone(f"{name}-single")
        if edit:
            rows[len(rows) // 2] = "changed,0.5,x,1\n"
            what = "one changed line of a 1 MB table"
        else:
            for number in range(300):
                rows.insert(rng.randrange(len(rows)), row(number))
            what = "a day of 300 rows spread through a 4 MB table"
        text = "".join(rows)
        (work / "data" / "table.csv").write_text(text)
        lab.commit(work, "day")
        _, sent, _ = lab.counted(work, "push", "-q", "origin", "main")
        line(f"{what}: push sends", sent, len(text), "bytes", f"<= {bound}")
        received, _, _ = lab.counted(reader, "pull", "-q")
        line("  pull receives, with all data at hand", received, len(text), "bytes", f"<= {bound}")
        received, _, _ = lab.counted(single, "pull", "-q")
        line("  pull receives, single objects", received, len(text), "bytes", "")


def one_of_a_thousand(lab: Lab, _size: int) -> None:
    rng = random.Random(3)
    work = lab.work("thousand")
    for number in range(1000):
        (work / "data" / f"{number}").write_bytes(rng.randbytes(100 << 10))
    lab.commit(work, "files")
    shutil.rmtree(lab.server)
    lab.git(lab.top, "init", "-q", "--bare", str(lab.server))
    lab.git(work, "push", "-q", "-u", "origin", "main")
    where = lab.top / "one"
    received, _, _ = lab.counted(
        lab.top, "clone", "-q", "-b", "main", "-u", str(lab.top / "upload"), lab.url, str(where)
    )
    lab.count(where)
    # it says with its exit code that files are left as pointers
    install = ["git", "ml", "install", "--no-fetch"]
    subprocess.run(install, cwd=where, env=lab.environment, capture_output=True, check=False)
    line("clone of 1000 pointers", received, 1000 * (100 << 10), "bytes", "")
    received, _, _ = lab.counted(where, "ml", "pull", "data/500")
    assert (where / "data" / "500").read_bytes() == (work / "data" / "500").read_bytes()
    line("one file of a thousand, against that file", received, 100 << 10, "bytes", "that file only")


PARTS = {"tables": tables, "one-of-a-thousand": one_of_a_thousand, "large-file": large_file}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="only these parts; may be repeated")
    options = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="gitml-transfer-"))
    print(f"{'what':<58} {'gitml':>12} {'peer':>14} {'':<6} {'ratio':>8}  bound")
    try:
        for name in options.only or PARTS:
            (top / name).mkdir()
            PARTS[name](Lab(top / name), options.size)
    finally:
        if not options.keep:
            shutil.rmtree(top)


if __name__ == "__main__":
    main()
