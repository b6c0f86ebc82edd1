"""`git ml gc`."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from gitml.care.largepacks import BIG_PACK_THRESHOLD, measure_large_packs
from gitml.care.litter import find_litter, forget_incoming, remove_litter
from gitml.care.prune import Pruned, expiry_of, prune
from gitml.care.roots import UnknownNeedsError
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, size, talk
from gitml.cli.prune import as_json, show_pruned
from gitml.errors import ExitCode, GitmlError
from gitml.git.repository import Repository
from gitml.pipeline.lease import Lease
from gitml.pipeline.removal import remove_tree


def gc(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- GIT-GC-OPTION...]", help="Passed on to git gc.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would go.")] = False,
    json: Json = False,
) -> int:
    """Clear away what is certainly garbage, then run 'git gc'.

    Garbage is what 'git ml prune' drops, what was dropped longer ago than gc.pruneExpire, old run directories, and
    what killed processes left. Safe beside everything else that works here. Packs above gc.bigPackThreshold, 512 MB
    if 'git ml install' set it, stay as they are until a tenth of what they hold is garbage.
    """
    repo = Repository.discover()
    if not dry_run:
        repo.git.run("reflog", "expire", "--all")
    lease = Lease(repo)
    done = _prune(repo, lease, dry_run=dry_run)
    litter = _clear(repo, lease, dry_run=dry_run)
    if not json:
        show_pruned(done, None, dry_run=dry_run)
        for path in litter:
            show(f"{'would remove' if dry_run else 'removed'}: {safe(str(path.relative_to(repo.common_dir)))}")
        if litter:
            talk(f"{count(len(litter), 'leftover')} of processes that are gone, and of old runs")
    if not dry_run:
        _git_gc(repo, arguments or [], quiet=json)
    if json:
        document = as_json(done, None, dry_run=dry_run)
        show_json({**document, "schema": "gitml/gc/1", "removed": [str(path) for path in litter]})
    return ExitCode.OK


def _prune(repo: Repository, lease: Lease, *, dry_run: bool) -> Pruned:
    try:
        return prune(repo, expiry=expiry_of(repo, None), dry_run=dry_run, run_lives=lease.is_held())
    except UnknownNeedsError as error:
        talk(f"note: no data is dropped: {error.message}")
        return Pruned()


def _clear(repo: Repository, lease: Lease, *, dry_run: bool) -> list[Path]:
    """Remove leftovers. Run directories only while no runner is at work: it does that itself at its end."""
    litter = find_litter(repo)
    runs: list[Path] = []
    if not lease.runs_dir.is_dir():
        pass
    elif dry_run:
        runs = [] if lease.is_held() else [*lease.leftover_workspaces(), *lease.forget_old_runs()]
    else:
        with lease.acquire() as held:
            if held:
                runs = [*lease.leftover_workspaces(), *lease.forget_old_runs()]
                for path in runs:
                    remove_tree(path)
    if not dry_run:
        remove_litter(litter)
        forget_incoming(repo)
    return [*litter, *runs]


def _git_gc(repo: Repository, arguments: list[str], *, quiet: bool) -> None:
    large = measure_large_packs(repo)
    anew = ["-c", f"{BIG_PACK_THRESHOLD}=0"] if large.worth_packing else []
    if large.garbage and not anew:
        talk(f"note: {size(large.garbage)} that nothing needs stay in packs of {size(large.size)}")
        talk(f"hint: to write these anew: git -c {BIG_PACK_THRESHOLD}=0 gc")
    done = subprocess.run(
        repo.git.command(*anew, "gc", *(["--quiet"] if quiet else []), *arguments),
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=repo.worktree or repo.git_dir,
        env=repo.git.environment(),
    )
    if done.returncode:
        raise GitmlError(f"git gc ended with status {done.returncode}")
