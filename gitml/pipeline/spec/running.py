"""The fields that say how a stage runs, and that change no result."""

from gitml.pipeline.spec.error import SpecError, did_you_mean, quoted
from gitml.pipeline.spec.reading import Node

_REPROCESS = ("until_success", "every_job")


def seconds(node: Node, name: str) -> float | None:
    """The duration of a field; None if it is absent or zero."""
    found = node.get(name)
    return found.value or None if found is not None else None


def flag(node: Node, name: str) -> bool:
    """The truth value of a field, False if it is absent."""
    found = node.get(name)
    return found is not None and bool(found.value)


def every_job(node: Node | None) -> bool:
    """What a field `reprocess_spec` says; raise `SpecError` for another word."""
    if node is None or not node.value:
        return False
    if node.value not in _REPROCESS:
        raise SpecError(
            node.place,
            f"expected 'until_success' or 'every_job', got {quoted(node.value)}",
            hint=did_you_mean(node.value, _REPROCESS),
        )
    return bool(node.value == "every_job")
