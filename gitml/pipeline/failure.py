"""Why a stage failed, as it is kept and shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """Why a stage failed."""

    datum: str
    """Label of the datum; empty if the failure was none of a datum's."""
    message: str
    """What went wrong, with the datum if it was one's."""
    last_lines: tuple[str, ...] = ()
    """The end of the datum's log."""
    failed: int = 0
    """How many datums failed."""
