"""`git ml dag`."""

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

import typer

from gitml.cli.context import open_context
from gitml.cli.options import Json, Revision
from gitml.cli.output import GLYPHS, paint, safe, show, show_json
from gitml.pipeline.shown import Standing
from gitml.pipeline.spec.model import Pipeline


class Form(StrEnum):
    """Ways to write a graph."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"


def dag(
    json: Json = False,
    rev: Revision = "HEAD",
    form: Annotated[Form, typer.Option("--format", help="How to draw the graph.")] = Form.TEXT,
) -> None:
    """Draw the pipeline: which data and which stages each stage reads, and where it stands."""
    with open_context() as context:
        survey, pipeline = context.survey(rev)
        rows = {row.name: row for row in context.standings(survey)}
        inputs = {leaf.path: survey.snapshot.get(leaf.path) for stage in pipeline.stages for leaf in stage.inputs}
    files = {path for path, entry in inputs.items() if entry is not None and not entry.is_tree}
    if json:
        show_json(_as_json(pipeline, rows))
    elif form is Form.MERMAID:
        _mermaid(pipeline, rows)
    elif form is Form.DOT:
        _dot(pipeline, rows)
    else:
        _text(pipeline, rows, files)


def _edges(pipeline: Pipeline) -> list[tuple[str, str, str, bool]]:
    """(source, stage, glob, whether the source is a stage), in order."""
    return [
        (each.upstream or each.path.decode("utf-8", "replace"), stage.name, each.glob, each.upstream is not None)
        for stage in pipeline.stages
        for each in stage.inputs
    ]


def _as_json(pipeline: Pipeline, rows: dict[str, Standing]) -> dict[str, object]:
    edges = _edges(pipeline)
    return {
        "schema": "gitml/dag/1",
        "stages": [
            {"name": stage.name, "output": rows[stage.name].output, "state": rows[stage.name].state}
            for stage in pipeline.stages
        ],
        "data": sorted({source for source, _, _, upstream in edges if not upstream}),
        "edges": [{"from": source, "to": target, "glob": glob} for source, target, glob, _ in edges],
    }


def _text(pipeline: Pipeline, rows: dict[str, Standing], files: Collection[bytes]) -> None:
    for stage in pipeline.stages:
        glyph, colour = GLYPHS[rows[stage.name].state]
        show(f"{paint(f'[ {stage.name} ]', '1')} → {safe(rows[stage.name].output)}/   "
             f"{paint(f'{glyph} {rows[stage.name].state}', colour)}")  # fmt: skip
        inputs = stage.inputs
        for number, each in enumerate(inputs):
            branch = "└" if number == len(inputs) - 1 else "├"
            path = each.path.decode("utf-8", "replace")
            source = f"[ {each.upstream} ]" if each.upstream else path if each.path in files else f"{path}/"
            show(f"  {branch}── {safe(source)}  {safe(each.glob)}".rstrip())


def _quoted(text: str) -> str:
    return '"' + safe(text).replace("\\", "\\\\").replace('"', "'") + '"'


def _mermaid(pipeline: Pipeline, rows: dict[str, Standing]) -> None:
    names: dict[tuple[str, bool], str] = {}
    show("flowchart LR")
    for stage in pipeline.stages:
        names[stage.name, True] = f"s{len(names)}"
        show(f"  {names[stage.name, True]}[{_quoted(f'{stage.name}: {rows[stage.name].state}')}]")
    for source, target, glob, upstream in _edges(pipeline):
        if (source, upstream) not in names:
            names[source, upstream] = f"d{len(names)}"
            show(f"  {names[source, upstream]}[({_quoted(source)})]")
        show(f"  {names[source, upstream]} -->|{_quoted(glob)}| {names[target, True]}")


def _dot(pipeline: Pipeline, rows: dict[str, Standing]) -> None:
    show("digraph pipeline {")
    show("  rankdir=LR;")
    for stage in pipeline.stages:
        label = f"{stage.name}: {rows[stage.name].state}"
        show(f"  {_quoted(f'stage {stage.name}')} [shape=box, label={_quoted(label)}];")
    for source in sorted({source for source, _, _, upstream in _edges(pipeline) if not upstream}):
        show(f"  {_quoted(f'data {source}')} [shape=cylinder, label={_quoted(source)}];")
    for source, target, glob, upstream in _edges(pipeline):
        kind = "stage" if upstream else "data"
        show(f"  {_quoted(f'{kind} {source}')} -> {_quoted(f'stage {target}')} [label={_quoted(glob)}];")
    show("}")
