"""Landlock, by which a thread of Linux gives up rights for good, for itself and all that it starts.

What a domain handles is refused but for its rules. A restricted thread cannot be freed, so each start has a thread of
its own, which ends with it: the process inherits the domain, and between fork and exec no code of ours is needed.
Capabilities of root go too.
Calls and numbers as in landlock(7); they are the same on every architecture that they are used on here.
"""

import ctypes
import errno
import os
import platform
import stat
import struct
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from enum import IntFlag
from functools import lru_cache
from pathlib import Path

from gitml.errors import UserError
from gitml.pipeline.view import Begin, Started

KNOWN = 7
"""The newest version of the interface whose rights are known here; later ones are used as this one."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT = 38, 28, 47
_NO_ROOT = 0b11
"""User 0 gets no capabilities by executing a program, and that cannot be taken back."""
_CLEAR_ALL = 4
_BIND_AND_CONNECT_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_OTHER_NUMBERS = ("alpha", "mips")


class Right(IntFlag):
    """What can be done with a file, and in a directory with all below it."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15

    @classmethod
    def handled(cls, abi: int) -> "Right":
        """All that a version of the interface knows."""
        newer = {cls.REFER: 2, cls.TRUNCATE: 3, cls.IOCTL_DEV: 5}
        result = cls(0)
        for right in cls:
            if newer.get(right, 1) <= abi:
                result |= right
        return result


READ = Right.READ_FILE | Right.READ_DIR | Right.EXECUTE
WRITE = Right.WRITE_FILE | Right.TRUNCATE
OWN = ~(Right.MAKE_CHAR | Right.MAKE_BLOCK)
"""All but making devices, which would lead root out of here."""
_OF_FILES = int(Right.READ_FILE | Right.EXECUTE | WRITE | Right.IOCTL_DEV)
_RULE = struct.Struct("=Qi")


class LandlockError(UserError):
    """Landlock cannot be used here. Carries the `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot run tasks under Landlock: {reason}",
            hint="git config ml.sandbox auto, which takes what there is",
        )
        self.reason = reason


class Domain:
    """What processes may do: with files by `rules`, with TCP if there is `network`, with others nothing.

    `abi` is the version of the interface, as `version` gave it. Made once for many starts.
    """

    def __init__(self, abi: int, rules: Iterable[tuple[Path, Right]], *, network: bool) -> None:
        self._handled = int(Right.handled(abi))
        fields = [self._handled]
        if abi >= 4:
            fields.append(0 if network else _BIND_AND_CONNECT_TCP)
        if abi >= 6:
            fields.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
        self._attributes = struct.pack(f"={len(fields)}Q", *fields)
        self._rules = self._plain(rules)

    def start(self, begin: Begin, own: Iterable[tuple[Path, Right]] = ()) -> Started:
        """What `begin` gives, called in a thread that is in the domain, with the rules in `own` besides.

        Raise `OSError`, and what `begin` raises.
        """
        ruleset = self._ruleset([*self._rules, *self._plain(own)])
        made: list[Started] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1))  # the kernel asks for that
                # fails for all but root, who could read the memory of others otherwise
                _prctl(_PR_SET_SECUREBITS, _NO_ROOT)
                _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
                _check(_syscall(_RESTRICT_SELF, ruleset, 0))
                made.append(begin())
            except BaseException as error:  # whoever waits raises it
                failed.append(error)

        try:
            thread = threading.Thread(target=work, name="landlock")
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None
            try:
                thread.join()
            except BaseException:  # an interrupt: nobody would know of the process
                thread.join()
                for process in made:
                    process.kill()
                    process.wait()
                raise
        finally:
            os.close(ruleset)
        if failed:
            raise failed[0]
        return made[0]

    def _plain(self, rules: Iterable[tuple[Path, Right]]) -> list[tuple[str, int]]:
        return [(str(path), int(rights) & self._handled) for path, rights in rules]

    def _ruleset(self, rules: Iterable[tuple[str, int]]) -> int:
        """A descriptor of rules."""
        ruleset = _check(_syscall(_CREATE_RULESET, self._attributes, len(self._attributes), 0))
        try:
            for path, rights in rules:
                with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # nothing to be allowed
                    _allow(ruleset, path, rights)
        except BaseException:
            os.close(ruleset)
            raise
        return ruleset


def version() -> int:
    """The version of the interface to use here, at least 1; raise `LandlockError` if there is none."""
    if sys.platform != "linux" or platform.machine().startswith(_OTHER_NUMBERS):
        raise LandlockError("this system has none")
    found, fault = _syscall(_CREATE_RULESET, None, 0, _VERSION)
    if found > 0:
        return min(found, KNOWN)
    if fault == errno.ENOSYS:
        raise LandlockError("this kernel has none; Linux has it from 5.13 on")
    if fault == errno.EOPNOTSUPP:
        raise LandlockError("this kernel was started without it: its parameter 'lsm' has to name landlock")
    raise LandlockError(f"it may not be used here ({os.strerror(fault)}), as in containers with an older list of calls")


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        if rights:
            _check(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, _RULE.pack(rights, descriptor), 0))
    finally:
        os.close(descriptor)


def _check(answer: tuple[int, int]) -> int:
    result, fault = answer
    if result < 0:
        raise OSError(fault, f"Landlock: {os.strerror(fault)}")
    return result


def _syscall(number: int, *arguments: bytes | int | None) -> tuple[int, int]:
    """What a system call gives, and the number of the error if that is less than 0."""
    given = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    result = _libc().syscall(ctypes.c_long(number), *given)
    return result, ctypes.get_errno() if result < 0 else 0


def _prctl(option: int, value: int) -> tuple[int, int]:
    """Change what this thread and what it starts can become; gives the same as `_syscall`."""
    result = _libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
    return result, ctypes.get_errno() if result < 0 else 0


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
