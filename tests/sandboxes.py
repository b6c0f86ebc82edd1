"""What a test needs of the ways in which tasks are kept to their workspace."""

import pytest

from gitml.pipeline.bubblewrap import Bubblewrap, BubblewrapError


def require_bubblewrap() -> None:
    """Skip a test that is about bubblewrap, or whose programs have `/pfs` written in them, where nothing shows it."""
    try:
        Bubblewrap(hidden=[], shown=[], network=False)
    except BubblewrapError as error:
        pytest.skip(f"bubblewrap does not work here: {error.reason}")
