"""Graphs and line charts as SVG elements for a page. Colours come from the classes that the page's style gives them."""

import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from gitml.provenance.codec import harmless
from gitml.review.comparison import Graph, Node
from gitml.review.history import MetricHistory
from gitml.review.layout import layered

_WIDTH, _HEIGHT = 160, 46
"""Of a node, in pixels."""
_ACROSS, _DOWN = 36, 14
"""Between layers, and between nodes of one."""
_MARGIN = 8
_LONGEST = 20
"""Columns of a name in a node."""
SHRINKING = {layers: round(0.75 * (layers * (_WIDTH + _ACROSS))) for layers in range(1, 13)}
"""Number of layers to the width below which a graph is not shrunk, or it could not be read; larger ones never are."""
_CHART = (250, 120)
_PLOT = (42, 12, 242, 96)
_ROOM = 6
"""Characters left of it."""
_UNITS = (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))
"""Left, top, right and bottom of the lines in a chart."""
_SEPARATOR = ", "
_TONES = {"fresh": "good", "failed": "bad", "stale": "warn", "missing": "warn", "held": "note", "edited": "note"}
_SIGNS = {"fresh": "✓", "failed": "✕", "stale": "~", "missing": "?", "held": "⟲", "edited": "✎"}


def text(value: str) -> str:
    """Text for HTML and SVG; what could steer or hide is written as an escape that can be seen."""
    return escape(harmless(value), quote=True)


def draw_graph(graph: Graph, label: str) -> str:
    """The graph from left to right. `label` is what it is called for those who do not see it."""
    layout = layered(len(graph.nodes), graph.edges)
    places = [(_MARGIN + x * (_WIDTH + _ACROSS), _MARGIN + y * (_HEIGHT + _DOWN)) for x, y in layout.places]
    width = 2 * _MARGIN + layout.layers * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + layout.rows * (_HEIGHT + _DOWN) - _DOWN
    parts = [
        f'<svg class="graph g{layout.layers}" role="img" aria-label="{text(label)}" '
        f'width="{px(width)}" height="{px(height)}" viewBox="0 0 {px(width)} {px(height)}">'
    ]
    for edge, route in zip(graph.edges, layout.routes, strict=True):
        if route:
            loud = graph.nodes[edge[0]].touched and graph.nodes[edge[1]].touched
            parts.append(_edge(route, loud=loud))
    parts += [_node(node, x, y) for node, (x, y) in zip(graph.nodes, places, strict=True)]
    return "".join([*parts, "</svg>"])


def _edge(route: Sequence[tuple[int, float]], *, loud: bool) -> str:
    """A curve that leaves and enters horizontally, straight through the layers that it passes."""
    path = ""
    last = len(route) - 1
    x = y = 0.0
    for number, (layer, row) in enumerate(route):
        left = _MARGIN + layer * (_WIDTH + _ACROSS)
        new_y = _MARGIN + row * (_HEIGHT + _DOWN) + _HEIGHT / 2
        if number == 0:
            path = f"M{px(left + _WIDTH)} {px(new_y)}"
        else:
            half = _ACROSS / 2
            end = left - 4 if number == last else left
            path += f"C{px(x + half)} {px(y)} {px(left - half)} {px(new_y)} {px(end)} {px(new_y)}"
            if number != last:
                path += f"H{px(left + _WIDTH)}"
        x, y = left + _WIDTH, new_y
    arrow = f"M{px(x - _WIDTH)} {px(y)}l-8 -4v8z"
    kind = "edge loud" if loud else "edge"
    return f'<path class="{kind}" d="{path}"/><path class="{kind} arrow" d="{arrow}"/>'


def _node(node: Node, x: float, y: float) -> str:
    # an element of its own cuts off whatever is wider than it
    tone = _TONES.get(node.state, "quiet")
    said = _SEPARATOR.join(each for each in (node.state, node.what) if each)
    sign = _SIGNS.get(node.state, "") if node.stage else ""
    full = ": ".join(each for each in (node.name, said) if each)
    classes = " ".join(["node", "stage" if node.stage else "data", tone, *(["touched"] if node.touched else [])])
    radius = 8 if node.stage else _HEIGHT // 2
    second = f'<text class="state" x="{_WIDTH / 2:g}" y="35">{text(f"{sign} {said}".strip())}</text>' if said else ""
    return (
        f'<svg class="{classes}" x="{px(x)}" y="{px(y)}" width="{_WIDTH}" height="{_HEIGHT}">'
        f"<title>{text(full[:500])}</title>"
        f'<rect x="1" y="1" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" rx="{radius - 1}"/>'
        f'<text class="name" x="{_WIDTH / 2:g}" y="{19 if said else 28}">{text(short(node.name))}</text>{second}</svg>'
    )


