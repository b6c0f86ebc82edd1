"""What a task looked for that the commit has and the stage does not declare, as the end of its log tells."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gitml.pipeline.code import CodeFile
from gitml.pipeline.spec.model import Stage
from gitml.provenance.codec import bytes_of, printable
from gitml.store.tree import Snapshot

_MISSING = re.compile(
    r"no such file|not found|cannot (open|find|access)|can't (open|find)|(does not|doesn't) exist|unable to open"
    r"|could not (find|open)|failed to open",
    re.IGNORECASE,
)
_MODULE = re.compile(r"No module named '([\w.]+)'")
_NAMES = re.compile(r"""'([^'\n]+)'|"([^"\n]+)"|([^\s'":,;()]+)""")
_ABSOLUTE = re.compile(r"(?<![\w./])/[^\s'\",;()]+")
_TOPS = tuple(f"/{name}/" for name in ("workspace", "work", "pfs"))
"""After these a path of the repository may follow: the workspace of each kind of sandbox, and inputs."""
_REFUSED = re.compile(r"permission denied|EACCES|operation not permitted", re.IGNORECASE)
_NETWORK = re.compile(r"connect|socket|\bbind|listen|\btcp|https?:", re.IGNORECASE)
_SETTINGS = (b".json", b".yaml", b".yml", b".toml")
"""Files that `params` can name."""
_LINES = 40
_MOST_NAMES = 4


def explain_missing(
    stage: Stage, code: Sequence[CodeFile], snapshot: Snapshot, log: Sequence[str], worktree: Path | None = None
) -> str | None:
    """What to do about a file that the task missed, None if none of its last lines names one.

    `worktree` may have one that was not committed.
    """
    declared = {file.source for file in code} | {each.path for each in stage.params}
    inputs = [leaf for leaf in stage.inputs if not leaf.is_elsewhere]
    for line in reversed(log[-_LINES:]):
        for path in _sought(line, stage.transform.working_dir or ""):
            if not path or _is_below(path, stage.output):
                continue
            read = next((leaf for leaf in inputs if _is_below(path, leaf.path)), None)
            if read is not None:
                if snapshot.get(path) is not None and "/pfs/" not in line:
                    place = f"/pfs/{read.name}{printable(path.removeprefix(read.path))}"
                    return f"'{printable(path)}' is of an input, and a task finds inputs below /pfs: read '{place}'"
                continue
            # a directory of which a part is declared is there
            if any(each == path or each.startswith(path + b"/") for each in declared):
                continue
            if snapshot.get(path) is not None:
                return _declare(path, stage, code)
            if worktree is not None and (worktree / os.fsdecode(path)).is_file():
                return f"'{printable(path)}' is in no commit, and a run sees only what is: git add it, and commit"
    return None


def _is_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")


def explain_module(stage: Stage, log: Sequence[str]) -> str | None:
    """What to do about a Python module that this machine lacks, None if the end of the log names none."""
    names = [name for line in log[-_LINES:] for name in _MODULE.findall(line)]
    command = stage.transform.cmd[0] if stage.transform.cmd else ""
    found = shutil.which(command) if stage.transform.image is None and "/" not in command else None
    if not names or found is None:
        return None
    return (
        f"'{command}' is {found} here, and what it runs lacks '{names[-1].partition('.')[0]}': install it there, or "
        "activate the environment that has it; then git ml retry"
    )


def explain_refused(log: Sequence[str], worktree: Path | None) -> str | None:
    """What to do about what Landlock may have refused, None if the end of the log tells of nothing refused."""
    line = next((line for line in reversed(log[-_LINES:]) if _REFUSED.search(line)), None)
    if line is None:
        return None
    paths = [path.removesuffix(":") for path in _ABSOLUTE.findall(line)]
    for path in paths:
        if worktree is not None and Path(path).is_relative_to(worktree):
            return f"Landlock refuses what a stage does not declare: make '{path}' an input or 'code'"
        if path.startswith("/tmp/"):  # noqa: S108 - that of all is meant
            return "under Landlock a task has no /tmp: write temporary files to $TMPDIR"
    if not paths and any(_NETWORK.search(each) for each in log[-_LINES:]):
        return "Landlock refuses TCP, also between processes of one task: git config ml.network true allows it"
    what = f"'{paths[-1]}'" if paths else "this"
    return (
        f"Landlock may have refused {what}: a task reads its inputs, its code and what is installed, and writes to "
        "/pfs/out, to where it starts, and to $TMPDIR"
    )


def _declare(path: bytes, stage: Stage, code: Sequence[CodeFile]) -> str:
    mounted = any(file.target.startswith("/") for file in code)
    files = [file.target for file in code]
    name = printable(path)
    if path.lower().endswith(_SETTINGS):
        known = [printable(each.path) + (f":{each.key}" if each.key else "") for each in stage.params]
        value = json.dumps([*known, name]) if len(known) < _MOST_NAMES else f"[…, {json.dumps(name)}]"
        how = f"if it has parameters add it, \"params\": {value}, else to 'code', or read it as an input"
    elif mounted or len(files) >= _MOST_NAMES:
        how = "add it to 'code', or read it as an input"
    else:
        how = f'add it, "code": {json.dumps([*files, name])}, or read it as an input'
    return f"'{name}' is in the commit, but a task sees only what its stage declares: {how}"


def _sought(line: str, directory: str) -> Iterator[bytes]:
    """Paths of a repository that a line says are missing, the likeliest first."""
    for module in _MODULE.findall(line):
        path = module.replace(".", "/")
        yield from (bytes_of(f"{path}.py"), bytes_of(path))
    if not _MISSING.search(line):
        return
    for match in _NAMES.finditer(line):
        name = next(each for each in match.groups() if each is not None).removeprefix("./")
        if name.startswith("/"):
            tops = [name.partition(top)[2] for top in _TOPS if top in name]
            yield from (_normal(each) for each in tops)
        else:
            yield _normal(f"{directory}/{name}" if directory and not directory.startswith("/") else name)
            yield _normal(name)


def _normal(path: str) -> bytes:
    """Without what only steps around; empty if it leads out."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and not parts:
            return b""
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return bytes_of("/".join(parts))
