"""`git ml show`."""

import os
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import day, safe, show_json, table
from gitml.cli.output import show as line
from gitml.cli.place import place
from gitml.oid import Oid
from gitml.pipeline.origin import Origin, origin_of


def show(
    path: Annotated[str, typer.Argument(metavar="[REV:]PATH", help="A file or directory that a stage wrote.")],
    json: Json = False,
) -> None:
    """Show what made a file: stage, datum, inputs and who changed them last, code, parameters, environment."""
    with open_context() as context:
        revision, below = place(context.repo, path)
        survey, pipeline = context.survey(revision)
        origin = origin_of(context.repo, context.odb, context.cache, survey.commit, pipeline, below)
        if json:
            show_json(_as_json(origin))
        else:
            _print(context, origin)


def _hex(oid: Oid | None) -> str | None:
    return oid.hex() if oid is not None else None


def _as_json(origin: Origin) -> dict[str, Any]:
    record = origin.record
    return {
        "schema": "gitml/show/1",
        "path": os.fsdecode(origin.path),
        "stage": origin.stage,
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
        "run": origin.run,
        "task": origin.task,
    }


def _print(context: Context, origin: Origin) -> None:
    record = origin.record
    line(f"{safe(os.fsdecode(origin.path))}  made by stage '{safe(origin.stage)}'"
         + (f", datum {origin.datum.label}" if origin.datum is not None else ""))  # fmt: skip
    if origin.edited:
        line("  edited: what stands there now is not what the run made; git log -- PATH says who changed it")
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
            rows.append(("parameter", f"{file_name}{':' + key if key else ''} = {value}"))
    if record.spec.get("cmd"):
        rows.append(("command", " ".join(str(word) for word in _list(record.spec["cmd"]))))
    rows += [("stdin", str(text)) for text in _list(record.spec.get("stdin") or [])]
    if origin.run is not None:
        rows.append(
            ("run", f"{origin.run['run']}  {day(float(origin.run['started']))} on {origin.run.get('host', '?')}")
        )
        python = (origin.run.get("environment") or {}).get("python") or {}
        libraries = ", ".join(f"{name} {version}" for name, version in (python.get("libraries") or {}).items())
        rows.append(("environment", f"Python {python.get('python', '?')}" + (f", {libraries}" if libraries else "")))
    else:
        rows.append(("run", "not recorded in this clone (git ml install fetches runs)"))
    for text in table((name, safe(value)) for name, value in rows):
        line(text)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _commit(context: Context, oid: Oid | None) -> str:
    if oid is None:
        return "-"
    done = context.repo.git.run("log", "-1", "--format=%h %cs %an: %s", oid.hex(), check=False)
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else f"{oid.hex()[:7]} (not in this clone)"
