"""Ctrl-C while tasks run: the first one asks to stop, a later one ends the process."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from gitml.cli.output import talk


@contextmanager
def stopping(what: str) -> Iterator[Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, saying `what` comes of it; another one a second later ends us.

    One key press may arrive twice: from the terminal, and from the `git` that started us.
    """
    stop = Event()
    first = 0.0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal first
        if stop.is_set():
            if time.monotonic() - first > 1:
                raise KeyboardInterrupt
            return
        first = time.monotonic()
        stop.set()
        talk(f"gitml: stopping ({signal.Signals(number).name}); {what}")

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
