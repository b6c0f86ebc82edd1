"""Whether outputs are what their records say: by trees, by the bytes behind them, by running stages again.

A record names the tree of its output. Where another one stands there, each file is looked up in the results that
history and the run cache know: a forge that merges without gitml's merge driver puts files of two results side by side.
"""

from collections.abc import Callable, Iterator, Sequence

from gitml.care.local import DamagedObjectError, LocalReader
from gitml.care.roots import only_below, read_needs_of
from gitml.care.verify import Fault, read_contents
from gitml.errors import CorruptError, ExitCode, MissingDataError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.meter import Meter
from gitml.oid import Oid
from gitml.pipeline.plan import StageStatus, State
from gitml.pipeline.recompute import StageCheck
from gitml.pipeline.survey import Survey, Surveyor
from gitml.provenance.record import Record, parse_record, record_path
from gitml.record import field, record
from gitml.store.odb import MissingObjectError
from gitml.store.tree import Entry, Snapshot, empty_tree

AS_RECORDED = "as recorded"
ROLLED_BACK = "rolled back"
OTHER = "other result"
BLENDED = "blended"
EDITED = "edited"
UNRECORDED = "unrecorded"
UNREADABLE = "unreadable"
NONE = "no result"
_SOUND = (AS_RECORDED, ROLLED_BACK, NONE)


@record
class Result:
    """A result that is known: its output, and the commit whose record names it (None: only the run cache knows it)."""

    output: Oid
    commit: Oid | None
    key: str | None


@record
class Stray:
    """A file of an output that is not as the record's output has it.

    `result` is where it comes from, None if no result has it. `removed`: it is gone, the record's output has it.
    """

    path: bytes
    result: Result | None
    removed: bool = False


@record
class Flaw:
    """What is wrong with the bytes of a file: `kind` is missing, corrupt or malformed. `path` is from the top."""

    path: bytes
    kind: str
    what: str


@record(frozen=False, kw_only=True)
class StageVerdict:
    """What was found of one stage."""

    status: StageStatus
    outcome: str
    """One of the words of this module."""
    files: int = 0
    bytes: int = 0
    """Of the contents behind pointers that were read."""
    strays: list[Stray] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    recomputed: StageCheck | None = None

    @property
    def is_sound(self) -> bool:
        """Whether what is here is right; content that is not here says nothing."""
        return self.outcome in _SOUND and all(flaw.kind == "missing" for flaw in self.flaws)

    @property
    def is_missing(self) -> bool:
        """Whether something could not be looked at because it is not here."""
        again = self.recomputed
        return any(flaw.kind == "missing" for flaw in self.flaws) or (
            again is not None and any(task.outcome == "skipped" for task in again.tasks)
        )


def exit_code(verdicts: Sequence[StageVerdict]) -> ExitCode:
    """6 if something is not what it should be, else 2 if a stage failed, else 5 if something is not here, else 0."""
    again = [each.recomputed.outcome for each in verdicts if each.recomputed is not None]
    if not all(each.is_sound for each in verdicts) or "differs" in again:
        return ExitCode.VERIFICATION_FAILED
    if any(each.recomputed is not None and each.recomputed.stopped for each in verdicts):
        return ExitCode.INTERRUPTED
    if "failed" in again:
        return ExitCode.STAGE_FAILED
    return ExitCode.MISSING_DATA if any(each.is_missing for each in verdicts) else ExitCode.OK


def verify_outputs(
    repo: Repository,
    odb: GitOdb,
    surveyor: Surveyor,
    survey: Survey,
    names: Sequence[str] = (),
    *,
    progress: Meter | None = None,
    counted: Callable[[str, int, int], None] = lambda *_: None,
) -> list[StageVerdict]:
    """Compare the outputs of stages (by default all) with their records, and read all their content. No fetch.

    `counted` is called with a stage, its files that were hashed, and all of them; `progress` is for the content of
    pointers.
    """
    chosen = [status for status in survey.statuses if not names or status.stage.name in names]
    found = [_compare(repo, odb, surveyor, survey, status) for status in chosen]
    needs = only_below(read_needs_of(repo, [survey.commit.hex()]), [each.status.stage.output for each in found])
    reader = LocalReader(repo)
    try:
        for each in found:
            each.flaws += _read_objects(reader, survey.snapshot.root, each, counted)
    finally:
        reader.close()
    for fault in read_contents(repo, needs, progress=progress).faults:
        _assign(fault, found)
    for use, pointer in needs.versions():
        for each in found:
            if use.path.startswith(each.status.stage.output + b"/"):
                each.bytes += pointer.size
    return found


def _assign(fault: Fault, found: Sequence[StageVerdict]) -> None:
    for use in fault.uses:
        for each in found:
            if use.path.startswith(each.status.stage.output + b"/"):
                each.flaws.append(Flaw(use.path, fault.kind, fault.what))


def _read_objects(
    reader: LocalReader, root: Oid, verdict: StageVerdict, counted: Callable[[str, int, int], None]
) -> Iterator[Flaw]:
    """Hash every tree and blob of an output; what pointers refer to is read elsewhere."""
    hashed = _Hashed(reader)
    stage = verdict.status.stage
    listed: list[tuple[bytes, Entry]] = []
    try:
        listed += Snapshot(hashed, root).walk(stage.output)
    except MissingDataError as error:
        yield Flaw(stage.output, "missing", error.message)
    except CorruptError as error:
        yield Flaw(stage.output, "corrupt", error.message)
    verdict.files = len(listed)
    for number, (path, entry) in enumerate(listed):
        counted(stage.name, number, len(listed))
        try:
            hashed.read(entry.oid)
        except MissingDataError:
            yield Flaw(path, "missing", f"'{entry.oid}' is missing")
        except CorruptError as error:
            yield Flaw(path, "corrupt", error.message)


