"""`git ml backtest`."""

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.interrupt import stopping
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, table, talk
from gitml.cli.progress import Counting, follow
from gitml.errors import ExitCode, UserError
from gitml.oid import Oid
from gitml.pipeline.launch import start_runner
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.pipeline.trial import Trials
from gitml.review.backtest import Cell, Question, as_csv, check_branch, commit_results, question
from gitml.review.backtest import backtest as every_combination


def backtest(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="The stage to evaluate, as HEAD has it.")],
    model: Annotated[
        list[str], typer.Option("--model", metavar="[NAME=]REV", help="Take the model (the input NAME) of REV.")
    ],
    given: Annotated[list[str], typer.Option("--input", metavar="REV", help="Take all other inputs of REV.")],
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="Commit the results on this branch.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", metavar="N", min=1, help="Datums at once, whatever the stage says.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line for each combination, as CSV.")] = False,
    json: Json = False,
) -> int:
    """Evaluate models of some commits over inputs of others. What is known comes from the run cache.

    Code, parameters and specification are those of HEAD. Worktree, index and HEAD stay as they are. Exit code 2 if a
    combination failed, 130 after Ctrl-C; finished datums are kept.
    """
    if csv and json:
        raise UserError("--csv and --json exclude each other")
    with open_context() as context:
        survey, pipeline = context.survey()
        asked = question(context.repo, _stage(pipeline, stage), model, given)
        ref = check_branch(context.repo, branch) if branch is not None else None
        cells, stopped = _run(context, pipeline, survey.commit, asked, jobs)
        failed = [cell for cell in cells if cell.trial.output is None]
        commit = None
        if ref is not None and not failed and not stopped:
            commit = commit_results(context.repo, context.odb, context.surveyor, asked, cells, ref, survey.commit)
        if context.lease.requests():
            start_runner(context.repo)  # a commit was made meanwhile, and its hook relied on us
    if json:
        show_json(_as_json(asked, survey.commit, cells, commit))
    elif csv:
        show(as_csv(cells).rstrip("\n"))
    else:
        _print(asked, cells)
    for cell in failed:
        talk(f"error: {safe(cell.input.name)} with {safe(cell.model.name)}: {safe(cell.trial.error)}")
        for line in cell.trial.last_lines[-5:]:
            talk(f"  {safe(line)}")
    if commit is not None:
        talk(f"gitml: results committed as {commit.hex()[:10]} on {safe(str(branch))}")
    elif ref is not None:
        talk("gitml: nothing was committed, because not all results are there")
    if stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.STAGE_FAILED if failed else ExitCode.OK


def _stage(pipeline: Pipeline, name: str) -> Stage:
    try:
        return pipeline.stage(name)
    except KeyError:
        known = ", ".join(each.name for each in pipeline.stages)
        raise UserError(f"there is no stage '{name}'", hint=f"stages: {known}") from None


def _run(
    context: Context, pipeline: Pipeline, commit: Oid, asked: Question, jobs: int | None
) -> tuple[list[Cell], bool]:
    """The combinations, and whether it was stopped before the last one."""
    waited = False
    while True:
        with context.lease.acquire(stops=True) as mine:
            if mine:
                return _evaluate(context, pipeline, commit, asked, jobs)
        if not waited:
            talk("gitml: waiting for the run that is under way")
            waited = True
        follow(context.lease, None)


def _evaluate(
    context: Context, pipeline: Pipeline, commit: Oid, asked: Question, jobs: int | None
) -> tuple[list[Cell], bool]:
    with stopping("finished datums are kept") as stop, Counting() as counting:
        number = 0

        def combination(done: int, total: int) -> None:
            nonlocal number
            number = done + 1
            counting.draw("combination", number, total)

        trials = Trials(
            repo=context.repo, odb=context.odb, surveyor=context.surveyor, lease=context.lease, commit=commit,
            pipeline=pipeline, stop=stop, parallel=jobs,
            progress=lambda done, total: counting.draw(f"combination {number}, datums", done, total),
        )  # fmt: skip
        cells = every_combination(context.odb, context.surveyor, asked, trials, combination)
        stopped = len(cells) < len(asked.inputs) * len(asked.models)
    for notice in trials.notices:
        talk(f"note: {safe(notice)}")
    return cells, stopped


def _print(asked: Question, cells: Sequence[Cell]) -> None:
    ran = sum(cell.trial.ran for cell in cells)
    total = sum(cell.trial.total for cell in cells)
    models, inputs = count(len(asked.models), "commit"), count(len(asked.inputs), "commit")
    talk(f"{safe(asked.stage.name)} with '{safe(asked.model.name)}' of {models} over the other inputs of {inputs}:")
    talk(f"{count(ran, 'datum')} run, {total - ran} from cache")
    metrics = list(dict.fromkeys(name for cell in cells for name in cell.metrics))
    for name in metrics:
        _print_table(asked, cells, name)
    if not metrics:
        _print_table(asked, cells, None)


def _print_table(asked: Question, cells: Sequence[Cell], metric: str | None) -> None:
    found = {(cell.input.commit, cell.model.commit): cell for cell in cells}
    rows = [[safe(metric or "files"), *(safe(each.name) for each in asked.models)]]
    for given in asked.inputs:
        listed = (found.get((given.commit, each.commit)) for each in asked.models)
        rows.append([safe(given.name), *(_value(cell, metric) for cell in listed)])
    for line in table(rows, indent="", fit=True):
        show(line)


def _value(cell: Cell | None, metric: str | None) -> str:
    if cell is None:
        return "-"
    if cell.trial.output is None:
        return "failed"
    if metric is not None:
        value = cell.metrics.get(metric)
        return "-" if value is None else f"{value:.6g}"
    return f"{count(len(cell.files), 'file')} {cell.trial.output.hex()[:10]}"


def _as_json(asked: Question, head: Oid, cells: Sequence[Cell], commit: Oid | None) -> dict[str, Any]:
    return {
        "schema": "gitml/backtest/1",
        "stage": asked.stage.name,
        "model": asked.model.name,
        "code": head.hex(),
        "commit": commit.hex() if commit is not None else None,
        "results": [_cell_as_json(cell) for cell in cells],
    }


def _cell_as_json(cell: Cell) -> dict[str, Any]:
    trial = cell.trial
    return {
        "input": {"name": cell.input.name, "commit": cell.input.commit.hex()},
        "model": {"name": cell.model.name, "commit": cell.model.commit.hex()},
        "key": trial.key,
        "output": trial.output.hex() if trial.output is not None else None,
        "datums": {"total": trial.total, "run": trial.ran},
        "error": trial.error or None,
        "metrics": dict(cell.metrics),
        "files": [{"path": os.fsdecode(each.path), "oid": each.oid.hex(), "size": each.size} for each in cell.files],
    }
