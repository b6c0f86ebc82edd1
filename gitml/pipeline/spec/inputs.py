"""The input of a stage: what it names in the tree or upstream, under which name a task sees it."""

import math
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from gitml.errors import UserError
from gitml.pipeline.glob import Glob, compile_glob
from gitml.pipeline.schedule import parse_moment, parse_schedule
from gitml.pipeline.spec.additions import Surroundings
from gitml.pipeline.spec.error import Findings, Place, SpecError, nearest, quoted
from gitml.pipeline.spec.fields import PROJECT_NAME
from gitml.pipeline.spec.model import (
    Cron,
    CrossInput,
    GroupInput,
    Input,
    JoinInput,
    PfsInput,
    Trigger,
    UnionInput,
    leaves,
)
from gitml.pipeline.spec.paths import kind_name, nearest_path, repository_path
from gitml.pipeline.spec.reading import Node
from gitml.pipeline.spec.running import flag

_COMBINED: dict[str, type[CrossInput | UnionInput | JoinInput | GroupInput]] = {
    "cross": CrossInput,
    "union": UnionInput,
    "join": JoinInput,
    "group": GroupInput,
}
_PROJECT = re.compile(PROJECT_NAME)
_KINDS = ("pfs", "cron", *_COMBINED)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE)
_NOT_IN_REFS = re.compile(r"[ ~^:?*\[\\]|\.\.|@\{")
_FORBIDDEN = frozenset({"out", ".env", ".", ".."})


