"""`git ml fetch`."""

import os
from collections.abc import Iterable, Mapping
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, safe, show, show_json, size, table, talk
from gitml.errors import ExitCode, GitmlError, UserError
from gitml.git.inventory import contents_at, recent_commits
from gitml.git.promisor import NOWHERE, Item, fetch_versions, not_here
from gitml.git.remotes import fetch_data, fetch_runs, fetching_remotes, follow_all
from gitml.store.pointer import Pointer


def fetch(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Only these files or directories.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All data of all versions, now and at later checkouts; git sends differences.")
    ] = False,
    recent: Annotated[
        bool, typer.Option("--recent", help="Also branches that moved in the last ml.recentDays days (7).")
    ] = False,
    remote: Annotated[
        str | None, typer.Option("--remote", metavar="REMOTE", help="Ask this remote; by default all, one by one.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Bring content and runs here without touching any file: of HEAD, or of what the options say.

    Exit code 5 if some content is nowhere.
    """
    if everything and (paths or recent):
        raise UserError("--all takes no paths and no --recent: it brings everything")
    with open_context() as context:
        remotes = _remotes(context, remote)
        if everything and not dry_run:
            for name in remotes:
                fetch_data(context.repo, name)
                follow_all(context.repo, name)
        contents = wanted_contents(context, paths, recent=recent or everything)
        lacking = not_here(context.repo, {manifest for _, manifest in contents})
        wanted = [item for item in contents if item[1] in lacking]
        missing: dict[Item, str] = {}
        if not dry_run:
            for name in () if everything else remotes:
                fetch_runs(context.repo, name)
            missing = fetch_versions(context.repo, wanted, remotes=remotes)
    return report(contents, wanted, missing, json=json, dry_run=dry_run)


def wanted_contents(context: Context, paths: list[str] | None, *, recent: bool = False) -> dict[Item, Pointer]:
    """What the commits in question refer to."""
    days = context.repo.config_int("ml.recentDays", 7)
    commits = recent_commits(context.repo, days) if recent else [context.commit()]
    return contents_at(context.repo, context.odb, commits, tuple(paths or ()))


def report(
    contents: dict[Item, Pointer],
    wanted: list[Item],
    missing: dict[Item, str],
    failed: Mapping[bytes, GitmlError] | None = None,
    *,
    left: int = 0,
    json: bool,
    dry_run: bool,
) -> int:
    """Say what came, or would, and why files of which the content is here stay pointers; give the exit code.

    `left` counts the files whose content is not here and was not to come.
    """
    failed = failed or {}
    names = {item: item[0].decode("utf-8", "surrogateescape") for item in wanted}
    if json:
        files = [
            {
                "path": names[item],
                "size": contents[item].size,
                "sha256": contents[item].sha256.hex(),
                "here": not dry_run and item not in missing,
                "reason": missing.get(item) or (failed[item[0]].message if item[0] in failed else None),
            }
            for item in wanted
        ]
        show_json({"schema": "gitml/fetch/1", "dry_run": dry_run, "files": files})
    else:
        came = [item for item in wanted if item not in missing and item[0] not in failed]
        for line in table(((size(contents[item].size).rjust(9), safe(names[item])) for item in came), indent=""):
            show(line)
        if left:
            talk(f"note: {count(left, 'file')} left out by ml.skip; with PATH git ml pull fetches them all the same")
        if not wanted and not left:
            paths = len({path for path, _ in contents})
            versions = f" in {len(contents)} versions" if len(contents) > paths else ""
            talk(f"all content is here: {count(paths, 'file')} stored as chunks{versions}")
        for item, reason in missing.items():
            talk(f"warning: the content of '{safe(names[item])}' is not here: {safe(reason)}")
        if missing:
            talk(f"hint: {advice(missing.values())}")
        for path, error in failed.items():
            talk(f"error: '{safe(os.fsdecode(path))}' stays a pointer: {safe(error.message)}")
        if failed:
            talk("hint: once the reason is gone: git ml checkout")
    if failed:
        return max(error.exit_code for error in failed.values())
    return ExitCode.MISSING_DATA if missing else ExitCode.OK


def advice(reasons: Iterable[str]) -> str:
    """What to do about content that is not here, for these reasons."""
    if NOWHERE in reasons:
        return "no remote has it yet; whoever committed it has it: git ml push"
    return "once the reason is gone: git ml pull; what the remotes are says: git remote -v"


def _remotes(context: Context, remote: str | None) -> list[str]:
    known = fetching_remotes(context.repo)
    if remote is None:
        return known
    if remote not in known:
        raise UserError(f"there is no remote '{remote}'", hint="git remote -v")
    return [remote]
