"""Data and runs to plain git remotes: what pre-push sends ahead.

Heads of the data log are named by their oid, so pushes of several clones never meet in one ref; a head that is an
ancestor of another is dropped in the same transaction. The run cache is one ref: what the remote has is merged
first. The remote sees nothing but ordinary commits.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from gitml.errors import GitmlError
from gitml.git.data import HEADS, REMOTES, DataLog
from gitml.git.odb import GitOdb
from gitml.git.refs import RefLockedError, RefMovedError, RefUpdate, list_refs, update_refs
from gitml.git.remotes import last_line
from gitml.git.repository import Repository
from gitml.oid import Oid

RUNS = "refs/ml/runs"

_ATTEMPTS = 8


class TransferError(GitmlError):
    """A remote did not take or give data."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to push: `address` is what git is given, `name` the remote's name, None for a bare URL."""

    address: str
    name: str | None


def push_data(repo: Repository, remote: str, url: str, merge_runs: Callable[[Oid], Oid]) -> None:
    """Send what the local branches need to a remote, before its branches move.

    `remote` and `url` are as git gives them to pre-push; without a name both are the URL. `merge_runs` makes the
    local run cache the union with the one at a commit and gives the result. Raise `UncoveredError` if content of an
    unpushed commit is not here, `TransferError` if the remote refuses.
    """
    target = _target(repo, remote, url)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        there = _list_remote(repo, target)
        _cover_unpushed(repo, log, target, there)
        for attempt in range(_ATTEMPTS):
            _merge_runs(repo, target, there, merge_runs)
            added, superseded = _difference(repo, log, there)
            careful = attempt >= _ATTEMPTS // 2
            if careful:
                superseded = ()  # a server may forbid deletions and atomic pushes; old heads do no harm
            if not added and not superseded:
                return
            refusal = _push(repo, target, added, superseded, atomic=not careful)
            if refusal is None:
                _note(repo, target, {**there, **added}, superseded)
                return
            there = _list_remote(repo, target)
    raise TransferError(
        f"'{remote}' did not take the data: {refusal}",
        hint="nothing was pushed; to push without data: git push --no-verify",
    )


def _target(repo: Repository, remote: str, url: str) -> _Target:
    if remote not in repo.git.lines("remote"):
        return _Target(url or remote, None)
    addresses = repo.git.run("remote", "get-url", "--push", "--all", remote, check=False).stdout.splitlines()
    # With several push URLs git calls the hook once for each.
    return _Target(remote if len(addresses) < 2 or not url else url, remote)


def _list_remote(repo: Repository, target: _Target) -> dict[str, Oid]:
    done = repo.git.run("ls-remote", "--refs", "--", target.address, "refs/ml/*", check=False)
    if done.returncode != 0:
        raise TransferError(f"cannot reach '{target.address}': {last_line(done.stderr)}")
    found = (line.split(b"\t", 1) for line in done.stdout.splitlines())
    refs = {os.fsdecode(name): Oid.parse(oid) for oid, name in found}
    return {name: oid for name, oid in refs.items() if name == RUNS or name.startswith(HEADS)}


def _cover_unpushed(repo: Repository, log: DataLog, target: _Target, there: dict[str, Oid]) -> None:
    """Cover the pointers of commits that the remote does not have yet, as far as is known."""
    seen = "--remotes" if target.name is None else f"--remotes={target.name}"
    tips = ["--branches", "--tags", *(["HEAD"] if repo.try_resolve("HEAD") else [])]
    listed = repo.git.lines("rev-list", "--reverse", "--topo-order", *tips, "--not", seen)
    log.cover_commits(map(Oid.parse, listed), beyond=_here(repo, there.values()))


