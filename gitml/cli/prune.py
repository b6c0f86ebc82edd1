"""`git ml prune`."""

import os
import time
from typing import Annotated

import typer

from gitml.care.dropped import undo as undo_prune
from gitml.care.heads import Version
from gitml.care.left import Left, leave_to_remote
from gitml.care.prune import Pruned, expiry_of
from gitml.care.prune import prune as prune_here
from gitml.care.remote import RemotePruned, prune_remote
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, size, talk
from gitml.errors import ExitCode, UserError
from gitml.git.remotes import fetching_remotes
from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease

_SHOWN = 20
_DAY = 24 * 3600


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be dropped.")] = False,
    expire: Annotated[
        str | None,
        typer.Option("--expire", metavar="DATE", help="Let go of what was dropped before DATE; 'now' for all."),
    ] = None,
    keep_recent: Annotated[
        int | None,
        typer.Option("--keep-recent", metavar="DAYS", min=0, help="Leave older versions to a remote that has them."),
    ] = None,
    verify_remote: Annotated[
        str | None,
        typer.Option("--verify-remote", metavar="REMOTE", help="The remote to ask whether it has them."),
    ] = None,
    remote: Annotated[
        str | None, typer.Option("--remote", metavar="REMOTE", help="Prune this remote instead of this clone.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was dropped and is not gone yet.")] = False,
    json: Json = False,
) -> int:
    """Stop keeping content that nothing needs, so that 'git gc' can free it.

    Needed is what branches, tags, indexes, stashes, reflogs, worktrees and the run cache lead to.
    """
    repo = Repository.discover()
    if remote is not None and (undo or keep_recent is not None or verify_remote is not None):
        raise UserError("--remote goes with --dry-run and --expire only")
    if remote is not None:
        _show_remote(prune_remote(repo, remote, expiry=expiry_of(repo, expire), dry_run=dry_run), remote, dry_run, json)
        return ExitCode.OK
    if undo:
        heads = undo_prune(repo)
        if json:
            show_json({"schema": "gitml/prune-undo/1", "heads": [oid.hex() for oid in heads]})
        talk(f"{count(len(heads), 'head')} back in use")
        return ExitCode.OK
    if verify_remote is not None and keep_recent is None:
        raise UserError("--verify-remote says whom --keep-recent asks", hint="git ml prune --keep-recent DAYS")
    expiry = expiry_of(repo, expire)
    left = None
    if keep_recent is not None:
        asked = verify_remote or _default_remote(repo)
        left = leave_to_remote(repo, asked, since=int(time.time()) - keep_recent * _DAY, dry_run=dry_run)
    done = prune_here(repo, expiry=expiry, dry_run=dry_run, run_lives=Lease(repo).is_held())
    if json:
        show_json(as_json(done, left, dry_run=dry_run))
    else:
        show_pruned(done, left, dry_run=dry_run)
    return ExitCode.OK


def _default_remote(repo: Repository) -> str:
    """The remote of the current branch, else `origin`, else any."""
    names = fetching_remotes(repo)
    if not names:
        raise UserError("there is no remote to leave older versions to", hint="git remote add origin URL")
    return names[0]


def show_pruned(done: Pruned, left: Left | None, *, dry_run: bool) -> None:
    """Say what was dropped, and how it comes back."""
    would = "would drop" if dry_run else "dropped"
    _list(done.versions, would)
    _list(done.staged, f"{would} (added, never committed)")
    if left is not None:
        verb = "would be left" if dry_run else "left"
        _list(left.versions, f"{verb} to '{left.remote}'")
        talk(f"{count(left.chunks, 'chunk')}, {size(left.bytes)}, {verb} to '{safe(left.remote)}'")
        if left.chunks and not dry_run:
            talk("what is checked out again is fetched again")
    if not done.versions and not done.staged and (left is None or not left.versions):
        talk("nothing to drop")
    if done.recovered:
        talk(f"{count(done.recovered, 'version')} dropped earlier had come to be needed again and stay")
    if done.busy:
        talk("note: something is being added or computed; what was just dropped goes the next time")
    for remote, reason in done.unasked.items():
        talk(f"note: what was left to '{safe(remote)}' stays, because it cannot be asked: {safe(reason)}")
    if dry_run:
        return
    if done.expired:
        talk("git ml gc -- --prune=now frees the space at once, git ml gc after two weeks")
    if done.waiting:
        talk("to take it back: git ml prune --undo; to let it go before its time: git ml prune --expire=now")


def as_json(done: Pruned, left: Left | None, *, dry_run: bool) -> dict[str, object]:
    """A prune as a document."""
    return {
        "schema": "gitml/prune/1",
        "dry_run": dry_run,
        "versions": _as_json(done.versions),
        "staged": _as_json(done.staged),
        "dropped": [oid.hex() for oid in done.dropped],
        "expired": [oid.hex() for oid in done.expired],
        "waiting": done.waiting,
        "recovered": done.recovered,
        "busy": done.busy,
        "unasked": done.unasked,
        "left": None
        if left is None
        else {
            "remote": left.remote,
            "versions": _as_json(left.versions),
            "chunks": left.chunks,
            "bytes": left.bytes,
        },
    }


def _show_remote(done: RemotePruned, remote: str, dry_run: bool, json: bool) -> None:
    if json:
        show_json(
            {
                "schema": "gitml/prune-remote/1",
                "remote": remote,
                "dry_run": dry_run,
                "versions": _as_json(done.versions),
                "replaced": [oid.hex() for oid in done.replaced],
                "expired": [oid.hex() for oid in done.expired],
                "waiting": done.waiting,
                "recovered": done.recovered,
            }
        )
        return
    _list(done.versions, "would drop" if dry_run else "dropped")
    if not done.versions and not done.expired:
        talk("nothing to drop")
    if done.expired:
        verb = "would be let go" if dry_run else "let go"
        talk(f"{count(len(done.expired), 'head')} dropped earlier {verb}; the server's own git gc frees the space")
    if done.recovered:
        talk(f"{count(done.recovered, 'version')} dropped earlier had come to be needed again and stay")
    if done.replaced and not dry_run:
        talk(f"old heads stay on '{safe(remote)}' for pushes under way; run this again after the grace period")


def _list(versions: list[Version], verb: str) -> None:
    for version in versions[:_SHOWN]:
        show(f"{verb}: {safe(os.fsdecode(version.path))} ({version.manifest.hex()[:12]})")
    if len(versions) > _SHOWN:
        show(f"{verb}: {len(versions) - _SHOWN} more")


def _as_json(versions: list[Version]) -> list[dict[str, str]]:
    return [{"path": os.fsdecode(version.path), "manifest": version.manifest.hex()} for version in versions]
