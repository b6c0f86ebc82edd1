"""What of this machine a task may read where nothing can be covered, only allowed.

That is everything but homes, temporary directories, devices, and what the sandbox is to hide; where something hidden
lies deeper, what lies beside it. Programs of the search path may be read although they lie in a home directory,
with the installation that they are part of.
"""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gitml.pipeline.bubblewrap import is_below, outermost, whole

_HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run/user", "/dev", "/pfs")  # noqa: S108 - they are not used
_PROGRAMS = frozenset({"bin", "sbin", "shims", "condabin"})
_OF_INSTALLATIONS = ("lib", "lib64", "libexec", "conda-meta")
_OF_SYSTEM = frozenset(map(Path, ("/usr/bin", "/usr/sbin", "/bin", "/sbin")))
"""Their many links lead into no home."""
_MOST_BESIDE = 256
"""A directory of more than that is one of data, say of a thousand repositories, and each entry costs every task."""


def hidden_places(hidden: Iterable[Path], environ: Mapping[str, str]) -> list[Path]:
    """The outermost directories that a task must not read: `hidden`, homes, and what is private to others."""
    found = [Path(path) for path in _HIDDEN]
    found += [Path(home) for home in (environ.get("HOME", ""), _own_home()) if home.startswith("/")]
    found += [Path(place) for place in (environ.get("TMPDIR", ""),) if place.startswith("/")]
    return outermost({path.resolve() for path in [*hidden, *found]} - {Path("/")})


def readable_places(hidden: Sequence[Path], repository: Sequence[Path], programs: Iterable[Path]) -> list[Path]:
    """Directories and files that a task may read with all below them.

    `hidden` is as `hidden_places` gave it, `repository` what must stay hidden but for virtual environments, `programs`
    are directories of programs, and installations.
    """
    shown = {path for given in programs if given.is_absolute() for path in _installation(given, repository)}
    # one that holds something hidden would uncover it
    closed = [path for path in (*hidden, *repository) if path != Path("/")]
    inner = outermost(
        path
        for path in shown
        if is_below(path, hidden) and os.access(path, os.F_OK) and not any(each.is_relative_to(path) for each in closed)
    )
    return [*_beside(Path("/"), hidden), *inner]


def _beside(directory: Path, hidden: Sequence[Path]) -> Iterator[Path]:
    """What is in a directory, without what is hidden and without links, as these lead to what is judged by itself."""
    with suppress(OSError):
        entries = sorted(directory.iterdir())
        if directory != Path("/") and len(entries) > _MOST_BESIDE:
            return
        for path in entries:
            if path.is_symlink() or path in hidden:
                continue
            if any(each.is_relative_to(path) for each in hidden):
                yield from _beside(path, hidden)
            elif path.is_dir() or (path.is_file() and directory != Path("/")):
                yield path


def _installation(given: Path, repository: Sequence[Path]) -> Iterator[Path]:
    """A directory of programs with what these read: a virtual environment, an interpreter, where links lead."""
    for path in {given, given.resolve()}:
        yield whole(path)
        if not is_below(path, repository):
            yield from _around(path)
    if given in _OF_SYSTEM:
        return
    with suppress(OSError):
        for program in given.iterdir():
            real = program.resolve() if program.is_symlink() else program
            if real != program and not is_below(real, repository):
                yield real
                yield from _around(real.parent)


def _around(programs: Path) -> Iterator[Path]:
    """What belongs to a directory of programs; `~/.local` holds too much else to be shown."""
    top = programs.parent
    if programs.name not in _PROGRAMS:
        return
    if top.name == ".local":
        yield top / "lib"
    elif any(os.access(top / name, os.X_OK) for name in _OF_INSTALLATIONS):
        yield top


def _own_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as in containers
        return ""
