"""Which commits to revert to be rid of a result, of what got worse, or of a commit; and reverting them, all or none.

Plain `git revert` does it. What that means for results is the pipeline's own rule: with a reverted result its inputs
stay, so the stage is held; with reverted data, code or parameters the older result is known and comes back.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from gitml.errors import GitmlError, UserError
from gitml.git.commits import parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.git.state import sequence_under_way
from gitml.oid import Oid
from gitml.pipeline.journal import JournalEntry, journal, read_metrics
from gitml.pipeline.loading import load_pipeline
from gitml.pipeline.spec.model import Metric, Pipeline, Stage
from gitml.pipeline.survey import Surveyor
from gitml.provenance.codec import printable
from gitml.provenance.record import RECORDS, Record, parse_record, record_path
from gitml.record import record
from gitml.review.bisect import Bounds, find_breakage
from gitml.review.comparison import Verdict
from gitml.review.metrics import metric_changes
from gitml.review.runs import results_of_run
from gitml.store.tree import Snapshot

_SHOWN = 5
_LOUD = {"GITML_ACTIVE": "", "GIT_OPTIONAL_LOCKS": "1"}
"""As if the user had typed it: hooks fill files in and have results follow."""


@record
class Revert:
    """A commit that is going to be reverted. `why` is 'result', 'cause' or 'commit'."""

    commit: Oid
    why: str
    subject: str
    when: int
    """Committer date, seconds since the epoch."""
    files: int
    """How many it changed."""
    is_merge: bool


@record
class Move:
    """A metric, now and after the results are reverted. None: there is none."""

    stage: str
    name: str
    now: float | None
    after: float | None


@record
class Plan:
    """What a rollback would do. `kind` is 'run', 'metric' or 'commit'."""

    kind: str
    name: str
    reverts: tuple[Revert, ...]
    """Newest first, the order in which they are reverted."""
    moves: tuple[Move, ...]


class ConflictError(GitmlError):
    """A revert does not apply; it was taken back. Carries the `paths` in conflict."""

    def __init__(self, message: str, paths: Sequence[str], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)


def plan_rollback(repo: Repository, odb: GitOdb, surveyor: Surveyor, target: str, *, with_cause: bool = False) -> Plan:
    """What to revert for a run, a metric (`[STAGE:]METRIC`) or a revision; raise `UserError` if there is nothing."""
    head = repo.resolve("HEAD^{commit}")
    results = results_of_run(repo, target)
    if results:
        return _Planner(repo, odb, surveyor, head).of_results("run", target, results, with_cause)
    commit = repo.try_resolve(f"{target}^{{commit}}")
    survey = surveyor.survey(head)
    stages = _with_metric(survey.pipeline, target) if survey.pipeline is not None else []
    if commit is not None and stages:
        raise UserError(
            f"'{target}' is a commit and a metric",
            hint=f"{stages[0].name}:{target} is the metric; refs/heads/{target} or an id is the commit",
        )
    if commit is not None:
        planner = _Planner(repo, odb, surveyor, head)
        if "Gitml-Run" in parse_trailers(parse_commit(odb.read(commit)[1]).message):
            return planner.of_results("commit", target, [commit], with_cause)
        if with_cause:
            raise UserError(f"'{target}' is no result, so it has no cause", hint="leave --with-cause out")
        return Plan("commit", target, planner.reverts({commit: "commit"}), ())
    if not stages:
        if surveyor.cache.run(target) is not None:
            raise UserError(f"run '{target}' has no result in the history of HEAD", hint="git ml log")
        raise UserError(
            f"there is no run, commit or metric '{target}'", hint="see what there is: git ml log; git log --oneline"
        )
    if len(stages) > 1:
        names = ", ".join(stage.name for stage in stages)
        raise UserError(
            f"several stages have a metric '{target}': {names}", hint=f"git ml rollback {stages[0].name}:{target}"
        )
    return _Planner(repo, odb, surveyor, head).of_metric(stages[0], target.rpartition(":")[2], with_cause)


def _with_metric(pipeline: Pipeline, target: str) -> list[Stage]:
    """The stages that declare a metric, `[STAGE:]METRIC`."""
    stage_name, colon, metric = target.rpartition(":")
    stages = [stage for stage in pipeline.stages if not colon or stage.name == stage_name]
    return [stage for stage in stages if any(each.name == metric for each in stage.metrics)]


class _Planner:
    """Planning as seen from HEAD."""

    def __init__(self, repo: Repository, odb: GitOdb, surveyor: Surveyor, head: Oid) -> None:
        self._repo = repo
        self._odb = odb
        self._surveyor = surveyor
        self._head = head

    def of_results(self, kind: str, name: str, results: Sequence[Oid], with_cause: bool) -> Plan:
        """Revert results, and if asked what they were made from."""
        why = dict.fromkeys(results, "result")
        if with_cause:
            causes = [cause for result in results for cause in self._causes(result)]
            if not causes:
                raise UserError(
                    f"nothing between '{name}' and the result before it is known to be its cause",
                    hint="without --with-cause the result alone is reverted",
                )
            why = {**dict.fromkeys(causes, "cause"), **why}
        reverts = self.reverts(why)
        oldest = [each.commit for each in reverts if each.why == "result"][-1]
        parents = parse_commit(self._odb.read(oldest)[1]).parents
        return Plan(kind, name, reverts, self._moves(parents[0] if parents else None, results))

    def of_metric(self, stage: Stage, name: str, with_cause: bool) -> Plan:
        """Go back to the last result before the metric got worse."""
        rule = next((each for each in stage.metrics if each.name == name and each.goal is not None), None)
        if rule is None:
            raise UserError(
                f"'{name}' has no goal, so nothing says when it got worse",
                hint=f'declare it: {{"path": …, "name": "{name}", "goal": "max"}}; or name a run or commit to revert',
            )
        entries = journal(self._repo, self._odb, self._head, stage, follow=True)
        known = [entry for entry in entries if name in entry.metrics]
        good = next(
            (
                older
                for newer, older in pairwise(known)
                if _is_worse(stage, name, newer, older) and _is_worse(stage, name, known[0], older)
            ),
            None,
        )
        if good is None:
            said = f"it is {known[0].metrics[name]:.6g}" if known else "there is no result"
            raise UserError(
                f"'{name}' of '{stage.name}' is not worse than before: {said}", hint="git ml log " + stage.name
            )
        newer_ones = [entry.commit for entry in entries[: entries.index(good)]]
        why = dict.fromkeys(newer_ones, "result")
        if with_cause:
            why = {**dict.fromkeys(self._to_blame(stage, rule, good), "cause"), **why}
        return Plan(
            "metric",
            f"{stage.name}:{name}",
            self.reverts(why),
            self._moves(good.commit, newer_ones, {stage.name: good.metrics}),
        )

    def _to_blame(self, stage: Stage, rule: Metric, good: JournalEntry) -> list[Oid]:
        assert rule.name is not None
        value = good.metrics[rule.name]
        bounds = Bounds(value - rule.tolerance, None) if rule.goal == "max" else Bounds(None, value + rule.tolerance)
        found = find_breakage(
            self._repo, self._odb, self._surveyor, stage, rule.name, bounds, good=good.commit, bad=self._head
        )
        suspects = list(found.suspects) if found is not None else []
        if len(suspects) != 1:
            raise UserError(
                f"{len(suspects)} commits may have made '{rule.name}' worse, and their results are not known",
                hint=f"git ml bisect --metric {rule.name} --stage {stage.name} --run finds out which",
            )
        return [suspects[0].commit]

    def _causes(self, result: Oid) -> list[Oid]:
        """The commits since the result before that changed something which the stages of this one read."""
        commit = parse_commit(self._odb.read(result)[1])
        before = self._repo.git.lines(
            "log", "-1", "--format=%H", "--grep=^Gitml-Run: ", *(parent.hex() for parent in commit.parents)
        )
        excluded = [f"^{each}" for each in before]
        listed = self._repo.git.lines(
            "rev-list", "--no-merges", *(parent.hex() for parent in commit.parents), *excluded
        )
        records = self._records(result)
        read = {path for record in records for path in _read_by(record)} | self._specified_in(result, records)
        return [
            Oid.parse(each) for each in listed if any(_touches(path, read) for path in self._changed(Oid.parse(each)))
        ]

    def _specified_in(self, commit: Oid, records: list[Record]) -> set[bytes]:
        """The files that have the specifications of these stages."""
        pipeline = load_pipeline(Snapshot(self._odb, self._surveyor.tree_of(commit)))
        named = {record.stage for record in records}
        return {stage.file for stage in (pipeline.stages if pipeline is not None else ()) if stage.name in named}

    def _records(self, commit: Oid) -> list[Record]:
        """The records that a commit brought."""
        snapshot = Snapshot(self._odb, self._surveyor.tree_of(commit))
        found = []
        for path in self._changed(commit):
            if path.startswith(RECORDS + b"/"):
                try:
                    found.append(parse_record(snapshot.read(path)))
                except (KeyError, GitmlError):
                    continue  # removed, or not a record
        return found

    def _changed(self, commit: Oid) -> list[bytes]:
        listing = self._repo.git.output(
            "diff-tree", "--root", "-r", "-z", "--name-only", "--no-commit-id", "-m", "--first-parent", commit.hex()
        )
        return [path for path in listing.split(b"\0") if path]

    def reverts(self, why: dict[Oid, str]) -> tuple[Revert, ...]:
        """These commits, newest first; raise `UserError` for one that HEAD does not reach."""
        order = {name: at for at, name in enumerate(self._repo.git.lines("rev-list", "--topo-order", self._head.hex()))}
        for commit in why:
            if commit.hex() not in order:
                raise UserError(
                    f"commit {commit.hex()[:10]} is not in the history of HEAD",
                    hint="there is nothing of it to revert; git log shows what is there",
                )
        cut_off = _cut_off(self._repo)
        found = []
        for commit in sorted(why, key=lambda each: order[each.hex()]):
            if commit.hex() in cut_off:
                raise UserError(
                    f"this clone is cut off at commit {commit.hex()[:10]}, so nobody knows here what it changed",
                    hint="git fetch --deepen=1",  # to git it is a first commit: reverting it would remove all files
                )
            parsed = parse_commit(self._odb.read(commit)[1])
            subject = parsed.message.decode("utf-8", "replace").strip().partition("\n")[0]
            found.append(
                Revert(
                    commit, why[commit], subject, parsed.committer.time, len(self._changed(commit)),
                    len(parsed.parents) > 1,
                )
            )  # fmt: skip
        return tuple(found)

    def _moves(
        self, after: Oid | None, results: Iterable[Oid], known: Mapping[str, Mapping[str, float]] | None = None
    ) -> tuple[Move, ...]:
        """The metrics of the stages whose results are reverted, at HEAD and at `after`.

        `known` has those at `after` of some stages, which may have had other names there.
        """
        pipeline = self._surveyor.survey(self._head).pipeline
        touched = {path for result in results for path in self._changed(result)}
        now = Snapshot(self._odb, self._surveyor.tree_of(self._head))
        then = Snapshot(self._odb, self._surveyor.tree_of(after)) if after is not None else None
        found = []
        for stage in pipeline.stages if pipeline is not None else ():
            if record_path(stage.name) not in touched:
                continue
            ours = read_metrics(now, stage.output, stage.metrics)
            theirs = (known or {}).get(stage.name)
            if theirs is None:
                theirs = read_metrics(then, stage.output, stage.metrics) if then is not None else {}
            found += [
                Move(stage.name, name, ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])
            ]
        return tuple(found)


def _is_worse(stage: Stage, name: str, newer: JournalEntry, older: JournalEntry) -> bool:
    noise = older.noise, newer.noise
    changes = metric_changes(stage, older.metrics, newer.metrics, fresh=True, noise=noise)
    return any(each.name == name and each.verdict is Verdict.WORSE for each in changes)


def _read_by(record: Record) -> list[bytes]:
    """What a stage's result was made of, as paths."""
    return [
        *(part.path for part in record.inputs),
        *(file.source for file in record.code),
        *(os.fsencode(path) for path in record.params),
        b"pipeline.json",
    ]


