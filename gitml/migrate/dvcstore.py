"""What DVC 3 writes: `.dvc` files, lines of `.gitignore`, the files of a new project, contents in its cache.

Bytes are those of `dvc add` and `dvc init`, so that DVC has nothing to change in what it finds.
"""

import configparser
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from gitml.migrate.durable import READ_ONLY, move, write_new

CONFIG = b".dvc/config"

PROJECT = {
    CONFIG: b"",
    b".dvc/.gitignore": b"/config.local\n/tmp\n/cache\n",
    b".dvcignore": (
        b"# Add patterns of files dvc should ignore, which could improve\n"
        b"# the performance. Learn more at\n"
        b"# https://dvc.org/doc/user-guide/dvcignore\n"
    ),
}
"""The files that `dvc init` writes, and what they hold."""

_UNENDING = 1 << 31
# numbers to YAML 1.2, by which DVC reads, and text to YAML 1.1, by which PyYAML decides what to quote
_NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?|0o[0-7_]+")


_BREAKS = frozenset("\x85\u2028\u2029")
"""What ends a line to YAML, and to nobody else."""


class Kept(NamedTuple):
    """A content that DVC keeps: its MD5 in hexadecimal and its size in bytes."""

    md5: str
    size: int


class DvcStore:
    """The cache of a DVC project. Until `adopt` what is written lies in `waiting`, so that a failure leaves nothing."""

    def __init__(self, cache: Path, waiting: Path) -> None:
        self.cache = cache
        self._waiting = waiting

    def write(self, pieces: Iterable[bytes]) -> Kept:
        """Keep a content durably."""
        self._waiting.mkdir(parents=True, exist_ok=True)
        temporary = self._waiting / f"new-{os.urandom(8).hex()}"
        digest = hashlib.md5(usedforsecurity=False)
        size = write_new(temporary, pieces, digest)
        kept = Kept(digest.hexdigest(), size)
        if self._has(kept):
            temporary.unlink()
        else:
            temporary.chmod(READ_ONLY)
            temporary.replace(self._waiting / kept.md5)
        return kept

    def adopt(self) -> None:
        """Put everything that waits where DVC finds it."""
        if not self._waiting.is_dir():
            return
        for path in sorted(self._waiting.iterdir()):
            if path.name.startswith("new-"):
                continue  # of a content that could not be read
            target = self._place(path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            move(path, target)

    def _has(self, kept: Kept) -> bool:
        try:
            return self._place(kept.md5).stat().st_size == kept.size
        except OSError:
            return False

    def _place(self, md5: str) -> Path:
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]


def cache_of(root: Path) -> Path:
    """The cache of the project at `root`: what `cache.dir` says, of this clone, the project, the user, the machine."""
    place = root / ".dvc"
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    machine = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")[0]
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or f"{home}/dvc"
    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or f"{machine}/dvc"
    for config in (place / "config.local", place / "config", Path(user) / "config", Path(system) / "config"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read(config.expanduser(), encoding="utf-8")
        configured = parser.get("cache", "dir", fallback="")
        if configured:
            return config.expanduser().parent / Path(configured).expanduser()
    return place / "cache"


def is_left_behind(root: Path) -> bool:
    """Whether a cache stands at `root` without a project."""
    return (root / ".dvc" / "cache").is_dir() and not (root / ".dvc" / "config").exists()


def format_dvc_file(kept: Kept, name: str, *, executable: bool) -> bytes:
    """The file `<name>.dvc` that `dvc add` writes."""
    mode = "  isexec: true\n" if executable else ""
    written = f"outs:\n- md5: {_scalar(kept.md5)}\n  size: {kept.size}\n{mode}  hash: md5\n  path: {_scalar(name)}\n"
    return written.encode()


def ignore_line(name: bytes) -> bytes:
    """The line of a directory's `.gitignore` that means its file `name` only."""
    escaped = re.sub(rb"([\\\[\]!*#?])", rb"\\\1", name)
    return b"/" + re.sub(rb" $", rb"\\ ", escaped)


def with_ignored(text: bytes, lines: Iterable[bytes]) -> bytes:
    """The text of a `.gitignore` with those of `lines` at its end that it lacks, each ended, as DVC does it."""
    present = set(text.split(b"\n"))
    new = [line for line in lines if line not in present]
    if not new:
        return text
    begun = text if not text or text.endswith(b"\n") else text + b"\n"
    return begun + b"".join(line + b"\n" for line in new)


def _scalar(text: str) -> str:
    """A text in YAML, quoted where it would be something else."""
    if _NUMBER.fullmatch(text):
        return f"'{text}'"
    written: str = yaml.safe_dump(text, allow_unicode=_BREAKS.isdisjoint(text), width=_UNENDING)
    return written.removesuffix("...\n").removesuffix("\n")