class _Hashed:
    """A reader that takes no object whose bytes do not have its name."""

    def __init__(self, reader: LocalReader) -> None:
        self._reader = reader
        self.format = reader.format

    def read(self, oid: Oid) -> tuple[str, bytes]:
        kind, data = self._reader.read(oid)
        if self.format.oid_of(kind, data) != oid:
            raise DamagedObjectError(oid)
        return kind, data

    def has(self, oid: Oid) -> bool:
        return self._reader.has(oid)


def _compare(repo: Repository, odb: GitOdb, surveyor: Surveyor, survey: Survey, status: StageStatus) -> StageVerdict:
    record, output = status.record, status.output
    if record is not None and record.output_tree == output:
        return StageVerdict(status=status, outcome=AS_RECORDED)
    if record is None and survey.snapshot.get(record_path(status.stage.name)) is not None:
        return StageVerdict(status=status, outcome=UNREADABLE)
    if record is None and output == empty_tree(odb.format):
        return StageVerdict(status=status, outcome=NONE)
    if status.state is State.HELD:
        return StageVerdict(status=status, outcome=ROLLED_BACK)
    results = known_results(repo, odb, surveyor, survey.commit, status.stage.name)
    whole = next((each for each in results if each.output == output), None)
    if record is None and status.state is State.FRESH:
        return StageVerdict(status=status, outcome=AS_RECORDED)  # by the run cache, which is a record as well
    strays = list(_strays(odb, record, output, results, whole))
    if whole is not None:
        return StageVerdict(status=status, outcome=OTHER, strays=strays)
    kept = record is not None and _shares(odb, record.output_tree, output)
    sources = {each.result.output for each in strays if each.result is not None}
    explained = all(each.result is not None or each.removed for each in strays)
    if explained and sources and (kept or len(sources) > 1):
        return StageVerdict(status=status, outcome=BLENDED, strays=strays)
    return StageVerdict(status=status, outcome=EDITED if record is not None else UNRECORDED, strays=strays)


def known_results(repo: Repository, odb: GitOdb, surveyor: Surveyor, commit: Oid, stage: str) -> list[Result]:
    """The results of a stage that history before `commit` and the run cache know, newest of the history first."""
    path = record_path(stage).decode()
    found: dict[Oid, Result] = {}
    # without --full-history git leaves out the side of a merge whose record was not taken
    lines = repo.git.lines(
        "log", "--full-history", "--format=%H", commit.hex(), "--", f":(top,literal){path}"
    )  # fmt: skip
    for line in lines:
        blob = odb.lookup(f"{line}:{path}")
        if blob is None or blob[1] != "blob":
            continue
        try:
            record = parse_record(blob[2])
        except CorruptError:
            continue
        # the oldest commit that has it is the one that brought it
        found[record.output_tree] = Result(record.output_tree, Oid.parse(line), record.key)
    for out in surveyor.cache.outputs_of(stage):
        found.setdefault(out, Result(out, None, None))
    return list(found.values())


def _strays(
    odb: GitOdb, record: Record | None, output: Oid, results: Sequence[Result], whole: Result | None
) -> Iterator[Stray]:
    """The files at which an output is not the record's, with the result that each is of."""
    recorded = _files(odb, record.output_tree) if record is not None else None
    here = _files(odb, output) or {}
    # one whole result explains more than bits of several
    order = [*([whole] if whole is not None else []), *results]
    snapshots = [(each, Snapshot(odb, each.output)) for each in order]
    for path, entry in here.items():
        if recorded is None or recorded.get(path) != entry:
            yield Stray(path, _source(snapshots, path, entry))
    for path in recorded or ():
        if path not in here:
            yield Stray(path, None, removed=True)


def _source(snapshots: Sequence[tuple[Result, Snapshot]], path: bytes, entry: Entry) -> Result | None:
    for result, snapshot in snapshots:
        try:
            if snapshot.get(path) == entry:
                return result
        except MissingObjectError:
            continue  # a result that is not in this clone
    return None


def _files(odb: GitOdb, tree: Oid) -> dict[bytes, Entry] | None:
    """The files of a tree, None if it is not here, or no tree: a file in the place of an output."""
    try:
        return dict(Snapshot(odb, tree).walk())
    except (MissingObjectError, CorruptError):
        return None


def _shares(odb: GitOdb, recorded: Oid, output: Oid) -> bool:
    """Whether two trees have a file in common."""
    one, two = _files(odb, recorded) or {}, _files(odb, output) or {}
    return any(two.get(path) == entry for path, entry in one.items())


def recompute_outputs(
    survey: Survey, verdicts: Sequence[StageVerdict], check: Callable[[StageStatus, Snapshot], StageCheck]
) -> None:
    """Have `check` run again what can be compared, and say of the rest why it cannot."""
    for each in verdicts:
        total = len(each.status.datums)
        if each.outcome != AS_RECORDED:
            each.recomputed = StageCheck(total=total, reason="its output is not what a run made")
        elif each.status.state is not State.FRESH:
            reason = f"its result is of other inputs than this commit has ({each.status.state})"
            each.recomputed = StageCheck(total=total, reason=reason)
        else:
            each.recomputed = check(each.status, survey.snapshot)
            if each.recomputed.stopped:
                return
