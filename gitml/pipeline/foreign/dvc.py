"""Stages of DVC as stages of ours.

A command of DVC runs in the worktree, finds what it needs at paths of the repository and leaves its outputs at others.
A task of ours finds inputs below `/pfs` and leaves its output in `/pfs/out`, which becomes one directory of the
repository. So around the commands stand a few lines of shell: links that put inputs at the paths where the commands
look for them, and moves that take the outputs from where they were written.
"""

import posixpath
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gitml.pipeline.foreign.dvcyaml import Declared, Drawing, DvcStage
from gitml.pipeline.foreign.findings import Imported, Kind, Present, Taken
from gitml.pipeline.spec.additions import NUMBER_FILES
from gitml.pipeline.spec.error import quoted
from gitml.pipeline.spec.examined import IMAGES
from gitml.record import record

_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_TAKEN_NAMES = frozenset({"out", ".env", ""})


@record(kw_only=True)
class Surroundings:
    """What is known of the repository besides its dvc.yaml files."""

    present: Present
    data: frozenset[str]
    """Paths that DVC or gitml keeps as data: what of them a stage reads is an input, the rest is code."""
    directories: frozenset[str] = frozenset()
    """Outputs that are known to be directories."""
    named: Callable[[DvcStage], frozenset[str]] = lambda _: frozenset()
    """Files of the repository that the commands of a stage name, and what these import."""


@record
class _Home:
    """Where the outputs of a stage go."""

    directory: str
    """The output directory."""
    base: str
    """What it stands for: outputs keep their paths relative to this."""

    def new(self, path: str) -> str:
        """The repository path of an output, or of something in one."""
        below = posixpath.relpath(path, self.base or ".")
        return self.directory if below == "." else f"{self.directory}/{below}"


def convert(declared: Declared, around: Surroundings, result: Imported) -> None:
    """Add the stages to `result`, and what there is to say about them."""
    stages: list[DvcStage] = []
    names = set(around.present.stages)
    for stage in declared.stages:
        if stage.name in names:
            what = f"there is a stage called {quoted(stage.name)} already"
            result.say(Kind.REFUSED, f"{stage.file}: {stage.title}", what)
        elif clash := _clash(stage, stages):
            result.say(Kind.REFUSED, f"{stage.file}: {stage.title}", clash)
        else:
            names.add(stage.name)
            stages.append(stage)
    homes = _Homes(stages, around).all()
    owners = {out: stage.name for stage in stages for out in stage.outs}
    for stage in stages:
        for out in stage.outs:
            if homes[stage.name].new(out) != out:
                what = f"the output {quoted(out)} is {quoted(homes[stage.name].new(out))} now"
                result.say(Kind.MAPPED, stage.name, what)
                if around.present.has(out):
                    new = homes[stage.name].new(out)
                    move = f"mkdir -p {shlex.quote(posixpath.dirname(new))} && git mv {shlex.join([out, new])}"
                    result.say(
                        Kind.TODO, stage.name, f"{quoted(out)} of the former pipeline is in its old place: {move}"
                    )
        result.entries.append(_Conversion(stage, homes, owners, around, declared, result).entry())
        result.stages.append(Taken(name=stage.name, source=stage.file, converted=True))
    for kind, paths in (("metrics", declared.metrics), ("plots", [each.path for each in declared.drawings])):
        for path in paths:
            if not any(_within(path, out) for out in owners):
                result.say(Kind.IGNORED, f"{kind}: {path}", "no stage makes it")


def _clash(stage: DvcStage, others: list[DvcStage]) -> str | None:
    """What DVC refuses as well: an output that the stage reads itself, or that is also another stage's."""
    for out in stage.outs:
        if any(_within(dep, out) for dep in stage.deps):
            return f"it reads its own output {quoted(out)}"
        for other in others:
            if any(_within(out, each) or _within(each, out) for each in other.outs):
                return f"the output {quoted(out)} is also in the output of {quoted(other.name)}"
    return None


