"""One stage as commands show it: where it stands, and what a run did for it. Reading this module costs nothing."""

from gitml.record import record


@record
class Standing:
    """A stage as `git ml status` shows it. Counts are datums."""

    name: str
    state: str
    reason: str
    output: str
    total: int
    done: int
    failed: int
    unreviewed: bool = False
    """Whether hooks do not run the stage because nobody here has reviewed its command."""
    hint: str = ""
    """What to do about a failure, where it is known."""
    waits: bool = False
    """Whether nothing can be done about it before another stage has its result."""


@record(frozen=False)
class StageReport:
    """What a run did for one stage; counts are datums."""

    name: str
    state: str = ""
    reason: str = ""
    hint: str = ""
    """What to do about a failure."""
    total: int = 0
    ran: int = 0
    cached: int = 0
    failed: int = 0
    recovered: int = 0
