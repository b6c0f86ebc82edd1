"""What dvc.lock vouches for: outputs that belong to the inputs of the moment, which nobody has to compute again."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from gitml.pipeline.foreign.dvctemplate import Read, parse_values, parse_yaml
from gitml.pipeline.foreign.dvcyaml import DvcStage
from gitml.pipeline.foreign.findings import Imported, Kind
from gitml.pipeline.spec.error import SpecError
from gitml.pipeline.spec.order import CycleError, topological
from gitml.record import record

FILE = "dvc.lock"
_ABSENT = object()


class Files(Protocol):
    """The files of the worktree."""

    def find(self, path: str) -> bytes | None:
        """The content of a file, None if there is none."""
        ...

    def digests(self, path: str) -> frozenset[str]:
        """The MD5 of a file, and that with the line ends of Unix; none if there is no file."""
        ...


@record
class Locks:
    """What the dvc.lock beside each dvc.yaml says of its stages."""

    stages: Mapping[tuple[str, str], Mapping[str, Any]]
    """By path of the dvc.yaml and DVC's name of the stage."""

    def contents(self, stage: DvcStage, key: str) -> Iterator[tuple[str, str]]:
        """Repository path and MD5 of what the stage read (`deps`) or made (`outs`)."""
        entries = self.stages.get((stage.file, stage.title), {}).get(key)
        for each in entries if isinstance(entries, list) else ():
            if isinstance(each, Mapping) and "path" in each:
                yield posixpath.normpath(posixpath.join(stage.wdir, str(each["path"]))), str(each.get("md5", ""))

    def directories(self, stages: Iterable[DvcStage]) -> frozenset[str]:
        """Outputs that were directories."""
        return frozenset(path for stage in stages for path, md5 in self.contents(stage, "outs") if md5.endswith(".dir"))


def read_locks(files: Iterable[str], read: Read, result: Imported) -> Locks:
    """The dvc.lock files beside the dvc.yaml `files`; one that cannot be read is noted in `result`, and empty."""
    stages: dict[tuple[str, str], Mapping[str, Any]] = {}
    for file in files:
        path = posixpath.join(posixpath.dirname(file), FILE)
        data = read(path)
        if data is None:
            continue
        try:
            document = parse_yaml(data, path)
            found = document["stages"] if "schema" in document else document
            stages |= {(file, str(name)): dict(stage) for name, stage in found.items()}
        except (SpecError, AttributeError, KeyError, TypeError, ValueError):
            result.say(Kind.IGNORED, path, "it cannot be read, so nothing is known of former runs")
    return Locks(stages)


def vouch(stages: Iterable[DvcStage], locks: Locks, tracked: Mapping[str, str], files: Files, result: Imported) -> None:
    """Name the stages whose outputs belong to their present command, inputs and parameters.

    `tracked` is what `.dvc` files say: path and MD5. Outputs are not looked at: whoever accepts them sees them.
    """
    stages = list(stages)
    known = dict(tracked)
    for stage in stages:
        known |= dict(locks.contents(stage, "outs"))
    taken = {each.name for each in result.stages}
    current = [stage for stage in stages if stage.name in taken and _is_current(stage, locks, known, files)]
    if current:
        commands = "; ".join(f"git ml accept {stage.name}" for stage in _in_order(current))
        what = (
            "as far as DVC knows these outputs belong to the present inputs. Once they are committed where they belong "
            f"now, they need not be computed again: {commands}"
        )
        result.say(Kind.TODO, FILE, what)


def _in_order(stages: list[DvcStage]) -> list[DvcStage]:
    """Each after those that it reads."""
    owners = {out: stage.name for stage in stages for out in stage.outs}
    upstream = {
        stage.name: [
            owner
            for dep in stage.deps
            for out, owner in owners.items()
            if owner != stage.name and (dep == out or dep.startswith(out + "/") or out.startswith(dep + "/"))
        ]
        for stage in stages
    }
    by_name = {stage.name: stage for stage in stages}
    try:
        return [by_name[name] for name in topological(upstream)]
    except CycleError:
        return stages  # loading the pipeline says so


def _is_current(stage: DvcStage, locks: Locks, known: Mapping[str, str], files: Files) -> bool:
    lock = locks.stages.get((stage.file, stage.title), {})
    cmd = lock.get("cmd")
    if (tuple(cmd) if isinstance(cmd, list) else (cmd,)) != stage.commands:
        return False
    deps = dict(locks.contents(stage, "deps"))
    if deps.keys() != set(stage.deps):
        return False
    # of outputs and data by what DVC says of them, of other files by reading
    if not all(
        md5 and (known[path] == md5 if path in known else md5 in files.digests(path)) for path, md5 in deps.items()
    ):
        return False
    return all(_has_value(path, key, stage, lock, files) for path, key in stage.params)


def _has_value(path: str, key: str | None, stage: DvcStage, lock: Mapping[str, Any], files: Files) -> bool:
    """Whether a parameter has the value that the lock noted."""
    noted = lock.get("params")
    values = noted.get(posixpath.relpath(path, stage.wdir or ".")) if isinstance(noted, Mapping) else None
    data = files.find(path)
    if not isinstance(values, Mapping) or data is None:
        return False
    try:
        present = parse_values(data, path)
    except SpecError:
        return False
    if key is None:
        return bool(present == values)
    return key in values and _value(present, key) == values[key]


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _ABSENT
        values = values[part]
    return values
