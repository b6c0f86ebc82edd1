"""Where the nodes of a graph stand: layers from left to right, few crossings, straight edges; the same each time.

After Sugiyama, Tagawa and Toda (1981): layers by the longest path, barycentres against crossings. Within a layer the
heights are those nearest to the neighbours that keep the order: isotonic regression by pooling (Ayer et al., 1955).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from gitml.record import record

_SWEEPS = 8
"""Passes over all layers; further ones change little."""
_GAP = 0.5
"""Least distance of two edges that pass a layer, in rows."""


@record
class Layout:
    """Positions as (layer, row); rows begin at 0 and need not be whole."""

    places: tuple[tuple[int, float], ...]
    """Of each node."""
    routes: tuple[tuple[tuple[int, float], ...], ...]
    """Of each edge: from its source past every layer between to its target. Empty if it would lead backwards."""
    layers: int
    rows: float
    """Greatest row, plus 1."""


def layered(nodes: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out a graph of so many nodes; edges that close a cycle are not drawn."""
    if not nodes:
        return Layout((), tuple(() for _ in edges), 0, 0.0)
    forward = _without_cycles(nodes, edges)
    layer = _layers(nodes, forward)
    chains, layer = _with_bends(forward, layer)
    above, below = _neighbours(chains, len(layer))
    order = _ordered(layer, above, below)
    rows = _heights(order, above, below, nodes)
    least = min(rows)
    at = [(layer[number], row - least) for number, row in enumerate(rows)]
    known = dict(zip(forward, chains, strict=True))
    return Layout(
        places=tuple(at[:nodes]),
        routes=tuple(tuple(at[each] for each in known.get(edge, ())) for edge in edges),
        layers=max(layer) + 1,
        rows=max(row for _, row in at) + 1,
    )


def _without_cycles(nodes: int, edges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges, each once, without those that lead back in an order that respects as many as can be."""
    wanted = list(dict.fromkeys((a, b) for a, b in edges if a != b))
    waiting = [0] * nodes
    after: dict[int, list[int]] = {}
    for a, b in wanted:
        waiting[b] += 1
        after.setdefault(a, []).append(b)
    ready = [number for number in range(nodes) if not waiting[number]]
    rank: dict[int, int] = {}
    for start in range(nodes + 1):
        while ready:
            number = ready.pop(0)
            rank[number] = len(rank)
            for each in after.get(number, ()):
                waiting[each] -= 1
                if not waiting[each] and each not in rank:
                    ready.append(each)
        # what is left lies on a cycle or behind one: go on with the first
        if start < nodes and start not in rank:
            ready.append(start)
    return [(a, b) for a, b in wanted if rank[a] < rank[b]]


def _layers(nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for a, b in edges:
        before.setdefault(b, []).append(a)
        after.setdefault(a, []).append(b)
    layer = [-1] * nodes
    stack = list(range(nodes))
    while stack:
        number = stack[-1]
        missing = [each for each in before.get(number, ()) if layer[each] < 0]
        if layer[number] < 0 and missing:
            stack += missing
            continue
        stack.pop()
        if layer[number] < 0:
            layer[number] = max((layer[each] for each in before.get(number, ())), default=-1) + 1
    # what reads nothing stands beside its first reader, not far to the left of it
    for number in range(nodes):
        if not before.get(number) and after.get(number):
            layer[number] = min(layer[each] for each in after[number]) - 1
    return layer


def _with_bends(edges: Sequence[tuple[int, int]], layer: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """For each edge the nodes on its way, where a longer one has a bend in every layer that it passes."""
    extended = list(layer)
    chains = []
    for a, b in edges:
        chain = [a]
        for between in range(layer[a] + 1, layer[b]):
            chain.append(len(extended))
            extended.append(between)
        chains.append([*chain, b])
    return chains, extended


def _neighbours(chains: Iterable[Sequence[int]], total: int) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(total)]
    below: list[list[int]] = [[] for _ in range(total)]
    for chain in chains:
        for a, b in pairwise(chain):
            above[b].append(a)
            below[a].append(b)
    return above, below


def _ordered(layer: Sequence[int], above: list[list[int]], below: list[list[int]]) -> list[list[int]]:
    """The nodes of every layer from top to bottom, the best of some sweeps to the right and back."""
    order: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for number, each in enumerate(layer):
        order[each].append(number)
    best, fewest = [list(each) for each in order], _crossings(order, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        beside, numbers = (above, range(1, len(order))) if sweep % 2 == 0 else (below, range(len(order) - 2, -1, -1))
        at = _positions(order)
        for number in numbers:
            order[number].sort(key=lambda node: _mean([at[each] for each in beside[node]], at[node]))
            at.update({node: float(place) for place, node in enumerate(order[number])})
        crossings = _crossings(order, below)
        if crossings < fewest:
            best, fewest = [list(each) for each in order], crossings
    return best


def _positions(order: Iterable[Sequence[int]]) -> dict[int, float]:
    return {node: float(place) for layer in order for place, node in enumerate(layer)}


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(order: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    at = _positions(order)
    total = 0
    for layer in order:
        seen: list[float] = []
        for node in layer:
            ends = sorted(at[each] for each in below[node])
            # of the edges that begin higher up, those that end lower down cross
            total += sum(len(seen) - bisect_left(seen, end + 0.5) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _heights(order: Sequence[Sequence[int]], above: list[list[int]], below: list[list[int]], nodes: int) -> list[float]:
    """The row of every node."""
    row = [0.0] * sum(map(len, order))
    offsets: Mapping[int, list[float]] = {number: _offsets(layer, nodes) for number, layer in enumerate(order)}
    for number, layer in enumerate(order):
        for node, offset in zip(layer, offsets[number], strict=True):
            row[node] = offset - offsets[number][-1] / 2
    for sweep in range(_SWEEPS):
        numbers = range(len(order)) if sweep % 2 == 0 else range(len(order) - 1, -1, -1)
        for number in numbers:
            layer = order[number]
            wanted = []
            for node, offset in zip(layer, offsets[number], strict=True):
                beside = [row[each] for each in (*above[node], *below[node])]
                wanted.append(_mean(beside, row[node]) - offset)
            for node, offset, height in zip(layer, offsets[number], _rising(wanted), strict=True):
                row[node] = round(height + offset, 6)
    return row


def _offsets(layer: Sequence[int], nodes: int) -> list[float]:
    """How far below the first node of a layer each one is at least."""
    found = [0.0]
    for a, b in pairwise(layer):
        found.append(found[-1] + (1.0 if a < nodes and b < nodes else (1.0 + _GAP) / 2 if min(a, b) < nodes else _GAP))
    return found


def _rising(values: Iterable[float]) -> list[float]:
    """The numbers nearest to `values`, by squares, that never fall."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]
