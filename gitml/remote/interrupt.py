"""Ending on Ctrl-C while a request is under way.

A request to a store runs outside of Python, so an exception waits until it is answered, which may be never. Everything
here survives `kill -9`, so after a moment for tidying up the process just ends.
"""

import os
import signal
import threading

from gitml.errors import ExitCode

_PATIENCE = 1.0
"""Seconds for what tidies up."""


def end_when_interrupted() -> None:
    """From now on SIGINT and SIGTERM raise `KeyboardInterrupt`, and end the process if that has no effect."""
    source, target = os.pipe()
    os.set_blocking(target, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise)
    # the system's handler writes to this at once, whatever the interpreter is waiting for
    signal.set_wakeup_fd(target, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(source, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        threading.Event().wait(_PATIENCE)
        os._exit(ExitCode.INTERRUPTED)

    threading.Thread(target=wait, name="interrupted", daemon=True).start()


def _raise(*_: object) -> None:
    raise KeyboardInterrupt
