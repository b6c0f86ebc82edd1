"""The pipeline as a graph with states: all of it, or what changed and its neighbours."""

from collections.abc import Iterable, Mapping, Sequence

from gitml.pipeline.plan import StageStatus
from gitml.provenance.codec import text_of
from gitml.review.comparison import FileChange, Graph, Node, StageChange


def pipeline_graph(
    before: Mapping[str, StageStatus],
    now: Mapping[str, StageStatus],
    changes: Iterable[StageChange],
    files: Sequence[FileChange],
) -> Graph:
    """Every stage of either side, as the new side has it, and the data that they read."""
    statuses = {**now, **{name: status for name, status in before.items() if name not in now}}
    what = {change.stage: change.what for change in changes}
    nodes = [_stage(status, what.get(name), gone=name not in now) for name, status in statuses.items()]
    numbers: dict[str | bytes, int] = {node.name: number for number, node in enumerate(nodes)}
    changed = _folders(files)
    edges: dict[tuple[int, int], None] = {}
    for name, status in statuses.items():
        for source in status.stage.inputs:
            key = source.path if source.upstream is None else source.upstream
            if key not in numbers:
                numbers[key] = len(nodes)
                told = "changed" if source.path in changed else ""
                nodes.append(Node(name=text_of(source.path), stage=False, what=told, touched=bool(told)))
            edges[numbers[key], numbers[name]] = None
    return Graph(nodes=tuple(nodes), edges=tuple(edges))


def _stage(status: StageStatus, what: str | None, *, gone: bool) -> Node:
    if gone:
        return Node(name=status.stage.name, stage=True, what=what or "", touched=True)
    return Node(
        name=status.stage.name, stage=True, what=what or "", touched=what is not None, state=str(status.state),
        reason=status.reason, datums=len(status.datums), done=status.done,
    )  # fmt: skip


def _folders(files: Iterable[FileChange]) -> set[bytes]:
    """Every path that changed, with all directories above it."""
    found: set[bytes] = set()
    for path in (path for file in files for path in (file.path, file.old_path) if path is not None):
        while path not in found:
            found.add(path)
            path = path.rpartition(b"/")[0]  # noqa: PLW2901 - upwards until a directory is known
    return found


def around(graph: Graph) -> Graph:
    """The stages that changed or are not fresh, and what they read or are read by."""
    kept = {number for number, node in enumerate(graph.nodes) if node.stage and node.touched}
    near = {number for edge in graph.edges if kept & {*edge} for number in edge}
    return _only(graph, kept | near)


def limited(graph: Graph, most: int) -> tuple[Graph, int]:
    """At most so many nodes, those that changed first, and how many were left out."""
    order = sorted(range(len(graph.nodes)), key=lambda number: not graph.nodes[number].touched)
    return _only(graph, set(order[:most])), max(0, len(order) - most)


def _only(graph: Graph, kept: set[int]) -> Graph:
    numbers = {old: new for new, old in enumerate(sorted(kept))}
    return Graph(
        nodes=tuple(graph.nodes[old] for old in numbers),
        edges=tuple((numbers[a], numbers[b]) for a, b in graph.edges if a in numbers and b in numbers),
    )
