"""Machines that have nothing in common but a wire: network and mount namespaces, made without privileges (Linux)."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ADDRESS = "10.77.0.1"
"""Of the first machine. Others are called 10.77.N.2; they reach the first one, and not each other."""

_FIRST = f"ip link set lo up && ip addr add {ADDRESS}/32 dev lo && echo ready && exec sleep 3600"

_OTHER = """
number=$1 hidden=$2
shift 2
before=$(readlink /proc/$$/ns/net)
(
  while [ "$(readlink /proc/$$/ns/net)" = "$before" ]; do sleep 0.02; done
  ip link add "to$number" type veth peer name wire netns $$
  ip addr add "10.77.$number.1/24" dev "to$number"
  ip link set "to$number" up
) &
exec unshare --net --mount sh -ec '
  number=$1
  mount -t tmpfs none "$2"
  shift 2
  ip link set lo up
  until ip link show wire > /dev/null 2>&1; do sleep 0.02; done
  ip addr add "10.77.$number.2/24" dev wire
  ip link set wire up
  until ip link show wire | grep -q LOWER_UP; do sleep 0.02; done
  ip route add default via "10.77.$number.1"
  exec "$@"
' sh "$number" "$hidden" "$@"
"""


class Machines:
    """The first machine, on which a command runs that `enter` stands before, and what else there is."""

    def __init__(self, first: int) -> None:
        self.enter = ["nsenter", "--user", "--net", "--preserve-credentials", f"--target={first}"]
        self._count = 0

    def another(self, hidden: Path) -> list[str]:
        """What runs a command on a new machine, where the directory `hidden` is empty; it goes with the command."""
        self._count += 1
        return [*self.enter, "sh", "-ec", _OTHER, "sh", str(self._count), str(hidden)]


@contextmanager
def machines() -> Iterator[Machines]:
    """Skips where the kernel does not let us."""
    if any(shutil.which(program) is None for program in ("ip", "nsenter", "unshare")):
        pytest.skip("iproute2 and util-linux are not installed")
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", _FIRST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            if first.stdout.readline() != "ready\n":
                pytest.skip(f"namespaces do not work here: {first.communicate()[1].strip()}")
            yield Machines(first.pid)
        finally:
            first.kill()