class InputReader:
    """Reads the inputs of one stage.

    `stages` maps every stage of the pipeline to its output directory, `branches` those with an `output_branch` to it;
    `absent` are those among them that do not run, so that somebody else brings what is there. `project` is that of the
    stage. Inputs of a cross, union, join or group come sorted by the name of their first leaf,
    as Pachyderm does (`pps.SortInput`).
    """

    def __init__(
        self,
        stage: str,
        project: str,
        stages: dict[str, bytes],
        around: Surroundings,
        findings: Findings,
        branches: Mapping[str, str] = MappingProxyType({}),
        absent: Collection[str] = (),
    ) -> None:
        self._findings = findings
        self._stage = stage
        self._project = project
        self._stages = stages
        self._branches = branches
        self._absent = absent
        self._around = around

    def read(self, node: Node) -> Input:
        """The input at `node`; raise `SpecError`."""
        kinds = [kind for kind in _KINDS if node.get(kind) is not None]
        if len(kinds) != 1:
            problem = (
                f"{quoted(kinds[0])} and {quoted(kinds[1])} in one input" if kinds else "no kind of input is given"
            )
            raise SpecError(node.place, problem, hint="give one of 'pfs', 'cron', 'cross', 'union', 'join' and 'group'")
        inner = node.require(kinds[0])
        if kinds[0] == "pfs":
            return self._pfs(inner)
        if kinds[0] == "cron":
            return self._cron(inner)
        if not inner.value:
            raise SpecError(inner.place, "an empty list")
        inputs = []
        for item in inner.value:
            try:
                inputs.append(self.read(item))
            except SpecError as error:
                self._findings.refuse(error)
        if len(inputs) < len(inner.value):
            return JoinInput(inputs=tuple(inputs))
        if kinds[0] != "union":
            _check_distinct(inputs, inner)
        ordered = tuple(sorted(inputs, key=lambda one: next(leaves(one)).name))
        return _COMBINED[kinds[0]](inputs=ordered)

    def _pfs(self, node: Node) -> PfsInput:
        repo = node.require("repo")
        trigger = node.get("trigger")
        watched = trigger.get("branch") if trigger is not None else None
        branch = branch_name(watched if watched is not None else node.get("branch"))
        commit = _commit(node.get("commit"), node.get("branch"))
        text = repo.value
        repo = Node(self._within(repo, node.get("project")), repo.place)
        branch, put_off = self._results(repo, branch)
        path, upstream = self._elsewhere(repo) if branch or commit else self._resolve(repo)
        name = node.get("name")
        chosen = name.value if name is not None and name.value else mount_name(text)
        _check_name(chosen, name.place if name is not None else repo.place)
        glob = node.require("glob")
        if not glob.value:
            raise SpecError(
                glob.place, "an empty glob", hint='"/" makes one datum of everything, "/*" one of each entry'
            )
        pattern = normal_glob(glob.value)
        compiled = check_glob(pattern, glob.place)
        propagation = node.get("propagation_spec")
        return PfsInput(
            name=chosen,
            repo=repo.value,
            path=path,
            upstream=upstream,
            glob=pattern,
            join_on=_key(node.get("join_on"), compiled),
            outer_join=flag(node, "outer_join"),
            group_by=_key(node.get("group_by"), compiled),
            branch=branch,
            commit=commit,
            empty_files=flag(node, "empty_files"),
            never=put_off or (propagation is not None and flag(propagation, "never")),
            reference=flag(node, "reference"),
            trigger=_trigger(trigger) if trigger is not None else None,
        )

    def _cron(self, node: Node) -> PfsInput:
        """A cron input: its ticks are files, each a datum, or one datum if a tick replaces the others."""
        name, spec = node.require("name"), node.require("spec")
        _check_name(name.value, name.place)
        try:
            parse_schedule(spec.value)
        except UserError as error:
            raise SpecError(spec.place, error.message, hint=error.hint) from None
        start = node.get("start")
        if start is not None and start.value:
            try:
                parse_moment(start.value)
            except ValueError:
                hint = 'write "2026-01-01T00:00:00Z"'
                raise SpecError(start.place, f"{quoted(start.value)} is not a time", hint=hint) from None
        repo = node.get("repo")
        at = repo if repo is not None and repo.value else name
        project = self._project_of(node.get("project"))
        short = self._stage.removeprefix(f"{self._project}/")
        text = at.value if at is repo else f"{short}_{name.value}"
        text = f"{project}/{text}" if project else text
        path = repository_path(text, at.place)
        whose = self._around.outputs.above(path) or self._around.outputs.below(path)
        if not path or whose is not None:
            what = f"the output of stage {quoted(whose)}" if whose is not None else "the whole repository"
            raise SpecError(at.place, f"ticks cannot stand in {quoted(path or '.')}: it is {what}",
                            hint="name a directory of their own in 'repo'")  # fmt: skip
        overwrite = flag(node, "overwrite")
        return PfsInput(
            name=name.value,
            repo=text,
            path=path,
            upstream=None,
            glob="/" if overwrite else "/*",
            cron=Cron(spec=spec.value, start=node.text("start"), overwrite=overwrite),
        )

    def _project_of(self, given: Node | None) -> str:
        return project_name(given) if given is not None and given.value else self._project

    def _within(self, repo: Node, given: Node | None) -> str:
        """The name of `repo` with its project before it.

        Where the project has no such stage or path the name stands for itself: data need not move into a directory for
        a project that the stage alone names, and pachctl may have been told a project that the file does not name.
        """
        text, project = str(repo.value), self._project_of(given)
        if not project or not text:
            return text
        named = f"{project}/{text}"
        if self._is_known(named, repo.place) or not self._is_known(text, repo.place):
            return named
        if given is not None and given.value:
            self._findings.remark(
                f"project {quoted(project)} has no {quoted(text)}: the one without project is read", repo.place
            )
        return text

    def _is_known(self, text: str, place: Place) -> bool:
        """Whether there is a stage of that name, or something at that path, now or once stages have run."""
        path = repository_path(text, place)
        outputs = self._around.outputs
        return text in self._stages or outputs.above(path) is not None or self._around.snapshot.get(path) is not None

    def _results(self, repo: Node, branch: str) -> tuple[str, bool]:
        """The git branch of an input, and whether it is put off, where it reads a stage with an `output_branch`.

        Under that name the results are asked for that are made on this branch. `master` of them is another branch in
        Pachyderm, which somebody moves by hand, so that what reads it does not follow by itself.
        """
        text = str(repo.value)
        stage = text if text in self._stages else self._around.outputs.above(repository_path(text, repo.place))
        own = self._branches.get(stage, "") if stage is not None else ""
        if stage is None or not own:
            return branch, False
        if branch:
            return ("" if branch == own else branch), False
        self._findings.remark(
            f"results of stage {quoted(stage)} are on {quoted(own)}, and 'master' of them is read: a change of them"
            f" alone runs nothing, 'git ml run --force {self._stage}' does",
            repo.place,
        )
        return "", True

    def _elsewhere(self, repo: Node) -> tuple[bytes, None]:
        """The path that `repo` names in another commit. What stages make there is data as any other."""
        text = repo.value
        if not text:
            raise SpecError(repo.place, "an empty name", hint="name a stage or a path")
        return self._stages[text] if text in self._stages else repository_path(text, repo.place), None

    def _resolve(self, repo: Node) -> tuple[bytes, str | None]:
        """The repository path that `repo` names, and the stage whose output it is or lies in."""
        text = repo.value
        if not text:
            raise SpecError(repo.place, "an empty name", hint="name an upstream stage or a path")
        if text in self._stages:
            path: bytes = self._stages[text]
            upstream: str | None = text if text not in self._absent else None
        else:
            path = repository_path(text, repo.place)
            upstream = self._around.outputs.above(path)
        if upstream == self._stage:
            raise SpecError(repo.place, f"stage {quoted(self._stage)} reads its own output {quoted(path)}")
        if upstream is None:
            self._check_data(path, repo)
        return path, upstream

    def _check_data(self, path: bytes, repo: Node) -> None:
        """Raise `SpecError` unless `path` is the user's data: a directory, or one file."""
        below = self._around.outputs.below(path)
        if below is not None:
            whose = "its own output" if below == self._stage else f"the output of stage {quoted(below)}"
            raise SpecError(
                repo.place,
                f"the input {quoted(path or '.')} holds {whose}, {quoted(self._stages[below])}",
                hint="keep data and results in directories of their own",
            )
        snapshot = self._around.snapshot
        entry = snapshot.get(path)
        if entry is None and repo.value in self._absent:
            return  # the stage waits for what others have to bring, and holds up no other
        if entry is None:
            self._say_missing(path, repo)
            return
        if not entry.is_tree and not entry.is_file:
            raise SpecError(repo.place, f"{quoted(path)} is {kind_name(entry)}, expected files")

    def _say_missing(self, path: bytes, repo: Node) -> None:
        """Say that there is nothing at `path`; raise `SpecError` if the pipeline's own file names it.

        In other files a repository may be meant that is empty as yet, or again: there it is one without a file. Who
        asks for everything that is wrong is told all the same.
        """
        missing, remedy = f"no stage and no path {quoted(repo.value)}", self._remedy(path, repo.value)
        if repo.place.file == self._around.own or self._findings.everything:
            raise SpecError(repo.place, missing, hint=remedy)
        self._findings.remark(f"stage {quoted(self._stage)} waits: {missing}: {remedy}", repo.place)

    def _remedy(self, path: bytes, text: str) -> str:
        found = nearest(text, self._stages) or nearest_path(self._around.snapshot, path)
        if found is not None:
            return f"did you mean {quoted(found)}?"
        return "commit a file there; git keeps no empty directories"


