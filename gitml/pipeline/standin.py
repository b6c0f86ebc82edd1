"""Programs that stand for those of a container image when its command runs on this machine.

An image has its interpreters in places of its own: `/usr/local/bin/python`, `/bin/ash`. What is not there is looked for
under the same name on the search path, then under names of programs that read the same language.
"""

from collections.abc import Callable, Iterator, Sequence

_ALIKE = {
    "ash": (("busybox", "ash"), ("bash",), ("sh",)),
    "python": (("python3",),),
    "python3": (("python",),),
}
"""By name: commands that stand for it, the best first. Scripts for busybox's `ash` may use more than POSIX has."""


def stand_in(command: Sequence[str], is_there: Callable[[str], bool]) -> list[str] | None:
    """`command` with a program that is there in place of its own, None if nothing stands for it.

    `is_there` says of a name without directory whether it can be started.
    """
    for program in _candidates(command[0]):
        if is_there(program[0]):
            return [*program, *command[1:]]
    return None


def _candidates(name: str) -> Iterator[tuple[str, ...]]:
    base = name.rpartition("/")[2]
    if base and base != name:
        yield (base,)
    yield from _ALIKE.get(base, ())
    if base.startswith("python3."):
        yield from (("python3",), ("python",))