def _cut_off(repo: Repository) -> set[str]:
    """The commits whose parents a shallow clone lacks."""
    try:
        return set((repo.common_dir / "shallow").read_text().split())
    except FileNotFoundError:
        return set()


def _touches(path: bytes, read: Iterable[bytes]) -> bool:
    return any(not each or path == each or path.startswith(each + b"/") for each in read)


def check_ready(repo: Repository, plan: Plan, mainline: int | None) -> None:
    """Raise `UserError` unless the worktree is in a state in which the plan can be done."""
    if repo.worktree is None:
        raise UserError("a bare repository has nothing to revert in", hint="do it in a clone")
    under_way = sequence_under_way(repo.git_dir)
    if under_way is not None:
        raise UserError(f"{under_way} is under way", hint="end it first: git status says how")
    changed = repo.git.output("status", "--porcelain", "-z", "--untracked-files=no").split(b"\0")
    if changed != [b""]:
        name = printable(changed[0][3:])
        raise UserError(
            f"there are changes that are not committed, the first in '{name}'", hint="commit or stash them: git stash"
        )
    merges = [each for each in plan.reverts if each.is_merge]
    if merges and len(plan.reverts) > 1:
        short = merges[0].commit.hex()[:10]
        raise UserError(
            f"{short} is a merge, which can only be reverted by itself", hint=f"git ml rollback {short} -m 1"
        )
    if merges and mainline is None:
        raise UserError(
            f"{merges[0].commit.hex()[:10]} is a merge: nothing says which side stays",
            hint="-m 1 goes back to the side of the branch that was merged into",
        )
    if mainline is not None and not merges:
        raise UserError("-m is for a merge, and there is none to revert", hint="leave -m out")


