"""How git wants a fetch or a push: what it sets by options before it asks for one."""

from collections.abc import Mapping

from gitml.oid import Oid
from gitml.record import record
from gitml.remote.fold import AUTO


@record
class Wishes:
    """Of a fetch."""

    depth: int | None = None
    """Commits from the wanted ones on; None for all."""
    relative: bool = False
    """The depth counts from where history ends here."""
    filters: str | None = None
    """What to leave out, as `git rev-list --filter` reads it."""
    from_promisor: bool = False
    """Objects that a filter left out, or others with a filter: git tells them apart as little."""
    anew: bool = False
    """Whatever the refs here reach is looked at again: it may have been left out by another filter."""
    follow_tags: bool = False
    shown: bool = False
    """Show progress."""


@record
class Terms:
    """Of a push."""

    leases: Mapping[bytes, Oid | None]
    """Values that refs must have (None: no such ref)."""
    atomic: bool = False
    dry_run: bool = False
    fold: str = AUTO
    head: bytes | None = None
    """The branch that HEAD is from now on; None: the one that it is."""
    shown: bool = False
    """Show progress."""