def mount_name(repo: str) -> str:
    """Under which name a task sees an input that gives none."""
    return repo.rstrip("/").rpartition("/")[2]


def normal_glob(text: str) -> str:
    """A glob with a leading slash, and without a trailing one (but `/` itself)."""
    return "/" + text.strip("/")


def project_name(node: Node | None) -> str:
    """The project of a field, empty for `default` and if absent; raise `SpecError`."""
    text = str(node.value) if node is not None and node.value else ""
    if node is None or text in {"", "default"}:
        return ""
    if not _PROJECT.fullmatch(text):
        hint = "use letters, digits, '_', '-' and '.', and begin with a letter or digit"
        raise SpecError(node.place, f"{quoted(text)} is not a name for a project", hint=hint)
    return text


def branch_name(node: Node | None) -> str:
    """The git branch of a field, empty if it stands for the commit being evaluated."""
    text = str(node.value) if node is not None else ""
    if node is None or text in {"", "master"}:
        return ""
    if not _is_ref_name(text):
        raise SpecError(node.place, f"{quoted(text)} is not the name of a branch", hint="write it as git branch does")
    return text


def _commit(node: Node | None, branch: Node | None) -> str:
    """The revision of a field `commit`, empty if absent."""
    text = str(node.value) if node is not None else ""
    if node is None or not text:
        return ""
    if not _is_ref_name(text):
        raise SpecError(node.place, f"{quoted(text)} is neither an oid nor a tag", hint="git rev-parse HEAD gives one")
    if branch is not None and branch_name(branch):
        raise SpecError(node.place, "'commit' and 'branch' in one input", hint="a commit needs no branch: take it out")
    return text


