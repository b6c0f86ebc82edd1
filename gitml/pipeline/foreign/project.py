"""The worktree that gets a pipeline from elsewhere: what is in it, and the one file that an import writes.

Everything else here is a pure function of what this reads.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitml.errors import UserError
from gitml.git.repository import Repository
from gitml.git.uncommitted import worktree_snapshot
from gitml.pipeline.foreign.findings import Imported, Present
from gitml.pipeline.foreign.pachyderm import is_specification, stage_name
from gitml.pipeline.foreign.placing import FILE, with_more
from gitml.pipeline.glob import compile_glob
from gitml.pipeline.loading import check_pipeline, evaluate, load_pipeline
from gitml.pipeline.spec.documents import parse_documents
from gitml.pipeline.spec.error import Place, SpecError
from gitml.pipeline.spec.template import ENDING, Refusal, request
from gitml.record import record

_MAX_FILES = 16 << 20
"""Bytes of a file of parameters or of a pipeline that is read; it is parsed whole."""


@record
class Project:
    """A worktree."""

    repo: Repository
    top: Path
    files: frozenset[str]
    """Tracked files, and others that git does not ignore, by repository path."""

    @classmethod
    def of(cls, repo: Repository) -> "Project":
        """The worktree of a repository; raise `UserError` if it has none."""
        if repo.worktree is None:
            raise UserError("a bare repository has no files to import", hint="clone it, and import there")
        listed = repo.git.output("-C", os.fspath(repo.worktree), "ls-files", "-z", "-c", "-o", "--exclude-standard")
        return cls(repo, repo.worktree, frozenset(os.fsdecode(path) for path in listed.split(b"\0") if path))

    def path_of(self, name: Path) -> str:
        """The repository path of a file or directory as it was typed; raise `UserError` if it lies elsewhere."""
        absolute = Path(os.path.abspath(name))  # noqa: PTH100 - `resolve` would follow links
        top = self.top.resolve()
        for place in (absolute, absolute.parent.resolve() / absolute.name):
            if place == top:
                return ""
            if place.is_relative_to(top):
                return place.relative_to(top).as_posix()
        raise UserError(f"'{name}' lies outside the repository", hint="copy it into the repository first")

    def read(self, path: str) -> bytes:
        """The content of a file; raise `UserError` if there is none."""
        place = self.top / path
        if not place.is_file():
            raise UserError(f"there is no file '{path}'")
        if place.stat().st_size > _MAX_FILES:
            raise UserError(f"'{path}' is too large to be read as a whole")
        return place.read_bytes()

    def value(self, path: str, arguments: Mapping[str, Any]) -> bytes:
        """The specifications in a file: of a template its value. Raise `UserError`."""
        data = self.read(path)
        if not path.endswith(ENDING):
            return data
        asked = request(worktree_snapshot(self.repo, {}), os.fsencode(path), arguments, Place(path))
        (value,) = evaluate([asked])
        if isinstance(value, Refusal):
            raise SpecError(Place(path), value.problem, hint=value.hint)
        return value.encode()

    def find(self, path: str) -> bytes | None:
        """The content of a file, None if there is none."""
        return self.read(path) if (self.top / path).is_file() else None

    def digests(self, path: str) -> frozenset[str]:
        """The MD5 of a file, and that with the line ends of Unix, as DVC took it of text; none if there is no file."""
        data = self.find(path)
        if data is None:
            return frozenset()
        contents = (data, data.replace(b"\r\n", b"\n"))
        return frozenset(hashlib.md5(each, usedforsecurity=False).hexdigest() for each in contents)

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory of this path."""
        return (self.top / path).is_dir()

    def present(self) -> Present:
        """What is there already; a `pipeline.json` that cannot be read counts as empty until it is to be added to."""
        stages: dict[str, str] = {}
        listed: set[str] = set()
        images: set[str] = set()
        templates = False
        waiting = [FILE]
        while waiting:
            file = waiting.pop()
            data = self.find(file)
            with contextlib.suppress(SpecError):
                for value, _ in parse_documents(data or b"", file):
                    wrapped = isinstance(value, dict) and "stages" in value
                    if wrapped and isinstance(value.get("images"), dict):
                        images |= set(value["images"])
                    items = value["stages"] if wrapped else value
                    for item in items if isinstance(items, list) else [items]:
                        if isinstance(item, str):
                            new = [path for path in self._listed(item) if path not in listed]
                            listed.update(new)
                            waiting += [path for path in new if not path.endswith(ENDING)]
                            templates = templates or any(path.endswith(ENDING) for path in new)
                        elif isinstance(item, dict) and "file" in item:
                            templates = True
                        elif isinstance(item, dict) and is_specification(item):
                            name = stage_name(item)
                            stages[name] = str(item.get("output") or name)
        if templates:
            with contextlib.suppress(SpecError):
                pipeline = load_pipeline(worktree_snapshot(self.repo, {}))
                stages |= {stage.name: os.fsdecode(stage.output) for stage in pipeline.stages} if pipeline else {}
        return Present(files=self.files, stages=stages, listed=frozenset(listed), images=frozenset(images))

    def _listed(self, item: str) -> list[str]:
        """The files that an item of `stages` stands for."""
        try:
            glob = compile_glob("/" + item.strip("/"))
        except UserError:
            return [item]
        found = [file for file in self.files if glob.matches(os.fsencode(file))]
        return [item] if item in self.files else [file for file in found if file != FILE]

    def plan(self, imported: Imported) -> bytes | None:
        """The new content of `pipeline.json`, None if nothing changes; raise `UserError` if something is in the way."""
        if not imported.entries and not imported.images:
            return None
        place = self.top / FILE
        if place.is_symlink() or (place.exists() and not place.is_file()):
            raise UserError(f"cannot add to {FILE}: it is not a regular file", hint=f"make {FILE} a file of its own")
        return with_more(self.find(FILE), imported.entries, imported.images)

    def problems(self, data: bytes) -> list[str]:
        """What is wrong with the pipeline of the worktree if `pipeline.json` has this content."""
        name = FILE.encode()
        checked = check_pipeline(worktree_snapshot(self.repo, {name: data}), name)
        return [error.message for error in checked.problems]

    def write(self, data: bytes) -> None:
        """Put `pipeline.json` in place as a whole; the file before stays if that fails."""
        place = self.top / FILE
        descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=self.top)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - an open descriptor
                file.write(data)
            mode = place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask()
            Path(name).chmod(mode)
            Path(name).replace(place)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
