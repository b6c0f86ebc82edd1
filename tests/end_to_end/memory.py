"""The memory of a command in a project."""

import subprocess

from benchmarks.lab import Peak
from tests.end_to_end.project import Project


def peak_of(project: Project, *command: str) -> dict[str, int]:
    """The most memory that a command and what it starts took, in bytes by program."""
    process = subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = Peak(process.pid)
    said = process.communicate()[1]
    memory = peak.stop()
    assert process.returncode == 0, said
    return memory
