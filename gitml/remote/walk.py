"""What commits reach, as git walks it: what of that is not here, where history is cut off.

Objects that are not here are no error to this walk but its result. It obeys filters and the file `shallow`.
"""

import os
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from gitml.errors import GitmlError
from gitml.git.command import Git
from gitml.oid import Oid
from gitml.record import record

_UNLIMITED = 0x7FFFFFFF
"""The depth that stands for all history (git: fetch --unshallow)."""


class BrokenWalkError(GitmlError):
    """Commits are not here, so git cannot walk."""


@record
class Reached:
    """What a walk reached: objects, and those of them that are not here."""

    objects: frozenset[Oid]
    missing: frozenset[Oid]


def reach(
    git: Git,
    wants: Iterable[Oid],
    *,
    environment: Mapping[str, str],
    without: Iterable[Oid] = (),
    without_refs: bool = False,
    filters: str | None = None,
) -> Reached:
    """All that `wants` reach and neither `without` nor, if asked, the refs of the repository do.

    Raise `BrokenWalkError` if a commit on the way is not here.
    """
    options = ["--not", "--all"] if without_refs else []
    if filters is not None:
        options.insert(0, f"--filter={filters}")
    lines = [oid.hex() for oid in wants] + [f"^{oid.hex()}" for oid in without]
    done = git.run(
        "rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin", *options,
        input="".join(f"{line}\n" for line in lines).encode(), check=False, env=environment,
    )  # fmt: skip
    if done.returncode != 0:
        raise BrokenWalkError(_reason(done.stderr))
    lines = done.stdout.decode("ascii").split()
    found = frozenset(Oid(bytes.fromhex(line)) for line in lines if line[0] != "?")
    return Reached(found, frozenset(Oid(bytes.fromhex(line[1:])) for line in lines if line[0] == "?"))


def is_complete(git: Git, wants: Iterable[Oid], *, environment: Mapping[str, str]) -> bool:
    """Whether everything is here that `wants` reach and the refs of the repository do not."""
    done = git.run(
        "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all",
        input="".join(f"{oid.hex()}\n" for oid in wants).encode(), check=False, env=environment,
    )  # fmt: skip
    return done.returncode == 0


def named(
    git: Git, wants: Iterable[Oid], *, without: Iterable[Oid] = (), environment: Mapping[str, str]
) -> tuple[dict[Oid, bytes], frozenset[Oid]]:
    """As `reach`: each object with the name by which packing finds its relatives, and those that are not here."""
    lines = [oid.hex() for oid in wants] + [f"^{oid.hex()}" for oid in without]
    done = git.run(
        "rev-list", "--objects", "--missing=print", "--stdin",
        input="".join(f"{line}\n" for line in lines).encode(), check=False, env=environment,
    )  # fmt: skip
    if done.returncode != 0:
        raise BrokenWalkError(_reason(done.stderr))
    found: dict[Oid, bytes] = {}
    missing = set()
    for line in BytesIO(done.stdout):  # one at a time: there may be millions
        oid, _, name = line.rstrip(b"\n").partition(b" ")
        if oid.startswith(b"?"):
            missing.add(Oid.parse(oid[1:]))
        elif oid:
            found[Oid.parse(oid)] = name
    return found, frozenset(missing)


def parents_of(git: Git, commits: Iterable[Oid], *, environment: Mapping[str, str]) -> set[Oid]:
    """All parents of some commits; raise `BrokenWalkError` if one is not here."""
    done = git.run(
        "rev-list", "--parents", "--no-walk=unsorted", "--stdin",
        input="".join(f"{oid.hex()}\n" for oid in commits).encode(), check=False, env=environment,
    )  # fmt: skip
    if done.returncode != 0:
        raise BrokenWalkError(_reason(done.stderr))
    return {Oid.parse(each) for line in done.stdout.splitlines() for each in line.split()[1:]}


def shallow_after(
    git: Git, wants: Iterable[Oid], depth: int, *, relative: bool, old: frozenset[Oid], environment: Mapping[str, str]
) -> frozenset[Oid]:
    """The commits at which history ends once `wants` are here to `depth` commits, those of `old` that stay included.

    With `relative` the depth counts from `old` on. Every commit must be here. Raise `BrokenWalkError`.
    """
    if depth >= _UNLIMITED and not relative:
        return frozenset()
    done = git.run(
        "rev-list", "--parents", "--stdin", input="".join(f"{oid.hex()}\n" for oid in wants).encode(), check=False,
        env={**environment, "GIT_SHALLOW_FILE": ""},
    )  # fmt: skip
    if done.returncode != 0:
        raise BrokenWalkError(_reason(done.stderr))
    parents: dict[Oid, list[Oid]] = {}
    for line in done.stdout.splitlines():
        commit, *above = (Oid.parse(each) for each in line.split())
        parents[commit] = above
    tips = _peeled(git, wants, environment)
    level = [oid for oid in old if oid in parents] if relative else tips
    distance = dict.fromkeys(level, 1 if not relative else 0)
    number = 1 if not relative else 0
    while level and number < depth:
        number += 1
        level = [each for each in dict.fromkeys(p for commit in level for p in parents[commit]) if each not in distance]
        distance.update(dict.fromkeys(level, number))
    # as git's own server does, also where nothing lies behind
    cut = {commit for commit, at in distance.items() if at == depth}
    inside = {commit for commit in distance if commit not in cut}
    return frozenset(cut | (old - inside))


def read_shallow(path: Path) -> frozenset[Oid]:
    """The commits at which the history of a repository ends."""
    try:
        return frozenset(Oid.parse(line) for line in path.read_bytes().split())
    except FileNotFoundError:
        return frozenset()


def write_shallow(path: Path, commits: frozenset[Oid]) -> None:
    """Replace them, under git's own lock; raise `GitmlError` if somebody holds it."""
    lock = path.with_name("shallow.lock")
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise GitmlError(f"'{lock}' exists", hint="another fetch is under way; if none is, remove the file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join(oid.hex().encode() + b"\n" for oid in sorted(commits)))
    if commits:
        lock.rename(path)
    else:
        path.unlink(missing_ok=True)
        lock.unlink()


def _peeled(git: Git, wants: Iterable[Oid], environment: Mapping[str, str]) -> list[Oid]:
    """The commits that `wants` name, directly or through tags."""
    asked = "".join(f"{oid.hex()}^{{commit}}\n" for oid in wants).encode()
    answers = git.output("cat-file", "--batch-check=%(objectname)", input=asked, env=environment).splitlines()
    return [Oid.parse(line) for line in answers if line.isalnum()]


def _reason(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ") if lines else "git rev-list failed"
