"""`git ml show`."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import day, safe, show_json, size, table
from gitml.cli.output import show as line
from gitml.cli.place import place
from gitml.errors import UserError
from gitml.oid import Oid
from gitml.pipeline.choice import no_such_stage
from gitml.pipeline.loading import effective_specification, load_pipeline
from gitml.pipeline.origin import Origin, origin_of
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.spec.error import did_you_mean
from gitml.provenance.codec import canonical
from gitml.review.runs import Run, made_by, run_of
from gitml.store.tree import Snapshot

_MOST = 50
"""Tasks of a run that are named."""


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[REV:]PATH|RUN|REV", help="A file or directory that a stage wrote, a run, or a commit."
        ),
    ],
    effective: Annotated[
        bool, typer.Option("--effective", help="[REV:]STAGE: the specification that holds for it, with all defaults.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what made a file: stage, datum, inputs and who changed them last, code, parameters, environment.

    Of a run, or of the commit that it made or was for: when and where it ran, its results, what became of each task.
    """
    with open_context() as context:
        if effective:
            show_json(_effective(context, what))
            return
        found = _runs(context, what)
        if found is not None:
            if json:
                show_json({"schema": "gitml/show-runs/1", "runs": [_run_as_json(run) for run in found]})
            for number, run in enumerate(() if json else found):
                if number:
                    line()
                _print_run(context, run)
            return
        revision, below = place(context.repo, what)
        survey, pipeline = context.survey(revision)
        origin = origin_of(context.repo, context.odb, context.cache, survey.commit, pipeline, below)
        status = next(each for each in survey.statuses if each.stage.name == origin.stage)
        if json:
            show_json(_as_json(origin, status))
        else:
            _print(context, origin, status)


def _effective(context: Context, what: str) -> dict[str, Any]:
    """The effective specification of the stage `[REV:]NAME`; raise `UserError`."""
    revision, colon, name = what.rpartition(":")
    commit = context.commit(revision if colon else "HEAD")
    snapshot = Snapshot(context.odb, context.surveyor.tree_of(commit))
    try:
        return effective_specification(snapshot, name)
    except KeyError:
        pipeline = load_pipeline(snapshot)
        if pipeline is not None and name in [stage.name for stage in pipeline.left_out]:
            raise no_such_stage(pipeline, name) from None
        known = [stage.name for stage in pipeline.stages] if pipeline is not None else []
        raise UserError(f"there is no stage '{name}'", hint=did_you_mean(name, known) or "git ml ls stages") from None


def _runs(context: Context, what: str) -> tuple[Run, ...] | None:
    """The runs that are meant; None for a path."""
    if ":" in what or context.repo.try_resolve(f"HEAD:{os.fsdecode(place(context.repo, what)[1])}") is not None:
        return None
    run = run_of(context.repo, context.odb, context.cache, what)
    if run is not None:
        return (run,)
    commit = context.repo.try_resolve(f"{what}^{{commit}}")
    return None if commit is None else made_by(context.repo, context.odb, context.cache, commit).runs


def _run_as_json(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "source": _hex(run.source),
        "results": [oid.hex() for oid in run.results],
        "record": run.record,
        "tasks": list(run.tasks),
    }


def _print_run(context: Context, run: Run) -> None:
    record = run.record or {}
    line(f"run {safe(run.id)}" + (f"  {safe(str(record['status']))}" if "status" in record else ""))
    rows = [("source", _commit(context, run.source))]
    rows += [("result", _commit(context, oid)) for oid in run.results] or [("result", "none in the history of HEAD")]
    if run.record is None:
        rows.append(("record", "not in this clone (git ml install fetches runs)"))
    else:
        started, updated = float(record.get("started", 0)), float(record.get("updated", 0))
        rows.append(("ran", f"{day(started)} on {record.get('host', '?')}, {max(updated - started, 0):.0f} s"))
        elsewhere = record.get("elsewhere") or {}
        if record.get("sandbox") or not elsewhere:
            rows.append(("sandbox", str(record.get("sandbox", "?"))))
        rows += [
            (
                "elsewhere",
                f"{stage}: by {facts['executor']} on {_listed(facts['hosts'])} in {_listed(facts['sandboxes'])}",
            )
            for stage, facts in elsewhere.items()
        ]
        images = record.get("images") or {}
        rows += [("image", f"{stage}: {_image(image)}") for stage, image in images.items()]
        limits = record.get("limits") or {}
        rows += [("limits", f"{stage}: {_means(means)}") for stage, means in limits.items() if means]
        rows.append(("environment", _environment(record)))
    for text in table(((name, safe(value)) for name, value in rows), fit=True):
        line(text)
    if run.tasks:
        cells = [["stage", "datum", "became", "seconds", "memory"]]
        cells += [
            [
                str(task.get("stage", "")), str(task.get("datum", "")), str(task.get("state", "")),
                f"{float(task.get('seconds') or 0):.2f}", size(int(task["max_rss"])) if task.get("max_rss") else "-",
            ]
            for task in run.tasks[:_MOST]
        ]  # fmt: skip
        for text in table(([safe(cell) for cell in row] for row in cells), fit=True):
            line(text)
        if len(run.tasks) > _MOST:
            line(f"  and {len(run.tasks) - _MOST} more; all of them: --json")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _means(means: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} by {how}" for name, how in means.items())


