"""Ctrl-C, or the end of the terminal, while tasks run: the first one asks to stop, a later one ends the process."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import FrameType

from gitml.cli.output import talk


@contextmanager
def stopping(what: str) -> Iterator[Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, saying `what` comes of it; another one a second later ends us.

    One key press may arrive twice: from the terminal, and from the `git` that started us. A terminal that is closed
    counts as well, unless whoever started us had it ignored (`nohup`).
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
        with suppress(OSError):  # there may be no terminal any more
            talk(f"gitml: stopping ({signal.Signals(number).name}); {what}")

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    previous = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
