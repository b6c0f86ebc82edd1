"""`git ml egress`."""

from collections.abc import Mapping
from typing import Annotated

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.interrupt import stopping
from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, safe, show, show_json, talk
from gitml.cli.progress import Counting
from gitml.errors import ExitCode, GitmlError, UserError
from gitml.pipeline.choice import Choice
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.survey import command_of
from gitml.pipeline.trust import Trust


def egress(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="These; by default all that have egress.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also files that were copied before.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Copy the results at HEAD to where 'egress' says, as far as they differ from what was copied last.

    Runs do it by themselves after they have committed; this tries again, and works on any branch. It goes on where it
    was stopped. Exit code 1 if a stage has no result at HEAD.
    """
    with open_context() as context:
        survey, pipeline = context.survey()
        Choice(stages=frozenset(stages) if stages else None).check(pipeline)
        chosen = [
            status for status in survey.statuses if (status.stage.name in stages if stages else status.stage.egress)
        ]
        for status in chosen:
            if not status.stage.egress:
                raise UserError(
                    f"stage '{status.stage.name}' has no egress", hint='add "egress": {"URL": "s3://bucket/path"}'
                )
        if not chosen and not json:
            talk("gitml: no stage has egress")
        lines = [_send(context, status, everything=everything, dry_run=dry_run, quiet=json) for status in chosen]
    if json:
        show_json({"schema": "gitml/egress/1", "dry_run": dry_run, "stages": lines})
    return ExitCode.DIFFERENT if any(line["state"] == "no result" for line in lines) else ExitCode.OK


def standing(context: Context, status: StageStatus) -> dict[str, object] | None:
    """Where the egress of a stage stands, for programs; None if it has none."""
    stage = status.stage
    if not stage.egress:
        return None
    from gitml.remote.egress import Egress  # noqa: PLC0415 - 10 ms, and few have egress

    state, known = Egress(context.repo, context.odb).standing(stage.name, stage.egress, status.output)
    line: dict[str, object] = {"url": stage.egress, "state": state, "files": 0, "total": 0, "message": ""}
    if known is not None:
        line |= {"files": known.files, "total": known.total, "message": known.message}
    return line


def in_words(line: Mapping[str, object]) -> str:
    """What `standing` gave, for people."""
    words = {
        "elsewhere": "not copied from this clone",
        "behind": "not up to date",
        "copying": f"{line['files']} of {line['total']} files copied",
        "copied": "up to date",
        "failed": f"failed: {line['message']}",
    }
    return f"{safe(str(line['url']))}: {safe(words[str(line['state'])])}"


def _send(context: Context, status: StageStatus, *, everything: bool, dry_run: bool, quiet: bool) -> dict[str, object]:
    """Copy one output; give the line for programs. Raise `GitmlError` with the stage in front."""
    from gitml.remote.egress import Egress  # noqa: PLC0415 - as above

    name, url, tree = status.stage.name, status.stage.egress, status.output
    carrier = Egress(context.repo, context.odb)
    line: dict[str, object] = {"name": name, "url": url, "tree": tree.hex(), "state": "copied", "files": 0}
    if status.state not in {State.FRESH, State.HELD}:
        line["state"] = "no result"
        if not quiet:
            talk(f"{safe(name)}: {status.state}, there is no result to copy; git ml run {safe(name)}")
        return line
    if dry_run:
        files = len(carrier.missing(name, url, tree, everything=everything))
        line |= {"state": "would be copied", "files": files}
    else:
        Trust(context.repo).add([command_of(status)])
        with stopping("files that arrived are kept") as stop, Counting() as counting:
            try:
                line["files"] = carrier.send(
                    name, url, tree, commit=context.commit(), stop=stop, everything=everything,
                    progress=lambda done, total: counting.draw(f"{name} to {url}", done, total),
                )  # fmt: skip
            except GitmlError as error:
                error.message = f"{name}: {error.message}"
                raise
    if not quiet:
        show(f"  {safe(name)}: {count(int(str(line['files'])), 'file')} {line['state']} to {safe(url)}")
    return line
