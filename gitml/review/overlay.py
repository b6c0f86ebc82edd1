"""A plot of both sides over each other as SVG: the old lines grey, the new ones in colour.

The same plot gives the same bytes. Colours are attributes, so that a page whose policy takes no styles shows them too.
They are of a middle lightness, with a contrast of about 3 and more to white and to the dark pages of forges: an image
does not know which of both it stands on.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from gitml.provenance.codec import text_of
from gitml.record import replace
from gitml.review.comparison import Comparison, PictureChange, PlotChange
from gitml.review.drawing import px, short, span_of, text
from gitml.tables.series import Series, SeriesFile

_GREY, _INK = "#8b949e", "#768390"
_COLOURS = ("#2f7df6", "#d4710b", "#1a9a57", "#b356d8", "#dc4a63")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Lines are told apart by these as well: all old ones have one colour."""
_MOST = 10
"""Lines of a side."""
_WIDTH = 480
_PLOT = (58, 12, 470, 208)
"""Left, top, right and bottom of the lines."""
_DRAWN, _DIFFERENCE = ".svg", "-difference.png"
"""How names of files end."""
_LEGEND = 18
"""Height of a line of the legend."""


def plot_files(plots: Sequence[PlotChange], pictures: Sequence[PictureChange]) -> Iterator[tuple[str, bytes]]:
    """A name and content for a file of each plot and each image; every file system takes these names."""
    yield from drawn_files(plots, pictures)
    for number, change in enumerate(pictures, len(plots) + 1):
        for when, picture in (("before", change.old), ("now", change.new)):
            # opened by itself, an SVG that somebody else wrote may run scripts; in a page, as an image, it cannot
            if picture is not None and picture.data and not picture.is_svg:
                suffix = "png" if picture.media == "image/png" else "jpg"
                yield _name(number, change.path, f"-{when}.{suffix}"), picture.data


def drawn_files(plots: Sequence[PlotChange], pictures: Sequence[PictureChange]) -> Iterator[tuple[str, bytes]]:
    """As `plot_files`, without the images that are in commits themselves."""
    for number, plot in enumerate(plots, 1):
        yield _name(number, plot.path, _DRAWN), f"{draw_overlay(plot)}\n".encode()
    for number, change in enumerate(pictures, len(plots) + 1):
        if change.difference is not None and change.difference.drawn:
            yield _name(number, change.path, _DIFFERENCE), change.difference.drawn


def with_addresses(comparison: Comparison, address_of: Callable[[bytes], str]) -> Comparison:
    """The comparison with an address for each of its `drawn_files`, by their names."""
    plots, pictures = comparison.plots, comparison.pictures
    return replace(
        comparison,
        plots=tuple(
            replace(plot, address=address_of(_name(number, plot.path, _DRAWN).encode()))
            for number, plot in enumerate(plots, 1)
        ),
        pictures=tuple(
            replace(change, difference_address=address_of(_name(number, change.path, _DIFFERENCE).encode()))
            if change.difference is not None and change.difference.drawn
            else change
            for number, change in enumerate(pictures, len(plots) + 1)
        ),
    )


def _name(number: int, path: bytes, end: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text_of(path)).strip("-")[:80]
    return f"{number:02}-{plain}{end}"


def draw_overlay(plot: PlotChange) -> str:
    """The plot as an SVG element."""
    sides = [("before", _lines(plot.old)), ("now", _lines(plot.new))]
    names = list(dict.fromkeys(each.name for _, lines in reversed(sides) for each in lines))[:_MOST]
    left, top, right, bottom = _PLOT
    height = bottom + 28 + _LEGEND * (len(names) // 2 + 1)
    points = [point for _, lines in sides for each in lines if each.name in names for point in each.points]
    known = [y for _, y in points if y is not None]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{text(plot.title)}: before and now" '
        f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui,sans-serif" '
        f'font-size="12" fill="{_INK}">'
    ]
    if not known:
        return "".join([*parts, f'<text x="{left}" y="{top + 20}">no finite number</text></svg>'])
    low, high = span_of(known)
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def place(x: float, y: float) -> str:
        # each is divided before they are subtracted: their difference may be beyond a double
        across = _part(x, first, last) if first < last else 0.5
        return f"{px(left + across * (right - left))},{px(bottom - _part(y, low, high) * (bottom - top))}"

    for y, value in ((bottom, low), (top, high)):
        parts.append(f'<path d="M{left} {y}H{right}" stroke="{_GREY}" stroke-opacity=".35"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>')
    parts.append(f'<text x="{left}" y="{bottom + 18}">{first:.6g}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{last:.6g}</text>')
    middle = (left + right) // 2
    parts.append(f'<text x="{middle}" y="{bottom + 18}" text-anchor="middle">{text(short(plot.x or "row"))}</text>')
    for when, lines in sides:
        for each in lines:
            if each.name in names:
                parts += _drawn(each, when, names.index(each.name), place)
    parts += _legend(names, bottom + 28)
    return "".join([*parts, "</svg>"])


def _lines(side: SeriesFile | None) -> Sequence[Series]:
    return () if side is None else side.series


def _part(value: float, low: float, high: float) -> float:
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _colour(number: int, *, old: bool) -> str:
    return _GREY if old else _COLOURS[number % len(_COLOURS)]


def _stroke(number: int, *, old: bool) -> str:
    dash = _DASHES[number % len(_DASHES)]
    colour = _colour(number, old=old)
    return f'stroke="{colour}" stroke-width="{1.5 if old else 2}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _drawn(series: Series, when: str, number: int, place: Callable[[float, float], str]) -> Iterator[str]:
    name, old = f"{series.name}, {when}", when == "before"
    for run in _runs(series.points):
        if len(run) == 1:
            x, _, y = place(*run[0]).partition(",")
            colour = _colour(number, old=old)
            yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"><title>{text(name)}</title></circle>'
        else:
            points = " ".join(place(*point) for point in run)
            stroke = _stroke(number, old=old)
            yield f'<polyline fill="none" {stroke} points="{points}"><title>{text(name)}</title></polyline>'


def _runs(points: Iterable[tuple[float, float | None]]) -> Iterator[list[tuple[float, float]]]:
    """The stretches of points without a gap."""
    run: list[tuple[float, float]] = []
    for x, y in points:
        if y is not None:
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _legend(names: Sequence[str], top: int) -> Iterator[str]:
    strokes = [(_stroke(number, old=False), short(name)) for number, name in enumerate(names)]
    for number, (stroke, name) in enumerate([(_stroke(0, old=True), "before"), *strokes]):
        x, y = _PLOT[0] + 200 * (number % 2), top + 8 + _LEGEND * (number // 2)
        yield f'<path d="M{x} {y}h24" {stroke}/><text x="{x + 32}" y="{y + 4}">{text(name)}</text>'
