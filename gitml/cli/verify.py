"""`git ml verify`."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.interrupt import stopping
from gitml.cli.options import Json
from gitml.cli.output import count, paint, safe, show, show_json, size, talk
from gitml.cli.progress import Counting
from gitml.cli.tolerances import parse_tolerances
from gitml.errors import UserError
from gitml.meter import Meter
from gitml.pipeline.images import Sandboxes
from gitml.pipeline.recompute import Recomputation, StageCheck, TaskCheck
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.spec.model import Pipeline
from gitml.pipeline.survey import Survey
from gitml.review.verify import (
    AS_RECORDED,
    NONE,
    ROLLED_BACK,
    Result,
    StageVerdict,
    Stray,
    exit_code,
    recompute_outputs,
    verify_outputs,
)

_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_SHOWN = 10
_COLOURS = {AS_RECORDED: "32", NONE: "", ROLLED_BACK: "35"}


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV] [N%] [STAGE]...", help="A commit (HEAD); which share of datums; only these stages."
        ),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Run stages again, N% of their datums, and compare.")
    ] = False,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance", metavar="[NAME=]N", help="With --recompute: metrics and columns may differ by up to N."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", metavar="N", min=1, help="Datums at once, whatever stages say.")
    ] = None,
    json: Json = False,
) -> int:
    """Check that results are what their records say, byte by byte, and if asked by running stages again.

    Nothing is fetched, published or put into the run cache. Exit code 6 if something is not what it should be, 2 if a
    stage failed when it ran again, 5 if content is not here.
    """
    allowed = parse_tolerances(tolerance or [])
    with open_context() as context:
        revision, percent, stages = _split(context, names or [])
        if percent is not None and not recompute:
            raise UserError("a share of the datums is for running them again", hint="git ml verify --recompute N%")
        if allowed and not recompute:
            raise UserError("recorded bytes are compared exactly", hint="--tolerance goes with --recompute")
        survey, pipeline = context.survey(revision)
        _check_names(pipeline, stages)
        with Counting() as counting, Meter("verifying") as meter:
            found = verify_outputs(
                context.repo, context.odb, context.surveyor, survey, stages, progress=meter, counted=counting.draw
            )
        if recompute:
            with (
                stopping("nothing of it is kept") as stop,
                Counting() as counting,
                _recomputation(context, survey, stop, counting, allowed, percent, jobs) as again,
            ):
                recompute_outputs(survey, found, again.check)
    if json:
        show_json(_as_json(survey, found))
    else:
        _print(found)
    return exit_code(found)


def _split(context: Context, names: Sequence[str]) -> tuple[str, float | None, list[str]]:
    """Commit, share in percent, stages. The first name is a commit if git knows it, unless a stage of HEAD has it."""
    percent: float | None = None
    left = []
    for name in names:
        match = _SHARE.fullmatch(name)
        if match is None:
            left.append(name)
            continue
        percent = float(match[1])
        if not 0 < percent <= 100:
            raise UserError(f"'{name}' is no share", hint="from more than 0% to 100%")
    if not left or context.repo.try_resolve(f"{left[0]}^{{commit}}") is None:
        return "HEAD", percent, left
    if context.repo.try_resolve("HEAD^{commit}") is not None:
        pipeline = context.surveyor.survey(context.commit()).pipeline
        if pipeline is not None and any(stage.name == left[0] for stage in pipeline.stages):
            return "HEAD", percent, left
    return left[0], percent, left[1:]


def _check_names(pipeline: Pipeline, names: Sequence[str]) -> None:
    known = [stage.name for stage in pipeline.stages]
    for name in names:
        if name not in known:
            raise UserError(f"there is no stage or commit '{name}'", hint=f"stages: {', '.join(known)}")


@contextmanager
def _recomputation(
    context: Context,
    survey: Survey,
    stop: Event,
    counting: Counting,
    tolerances: dict[str, float],
    percent: float | None,
    jobs: int | None,
) -> Iterator[Recomputation]:
    """What runs stages again, in a directory that is gone afterwards."""
    repo = context.repo
    sandboxes = Sandboxes(repo, context.odb, stop=stop)
    directory: Path = repo.state_dir / f"verify-{os.getpid()}-{os.urandom(4).hex()}"
    directory.mkdir(parents=True)
    try:
        yield Recomputation(
            repo=repo, odb=context.odb, cache=context.cache, sandboxes=sandboxes, directory=directory,
            commit=survey.commit, stop=stop, tolerances=tolerances, percent=100.0 if percent is None else percent,
            parallel=jobs, progress=counting.draw,
        )  # fmt: skip
    finally:
        sandboxes.close()
        remove_tree(directory)
    for notice in sandboxes.notices:
        talk(f"note: {safe(notice)}")


def _print(found: Sequence[StageVerdict]) -> None:
    width = max((len(safe(each.status.stage.name)) for each in found), default=0)
    for each in found:
        head = f"{safe(each.status.stage.name).ljust(width)}  "
        missing = "" if not any(flaw.kind == "missing" for flaw in each.flaws) else ", content missing"
        damaged = "" if all(flaw.kind == "missing" for flaw in each.flaws) else ", damaged"
        colour = "31" if damaged else _COLOURS.get(each.outcome, "31")
        amount = f"  {count(each.files, 'file')}" + (f", {size(each.bytes)} behind pointers" if each.bytes else "")
        show(head + paint(each.outcome + damaged + missing, colour) + amount)
        for stray in each.strays[:_SHOWN]:
            show(f"  {_path(stray.path)}: {_stray(stray)}")
        _rest(len(each.strays))
        for flaw in each.flaws[:_SHOWN]:
            show(f"  {_path(flaw.path)}: {flaw.kind}, {safe(flaw.what)}")
        _rest(len(each.flaws))
        if each.recomputed is not None:
            _print_check(each.recomputed)
    if any(each.is_missing for each in found):
        talk("hint: git ml fetch brings content that is not here")


def _print_check(check: StageCheck) -> None:
    if check.reason:
        show(f"  not run again: {safe(check.reason)}")
        return
    words = [
        f"{number} {paint(name, '' if name == 'same' else '31')}"
        for name in ("same", "differs", "failed", "skipped")
        if (number := sum(task.outcome == name for task in check.tasks))
    ]
    head = f"  run again: {len(check.tasks)} of {count(check.total, 'datum')}"
    show(head + (f": {', '.join(words)}" if words else "") + (", then stopped" if check.stopped else ""))
    told = [task for task in check.tasks if task.outcome != "same"]
    for task in told[:_SHOWN]:
        show(f"    {safe(task.datum)}: {task.outcome}" + (f", {safe(task.message)}" if task.message else ""))
        for line in task.last_lines[-5:]:
            show(f"      {safe(line)}")
        for each in task.differences[:_SHOWN]:
            show(f"      {_path(each.path)}: {safe(each.what)}")
        _rest(len(task.differences))
    _rest(len(told))
    for path in check.lost[:_SHOWN]:
        show(f"    {_path(path)}: no task wrote it")
    _rest(len(check.lost))


def _rest(number: int) -> None:
    if number > _SHOWN:
        show(f"    and {number - _SHOWN} more")


def _path(path: bytes) -> str:
    return safe(os.fsdecode(path))


def _stray(stray: Stray) -> str:
    if stray.removed:
        return "gone, the recorded result has it"
    if stray.result is None:
        return "of no result that is known"
    if stray.result.commit is None:
        return f"of result {stray.result.output.hex()[:10]}, which only the run cache knows"
    return f"of the result that {stray.result.commit.hex()[:10]} brought"


def _as_json(survey: Survey, found: Sequence[StageVerdict]) -> dict[str, Any]:
    return {
        "schema": "gitml/verify/1",
        "commit": survey.commit.hex(),
        "stages": [_stage_as_json(each) for each in found],
    }


def _stage_as_json(each: StageVerdict) -> dict[str, Any]:
    record = each.status.record
    return {
        "name": each.status.stage.name,
        "outcome": each.outcome,
        "state": str(each.status.state),
        "output": each.status.output.hex(),
        "recorded": record.output_tree.hex() if record is not None else None,
        "files": each.files,
        "bytes": each.bytes,
        "strays": [
            {"path": os.fsdecode(stray.path), "removed": stray.removed, "result": _result(stray.result)}
            for stray in each.strays
        ],
        "flaws": [{"path": os.fsdecode(flaw.path), "kind": flaw.kind, "what": flaw.what} for flaw in each.flaws],
        "recomputed": None if each.recomputed is None else _check_as_json(each.recomputed),
    }


def _result(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    commit = result.commit.hex() if result.commit is not None else None
    return {"output": result.output.hex(), "commit": commit, "key": result.key}


def _check_as_json(check: StageCheck) -> dict[str, Any]:
    return {
        "outcome": check.outcome,
        "reason": check.reason,
        "total": check.total,
        "chosen": check.chosen,
        "stopped": check.stopped,
        "lost": [os.fsdecode(path) for path in check.lost],
        "tasks": [_task_as_json(task) for task in check.tasks],
    }


def _task_as_json(task: TaskCheck) -> dict[str, Any]:
    return {
        "key": task.key,
        "datum": task.datum,
        "outcome": task.outcome,
        "message": task.message,
        "last_lines": list(task.last_lines),
        "differences": [{"path": os.fsdecode(each.path), "what": each.what} for each in task.differences],
    }
