"""Layered drawings: every edge to the right, no two nodes on one place, the same drawing for the same graph."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.review.layout import layered

GRAPHS = st.integers(1, 30).flatmap(
    lambda nodes: st.tuples(
        st.just(nodes), st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)), max_size=60)
    )
)


def test_a_chain_is_a_line() -> None:
    found = layered(4, [(2, 0), (0, 1), (1, 3)])
    assert found.places == ((1, 0.0), (2, 0.0), (0, 0.0), (3, 0.0))
    assert (found.layers, found.rows) == (4, 1.0)
    assert found.routes[0] == ((0, 0.0), (1, 0.0))


def test_a_long_edge_passes_beside_the_nodes() -> None:
    found = layered(3, [(0, 1), (1, 2), (0, 2)])
    assert [place[0] for place in found.places] == [0, 1, 2]
    (start, bend, end) = found.routes[2]
    assert (start[0], bend[0], end[0]) == (0, 1, 2)
    assert abs(bend[1] - found.places[1][1]) >= 0.75


def test_crossings_are_undone() -> None:
    found = layered(4, [(0, 3), (1, 2)])
    assert (found.places[0][1] < found.places[1][1]) == (found.places[3][1] < found.places[2][1])


def test_what_reads_nothing_stands_beside_its_reader() -> None:
    found = layered(4, [(0, 1), (1, 2), (3, 2)])
    assert found.places[3][0] == 1


def test_nothing_and_a_cycle() -> None:
    assert layered(0, []).layers == 0
    found = layered(3, [(0, 1), (1, 2), (2, 0), (1, 1)])
    assert [place[0] for place in found.places] == [0, 1, 2]
    assert found.routes[2] == found.routes[3] == ()


@settings(deadline=None)
@given(GRAPHS)
def test_any_graph(graph: tuple[int, list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    found = layered(nodes, edges)
    assert layered(nodes, edges) == found
    assert len(found.places) == nodes
    columns: dict[int, list[float]] = {}
    for layer, row in found.places:
        columns.setdefault(layer, []).append(row)
        assert 0 <= layer < found.layers
        assert 0 <= row <= found.rows - 1 + 1e-9
    for rows in columns.values():
        rows.sort()
        assert all(b - a > 0.999 for a, b in pairwise(rows))
    for edge, route in zip(edges, found.routes, strict=True):
        if route:
            assert (route[0], route[-1]) == (found.places[edge[0]], found.places[edge[1]])
            assert [layer for layer, _ in route] == list(range(route[0][0], route[-1][0] + 1))
    # an order that has no cycle loses no edge
    forward = [(a, b) for a, b in edges if a < b]
    assert all(layered(nodes, forward).routes)
