"""What hooks say."""

import sys


def say(text: str) -> None:
    """One line for the user; what hooks print arrives on git's standard error."""
    print(f"gitml: {text}", file=sys.stderr)  # noqa: T201 - the one place where hooks talk
