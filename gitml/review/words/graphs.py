"""The pipeline as a graph, with its stages as a table."""

from collections.abc import Iterator

from gitml.review.blocks import Block, Cell, Tone, first_rows
from gitml.review.comparison import Comparison, Graph
from gitml.review.lineage import around, limited

_MOST_NODES = 60
"""Nodes of a graph: as many as a diagram in a forge can be read with."""
_LARGE_GRAPH = 12
"""Nodes from which on a graph is a detail."""


def lineage_blocks(comparison: Comparison) -> Iterator[Block]:
    """The stages that changed or are not fresh, with what they read and who reads them; nothing if there are none."""
    graph, left = limited(around(comparison.pipeline), _MOST_NODES)
    if graph.nodes:
        yield graph_block("lineage", "Lineage", graph, left, ("stage", "", "now", "reads"))


def graph_block(key: str, title: str, graph: Graph, left: int, columns: tuple[str, ...]) -> Block:
    """A graph, and its stages as rows; `left` nodes of it are not there.

    A column is one of stage, '' (what became of it), now, datums, because and reads.
    """
    reads: dict[int, list[str]] = {}
    for source, target in graph.edges:
        node = graph.nodes[source]
        reads.setdefault(target, []).append(node.name + (f" ({node.what})" if node.what and not node.stage else ""))
    rows = []
    for number_of, node in enumerate(graph.nodes):
        if node.stage:
            tone = Tone.PLAIN if node.state in ("", "fresh") else Tone.BAD
            cells = {
                "stage": Cell(node.name, name=True), "": Cell(node.what), "now": Cell(node.state, tone=tone),
                "datums": Cell(f"{node.done} of {node.datums}" if node.state else ""),
                "because": Cell(node.reason, name=True),
                "reads": Cell(", ".join(reads.get(number_of, [])), name=True),
            }  # fmt: skip
            rows.append(tuple(cells[column] for column in columns))
    notes = (Cell(f"and {left} more stages and inputs", tone=Tone.QUIET),) if left else ()
    return Block(
        key=key, title=title, columns=columns, rows=first_rows(iter(rows), len(rows)), notes=notes, graph=graph,
        folded=len(graph.nodes) > _LARGE_GRAPH,
    )  # fmt: skip