class _Homes:
    """Chooses an output directory for each stage: one that is there already if it is the stage's alone."""

    def __init__(self, stages: list[DvcStage], around: Surroundings) -> None:
        self._stages = stages
        self._around = around
        self._outs = {out: stage.name for stage in stages for out in stage.outs}
        deps = {dep for stage in stages for dep in stage.deps}
        known = {out for out in self._outs for path in (*deps, *self._outs) if path.startswith(out + "/")}
        self._directories = around.directories | known
        self._taken = set(around.present.stages.values())

    def all(self) -> dict[str, _Home]:
        """By name of the stage. First those whose outputs stay where they are, so that no other takes their place."""
        homes: dict[str, _Home] = {}
        for stage in self._stages:
            common = self._common(stage)
            if common and self._is_free(common, stage):
                homes[stage.name] = _Home(common, common)
                self._taken.add(common)
        for stage in self._stages:
            if stage.name not in homes:
                common = self._common(stage)
                base = posixpath.dirname(common) if common in stage.outs else common
                homes[stage.name] = _Home(self._own(stage), base)
                self._taken.add(homes[stage.name].directory)
        return {stage.name: homes[stage.name] for stage in self._stages}

    def _common(self, stage: DvcStage) -> str:
        """The directory that holds the outputs, and is one of them if that is known to be a directory."""
        if len(stage.outs) == 1 and stage.outs[0] in self._directories:
            return stage.outs[0]
        return posixpath.commonpath([posixpath.dirname(out) for out in stage.outs]) if stage.outs else ""

    def _own(self, stage: DvcStage) -> str:
        directory = posixpath.dirname(stage.file)
        base = f"{directory}/{stage.name.rpartition('/')[2]}" if directory else stage.name
        for candidate in (base, *(f"{base}-out{n or ''}" for n in range(1000))):
            if self._is_free(candidate, stage):
                return candidate
        raise AssertionError("a thousand directories of one name")

    def _is_free(self, directory: str, stage: DvcStage) -> bool:
        """Whether nothing but outputs of `stage` is in `directory`, and no output holds it."""
        own = set(stage.outs)
        if any(_within(out, directory) or _within(directory, out) for out in self._outs if out not in own):
            return False
        if any(_within(directory, out) and directory != out for out in own):
            return False
        if any(_within(taken, directory) or _within(directory, taken) for taken in self._taken):
            return False
        if any(_within(path, directory) or _within(directory, path) for path in self._around.data):
            return False
        return not self._around.present.has(directory) or not any(
            _within(file, directory)
            and posixpath.basename(file) != ".gitignore"
            and not any(_within(file, out) for out in own)
            for file in self._around.present.files
        )


