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


def this_host() -> str:
    """The name of this machine, beside which process ids mean something."""
    return os.uname().nodename  # as `socket.gethostname`, for which much would have to be read
