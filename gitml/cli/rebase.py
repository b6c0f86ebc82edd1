"""`git ml rebase`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.output import talk
from gitml.cli.progress import follow
from gitml.cli.running import conclude, perform
from gitml.errors import ExitCode, UserError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.git.state import sequence_under_way
from gitml.install import command_line
from gitml.pipeline.runreport import RunOptions
from gitml.review.replay import editor_for, user_editor, without_results


def rebase(
    upstream: Annotated[
        str | None, typer.Argument(metavar="[UPSTREAM]", help="Onto what; by default the upstream branch.")
    ] = None,
    branch: Annotated[str | None, typer.Argument(metavar="[BRANCH]", help="What, by default HEAD.")] = None,
    onto: Annotated[str, typer.Option("--onto", metavar="NEW", help="Onto this instead of UPSTREAM.")] = "",
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Edit the list of commits, without the results.")
    ] = False,
    autosquash: Annotated[bool, typer.Option("--autosquash", help="Put 'fixup!' commits where they belong.")] = False,
    autostash: Annotated[bool, typer.Option("--autostash", help="Stash changes, and apply them at the end.")] = False,
    rebase_merges: Annotated[bool, typer.Option("--rebase-merges", "-r", help="Keep merges as merges.")] = False,
    continue_: Annotated[bool, typer.Option("--continue", help="Go on after a conflict.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Go on without the commit that conflicts.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Back to where it began.")] = False,
) -> int:
    """Replay your commits elsewhere, without the results between them; those of the end come from the cache.

    It is 'git rebase' with a list in which result commits are dropped, unless a later commit builds on one. What is
    not known at the end is stale, and hooks have it run. Exit codes are those of 'git rebase'.
    """
    actions = {"--continue": continue_, "--skip": skip, "--abort": abort}
    action = next((name for name, wanted in actions.items() if wanted), None)
    if action is not None and (sum(actions.values()) > 1 or any((upstream, branch, onto, interactive))):
        raise UserError(f"'{action}' stands alone", hint=f"git ml rebase {action}")
    repo = Repository.discover()
    if repo.worktree is None:
        raise UserError("a bare repository has nothing to rebase", hint="do it in a clone")
    if action is not None:
        status = repo.git.in_terminal("rebase", action)
    else:
        flags = {"--autosquash": autosquash, "--autostash": autostash, "--rebase-merges": rebase_merges}
        given = [name for name, wanted in flags.items() if wanted]
        if not autosquash and not interactive:
            given.append("--no-autosquash")  # git has it for interactive ones only
        named = [name for name in (upstream, branch) if name is not None]
        editor = editor_for(f"{command_line()} rebase-todo", user_editor(repo) if interactive else None)
        status = repo.git.in_terminal(
            # a result that stays may become empty, as the merge driver keeps what is there already
            "rebase", "--interactive", "--empty=drop", *given, *([f"--onto={onto}"] if onto else []), "--", *named,
            env={"GIT_SEQUENCE_EDITOR": editor},
        )  # fmt: skip
    if status or abort or sequence_under_way(repo.git_dir) is not None:
        return status
    with open_context() as context:
        return _finish(context)


def _finish(context: Context) -> int:
    """Wait for what the hooks have started, then put back what is known."""
    try:
        follow(context.lease, None)
    except KeyboardInterrupt:
        talk("gitml: detached, the run goes on; git ml wait joins it again")
        return ExitCode.INTERRUPTED
    here = context.repo.git.run("symbolic-ref", "--quiet", "HEAD", check=False).stdout.strip()
    if not here or context.surveyor.survey(context.commit()).pipeline is None:
        return ExitCode.OK
    options = RunOptions(known_only=True, publish_wait=context.repo.config_int("ml.publishWait", 30))
    report = perform(context, options)
    changed = report.published is not None or report.parked or report.stopped or report.failed
    code = conclude(report, json=False) if changed else ExitCode.OK
    stale = [line.name for line in report.stages.values() if line.state == "stale"]
    if stale:
        talk("hint: what is stale runs with: git ml run")
    return code


def edit_todo(arguments: Sequence[str]) -> int:
    """What git starts to edit the list of a rebase: results are dropped in the file that is named."""
    path = Path(arguments[0])
    repo = Repository.discover()
    with GitOdb(repo.git, repo.format) as odb:
        edited = without_results(repo, odb, path.read_bytes())
    temporary = path.with_name(f"{path.name}.gitml-tmp")
    temporary.write_bytes(edited)
    temporary.replace(path)
    return 0