class _Conversion:
    """One stage."""

    def __init__(
        self,
        stage: DvcStage,
        homes: Mapping[str, _Home],
        owners: Mapping[str, str],
        around: Surroundings,
        declared: Declared,
        result: Imported,
    ) -> None:
        self._stage = stage
        self._home = homes[stage.name]
        self._homes = homes
        self._owners = owners
        self._around = around
        self._declared = declared
        self._result = result
        self._inputs: dict[str, tuple[str, str]] = {}
        """Where the command looks for it, to the name of the input and what that reads."""
        self._code: dict[str, None] = {}

    def entry(self) -> dict[str, Any]:
        """The specification."""
        stage = self._stage
        for dep in stage.deps:
            self._read(dep)
        params = self._params()
        self._add_named()
        made: dict[str, Any] = {"pipeline": {"name": stage.name}}
        if stage.description:
            made["description"] = stage.description
        made["transform"] = {"cmd": ["bash"], "stdin": self._script()}
        inputs = [{"pfs": {"repo": repo, "name": name, "glob": "/"}} for name, repo in self._inputs.values()]
        if inputs:
            made["input"] = inputs[0] if len(inputs) == 1 else {"cross": inputs}
        if self._home.directory != stage.name:
            made["output"] = self._home.directory
        made["code"] = list(self._code)
        optional = {"params": params, "metrics": self._metrics(), "plots": self._plots()}
        made |= {key: value for key, value in optional.items() if value}
        return made | {"datum_tries": 1}

    # what the command finds

    def _read(self, dep: str) -> None:
        """A dependency is an output of another stage, data, or code; a directory may be some of each."""
        for out, owner in self._owners.items():
            if owner == self._stage.name:
                continue
            if _within(dep, out):
                self._add_input(dep, self._homes[owner].new(dep))
                return
        inner = [out for out, owner in self._owners.items() if owner != self._stage.name and _within(out, dep)]
        data = [path for path in self._around.data if _within(path, dep) and path != dep]
        for out in inner:
            self._add_input(out, self._homes[self._owners[out]].new(out))
        if any(_within(dep, path) for path in self._around.data):
            self._add_input(dep, dep)
            if not self._around.present.has(dep):
                self._todo(f"{quoted(dep)} is with DVC: git ml migrate import --from dvc")
            return
        for path in data:
            self._add_input(path, path)
            if not self._around.present.has(path):
                self._todo(f"{quoted(path)} is with DVC: git ml migrate import --from dvc")
        code = list(self._beside(dep, {*inner, *data}))
        for path in code:
            self._code[path or "."] = None
        if not code and not inner and not data:
            self._code[dep] = None
            self._todo(f"there is no {quoted(dep)}: commit it")

    def _beside(self, path: str, others: set[str]) -> Iterator[str]:
        """The largest parts of a directory, or the file, in which nothing of `others` is."""
        if path in others or not self._around.present.has(path):
            return
        if not any(_within(other, path) for other in others):
            yield path
            return
        start = len(path) + 1 if path else 0
        inside = {file[start:].partition("/")[0] for file in self._around.present.files if _within(file, path)}
        for name in sorted(inside - {".gitignore"}):
            yield from self._beside(f"{path}/{name}" if path else name, others)

    def _add_input(self, path: str, repo: str) -> None:
        if path in self._inputs:
            return
        used = {name for name, _ in self._inputs.values()}
        name = posixpath.basename(path).replace("=", "_")
        if name in used or name in _TAKEN_NAMES:
            name = path.replace("/", "_").replace("=", "_")
        while name in used or name in _TAKEN_NAMES:
            name += "_"
        self._inputs[path] = (name, repo)

    def _add_named(self) -> None:
        """Files that the commands name and DVC was not told of: in the worktree they were there all the same."""
        for path in sorted(self._around.named(self._stage)):
            params = [file for file, _ in self._stage.params]
            known = [*self._code, *self._inputs, *self._owners, *self._around.data, *params]
            if "." not in self._code and not any(_within(path, each) for each in known):
                self._code[path] = None
                self._result.say(Kind.MAPPED, self._stage.name, f"{quoted(path)} is code too: the commands need it")

    def _params(self) -> list[str]:
        """The parameters, for files from which single values can be taken; others are code."""
        whole = {path for path, key in self._stage.params if key is None or "[" in key or not all(key.split("."))}
        found: dict[str, None] = {}
        for path, key in self._stage.params:
            if not path.lower().endswith(NUMBER_FILES):
                self._code[path] = None
                self._result.say(Kind.MAPPED, self._stage.name, f"the parameters in {quoted(path)} are code here")
            else:
                found[path if path in whole else f"{path}:{key}"] = None
            if not self._around.present.has(path):
                self._todo(f"there is no {quoted(path)}: commit it")
        return list(found)

    # what it leaves

    def _metrics(self) -> list[str]:
        found: dict[str, None] = {}
        for path in self._declared.metrics:
            if self._makes(path):
                if path.lower().endswith(NUMBER_FILES):
                    found[self._result_path(path)] = None
                else:
                    what = f"only files that end in {', '.join(NUMBER_FILES)} are read"
                    self._result.say(Kind.IGNORED, f"metrics: {path}", what)
        return list(found)

    def _plots(self) -> list[str | dict[str, Any]]:
        found: list[str | dict[str, Any]] = []
        for drawing in self._declared.drawings:
            if self._makes(drawing.path):
                made = self._plot(drawing)
                if made is not None and made not in found:
                    found.append(made)
        return found

    def _plot(self, drawing: Drawing) -> str | dict[str, Any] | None:
        path = self._result_path(drawing.path)
        if path.lower().endswith(IMAGES):
            return path
        if not path.lower().endswith(_TABLES) or not drawing.y:
            what = "only images and columns of tables (CSV, TSV, JSON lines, Parquet) are drawn, and 'y' must name them"
            self._result.say(Kind.IGNORED, f"plots: {drawing.path}", what)
            return None
        made: dict[str, Any] = {"path": path, "y": list(dict.fromkeys(drawing.y))}
        return made | ({"x": drawing.x} if drawing.x else {}) | ({"title": drawing.title} if drawing.title else {})

    def _makes(self, path: str) -> bool:
        return any(_within(path, out) for out in self._stage.outs)

    def _result_path(self, path: str) -> str:
        return posixpath.relpath(self._home.new(path), self._home.directory)

    # the shell around it

    def _script(self) -> list[str]:
        stage = self._stage
        lines: list[str] = []
        made: set[str] = set()
        for path, (name, _) in self._inputs.items():
            lines += _directory(posixpath.dirname(path), made)
            lines.append(f"ln -s {shlex.quote(f'/pfs/{name}')} {shlex.quote(path)} || exit")
        for path in (*(posixpath.dirname(out) for out in stage.outs), stage.wdir):
            if not any(_within(path, linked) for linked in self._inputs):
                lines += _directory(path, made)
        for command in stage.commands:
            lines.append("(")
            if stage.wdir:
                lines.append(f"cd {shlex.quote(stage.wdir)} || exit")
            lines += [*command.rstrip("\n").split("\n"), ") </dev/null || exit"]
        kept: set[str] = set()
        for out in stage.outs:
            target = self._home.new(out)
            if target == self._home.directory:
                lines.append(f"cp -a {shlex.quote(out)}/. /pfs/out/ || exit")
                continue
            below = posixpath.relpath(target, self._home.directory)
            above = posixpath.dirname(below)
            if above and above not in kept:
                kept.add(above)
                lines.append(f"mkdir -p {shlex.quote(f'/pfs/out/{above}')} || exit")
            lines.append(f"mv {shlex.quote(out)} {shlex.quote(f'/pfs/out/{below}')} || exit")
        return lines

    def _todo(self, what: str) -> None:
        self._result.say(Kind.TODO, self._stage.name, what)


def _directory(path: str, made: set[str]) -> Iterable[str]:
    if path and path not in made:
        made.add(path)
        yield f"mkdir -p {shlex.quote(path)} || exit"


def _within(path: str, directory: str) -> bool:
    return not directory or path == directory or path.startswith(directory + "/")
