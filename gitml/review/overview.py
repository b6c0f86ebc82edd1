"""What a page says beyond the comparison, in words: how metrics went, and where every stage stands."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from gitml.review.blocks import Block, Cell, Report, Tone, number
from gitml.review.comparison import Comparison, Graph, Verdict
from gitml.review.history import MetricHistory
from gitml.review.lineage import limited
from gitml.review.words.graphs import graph_block

RESULTS = 50
"""Results of which a page shows metrics."""
_MOST_CHARTS = 24
_MOST_NODES = 300


def overview(found: Report, comparison: Comparison, histories: Sequence[MetricHistory], *, whole: bool) -> Report:
    """The report with the history of metrics after the metrics and, if `whole`, with the state of all stages."""
    pipeline = list(_pipeline(comparison.pipeline)) if whole else []
    drawn = pipeline[0].graph if pipeline else None
    blocks = [
        # that everything changed need not be drawn twice
        block for block in found.blocks if block.graph is None or drawn is None or block.graph.nodes != drawn.nodes
    ]  # fmt: skip
    after = max((at for at, block in enumerate(blocks, 1) if block.key == "metrics"), default=0)
    blocks[after:after] = [*_history(histories, comparison), *pipeline]
    return Report(verdict=found.verdict, blocks=tuple(blocks))


def _history(histories: Sequence[MetricHistory], comparison: Comparison) -> Iterator[Block]:
    """A block for each metric that has more than one result, those that the comparison says changed first."""
    changed = {(each.stage, each.name) for each in comparison.metrics if each.verdict is not Verdict.SAME}
    told = [each for each in histories if len(each.points) > 1]
    told.sort(key=lambda each: ((each.stage, each.name) not in changed, each.goal is None))
    for history in told[:_MOST_CHARTS]:
        yield Block(
            key="history", title=f"{history.stage}: {history.name}", columns=("result", "date", "value", "because of"),
            rows=tuple(
                (
                    Cell(point.commit.hex()[:10]), Cell(_day(point.when)), Cell(number(point.value)),
                    Cell(point.cause, name=True),
                )
                for point in reversed(history.points)
            ),
            notes=(Cell(_summary(history)),), folded=True, history=history,
        )  # fmt: skip
    if len(told) > _MOST_CHARTS:
        note = Cell(f"and {len(told) - _MOST_CHARTS} more metrics: git ml log", tone=Tone.QUIET)
        yield Block(key="history", title="More", notes=(note,))


def _summary(history: MetricHistory) -> str:
    values = [point.value for point in history.points]
    words = f"{number(values[-1])} now, {number(values[0])} first"
    if history.goal is not None:
        best = (max if history.goal == "max" else min)((each for each in values if not math.isnan(each)), default=None)
        words += f", {number(best)} best"
    low, high = history.gate
    limits = [f"≥ {low:g}" if low is not None else "", f"≤ {high:g}" if high is not None else ""]
    return words + "".join(f", gate {limit}" for limit in limits if limit)


def _day(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return str(seconds)  # a commit may claim any date


def _pipeline(pipeline: Graph) -> Iterator[Block]:
    """Where every stage stands."""
    if pipeline.nodes:
        graph, left = limited(pipeline, _MOST_NODES)
        yield graph_block("pipeline", "Pipeline", graph, left, ("stage", "now", "datums", "because", "reads"))
