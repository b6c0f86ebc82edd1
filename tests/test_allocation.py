import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from gitml.allocation import keep_freed_memory
{call}
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    block = bytearray(3 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def faults(call: str) -> int:
    """How many pages the system maps while blocks come and go."""
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM.format(call=call)], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_blocks_that_come_and_go_are_used_again() -> None:
    assert faults("assert keep_freed_memory()") < 2 * (3 << 20) // 4096
    # what it is good for: without it the first blocks at least are mapped anew
    assert faults("") > faults("keep_freed_memory()")


def test_numpy_starts_no_threads_where_none_are_wanted() -> None:
    program = (
        "import os\nfrom gitml.allocation import spare_threads\n{call}\nimport numpy\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-P", "-c", program.format(call=call)], capture_output=True, check=True
            ).stdout
        )
        for call in ("spare_threads()", "")
    ]
    assert counts[0] == 1
    assert counts[1] > 1 or len(os.sched_getaffinity(0)) == 1 or "OPENBLAS_NUM_THREADS" in os.environ
