"""What can go wrong, and the exit code each kind ends with.

Three kinds: the user's (`UserError`: message and hint), a peer's or the environment's (subclasses of
`GitmlError` raised beside the code that talks to it), and ours (any other exception, which is a defect).
Specific errors live beside the code that raises them and carry data, not only text.
"""

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `git ml`; git's own habits for 128 and above."""

    OK = 0
    DIFFERENT = 1
    STAGE_FAILED = 2
    NOT_TRUSTED = 3
    BUSY = 4
    MISSING_DATA = 5
    VERIFICATION_FAILED = 6
    FATAL = 128
    USAGE = 129
    INTERRUPTED = 130


class GitmlError(Exception):
    """A failure that is reported as one message without a traceback.

    `message` says what failed first, in lower case and without a full stop; `hint` is an action that the
    user can take, often a command to type.
    """

    exit_code: ExitCode = ExitCode.FATAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(GitmlError):
    """The input is at fault: a file, an option or a state of the repository that the user can change."""


class CorruptError(GitmlError):
    """Stored bytes are not what their name or format promises."""

    exit_code = ExitCode.VERIFICATION_FAILED


class MissingDataError(GitmlError):
    """Content that the repository refers to is not here (not fetched yet, or lost)."""

    exit_code = ExitCode.MISSING_DATA


class MachineError(GitmlError):
    """The machine did not do what was asked: disk full, no permission, and so on. Made from an `OSError`."""

    def __init__(self, error: OSError) -> None:
        where = error.filename.decode("utf-8", "replace") if isinstance(error.filename, bytes) else error.filename
        what = (error.strerror or str(error)).lower()
        super().__init__(f"{what}: '{where}'" if where else what, hint=_REMEDIES.get(error.errno or 0))


_REMEDIES = {
    errno.ENOSPC: "free some space, then try again; nothing that was committed or finished is lost",
    errno.EDQUOT: "free some space, then try again; nothing that was committed or finished is lost",
    errno.EACCES: "check the permissions of the repository",
    errno.EPERM: "check the permissions of the repository",
    errno.EROFS: "the file system is read-only",
}


class BusyError(GitmlError):
    """Another process holds what is needed."""

    exit_code = ExitCode.BUSY
