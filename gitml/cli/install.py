"""`git ml install` and `git ml uninstall`."""

import os
from typing import Annotated

import typer

from gitml import install as library
from gitml.cli.fetch import advice
from gitml.cli.output import count, paint, safe, show, talk
from gitml.errors import ExitCode
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.meter import Meter
from gitml.pipeline.cache import RunCache
from gitml.pipeline.launch import publishes_beside
from gitml.pipeline.survey import Surveyor
from gitml.pipeline.trust import Level, Trust


def install(
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Write hooks even where a hook manager keeps its own (core.hooksPath)."),
    ] = False,
    no_fetch: Annotated[
        bool, typer.Option("--no-fetch", help="Leave files as pointers, now and after checkouts.")
    ] = False,
    server: Annotated[
        bool, typer.Option("--server", help="Set a bare repository up: pushes are queued and run here.")
    ] = False,
) -> int:
    """Set this clone up: filter, hooks, merge driver; fetch data and fill in the files.

    From then on commits made here run the pipeline by themselves. The commands that stand in pipeline.json
    now count as reviewed; that list is kept in your home directory. Nothing else outside this clone changes.
    """
    repo = Repository.discover()
    if server:
        return _set_up_server(repo)
    code = set_up(repo, force=force, fetch=not no_fetch)
    library.fetch_by_itself(repo, not no_fetch)
    return code


def _set_up_server(repo: Repository) -> int:
    beside = publishes_beside(repo)
    report = library.install_server(repo)
    library.remember_path(repo)
    show(f"pushes to {safe(str(repo.git_dir))} are queued and run here")
    for hook in report.chained:
        show(f"  {hook}: your own hook stays and runs first")
    show(f"  results go to {'refs/ml/results/BRANCH' if beside else 'the branch, on top'} (ml.serverPublish)")
    if Trust(repo).level is not Level.REPO:
        show("  only reviewed commands run; to run what anybody pushes: git ml trust --level repo")
    return ExitCode.OK


def set_up(repo: Repository, *, force: bool = False, fetch: bool = True) -> int:
    """Install into `repo` and say what was done; give the exit code."""
    with Meter("filling in") as meter:
        report = library.install(repo, force=force, fetch=fetch, progress=meter)
    library.remember_path(repo)
    show(f"gitml is set up in {safe(str(repo.worktree or repo.git_dir))}")
    for hook in report.chained:
        show(f"  {hook}: the hook that was there stays, and runs as well")
    if report.called:
        show(f"  called by your hook manager: {', '.join(report.called)}")
    if report.configured:
        show(f"  in git's configuration, beside your hook manager: {', '.join(report.configured)}")
    for remote in report.remotes:
        show(f"  fetched from {safe(remote)}")
    for remote, reason in report.unreachable:
        talk(f"{paint('warning:', '33')} nothing fetched from {safe(remote)}: {safe(reason)}")
    code = ExitCode.OK
    if report.materialised is not None:
        if report.materialised.done:
            show(f"  {count(len(report.materialised.done), 'file')} filled in")
        for path, error in report.materialised.failed.items():
            code = error.exit_code
            talk(f"{paint('warning:', '33')} '{safe(os.fsdecode(path))}' stays a pointer: {safe(error.message)}")
        left = count(len(report.materialised.missing), "file")
        if report.materialised.missing and not fetch:
            show(f"  {left} left as pointers; git ml pull [PATH] brings their content")
        elif report.materialised.missing:
            code = ExitCode.MISSING_DATA
            talk(
                f"{paint('warning:', '33')} the content of {left} is not here (git ml ls shows which): "
                f"{safe(next(iter(report.materialised.missing.values())))}"
            )
            talk(f"hint: {advice(report.materialised.missing.values())}")
    _trust_what_is_here(repo)
    return code


def _trust_what_is_here(repo: Repository) -> None:
    head = repo.try_resolve("HEAD")
    if head is None:
        return
    with GitOdb(repo.git, repo.format) as odb:
        digests = Surveyor(repo, odb, RunCache(repo, odb)).command_digests(head)
    if digests:
        trust = Trust(repo)
        if trust.adopts_own:
            trust.add(digests.values(), whole=True)
        if trust.level is not Level.NEVER:
            run = {name for name, digest in digests.items() if trust.has(digest)}
            show(
                f"  commits made here will run: {safe(', '.join(name for name in digests if name in run) or 'nothing')}"
            )


def uninstall() -> None:
    """Take back all that install did in this clone: hooks, filter, merge driver.

    Data, results and their history stay; files that are pointers stay as they are.
    """
    repo = Repository.discover()
    filled = library.filled_files(repo)
    restored = library.uninstall(repo)
    Trust(repo).forget()
    show(f"gitml is no longer set up in {safe(str(repo.worktree or repo.git_dir))}")
    for hook in restored:
        show(f"  {hook}: your own hook is back")
    if filled:
        talk(
            f"note: {count(filled, 'file')} hold content where git, without gitml, expects pointers, and will show as "
            "modified: 'git checkout -- .' puts the pointers in their place, 'git ml install' sets this clone up again"
        )