def _trigger(node: Node) -> Trigger:
    """The value of a field `trigger`; raise `SpecError` for one that holds never or says two things."""
    size, commits, schedules = node.get("size"), node.get("commits"), {}
    for name in ("rate_limit_spec", "cron_spec"):
        given = node.get(name)
        schedules[name] = str(given.value) if given is not None else ""
        if given is not None and given.value:
            try:
                parse_schedule(given.value)
            except UserError as error:
                raise SpecError(given.place, error.message, hint=error.hint) from None
    found = Trigger(
        size=_size(size) if size is not None and size.value else 0,
        commits=max(0, commits.value) if commits is not None else 0,
        rate_limit=schedules["rate_limit_spec"],
        cron=schedules["cron_spec"],
        all=flag(node, "all"),
    )
    others = (found.size, found.commits, found.rate_limit)
    if found.cron and any(others):
        raise SpecError(node.place, "'cron_spec' with other conditions", hint="'rate_limit_spec' goes with them")
    if not found.cron and not any(others):
        hint = "give 'size', 'commits', 'rate_limit_spec' or 'cron_spec'"
        raise SpecError(node.place, "a trigger without a condition", hint=hint)
    return found


def _size(node: Node) -> int:
    """Bytes as Pachyderm's triggers write them: decimal units, `100MB` as `100M`; binary ones with an `i`."""
    match = _SIZE.fullmatch(node.value.strip())
    if match is None:
        raise SpecError(node.place, f'expected a size such as "100MB", got {quoted(node.value)}')
    base = 1024 if match[3] else 1000
    factor = float(base ** " kmgt".index(match[2].lower() or " "))
    return math.ceil(float(match[1]) * factor)


def _is_ref_name(text: str) -> bool:
    """Whether git takes `text` for the name of a branch or tag (git check-ref-format), as far as safety goes."""
    parts = text.split("/")
    return (
        text.isprintable()
        and not _NOT_IN_REFS.search(text)
        and all(part and not part.startswith((".", "-")) and not part.endswith((".", ".lock")) for part in parts)
    )


def check_glob(text: str, place: Place) -> Glob:
    """The glob written as `text`; raise `SpecError` if it is malformed."""
    try:
        return compile_glob(text)
    except UserError as error:
        raise SpecError(place, error.message, hint=error.hint) from None


def _key(node: Node | None, glob: Glob) -> str:
    """The value of a field `join_on` or `group_by`; raise `SpecError` if it names a capturing group that `glob` lacks.

    One that names none is the same for every file, which is allowed: all files are one group.
    """
    if node is None or not node.value:
        return ""
    text: str = node.value
    try:
        glob.references(text)
    except UserError as error:
        raise SpecError(node.place, error.message, hint=error.hint) from None
    if "\0" in text or not text.isprintable():
        raise SpecError(node.place, f"{quoted(text)} has characters that cannot be printed", hint="take them out")
    return text


def _check_name(name: str, place: Place) -> None:
    """Raise `SpecError` unless `/pfs/<name>` and the environment variable `<name>` can exist."""
    if name in _FORBIDDEN or not name:
        raise SpecError(place, f"an input cannot be called {quoted(name)}", hint="give it another 'name'")
    if "/" in name or "=" in name or not name.isprintable() or len(name.encode()) > 255:
        raise SpecError(
            place,
            f"an input cannot be called {quoted(name)}",
            hint="give it a 'name' of printable characters without '/' and '='",
        )


def _check_distinct(inputs: list[Input], node: Node) -> None:
    """Raise `SpecError` if two inputs of a cross, join or group would lie in one place; branches of a union may."""
    seen: set[str] = set()
    for one, place in zip(inputs, node.value, strict=True):
        names = {leaf.name for leaf in leaves(one)}
        for name in sorted(names & seen):
            raise SpecError(
                place.place, f"two inputs are called {quoted(name)}", hint="give one of them another 'name'"
            )
        seen |= names
