"""`git ml version`."""

import gitml
from gitml.cli.output import show


def version() -> None:
    """Print the version of gitml."""
    show(f"gitml version {gitml.__version__}")
