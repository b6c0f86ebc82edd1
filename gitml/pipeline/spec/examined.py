"""gitml's own fields that only a review reads: `predictions`, `leakage` and `plots`.

They change no result, so they are in no key.
"""

from gitml.pipeline.spec.additions import Surroundings
from gitml.pipeline.spec.error import SpecError, quoted
from gitml.pipeline.spec.model import Leakage, Plot, Predictions
from gitml.pipeline.spec.paths import entry_at, relative, repository_path
from gitml.pipeline.spec.reading import Node

IMAGES = (".png", ".jpg", ".jpeg", ".svg")
"""Endings of images that are shown."""


def predictions(nodes: list[Node], around: Surroundings) -> tuple[Predictions, ...]:
    """The files that a field `predictions` names, in order; raise `SpecError`."""
    found: dict[str, Predictions] = {}
    for node in nodes:
        path_node = node.require("path")
        path = relative(path_node.value, path_node.place, "the output directory")
        if not path:
            raise SpecError(path_node.place, f"{quoted(path_node.value)} names no file")
        if path in found:
            raise SpecError(path_node.place, f"{quoted(path)} is named twice")
        label, labels = _column(node.get("label")), node.get("labels")
        if labels is not None and not label:
            raise SpecError(labels.place, "'labels' without 'label'", hint="'label' names the column with the truth")
        found[path] = Predictions(
            path=path,
            id=_column(node.require("id")),
            prediction=_column(node.require("prediction")),
            label=label or None,
            labels=_file(labels.require("path"), around) if labels is not None else None,
            labels_id=(_column(labels.get("id")) if labels is not None else "") or _column(node.get("id")),
            score=_column(node.get("score")) or None,
            slices=_columns(node.nodes("slices")),
        )
    return tuple(found.values())


def leakage(nodes: list[Node], around: Surroundings) -> tuple[Leakage, ...]:
    """The pairs of tables that a field `leakage` names, in order; raise `SpecError`."""
    found: dict[Leakage, None] = {}
    for node in nodes:
        train, test = (_file(node.require(name), around) for name in ("train", "test"))
        if train == test:
            raise SpecError(node.place, f"'train' and 'test' are both {quoted(train)}")
        pair = Leakage(train=train, test=test, columns=_columns(node.nodes("columns")))
        if pair in found:
            raise SpecError(node.place, f"{quoted(train)} and {quoted(test)} are named twice")
        found[pair] = None
    return tuple(found)


def plots(nodes: list[Node]) -> tuple[Plot, ...]:
    """The plots that a field `plots` names, in order; raise `SpecError`."""
    found: dict[Plot, None] = {}
    for node in nodes:
        plot = _lines(node) if isinstance(node.value, dict) else Plot(path=_image(node))
        if plot in found:
            raise SpecError(node.place, f"a second plot of the same in {quoted(plot.path)}")
        found[plot] = None
    return tuple(found)


def _lines(node: Node) -> Plot:
    path_node, y = node.require("path"), node.require("y")
    path = relative(path_node.value, path_node.place, "the output directory")
    if not path:
        raise SpecError(path_node.place, f"{quoted(path_node.value)} names no file")
    columns = _columns(y.value)
    if not columns:
        raise SpecError(y.place, "no column to draw")
    return Plot(path=path, y=columns, x=_column(node.get("x")) or None, title=node.text("title"))


def _image(node: Node) -> str:
    path = relative(node.value, node.place, "the output directory")
    if not path.lower().endswith(IMAGES):
        raise SpecError(
            node.place,
            f"{quoted(node.value)} is not an image",
            hint='name a PNG, JPEG or SVG file, or say what to draw: {"path": "loss.csv", "y": ["loss"]}',
        )
    return path


def _file(node: Node, around: Surroundings) -> bytes:
    """A file of the user, or one that a stage makes."""
    path = repository_path(node.value, node.place)
    if not path:
        raise SpecError(node.place, f"{quoted(node.value)} names no file")
    if around.outputs.above(path) is None:
        entry_at(around.snapshot, path, node.place, expected="a file")
    return path


def _column(node: Node | None) -> str:
    """The name of a column, empty if absent."""
    if node is None:
        return ""
    if not node.value:
        raise SpecError(node.place, "an empty name of a column")
    return str(node.value)


def _columns(nodes: list[Node]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for node in nodes:
        name = _column(node)
        if name in found:
            raise SpecError(node.place, f"{quoted(name)} is named twice")
        found[name] = None
    return tuple(found)