def short(name: str) -> str:
    """As much of a name as a node has room for, wide letters counted twice."""
    plain = harmless(name)
    room = _LONGEST
    for at, char in enumerate(plain):
        room -= 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if room < 0:
            return plain[: at - 1] + "…"
    return plain


def short_number(value: float) -> str:
    """A number for which there is room beside an axis: up to three digits, of large ones with a unit."""
    rounded = float(f"{value:.3g}")
    unit, size = next(((unit, size) for unit, size in _UNITS if size <= abs(rounded) < 1000 * size), ("", 1.0))
    for digits in (2, 1, 0):
        form = f".{digits}e" if 0 < abs(rounded) < 0.001 else f".{digits + 1}g"  # zeros after the point take room
        written = re.sub(r"e\+?(-?)0*", r"e\1", f"{rounded / size:{form}}") + unit
        if len(written) <= _ROOM:
            break
    return written


def draw_history(history: MetricHistory) -> str:
    """The finite values of a metric as a line, the newest one marked, with the limits of its gate."""
    values = [point.value for point in history.points]
    finite = [value for value in values if math.isfinite(value)]
    label = f"{history.stage} {history.name} over {len(values)} results"
    width, height = _CHART
    left, top, right, bottom = _PLOT
    parts = [f'<svg class="chart" role="img" aria-label="{text(label)}" viewBox="0 0 {width} {height}">']
    if not finite:
        parts.append(f'<text class="axis" x="{width // 2}" y="{height // 2}">no finite number</text></svg>')
        return "".join(parts)
    limits = [limit for limit in history.gate if limit is not None and math.isfinite(limit)]
    low, high = span_of([*finite, *limits])
    step = (right - left) / max(1, len(values) - 1)

    def across(number: int) -> float:
        return left + number * step if len(values) > 1 else (left + right) / 2

    def down(value: float) -> float:
        # each is divided before they are subtracted: their difference may be beyond a double
        span = high / 2 - low / 2
        return bottom - (bottom - top) * ((value / 2 - low / 2) / span if span else 0.5)

    for value in dict.fromkeys([low, high]):
        y = px(down(value))
        parts.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
        parts.append(
            f'<text class="axis low" x="{left - 6}" y="{px(down(value) + 4)}">{text(short_number(value))}</text>'
        )
    parts += [
        f'<path class="gate" d="M{left} {px(down(limit))}H{right}"><title>gate {limit:g}</title></path>'
        for limit in limits
    ]
    for run in _runs(values):
        if len(run) > 1:
            points = " ".join(f"{px(across(number))},{px(down(values[number]))}" for number in run)
            parts.append(f'<polyline class="line" points="{points}"/>')
    newest = max(number for number, value in enumerate(values) if math.isfinite(value))
    for number, point in enumerate(history.points):
        if math.isfinite(point.value):
            kind, radius = ("point newest", 4) if number == newest else ("point", 2.5)
            parts.append(
                f'<circle class="{kind}" cx="{px(across(number))}" cy="{px(down(point.value))}" r="{radius}">'
                f"<title>{point.value:.6g}: {text(point.cause[:200])}</title></circle>"
            )
    parts.append(f'<text class="axis start" x="{left}" y="{height - 6}">oldest</text>')
    parts.append(f'<text class="axis end" x="{right}" y="{height - 6}">newest</text></svg>')
    return "".join(parts)


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest, a little apart if all are the same."""
    low, high = min(values), max(values)
    if low != high:
        return low, high
    largest = sys.float_info.max
    return max(low - abs(low) / 10 - 1e-12, -largest), min(high + abs(high) / 10 + 1e-12, largest)


def _runs(values: Sequence[float]) -> Iterator[list[int]]:
    """The stretches of numbers that are finite."""
    finite = [number for number, value in enumerate(values) if math.isfinite(value)]
    breaks = [0, *(at for at, (a, b) in enumerate(pairwise(finite), 1) if b != a + 1), len(finite)]
    for start, end in pairwise(breaks):
        yield finite[start:end]


def px(value: float) -> str:
    """A length with at most one digit after the point."""
    return f"{value:.1f}".removesuffix(".0")
