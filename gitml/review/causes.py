"""Why something is as it is: from an output up to the commits of people, and from a commit down to what it reached.

Upwards it follows records: the inputs that a result was made from, as they stood in the commit of that result, then
what made those. Downwards it goes by the datums of today: which of them hold a file, and what their tasks wrote.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from gitml.errors import UserError
from gitml.git.commits import parse_commit
from gitml.git.lastchange import last_changes
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.key import spec_fields
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.origin import Origin, origin_of
from gitml.pipeline.params import read_params
from gitml.pipeline.places import line_of
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.reason import member, shown
from gitml.pipeline.spec.model import Pipeline, Stage
from gitml.pipeline.spec.template import is_template
from gitml.pipeline.survey import Survey
from gitml.provenance.codec import bytes_of, text_of
from gitml.record import record, replace
from gitml.store.tree import Snapshot

MOST_COMMITS = 500
"""Commits that are searched for the one that gave a parameter its value, if nobody says how many."""
_PIPELINE = b"pipeline.json"


@record
class Change:
    """A commit, in short."""

    commit: Oid
    when: int
    """Committer date, seconds since the epoch."""
    author: str
    subject: str


@record(kw_only=True)
class Cause:
    """One thing that a result was made from."""

    kind: str
    """'input', 'code', 'parameter' or 'specification'."""
    name: str
    value: str = ""
    """Of a parameter."""
    line: int | None = None
    """Of a parameter: where it stood in its file, from 1; None if that cannot be told."""
    changed_by: Change | None = None
    """The commit that last changed it; None if history here does not reach it, or a stage made it."""
    searched: int | None = None
    """After how many commits that changed its file the search ended; None if it did not end early."""
    made: "Made | None" = None
    """What made an input that is itself an output."""


@record(kw_only=True)
class Made:
    """An output, or a file of one, and what it was made from."""

    path: bytes
    stage: str
    datum: str | None
    """None if it is not known, or several wrote it."""
    result: Change
    run: str | None
    edited: bool
    accepted: str | None
    """Why somebody declared it to be the result though no run made it; None if a run did."""
    causes: tuple[Cause, ...]
    """Empty where this was told already."""
    told: bool = False
    """Whether the causes stand where the same was named first."""


@record(kw_only=True)
class Reached:
    """A stage that something went into."""

    stage: str
    state: str
    through: tuple[bytes, ...]
    """Inputs, code or parameters that carry it."""
    datums: int
    """How many of them it is in."""
    of: int
    """Datums of the stage."""
    outputs: tuple[bytes, ...]
    """Files that the tasks of these datums wrote."""
    partly: bool = False
    """Whether of some datums it is not known what they wrote: then the whole output is taken to be reached."""


class Causes:
    """Answers for one commit."""

    def __init__(
        self, repo: Repository, odb: GitOdb, cache: RunCache, survey: Survey, pipeline: Pipeline, *,
        most_commits: int = MOST_COMMITS,
    ) -> None:  # fmt: skip
        """`most_commits` that changed a file are searched for the one that gave a parameter in it its value."""
        self._repo = repo
        self._odb = odb
        self._cache = cache
        self._survey = survey
        self._pipeline = pipeline
        self._told: set[tuple[Oid, bytes]] = set()
        self._most_commits = most_commits
        self.change = lru_cache(maxsize=None)(self._read_change)
        self._commits = lru_cache(maxsize=None)(self._list_commits)
        self._pipeline_at = lru_cache(maxsize=None)(self._read_pipeline)

    def of(self, path: bytes) -> Made:
        """What made an output or a file of one; raise `UserError` if no stage did."""
        return self._made(self._survey.commit, self._pipeline, path)

    def of_data(self, path: bytes) -> Change | None:
        """The commit that last changed what no stage makes; raise `UserError` if there is no such path."""
        if self._survey.snapshot.get(path) is None:
            raise UserError(f"there is no '{os.fsdecode(path)}' in commit {self._survey.commit.hex()[:10]}")
        return self._last_changes(self._survey.commit, [path])[path]

    def last_change(self, path: bytes) -> Change | None:
        """The commit that last changed a path; None if history here does not reach it."""
        return self.latest([path])[path]

    def latest(self, paths: Iterable[bytes]) -> dict[bytes, Change | None]:
        """The same of many paths, from one walk over history."""
        return self._last_changes(self._survey.commit, paths)

    def parameter(self, stage: Stage, file: str, key: str) -> Change | None:
        """The commit that gave a parameter, or a member of one that is a table, its value; None as for `last_change`.

        None also if the search for it ended early.
        """
        return self._parameter(self._survey.commit, stage, file, key)[0]

    def specification(self, stage_name: str) -> Change | None:
        """The commit that gave a stage its fields, None as for `last_change`."""
        return self._specification(self._survey.commit, stage_name)[0]

    def is_output(self, path: bytes) -> bool:
        """Whether a stage makes it."""
        return any(_covers(stage.output, path) for stage in self._pipeline.stages)

    def changed_by(self, commit: Oid) -> dict[bytes, Change | None]:
        """The paths that a commit changed against its first parent, each with who changed it since then.

        None where the commit itself was the last, or gave a parameter the value that it still has.
        """
        listed = self._repo.git.output(
            "diff-tree", "-r", "-z", "--root", "-m", "--first-parent", "--no-commit-id", "--name-only", commit.hex()
        )
        found: dict[bytes, Change | None] = {}
        paths = listed.split(b"\0")[:-1]
        for path, last in self._last_changes(self._survey.commit, paths).items():
            current = last is None or last.commit == commit or self._gave_a_parameter(commit, path)
            found[path] = None if current else last
        return found

    def _gave_a_parameter(self, commit: Oid, path: bytes) -> bool:
        """Whether a stage reads a parameter of this file whose value comes from that commit."""
        for status in self._survey.statuses:
            for key in status.params.value.get(text_of(path), {}):
                change, _ = self._parameter(self._survey.commit, status.stage, text_of(path), key, limited=False)
                if change is not None and change.commit == commit:
                    return True
        return False

    def reached_from(self, paths: Iterable[bytes]) -> list[Reached]:
        """The stages that these paths go into, directly or through other stages, in the order of the pipeline."""
        carried = set(paths)
        found = []
        for status in self._survey.statuses:
            reached = self._reached(status, carried)
            if reached is not None:
                found.append(reached)
                carried.update([status.stage.output] if reached.partly else reached.outputs)
        return found

    # --- upwards ---

    def _made(self, commit: Oid, pipeline: Pipeline, path: bytes) -> Made:
        origin = origin_of(self._repo, self._odb, self._cache, commit, pipeline, path)
        told = (origin.result, path) in self._told
        self._told.add((origin.result, path))
        return Made(
            path=path,
            stage=origin.stage,
            datum=origin.datum.label if origin.datum is not None else None,
            result=self.change(origin.result),
            run=str(origin.run["run"]) if origin.run is not None else None,
            edited=origin.edited,
            accepted=origin.record.accepted,
            causes=() if told else tuple(self._causes(origin)),
            told=told,
        )

    def _causes(self, origin: Origin) -> Iterable[Cause]:
        base = Snapshot(self._odb, parse_commit(self._odb.read(origin.made_at)[1]).tree)
        pipeline = self._pipeline_at(base.root)
        for part in origin.inputs:
            made = None
            if pipeline is not None and any(_covers(stage.output, part.path) for stage in pipeline.stages):
                try:
                    made = self._made(origin.made_at, pipeline, part.path)
                except UserError:  # nothing is recorded of it there
                    made = None
            changed = self.change(part.changed_by) if part.changed_by is not None and made is None else None
            yield Cause(kind="input", name=text_of(part.path), changed_by=changed, made=made)
        sources = [file.source for file in origin.record.code]
        for source, change in self._last_changes(origin.made_at, sources).items():
            yield Cause(kind="code", name=text_of(source), changed_by=change)
        stage = _stage_of(pipeline, origin.stage)
        for name, values in origin.record.params.items():
            for key, value in values.items():
                change, searched = self._parameter(origin.made_at, stage, name, key)
                yield Cause(
                    kind="parameter",
                    name=f"{name}{':' + key if key else ''}",
                    value=shown(value),
                    line=_line(base, name, key),
                    changed_by=change,
                    searched=searched,
                )
        change, searched = self._specification(origin.made_at, origin.stage)
        file = _PIPELINE if stage is None else stage.file
        yield Cause(kind="specification", name=text_of(file), changed_by=change, searched=searched)

    def _parameter(
        self, start: Oid, stage: Stage | None, name: str, key: str, *, limited: bool = True
    ) -> tuple[Change | None, int | None]:
        """The commit that gave a parameter the value that it has at `start`; see `_last_difference`."""
        if stage is None:
            return None, None
        refs = [
            ref
            for ref in stage.params
            if text_of(ref.path) == name and (ref.key in (None, key) or key.startswith(f"{ref.key}."))
        ]
        if not refs:
            return None, None
        whole = max((ref.key or "" for ref in refs), key=len)
        # by itself: where another parameter is missing, this one can be read all the same
        alone = replace(stage, params=tuple(ref for ref in refs if (ref.key or "") == whole))

        def value(tree: Oid) -> object:
            try:
                found = read_params(alone, Snapshot(self._odb, tree)).value.get(name, {}).get(whole)
            except UserError:
                return None
            return member(whole, found, key)

        return self._last_difference(start, (_literal(os.fsencode(name)),), value, limited=limited)

    def _specification(self, start: Oid, name: str) -> tuple[Change | None, int | None]:
        """The commit that gave a stage the fields that it has at `start`; see `_last_difference`."""

        def fields(tree: Oid) -> object:
            stage = _stage_of(self._pipeline_at(tree), name)
            return None if stage is None else spec_fields(stage)

        stage = _stage_of(self._pipeline_at(parse_commit(self._odb.read(start)[1]).tree), name)
        return self._last_difference(start, _pathspecs(stage), fields)

    def _last_difference(
        self, start: Oid, pathspecs: tuple[str, ...], value: Callable[[Oid], object], *, limited: bool = True
    ) -> tuple[Change | None, int | None]:
        """The latest commit that changed something of `pathspecs`, and what `value` reads in its tree.

        Without one, also after how many commits the search ended, if history goes on.
        """
        limit = self._most_commits if limited else None
        value = lru_cache(maxsize=None)(value)  # a parent comes again as a commit
        listed = self._commits(start, pathspecs, limit)
        for commit in listed[:limit]:
            parsed = parse_commit(self._odb.read(commit)[1])
            after = value(parsed.tree)
            trees = [self._odb.lookup(f"{parent}^{{tree}}") for parent in parsed.parents]
            if None in trees:
                return None, None  # history ends here, so nobody knows
            if after not in [value(tree[0]) for tree in trees if tree is not None]:
                return self.change(commit), None
        return None, limit if limit is not None and len(listed) > limit else None

    def _list_commits(self, start: Oid, pathspecs: tuple[str, ...], limit: int | None) -> Sequence[Oid]:
        """Those that changed something of these, newest first: one more than the limit, if there are as many."""
        arguments = [] if limit is None else [f"--max-count={limit + 1}"]
        listed = self._repo.git.lines("log", *arguments, "--format=%H", start.hex(), "--", *pathspecs)
        return tuple(map(Oid.parse, listed))

    def _read_pipeline(self, tree: Oid) -> Pipeline | None:
        try:
            return load_pipeline(Snapshot(self._odb, tree))
        except UserError:
            return None

    def _last_changes(self, start: Oid, paths: Iterable[bytes]) -> dict[bytes, Change | None]:
        found = last_changes(self._repo, self._odb, start, paths)
        return {path: None if commit is None else self.change(commit) for path, commit in found.items()}

    def _read_change(self, commit: Oid) -> Change:
        parsed = parse_commit(self._odb.read(commit)[1])
        subject = parsed.message.decode("utf-8", "replace").strip().partition("\n")[0]
        return Change(commit, parsed.committer.time, parsed.author.name.decode("utf-8", "replace"), subject)

    # --- downwards ---

    def _reached(self, status: StageStatus, carried: set[bytes]) -> Reached | None:
        stage = status.stage
        files = [file.source for file in status.code] + [reference.path for reference in stage.params]
        direct = sorted({path for path in files if any(_touch(path, other) for other in carried)})
        parts = {part.full_path for datum in status.datums for part in datum.inputs}
        hit = {path for path in parts if any(_touch(path, other) for other in carried)}
        through = sorted({leaf.path for leaf in stage.inputs if any(_touch(leaf.path, other) for other in carried)})
        if not (direct or through):
            return None
        numbers = [
            number
            for number, datum in enumerate(status.datums)
            if direct or any(part.full_path in hit for part in datum.inputs)
        ]
        if not numbers and status.state is State.FRESH and not direct:
            return None  # the glob does not pick it
        outputs: set[bytes] = set()
        partly = status.state is not State.FRESH
        for number in numbers:
            known = self._cache.task(status.task_keys[number]) if number < len(status.task_keys) else None
            if known is None:
                partly = True
                continue
            outputs.update(stage.output + b"/" + path for path, _ in Snapshot(self._odb, known.out).walk())
        return Reached(
            stage=stage.name,
            state=str(status.state),
            through=(*through, *direct),
            datums=len(numbers),
            of=len(status.datums),
            outputs=tuple(sorted(outputs)),
            partly=partly,
        )


def _stage_of(pipeline: Pipeline | None, name: str) -> Stage | None:
    try:
        return None if pipeline is None else pipeline.stage(name)
    except KeyError:
        return None


def _line(snapshot: Snapshot, name: str, key: str) -> int | None:
    path = bytes_of(name)
    entry = snapshot.get(path)
    return line_of(path, snapshot.read(path), key) if key and entry is not None and entry.is_file else None


def _pathspecs(stage: Stage | None) -> tuple[str, ...]:
    """Where the fields of a stage may stand: also in `images` and `defaults`, and in what a template imports."""
    if stage is None:
        return (_literal(_PIPELINE),)
    imported = [":(top,glob)**/*.jsonnet", ":(top,glob)**/*.libsonnet"] if is_template(stage.file) else []
    return tuple(dict.fromkeys([_literal(_PIPELINE), _literal(stage.file), *imported]))


def _literal(path: bytes) -> str:
    return f":(top,literal){os.fsdecode(path)}"


def _covers(directory: bytes, path: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")


def _touch(one: bytes, other: bytes) -> bool:
    return not one or not other or _covers(one, other) or _covers(other, one)


def as_json(made: Made) -> dict[str, object]:
    """What made something, for `--json`."""
    return {
        "path": text_of(made.path),
        "stage": made.stage,
        "datum": made.datum,
        "result": change_as_json(made.result),
        "run": made.run,
        "edited": made.edited,
        "accepted": made.accepted,
        "told": made.told,
        "causes": [
            {
                "kind": cause.kind,
                "name": cause.name,
                "value": cause.value or None,
                "line": cause.line,
                "changed_by": change_as_json(cause.changed_by),
                "searched": cause.searched,
                "made": None if cause.made is None else as_json(cause.made),
            }
            for cause in made.causes
        ],
    }


def change_as_json(change: Change | None) -> Mapping[str, object] | None:
    """A commit, for `--json`."""
    if change is None:
        return None
    return {
        "commit": change.commit.hex(), "time": change.when, "author": change.author, "subject": change.subject
    }  # fmt: skip


def reached_as_json(reached: Sequence[Reached]) -> list[dict[str, object]]:
    """What something reached, for `--json`."""
    return [
        {
            "stage": each.stage,
            "state": each.state,
            "through": [text_of(path) for path in each.through],
            "datums": {"reached": each.datums, "total": each.of},
            "outputs": [text_of(path) for path in each.outputs],
            "partly": each.partly,
        }
        for each in reached
    ]
