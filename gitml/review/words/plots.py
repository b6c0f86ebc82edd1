"""Plots and images that changed."""

from collections.abc import Iterator

from gitml.formats.pixels import NO_PILLOW, PixelDiff
from gitml.meter import format_size
from gitml.provenance.codec import text_of
from gitml.review.blocks import MOST_WARNINGS, Block, Cell, Tone, first_rows, number
from gitml.review.comparison import Comparison, Picture
from gitml.tables.series import Series


def plot_blocks(comparison: Comparison) -> Iterator[Block]:
    """A block for each plot, then one for each image."""
    yield from _lines(comparison)
    yield from _pictures(comparison)


def _lines(comparison: Comparison) -> Iterator[Block]:
    for plot in comparison.plots:
        sides = (("before", plot.old), ("now", plot.new))
        notes = [] if plot.fresh else [Cell("stale: not that of this commit's inputs", tone=Tone.BAD)]
        for when, side in sides:
            if side is None or side.opaque:
                notes.append(Cell(f"{when}: {'it is not there' if side is None else side.opaque}", name=True))
            else:
                notes += [Cell(f"{when}: {warning}", name=True) for warning in side.warnings[:MOST_WARNINGS]]
        rows = [
            (Cell(series.name, name=True), Cell(when), *(Cell(number(each)) for each in _ends(series)))
            for name in dict.fromkeys(series.name for _, side in sides if side for series in side.series)
            for when, side in sides
            for series in (side.series if side is not None else ())
            if series.name == name
        ]
        yield Block(
            key="plots", title=f"Plot: {plot.title}", columns=("line", "", "first", "last", "least", "greatest"),
            rows=first_rows(iter(rows), len(rows)), notes=tuple(notes), plot=plot,
        )  # fmt: skip


def _pictures(comparison: Comparison) -> Iterator[Block]:
    lacks_pillow = False
    for change in comparison.pictures:
        notes = [] if change.fresh else [Cell("stale: not that of this commit's inputs", tone=Tone.BAD)]
        for when, picture in (("before", change.old), ("now", change.new)):
            if picture is None:
                notes.append(Cell(f"{when}: it is not there"))
            else:
                kind = picture.problem or picture.media.removeprefix("image/").removesuffix("+xml").upper()
                notes.append(Cell(f"{when}: {kind}, {format_size(picture.size)}"))
        pictures = {"before": change.old, "now": change.new}
        if change.difference is not None and not (lacks_pillow and change.difference.problem == NO_PILLOW):
            notes.append(_difference(change.difference))
            lacks_pillow = change.difference.problem == NO_PILLOW
            if change.difference.drawn:
                data = change.difference.drawn
                address = change.difference_address
                pictures["difference"] = Picture(size=len(data), media="image/png", data=data, address=address)
        yield Block(key="plots", title=f"Image: {text_of(change.path)}", notes=tuple(notes), pictures=pictures)


def _difference(found: PixelDiff) -> Cell:
    """What became of the pixels, in words."""
    if found.problem or found.old_size is None or found.new_size is None:
        return Cell(found.problem, name=found.problem != NO_PILLOW, tone=Tone.QUIET)
    if found.changed is None or found.share is None:
        before, now = (f"{width} × {height}" for width, height in (found.old_size, found.new_size))
        return Cell(f"{before} pixels before, {now} now: no difference is drawn of two sizes")
    if not found.changed:
        return Cell("no pixel changed")
    pixels = f"{found.changed:,} of {found.new_size[0] * found.new_size[1]:,}"
    return Cell(f"{100 * found.share:.3g} % of the pixels changed ({pixels}), by at most {found.largest} of 255")


def _ends(series: Series) -> tuple[float | None, ...]:
    return series.first, series.last, series.least, series.greatest