def _merge_runs(repo: Repository, target: _Target, there: dict[str, Oid], merge_runs: Callable[[Oid], Oid]) -> None:
    """Take over the remote's runs, if it has others than when last seen."""
    theirs = there.get(RUNS)
    ours = repo.try_resolve(RUNS)
    if theirs is None or theirs == ours:
        return
    if _here(repo, [theirs]):
        merge_runs(theirs)
        return
    name = f"{REMOTES}{target.name}/runs" if target.name is not None else f"refs/ml/incoming/{os.urandom(8).hex()}"
    done = repo.git.run(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", target.address, f"+{RUNS}:{name}", check=False
    )  # fmt: skip
    if done.returncode != 0:
        raise TransferError(f"cannot fetch runs from '{target.address}': {last_line(done.stderr)}")
    fetched = repo.try_resolve(name)
    if fetched is not None:
        merge_runs(fetched)
    if target.name is None:
        update_refs(repo.git, [RefUpdate(name, None)])


def _difference(repo: Repository, log: DataLog, there: dict[str, Oid]) -> tuple[dict[str, Oid], tuple[str, ...]]:
    """Refs that the remote lacks, and the heads there that those supersede."""
    heads = log.heads()
    added = {HEADS + head.hex(): head for head in heads if there.get(HEADS + head.hex()) != head}
    known = {name: oid for name, oid in there.items() if name.startswith(HEADS) and oid not in heads}
    known = {name: oid for name, oid in known.items() if oid in _here(repo, known.values())}
    superseded: tuple[str, ...] = ()
    if known:
        oids = sorted({*heads, *known.values()})
        listed = repo.git.lines("merge-base", "--independent", *(oid.hex() for oid in oids))
        independent = set(map(Oid.parse, listed))
        superseded = tuple(name for name, oid in known.items() if oid not in independent)
    runs = repo.try_resolve(RUNS)
    if runs is not None and there.get(RUNS) != runs:
        added[RUNS] = runs
    return added, superseded


def _push(
    repo: Repository, target: _Target, added: dict[str, Oid], deleted: Iterable[str], *, atomic: bool
) -> str | None:
    """Push refs; None if all went well, else why not. Progress goes to our standard error, as git shows it."""
    refspecs = [f"{oid}:{name}" for name, oid in added.items()] + [f":{name}" for name in deleted]
    process = repo.git.popen(
        # refspecs of our own are not allowed where a remote is a mirror
        *(["-c", f"remote.{target.name}.mirror=false"] if target.name is not None else []),
        "push", "--no-verify", "--thin", "--porcelain", "--no-follow-tags", "--recurse-submodules=no",
        *(["--atomic"] if atomic else []), "--", target.address, *refspecs,
    )  # fmt: skip
    output = process.communicate()[0]
    if process.returncode == 0:
        return None
    refused = [line.decode("utf-8", "replace") for line in output.splitlines() if line.startswith(b"!")]
    return refused[0].split("\t")[-1] if refused else "git push failed"


def _note(repo: Repository, target: _Target, there: dict[str, Oid], deleted: Iterable[str]) -> None:
    """Remember what the remote has now, as a fetch would."""
    if target.name is None:
        return
    gone = set(deleted)
    tracked = {
        (f"{REMOTES}{target.name}/runs" if name == RUNS else f"{REMOTES}{target.name}/data/{oid}"): oid
        for name, oid in there.items()
        if name not in gone
    }
    known = list_refs(repo.git, f"{REMOTES}{target.name}")
    present = set(_here(repo, tracked.values()))
    updates = [RefUpdate(name, oid) for name, oid in tracked.items() if oid in present and known.get(name) != oid]
    updates += [RefUpdate(name, None, oid) for name, oid in known.items() if name not in tracked]
    with suppress(RefMovedError, RefLockedError):  # only a memory: the next fetch brings it up to date
        update_refs(repo.git, updates)


def _here(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """Those of `oids` that the repository has."""
    listed = b"".join(oid.hex().encode() + b"\n" for oid in oids)
    if not listed:
        return []
    answer = repo.git.output("cat-file", "--batch-check=%(objectname)", input=listed).splitlines()
    return [Oid.parse(line) for line in answer if not line.endswith(b" missing")]
