"""`git ml pull`."""

from collections.abc import Mapping
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.fetch import report, wanted_contents
from gitml.cli.options import DryRun, Json
from gitml.errors import GitmlError, UserError
from gitml.git.checkout import fill_in
from gitml.git.promisor import Item, not_here
from gitml.git.remotes import FetchError, fetch_runs, fetching_remotes
from gitml.git.skip import read_skip


def pull(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Only these files or directories.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Fetch the content of the files that are checked out, and fill them in. Branches stay where they are.

    'git pull' does this by itself after 'git ml install'; this is for files that were left as pointers. Exit
    code 5 if some content is nowhere, 6 if it is damaged, 128 if a file cannot be written.
    """
    with open_context() as context:
        if context.repo.worktree is None:
            raise UserError("a bare repository has no files to fill in", hint="git ml fetch")
        contents = wanted_contents(context, paths)
        lacking = not_here(context.repo, {manifest for _, manifest in contents})
        wanted = [item for item in contents if item[1] in lacking]
        missing: dict[Item, str] = {}
        failed: Mapping[bytes, GitmlError] = {}
        if not dry_run:
            for remote in fetching_remotes(context.repo):
                try:
                    fetch_runs(context.repo, remote)
                except FetchError:
                    continue  # content that is here is filled in all the same
            chosen = [path for path, _ in contents] if paths else None
            filled = fill_in(context.repo, chosen)
            missing = {item: filled.missing[item[0]] for item in wanted if item[0] in filled.missing}
            failed = filled.failed
            wanted = [item for item in contents if item[0] in filled.done or item[0] in failed or item in missing]
        skipped = read_skip(context.repo)
        left = 0 if paths else sum(skipped.match(path) for path, manifest in contents if manifest in lacking)
        if left and dry_run:
            wanted = [item for item in wanted if not skipped.match(item[0])]
    return report(contents, wanted, missing, failed, left=left, json=json, dry_run=dry_run)
