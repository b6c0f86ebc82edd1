"""A comparison for programs: JSON, JUnit XML for gates, OpenMetrics text for GitLab's metrics report."""

import math
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from gitml.provenance.codec import Json, harmless, text_of
from gitml.review.comparison import Comparison, Cost, Graph, MetricChange, Picture, PictureChange, Side, Verdict
from gitml.review.lineage import around


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a document; numbers that JSON lacks are strings ('nan', 'inf', '-inf')."""
    return {
        "schema": "gitml/diff/1",
        "old": _side(comparison.old),
        "new": _side(comparison.new),
        "fresh": not comparison.unsettled and not comparison.new.problem,
        "gates_broken": [each.name for each in comparison.broken_gates],
        "metrics": [_metric(each) for each in comparison.metrics],
        "stages": [
            {
                "stage": each.stage, "what": each.what or None, "causes": each.causes or None,
                "state": each.state or None, "reason": each.reason or None, "output_changed": each.output_changed,
            }
            for each in comparison.stages
        ],
        "params": [
            {
                "file": each.path, "key": each.key, "stages": list(each.stages),
                **({} if each.old is None else {"old": each.old[0]}),
                **({} if each.new is None else {"new": each.new[0]}),
            }
            for each in comparison.params
        ],
        "files": [
            {
                "path": text_of(each.path), "old_path": None if each.old_path is None else text_of(each.old_path),
                "what": "added" if each.new else "removed" if each.gone else "renamed" if each.old_path else "changed",
                "role": str(each.role), "stage": each.stage, "old_size": each.old_size, "new_size": each.new_size,
                "stored": each.stored,
            }
            for each in comparison.files
        ],
        "tables": [
            {
                "path": text_of(each.path), "problem": each.problem or None,
                "diff": None if each.diff is None else each.diff.as_json(),
            }
            for each in comparison.tables
        ],
        "leakage": [
            {
                "train": text_of(each.train), "test": text_of(each.test),
                "old": None if each.old is None else each.old.as_json(),
                "new": None if each.new is None else each.new.as_json(),
            }
            for each in comparison.leakage
        ],
        "predictions": [
            {
                "stage": each.stage, "path": text_of(each.path), "fresh": each.fresh, "problem": each.problem or None,
                "diff": None if each.diff is None else each.diff.as_json(),
            }
            for each in comparison.predictions
        ],
        "models": [
            {
                "path": text_of(each.path), "problem": each.problem or None,
                "diff": None if each.diff is None else each.diff.as_json(),
            }
            for each in comparison.models
        ],
        "plots": [
            {
                "stage": each.stage, "path": text_of(each.path), "title": each.title, "x": each.x, "fresh": each.fresh,
                "address": each.address or None,
                "old": None if each.old is None else each.old.as_json(),
                "new": None if each.new is None else each.new.as_json(),
            }
            for each in comparison.plots
        ],
        "images": [
            {
                "stage": each.stage, "path": text_of(each.path), "fresh": each.fresh,
                "old": _picture(each.old), "new": _picture(each.new), "difference": _pixels(each),
            }
            for each in comparison.pictures
        ],
        "costs": [
            {
                "stage": each.stage, "old": _cost(each.old), "new": _cost(each.new), "reused": each.reused,
                "stored": each.stored,
            }
            for each in comparison.costs
        ],
        "made_by": [
            {
                "run": each.run, "stages": list(each.stages), "source": each.source or None, "host": each.host or None,
                "sandbox": each.sandbox or None, "started": each.started, "python": each.python or None,
            }
            for each in comparison.makers
        ],
        "lineage": _graph(around(comparison.pipeline)),
        "environment": {name: list(versions) for name, versions in comparison.libraries.items()},
    }  # fmt: skip


def _graph(graph: Graph) -> dict[str, Any]:
    return {
        "nodes": [
            {"name": node.name, "stage": node.stage, "state": node.state or None, "what": node.what or None}
            for node in graph.nodes
        ],
        "edges": [list(edge) for edge in graph.edges],
    }


def _side(side: Side) -> dict[str, Json]:
    return {
        "name": side.name,
        "commit": side.commit.hex(),
        "subject": side.subject,
        "time": side.when,
        "worktree": side.worktree,
        "problem": side.problem or None,
    }


def _metric(metric: MetricChange) -> dict[str, Json]:
    low, high = metric.gate
    return {
        "stage": metric.stage,
        "name": metric.name,
        "old": _number(metric.old),
        "new": _number(metric.new),
        "change": _number(metric.change),
        "verdict": str(metric.verdict),
        "goal": metric.goal,
        "tolerance": metric.tolerance,
        "noise": _number(metric.noise),
        "gate": {"min": low, "max": high},
        "breaks_gate": metric.breaks_gate,
        "fresh": metric.fresh,
    }


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _picture(picture: Picture | None) -> dict[str, Json] | None:
    if picture is None:
        return None
    return {
        "size": picture.size, "media": picture.media or None, "address": picture.address or None,
        "problem": picture.problem or None,
    }  # fmt: skip


def _pixels(change: PictureChange) -> dict[str, Json] | None:
    found = change.difference
    if found is None:
        return None
    return {
        "old_size": None if found.old_size is None else [*found.old_size],
        "new_size": None if found.new_size is None else [*found.new_size],
        "changed": found.changed, "share": found.share, "largest": found.largest,
        "address": change.difference_address or None, "problem": found.problem or None,
    }  # fmt: skip


def _cost(cost: Cost | None) -> dict[str, Json] | None:
    if cost is None:
        return None
    processor = None if cost.cpu_seconds is None else round(cost.cpu_seconds, 3)
    return {
        "seconds": round(cost.seconds, 3), "cpu_seconds": processor, "tasks": cost.tasks, "memory": cost.memory,
    }  # fmt: skip


def junit(comparison: Comparison) -> bytes:
    """A test for each gate and each stage, as JUnit XML, which GitLab, Jenkins and Azure show.

    A gate fails when it is broken, a stage when its results are not those of the new side's inputs.
    """
    suites = Element("testsuites")
    gates = [metric for metric in comparison.metrics if metric.gate != (None, None)]
    suite = SubElement(
        suites, "testsuite", name="gates", tests=str(len(gates)), failures=str(len(comparison.broken_gates))
    )
    for metric in gates:
        case = SubElement(suite, "testcase", classname=_text(metric.stage), name=_text(metric.name))
        if metric.breaks_gate:
            low, high = metric.gate
            what = "it has no value" if metric.new is None else f"{metric.new!r} is not within [{low}, {high}]"
            SubElement(case, "failure", message=what)
    unsettled = {stage.stage: stage for stage in comparison.unsettled}
    names = list(dict.fromkeys([*(metric.stage for metric in comparison.metrics), *unsettled]))
    suite = SubElement(suites, "testsuite", name="fresh", tests=str(len(names)), failures=str(len(unsettled)))
    for name in names:
        case = SubElement(suite, "testcase", classname="stage", name=_text(name))
        if name in unsettled:
            stage = unsettled[name]
            SubElement(case, "failure", message=_text(f"{stage.state}: {stage.reason}")).text = _text(
                "\n".join(stage.last_lines)
            )
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _text(text: str) -> str:
    """Text that XML can hold."""
    return "\n".join(harmless(line) for line in text.split("\n"))


def openmetrics(comparison: Comparison) -> str:
    """The new metrics as OpenMetrics text, for `artifacts:reports:metrics` of GitLab."""
    lines = ["# TYPE gitml_metric gauge"]
    for metric in comparison.metrics:
        if metric.verdict is not Verdict.GONE and metric.new is not None:
            value = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(str(metric.new), repr(metric.new))
            lines.append(f'gitml_metric{{stage="{_label(metric.stage)}",name="{_label(metric.name)}"}} {value}')
    return "\n".join([*lines, "# EOF", ""])


def _label(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
