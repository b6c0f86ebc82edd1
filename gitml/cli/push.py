"""`git ml push`."""

from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, safe, show, show_json, size, talk
from gitml.errors import ExitCode, UserError
from gitml.git.pushed import PushedRef
from gitml.git.refs import list_refs
from gitml.git.remotes import data_remote, fetching_remotes
from gitml.git.transfer import Sent, push_data


def push(
    remote: Annotated[
        str | None, typer.Argument(metavar="[REMOTE]", help="A remote or a URL; by default that of the branch.")
    ] = None,
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF]...", help="By default HEAD, and what the remote was last seen to have."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Send the data and runs that a remote lacks for these refs. Branches are not pushed: git push does both.

    This repairs a remote that got commits without data. Exit code 5 if content is neither here nor there.
    """
    with open_context() as context:
        remotes = fetching_remotes(context.repo)
        if remote is None and not remotes:
            raise UserError("there is no remote to push to", hint="git remote add origin URL")
        target = remote or remotes[0]
        pushed = _pushed(context, target, refs or [])
        sent = push_data(context.repo, target, target, pushed, context.cache.merge, everything=True, dry_run=dry_run)
    if json:
        show_json(_as_json(target, sent, dry_run))
    else:
        _say(target, sent, dry_run)
    return ExitCode.MISSING_DATA if sent.missing else ExitCode.OK


def _pushed(context: Context, remote: str, refs: list[str]) -> list[PushedRef]:
    """What the remote is to be able to fill in: the refs named, or HEAD and what it has."""
    if refs:
        named = {ref: context.repo.resolve(f"{ref}^{{commit}}") for ref in refs}
    else:
        seen = "refs/remotes/" if remote == data_remote(context.repo) else f"refs/remotes/{remote}/"
        named = {"HEAD": context.commit(), **list_refs(context.repo.git, seen)}
    return [PushedRef(name, oid, name, None) for name, oid in named.items()]


def _say(remote: str, sent: Sent, dry_run: bool) -> None:
    for path, _ in sent.contents:
        show(safe(path.decode("utf-8", "surrogateescape")))
    did = "would send" if dry_run else "sent"
    if sent.contents:
        pushes = f" in {count(sent.pushes, 'push')}" if sent.pushes == 1 else f" in {sent.pushes} pushes"
        volume = f"{count(sent.objects, 'object')}, {size(sent.size)} before deltas"
        talk(f"{did} {count(len(sent.contents), 'content')} to {safe(remote)}{pushes} ({volume})")
    if sent.runs:
        talk(f"{did} runs to {safe(remote)}")
    if not sent.contents and not sent.runs and not sent.missing:
        talk(f"{safe(remote)} has all data and runs")
    for path, reason in sent.missing.items():
        name = path.decode("utf-8", "surrogateescape")
        talk(f"warning: the content of '{safe(name)}' is neither here nor at {safe(remote)}: {safe(reason)}")


def _as_json(remote: str, sent: Sent, dry_run: bool) -> dict[str, object]:
    return {
        "schema": "gitml/push/1",
        "remote": remote,
        "dry_run": dry_run,
        "contents": [
            {"path": path.decode("utf-8", "surrogateescape"), "manifest": str(manifest)}
            for path, manifest in sent.contents
        ],
        "pushes": sent.pushes,
        "objects": sent.objects,
        "size": sent.size,
        "runs": sent.runs,
        "missing": {path.decode("utf-8", "surrogateescape"): reason for path, reason in sent.missing.items()},
    }
