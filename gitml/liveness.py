"""Whether processes live, by their ids."""

import os


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists, whoever owns it; a zombie does."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