def _image(image: Mapping[str, Any]) -> str:
    return f"by {image.get('by', '?')}" + (f", {image['digest']}" if "digest" in image else "")


def _environment(record: Mapping[str, Any]) -> str:
    python = (record.get("environment") or {}).get("python") or {}
    libraries = ", ".join(f"{name} {version}" for name, version in (python.get("libraries") or {}).items())
    return f"Python {python.get('python', '?')}" + (f", {libraries}" if libraries else "")


def _hex(oid: Oid | None) -> str | None:
    return oid.hex() if oid is not None else None


def _as_json(origin: Origin, status: StageStatus) -> dict[str, Any]:
    record = origin.record
    return {
        "schema": "gitml/show/1",
        "path": os.fsdecode(origin.path),
        "stage": origin.stage,
        "state": {"state": str(status.state), "reason": status.reason},
        "key": record.key,
        "output": {"path": os.fsdecode(record.output_path), "tree": record.output_tree.hex()},
        "result": origin.result.hex(),
        "source": _hex(origin.source),
        "datum": origin.datum.label if origin.datum is not None else None,
        "inputs": [
            {
                "name": each.name,
                "path": os.fsdecode(each.path),
                "oid": each.oid.hex(),
                "changed_by": _hex(each.changed_by),
            }
            for each in origin.inputs
        ],
        "code": [
            {"path": os.fsdecode(file.source), "target": file.target, "oid": file.entry.oid.hex()}
            for file in record.code
        ],
        "parameters": record.params,
        "specification": record.spec,
        "datums": {"total": record.total, "recovered": record.recovered},
        "environment": origin.run.get("environment") if origin.run is not None else None,
        "edited": origin.edited,
        "accepted": record.accepted,
        "run": origin.run,
        "task": origin.task,
    }


def _print(context: Context, origin: Origin, status: StageStatus) -> None:
    record = origin.record
    line(f"{safe(os.fsdecode(origin.path))}  made by stage '{safe(origin.stage)}'"
         + (f", datum {origin.datum.label}" if origin.datum is not None else ""))  # fmt: skip
    if status.state is not State.FRESH:
        because = f": {safe(status.reason)}" if status.reason else ""
        line(f"  the stage is {status.state}{because}; what follows is of the result that stands here")
    if origin.edited:
        line("  edited: what stands there now is not what the run made; git log -- PATH says who changed it")
    if record.accepted is not None:
        line("  accepted: no run made it" + (f"; {safe(record.accepted)}" if record.accepted else ""))
    rows = [
        ("key", record.key[:16]),
        ("result", _commit(context, origin.result)),
        ("source", _commit(context, origin.source)),
    ]
    rows += [
        ("input", f"{os.fsdecode(each.path)}  {each.oid.hex()[:10]}  {_commit(context, each.changed_by)}")
        for each in origin.inputs
    ]
    rows += [("code", f"{os.fsdecode(file.source)}  {file.entry.oid.hex()[:10]}") for file in record.code]
    for file_name, values in record.params.items():
        for key, value in values.items():
            rows.append(("parameter", f"{file_name}{':' + key if key else ''} = {_value(value)}"))
    if record.spec.get("cmd"):
        rows.append(("command", " ".join(str(word) for word in _list(record.spec["cmd"]))))
    rows += [("stdin", str(text)) for text in _list(record.spec.get("stdin") or [])]
    if origin.run is not None:
        rows.append(
            ("run", f"{origin.run['run']}  {day(float(origin.run['started']))} on {origin.run.get('host', '?')}")
        )
        rows.append(("environment", _environment(origin.run)))
    else:
        rows.append(("run", "not recorded in this clone (git ml install fetches runs)"))
    for text in table(((name, safe(value)) for name, value in rows), fit=True):
        line(text)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(value: object) -> str:
    return value if isinstance(value, str) else canonical(value).decode("ascii")


def _commit(context: Context, oid: Oid | None) -> str:
    if oid is None:
        return "-"
    done = context.repo.git.run("log", "-1", "--format=%h %cs %an: %s", oid.hex(), check=False)
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else f"{oid.hex()[:7]} (not in this clone)"
