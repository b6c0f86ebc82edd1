"""`git ml bisect`."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json, table, talk
from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.journal import JournalEntry
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.review.bisect import Bounds, Breakage, find_breakage


def bisect(
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="The metric that broke.")],
    revisions: Annotated[
        str | None,
        typer.Argument(metavar="[GOOD..][BAD]", help="Where it was good, and where it is bad (HEAD)."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Whose metric; if several have it.")
    ] = None,
    low: Annotated[float | None, typer.Option("--min", metavar="X", help="Good is X and more.")] = None,
    high: Annotated[float | None, typer.Option("--max", metavar="X", help="Good is X and less.")] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Compute results that are missing, until one commit is left.")
    ] = False,
    json: Json = False,
) -> None:
    """Find the commit that broke a metric, from results that are known.

    Without --min and --max, good is what the gate of the metric allows.
    """
    with open_context() as context:
        left, dots, right = (revisions or "HEAD").rpartition("..")
        bad = context.commit(right or "HEAD")
        good = context.commit(left) if dots and left else None
        survey, pipeline = context.survey(bad.hex())
        chosen = _stage(pipeline, metric, stage)
        bounds = _bounds(chosen, metric, low, high)
        with _runs(context, chosen) if run else _nothing() as attempt:
            found = find_breakage(
                context.repo, context.odb, context.surveyor, chosen, metric, bounds, good=good, bad=survey.commit,
                attempt=attempt,
            )  # fmt: skip
        if json:
            show_json(_as_json(chosen, metric, bounds, found))
        elif found is None:
            show(
                f"{safe(metric)} of {safe(chosen.name)} is good at {safe(right or 'HEAD')}: good is {_allowed(bounds)}"
            )
            if low is None and high is None:
                talk("gitml: that is its gate; --min X or --max X searches for another bound")
        else:
            _print(context, metric, found)


def _stage(pipeline: Pipeline, metric: str, name: str | None) -> Stage:
    if name is not None:
        try:
            return pipeline.stage(name)
        except KeyError:
            known = ", ".join(each.name for each in pipeline.stages)
            raise UserError(f"there is no stage '{name}'", hint=f"stages: {known}") from None
    candidates = [each for each in pipeline.stages if any(one.name in (metric, None) for one in each.metrics)]
    named = [each for each in candidates if any(one.name == metric for one in each.metrics)]
    candidates = named or candidates
    if not candidates:
        raise UserError(f"no stage declares a metric '{metric}'", hint='declare it: "metrics": ["metrics.json"]')
    if len(candidates) > 1:
        names = ", ".join(each.name for each in candidates)
        raise UserError(f"several stages may have '{metric}': {names}", hint="--stage STAGE chooses one")
    return candidates[0]


def _bounds(stage: Stage, metric: str, low: float | None, high: float | None) -> Bounds:
    if low is None and high is None:
        low, high = next((each.gate for each in stage.metrics if each.name == metric), (None, None))
    if low is None and high is None:
        raise UserError(f"'{metric}' has no gate", hint="say what is good: --min X or --max X")
    return Bounds(low, high)


def _allowed(bounds: Bounds) -> str:
    limits = (("≥", bounds.low), ("≤", bounds.high))
    return " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


@contextmanager
def _runs(context: Context, stage: Stage) -> Iterator[Callable[[Oid], None]]:
    """What computes a stage at a commit, in a worktree of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gitml-bisect-") as temporary:
        place = Path(temporary) / "worktree"
        # files stay pointers: tasks get their inputs from the objects
        environment = {**os.environ, "GITML_SKIP_SMUDGE": "1"}

        def attempt(commit: Oid) -> None:
            talk(f"gitml: computing {stage.name} at {commit.hex()[:10]}")
            context.repo.git.run("worktree", "add", "--detach", "--force", str(place), commit.hex(), env=environment)
            try:
                command = [sys.executable, "-m", "gitml", "run", "--no-publish", stage.name]
                subprocess.run(command, cwd=place, env=environment, stdout=subprocess.DEVNULL, check=False)
            finally:
                context.repo.git.run("worktree", "remove", "--force", str(place), check=False)

        try:
            yield attempt
        finally:
            context.repo.git.run("worktree", "prune", check=False)


def _print(context: Context, metric: str, found: Breakage) -> None:
    show(f"{safe(metric)} broke between two results:")
    rows = [
        ("good", _number(found.good.metrics[metric]), _line(context, found.good.commit)),
        ("bad", _number(found.bad.metrics[metric]), _line(context, found.bad.commit)),
    ]
    for line in table(rows, fit=True):
        show(line)
    if len(found.suspects) == 1:
        show()
        show(f"first bad commit: {_line(context, found.suspects[0].commit)}")
        return
    show()
    show(f"one of {len(found.suspects)} commits did it; not all have results of their own:")
    for suspect in found.suspects:
        value = "no result" if suspect.value is None else _number(suspect.value)
        show(f"  {value + (' (tried)' if suspect.tried else ''):14}  {_line(context, suspect.commit)}")
    if any(suspect.value is None and not suspect.tried for suspect in found.suspects):
        talk("gitml: --run computes those that are missing")


def _number(value: float) -> str:
    return f"{value:.6g}"


def _line(context: Context, commit: Oid) -> str:
    return safe(context.repo.git.line("log", "-1", "--format=%h %cs %an: %s", commit.hex()))


def _as_json(stage: Stage, metric: str, bounds: Bounds, found: Breakage | None) -> dict[str, Any]:
    def entry(each: JournalEntry) -> dict[str, Any]:
        return {"commit": each.commit.hex(), "value": each.metrics[metric]}

    return {
        "schema": "gitml/bisect/1",
        "stage": stage.name,
        "metric": metric,
        "min": bounds.low,
        "max": bounds.high,
        "good": None if found is None else entry(found.good),
        "bad": None if found is None else entry(found.bad),
        "first_bad": found.suspects[0].commit.hex() if found is not None and len(found.suspects) == 1 else None,
        "suspects": [
            {"commit": each.commit.hex(), "value": each.value, "tried": each.tried}
            for each in (found.suspects if found is not None else ())
        ],
    }
