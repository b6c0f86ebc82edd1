"""What a repository has of DVC: its dvc.yaml files with their dvc.lock, and what `.dvc` files track."""

import os
import posixpath
from collections.abc import Iterable, Iterator

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.git.uncommitted import worktree_snapshot
from gitml.pipeline.code import code_files
from gitml.pipeline.foreign.dvc import Surroundings, convert
from gitml.pipeline.foreign.dvclock import read_locks, vouch
from gitml.pipeline.foreign.dvctemplate import parse_yaml
from gitml.pipeline.foreign.dvcyaml import DvcStage, read_dvc_yaml
from gitml.pipeline.foreign.findings import Imported, Kind
from gitml.pipeline.foreign.project import Project
from gitml.pipeline.spec.error import SpecError
from gitml.pipeline.spec.model import Stage, Transform

FILE = "dvc.yaml"


def import_dvc(project: Project, root: str) -> Imported:
    """The stages of every dvc.yaml at or below the directory `root`, a repository path.

    Raise `UserError` if there is none, `SpecError` for one that DVC would not read.
    """
    files = sorted(
        (path for path in project.files if posixpath.basename(path) == FILE and _below(path, root)),
        key=lambda path: (path.count("/"), path),
    )
    if not files:
        raise UserError(
            f"there is no {FILE} in '{root or '.'}'",
            hint="what only .dvc files track comes with: git ml migrate import --from dvc",
        )
    result = Imported()
    declared = read_dvc_yaml({path: project.read(path) for path in files}, root, project.find, result)
    locks = read_locks(files, project.find, result)
    tracked = dict(_tracked(project, result))
    data = {*tracked, *_under_gitml(project.repo, [dep for stage in declared.stages for dep in stage.deps])}
    outs = {out for stage in declared.stages for out in stage.outs}
    data = {path for path in data if not any(path == out or path.startswith(out + "/") for out in outs)}
    around = Surroundings(
        present=project.present(),
        data=frozenset(data),
        directories=frozenset(out for out in outs if project.is_directory(out)) | locks.directories(declared.stages),
        named=_Named(project.repo, outs | data),
    )
    convert(declared, around, result)
    vouch(declared.stages, locks, tracked, project, result)
    return result


def _below(path: str, root: str) -> bool:
    return not root or path.startswith(root + "/")


def _tracked(project: Project, result: Imported) -> Iterator[tuple[str, str]]:
    """What `.dvc` files track: path and MD5."""
    for file in sorted(path for path in project.files if path.endswith(".dvc") and not path.endswith("/.dvc")):
        try:
            document = parse_yaml(project.read(file), file)
            base = posixpath.join(posixpath.dirname(file), str(document.get("wdir", ".")))
            found = [
                (posixpath.normpath(posixpath.join(base, str(each["path"]))), str(each.get("md5", "")))
                for each in document["outs"]
            ]
        except (SpecError, AttributeError, KeyError, TypeError):
            result.say(Kind.IGNORED, file, "it cannot be read")
            continue
        yield from found


def _under_gitml(repo: Repository, paths: Iterable[str]) -> set[str]:
    """Those of the paths that `.gitattributes` puts under gitml, as `git ml migrate` leaves them."""
    asked = {path: path for path in paths} | {f"{path}/x": path for path in paths}
    if not asked:
        return set()
    given = b"\0".join(os.fsencode(path) for path in asked)
    said = repo.git.output("-C", os.fspath(repo.worktree or "."), "check-attr", "-z", "--stdin", "filter", input=given)
    fields = said.split(b"\0")
    return {asked[os.fsdecode(fields[n])] for n in range(0, len(fields) - 2, 3) if fields[n + 2] == b"ml"}


class _Named:
    """Which files of the worktree the commands of a stage name, as stages without `code` find theirs."""

    def __init__(self, repo: Repository, data: set[str]) -> None:
        self._snapshot = worktree_snapshot(repo, {})
        self._data = [os.fsencode(path) for path in data]

    def __call__(self, stage: DvcStage) -> frozenset[str]:
        """Repository paths."""
        transform = Transform(cmd=("bash",), stdin=stage.commands, working_dir=stage.wdir or None)
        ours = Stage(name=stage.name, transform=transform, input=None, output=b"")
        return frozenset(os.fsdecode(file.source) for file in code_files(ours, self._snapshot, self._data))