def roll_back(repo: Repository, plan: Plan, mainline: int | None = None) -> tuple[Oid, str]:
    """Revert all commits of a plan or none; give the new HEAD and what hooks said.

    Raise `ConflictError` where a revert does not apply, after everything is as before.
    """
    check_ready(repo, plan, mainline)
    before = repo.resolve("HEAD^{commit}")
    options = ["--no-edit", *([f"--mainline={mainline}"] if mainline is not None else [])]
    names = [each.commit.hex() for each in plan.reverts]
    # in a session of its own: a key press must not end it half way
    done = repo.git.run("revert", *options, *names, check=False, env=_LOUD, apart=True)
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return repo.resolve("HEAD^{commit}"), said
    unmerged = [
        printable(path)
        for path in repo.git.run("diff", "--name-only", "--diff-filter=U", "-z", check=False).stdout.split(b"\0")
        if path
    ]
    stuck = repo.try_resolve("REVERT_HEAD")
    if sequence_under_way(repo.git_dir) is not None:
        aborted = repo.git.run("revert", "--abort", check=False, env=_LOUD, apart=True)
        if aborted.returncode != 0:
            raise GitmlError("the revert stopped half way and could not be taken back", hint="git revert --abort")
    if repo.resolve("HEAD^{commit}") != before:
        raise GitmlError("the revert stopped half way", hint=f"git reset --keep {before.hex()[:10]} goes back")
    if unmerged:
        which = f"reverting {stuck.hex()[:10]}" if stuck is not None else "the revert"
        listed = ", ".join(f"'{path}'" for path in unmerged[:_SHOWN]) + (" and more" if len(unmerged) > _SHOWN else "")
        raise ConflictError(
            f"{which} conflicts with later changes of {listed}; nothing was changed",
            unmerged,
            hint="roll back the later commits first (git log -- PATH names them), or resolve it by hand: git revert "
            + (stuck.hex()[:10] if stuck is not None else names[0][:10]),
        )
    text = done.stdout.decode("utf-8", "replace") + said
    if "nothing to commit" in text or "nothing added to commit" in text:
        raise UserError("nothing is to be done: what these commits changed is reverted already", hint="git ml log")
    last = (said.splitlines() or ["git revert failed"])[0]
    raise GitmlError(f"git revert failed: {printable(last)}; nothing was changed", hint="git status")


def take_off(repo: Repository, result: Oid) -> Oid:
    """Take a result off the branch, which goes back to the commit before it; give the new HEAD.

    Raise `UserError` unless it is the last commit, no remote is known to have it and nothing of the user's is in the
    way.
    """
    short = result.hex()[:10]
    if repo.worktree is None:
        raise UserError("a bare repository has nothing to reset", hint="do it in a clone")
    under_way = sequence_under_way(repo.git_dir)
    if under_way is not None:
        raise UserError(f"{under_way} is under way", hint="end it first: git status says how")
    if repo.resolve("HEAD^{commit}") != result:
        raise UserError(f"{short} is not the last commit", hint="without --reset it is reverted")
    pushed = repo.git.lines("for-each-ref", "--format=%(refname:short)", f"--contains={result.hex()}", "refs/remotes")
    if pushed:
        raise UserError(f"{short} was pushed, '{pushed[0]}' has it", hint="without --reset it is reverted")
    done = repo.git.run("reset", "--keep", f"{result.hex()}^", check=False, env=_LOUD, apart=True)
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git reset failed"])[0]
        raise UserError(f"{printable(said)}; nothing was changed", hint="commit or stash your changes: git stash")
    return repo.resolve("HEAD^{commit}")
