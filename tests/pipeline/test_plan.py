"""The state table, row by row, and the histories it was made for, as states of trees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gitml.errors import CorruptError, UserError
from gitml.oid import Oid
from gitml.pipeline.failure import FailureInfo
from gitml.pipeline.plan import StageStatus, State, build_record, evaluate, evaluate_stage, key_at
from gitml.pipeline.sources import Source
from gitml.pipeline.spec.model import CrossInput, Input, ParamRef, PfsInput, Pipeline, Stage, Transform, UnionInput
from gitml.pipeline.trigger import Since
from gitml.provenance.record import Record, RecordEntry, RecordHold, format_record, parse_record, record_path
from gitml.record import replace
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_GITLINK, MODE_TREE, Entry, Snapshot, edit_tree, empty_tree

MakeTree = Callable[..., Snapshot]
MakeInput = Callable[..., PfsInput]


@dataclass
class Known:
    """Knowledge in dicts. `calls` remembers the questions."""

    by_key: dict[str, list[Oid]] = field(default_factory=dict)
    failures: dict[str, FailureInfo] = field(default_factory=dict)
    older: set[Oid] = field(default_factory=set)
    back: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    when: int = 0
    touched: Since | None = None
    elsewhere: dict[str, Source] = field(default_factory=dict)

    def outputs(self, stage_name: str, key: str) -> Sequence[Oid]:
        self.calls.append("outputs")
        return self.by_key.get(key, [])

    def failed(self, stage_name: str, key: str) -> FailureInfo | None:
        self.calls.append("failed")
        return self.failures.get(key)

    def is_output(self, stage_name: str, oid: Oid) -> bool:
        self.calls.append("is_output")
        return oid in self.older or any(oid in outputs for outputs in self.by_key.values())

    def is_made(self, stage_name: str, oid: Oid) -> bool:
        self.calls.append("is_made")
        return oid in self.older or any(oid in outputs for outputs in self.by_key.values())

    def rolled_back(self, stage_name: str, key: str, output: bytes) -> bool:
        self.calls.append("rolled_back")
        return key in self.back

    def committed(self) -> int:
        self.calls.append("committed")
        return self.when

    def tasks_done(self, task_keys: Sequence[str]) -> int:
        self.calls.append("tasks_done")
        return sum(key in self.tasks for key in task_keys)

    def since(self, leaf: PfsInput, before: Entry, now: Entry) -> Since | None:
        return self.touched

    def source(self, leaf: PfsInput) -> Source | None:
        return self.elsewhere.get(leaf.branch or leaf.commit)


class Refusing(list[str]):
    def append(self, question: str) -> None:
        raise AssertionError(f"asked for {question}")


class Unasked(Known):
    """Knowledge that must not be asked."""

    def __init__(self) -> None:
        super().__init__(calls=Refusing())


def stage(name: str, node: Input | None, cmd: tuple[str, ...] = ("python", "train.py"), **fields: object) -> Stage:
    made = Stage(name=name, transform=Transform(cmd=cmd), input=node, output=name.encode())
    return replace(made, **fields)  # type: ignore[arg-type]


@pytest.fixture
def model(pfs_input: MakeInput) -> Stage:
    return stage("model", pfs_input("training"), params=(ParamRef(path=b"params.yaml", key="model.C"),))


FILES = {
    "training/a.csv": "1",
    "training/b.csv": "2",
    "train.py": "print()",
    "params.yaml": "model: {C: 1.0}\n",
    "README": "hello",
}


def pipeline(*stages: Stage) -> Pipeline:
    return Pipeline(stages=stages)


def one(model: Stage, snapshot: Snapshot, knowledge: Known | None = None) -> StageStatus:
    (status,) = evaluate(pipeline(model), snapshot, knowledge or Known())
    return status


def publish(status: StageStatus, snapshot: Snapshot, text: str) -> Snapshot:
    """The tree with a result of the stage: one file holding `text`, and the record."""
    odb = snapshot.odb
    assert isinstance(odb, MemoryOdb)
    empty = empty_tree(odb.format)
    files: dict[bytes, Entry | None] = {b"result": Entry(0o100644, odb.write("blob", text.encode()))} if text else {}
    output = edit_tree(odb, odb, empty, files)
    return place(status, snapshot, output, build_record(status, snapshot, output, 0))


def place(status: StageStatus, snapshot: Snapshot, output: Oid, record: Record | None) -> Snapshot:
    odb = snapshot.odb
    assert isinstance(odb, MemoryOdb)
    text = None if record is None else Entry(0o100644, odb.write("blob", format_record(record)))
    placed = None if output == empty_tree(odb.format) else Entry(MODE_TREE, output)
    changes: dict[bytes, Entry | None] = {status.stage.output: placed, record_path(status.stage.name): text}
    return Snapshot(odb, edit_tree(odb, odb, snapshot.root, changes))


# --- the rows of the table ---


@pytest.fixture
def tip(tree: MakeTree, model: Stage) -> Snapshot:
    """Data, code and a published result."""
    data = tree(FILES)
    return publish(one(model, data), data, "one")


def test_fresh_by_the_record_alone(model: Stage, tip: Snapshot) -> None:
    status = one(model, tip, Unasked())
    assert (status.state, status.reason) == (State.FRESH, "")
    assert status.result == status.output == tip.oid_at(b"model")
    assert (status.done, len(status.datums), len(status.task_keys)) == (1, 1, 1)


def test_fresh_by_the_run_cache_without_a_record(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    bare = tree({".gitml/records/model.json": None}, tip)
    key = one(model, tip).key
    assert key is not None
    assert one(model, bare, Known(by_key={key: [Oid(bytes(20)), tip.oid_at(b"model")]})).state is State.FRESH


def test_stale_if_nothing_is_known(model: Stage, tree: MakeTree) -> None:
    status = one(model, tree(FILES))
    assert (status.state, status.reason, status.result, status.done) == (State.STALE, "first run", None, 0)
    assert status.key is not None
    assert status.key == key_at(pipeline(model), "model", tree(FILES))


def test_stale_counts_what_is_done(pfs_input: MakeInput, tree: MakeTree) -> None:
    many = stage("many", pfs_input("training", "/*"))
    keys = one(many, tree(FILES)).task_keys
    status = one(many, tree(FILES), Known(tasks={keys[1]}))
    assert (status.state, len(status.datums), status.done) == (State.STALE, 2, 1)


def test_failed_for_this_key(model: Stage, tree: MakeTree) -> None:
    key = one(model, tree(FILES)).key
    assert key is not None
    failure = FailureInfo("training", "datum 'training': exit code 1\x1b[2J", ("Traceback",))
    status = one(model, tree(FILES), Known(failures={key: failure}))
    assert (status.state, status.failure) == (State.FAILED, failure)
    assert status.reason == "datum 'training': exit code 1\\u001b[2J"
    assert one(model, tree({"train.py": "fixed"}, tree(FILES)), Known(failures={key: failure})).state is State.STALE


def test_a_success_outweighs_a_failure(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    key = one(model, tip).key
    assert key is not None
    known = Known(by_key={key: [tip.oid_at(b"model")]}, failures={key: FailureInfo("", "flaky")})
    assert one(model, tree(FILES), known).state is State.MISSING


@pytest.mark.parametrize(
    ("output", "rolled_back", "state"),
    [
        ("older", True, State.HELD),
        ("older", False, State.MISSING),
        ("nothing", True, State.HELD),
        ("nothing", False, State.MISSING),
        ("foreign", True, State.EDITED),
        ("foreign", False, State.EDITED),
    ],
)
def test_known_but_something_else_is_there(
    model: Stage, tip: Snapshot, tree: MakeTree, output: str, rolled_back: bool, state: State
) -> None:
    status = one(model, tip)
    assert status.key is not None
    other = tree({"x": "other"}).root
    there = empty_tree(tip.odb.format) if output == "nothing" else other
    known = Known(older={other} if output == "older" else set(), back={status.key} if rolled_back else set())
    found = one(model, place(status, tip, there, status.record), known)
    assert found.state is state
    assert found.result == tip.oid_at(b"model")
    assert found.output == there
    assert found.reason != ""


def test_the_output_that_the_record_names_is_a_known_output(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    # data went back to what an older run saw; the record and output of the newer run still stand
    key = key_at(pipeline(model), "model", tree({"training/a.csv": "old"}, tip))
    assert key is not None
    known = Known(by_key={key: [Oid(b"\5" * 20)]})
    status = one(model, tree({"training/a.csv": "old"}, tip), known)
    assert (status.state, status.result) == (State.MISSING, Oid(b"\5" * 20))


def test_an_edited_output_is_kept(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    status = one(model, tree({"model/result": "by hand"}, tip))
    assert (status.state, status.reason) == (State.EDITED, "'model' was changed by something other than a run")


def test_a_file_where_the_output_should_be_is_an_edit(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    assert one(model, tree({"model": "a file"}, tree({"model/result": None}, tip))).state is State.EDITED


def test_a_new_output_directory_is_filled_from_what_is_known(model: Stage, tip: Snapshot) -> None:
    moved = replace(model, output=b"elsewhere")
    assert one(moved, tip).state is State.MISSING


# --- stages behind others ---


@pytest.fixture
def chain(model: Stage, pfs_input: MakeInput) -> Pipeline:
    node = CrossInput(inputs=(pfs_input("input", "/*"), pfs_input("model", upstream="model")))
    return pipeline(model, stage("inference", node, ("python", "predict.py")))


CHAIN = {**FILES, "predict.py": "", "input/x.csv": "x", "input/y.csv": "y"}


def settle(chain: Pipeline, snapshot: Snapshot, text: str) -> Snapshot:
    """Run everything that is stale."""
    for number, made in enumerate(chain.stages):
        status = evaluate_stage(chain, made, snapshot, Known(), ())
        if status.state is State.STALE:
            snapshot = publish(status, snapshot, f"{text} {number}")
    return snapshot


def test_waits_for_what_is_not_settled(chain: Pipeline, tree: MakeTree) -> None:
    status = evaluate(chain, tree(CHAIN), Known())[1]
    assert (status.state, status.reason, status.waits_for) == (State.STALE, "waits for 'model'", ("model",))
    assert (status.key, status.datums, status.done) == (None, (), 0)


def test_the_next_stage_is_evaluated_on_the_overlay(chain: Pipeline, tree: MakeTree) -> None:
    snapshot = tree(CHAIN)
    overlay = publish(evaluate_stage(chain, chain.stages[0], snapshot, Known(), ()), snapshot, "m")
    status = evaluate_stage(chain, chain.stages[1], overlay, Known(), ())
    assert (status.state, status.reason) == (State.STALE, "first run")
    assert [datum.label for datum in status.datums] == ["input/x.csv × model", "input/y.csv × model"]


def test_after_a_run_everything_is_fresh(chain: Pipeline, tree: MakeTree) -> None:
    done = settle(chain, tree(CHAIN), "run")
    assert [status.state for status in evaluate(chain, done, Unasked())] == [State.FRESH, State.FRESH]


@pytest.mark.parametrize(("kind", "waits"), [("missing", True), ("failed", True), ("held", False), ("edited", False)])
def test_which_upstream_states_settle(chain: Pipeline, tree: MakeTree, kind: str, waits: bool) -> None:
    done = settle(chain, tree(CHAIN), "run")
    key = key_at(chain, "model", done)
    assert key is not None
    known = Known()
    match kind:
        case "missing":
            done = tree({"model/result": None}, done)
        case "failed":
            done = tree({".gitml/records/model.json": None}, done)
            known.failures[key] = FailureInfo("", "no")
        case "held":
            done = tree({"model/result": None}, done)
            known.back.add(key)
        case "edited":
            done = tree({"model/result": "by hand"}, done)
    first, second = evaluate(chain, done, known)
    assert first.state == kind
    assert (second.waits_for == ("model",)) is waits
    assert second.state is State.STALE or not waits


def test_an_upstream_that_is_held_counts_as_it_is(chain: Pipeline, tree: MakeTree) -> None:
    done = settle(chain, tree(CHAIN), "run")
    key = key_at(chain, "model", done)
    assert key is not None
    older = tree({"m": "old"}).root
    back = place(evaluate(chain, done, Known())[0], done, older, None)
    model, inference = evaluate(chain, back, Known(by_key={key: [done.oid_at(b"model")]}, back={key}, older={older}))
    assert model.state is State.HELD
    assert (inference.state, inference.reason) == (State.STALE, "input 'model' changed (1 file added, 1 removed)")


# --- decisions in the record ---


def decided(status: StageStatus, snapshot: Snapshot, **members: Any) -> Snapshot:
    assert status.record is not None
    return place(status, snapshot, status.output, replace(status.record, **members))


def test_a_hold_keeps_the_output_whatever_changes(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    recorded = publish(one(model, tip), tip, "m1")
    held = decided(one(model, recorded), recorded, hold=RecordHold(reason="the\nfreeze"))
    status = one(model, held)
    assert (status.state, status.pinned) == (State.HELD, True)
    assert status.reason == "on hold: the\\nfreeze"
    other = tree({"training/a.csv": "9"}, held)
    assert one(model, other).state is State.HELD
    assert one(model, tree({"training": None}, held)).reason.startswith("on hold")
    edited = tree({"model/result": "by hand"}, held)
    assert one(model, edited, Known(by_key={status.key or "": [status.output]})).state is State.EDITED


def test_a_hold_ends_with_the_day_or_with_other_inputs(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    recorded = publish(one(model, tip), tip, "m1")
    day = decided(one(model, recorded), recorded, hold=RecordHold(until="2027-01-31"))
    end = 1_801_353_600  # date -u -d 2027-01-31 +%s
    assert one(model, day, Known(when=end - 1)).reason == "on hold until 2027-01-31"
    assert one(model, day, Known(when=end)).state is State.FRESH
    key = one(model, recorded).key
    assert key is not None
    same = decided(one(model, recorded), recorded, hold=RecordHold(key=key))
    assert one(model, same).reason == "on hold until its inputs change"
    assert one(model, tree({"training/a.csv": "9"}, same)).state is State.STALE


def test_what_is_held_is_settled_for_later_stages(
    model: Stage, tip: Snapshot, pfs_input: MakeInput, tree: MakeTree
) -> None:
    recorded = publish(one(model, tip), tip, "m1")
    held = decided(one(model, recorded), recorded, hold=RecordHold())
    after = stage("after", pfs_input("model", upstream="model"))
    first, second = evaluate(pipeline(model, after), tree({"training/a.csv": "9"}, held), Known())
    assert (first.state, second.state, second.waits_for) == (State.HELD, State.STALE, ())


def test_an_accepted_output_is_fresh_by_its_record(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    recorded = publish(one(model, tip), tip, "m1")
    edited = tree({"model/result": "by hand"}, recorded)
    status = one(model, edited, Known(by_key={one(model, recorded).key or "": [recorded.oid_at(b"model")]}))
    assert status.state is State.EDITED
    record = replace(build_record(status, edited, status.output, 0), accepted="better so")
    assert one(model, place(status, edited, status.output, record), Unasked()).state is State.FRESH


# --- missing inputs, no datums ---


def test_a_missing_input_has_no_key_and_says_so(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    status = one(model, tree({"training": None}, tip), Unasked())
    assert (status.state, status.key) == (State.STALE, None)
    assert status.reason == "input 'training' is missing: there is no 'training'"
    assert key_at(pipeline(model), "model", tree({"training": None}, tip)) is None


def test_a_submodule_is_no_input(model: Stage, tree: MakeTree) -> None:
    snapshot = tree({**{name: text for name, text in FILES.items() if "training" not in name}})
    snapshot = tree({"training": Entry(MODE_GITLINK, Oid(bytes(20)))}, snapshot)
    assert one(model, snapshot).reason == "input 'training' is missing: 'training' is a submodule"


def test_without_datums_there_is_nothing_to_run(pfs_input: MakeInput, tree: MakeTree) -> None:
    none = stage("none", pfs_input("training", "/*.nothing"))
    before = one(none, tree(FILES))
    assert (before.state, before.reason, before.datums) == (State.STALE, "first run", ())
    assert before.key is not None
    recorded = publish(before, tree(FILES), "")
    assert one(none, recorded, Unasked()).state is State.FRESH
    assert one(none, tree({"train.py": "changed"}, recorded), Unasked()).state is State.FRESH
    some = one(none, tree({"training/x.nothing": ""}, recorded))
    assert (some.state, some.reason) == (State.STALE, "input 'training' changed (1 file added)")


def test_without_datums_an_old_output_goes_unless_it_was_put_back(pfs_input: MakeInput, tree: MakeTree) -> None:
    none = stage("none", pfs_input("training", "/*.nothing"))
    full = tree({"training/x.nothing": ""}, tree(FILES))
    full = publish(one(none, full), full, "old")
    emptied = tree({"training/x.nothing": None}, full)
    assert (one(none, emptied).state, one(none, emptied).reason) == (
        State.STALE,
        "input 'training' changed (1 file removed)",
    )
    key = one(none, emptied).key
    assert key is not None
    assert one(none, emptied, Known(back={key})).state is State.HELD


# --- broken files ---


def test_a_record_that_cannot_be_read_is_no_record(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    broken = tree({".gitml/records/model.json": "<<<<<<<"}, tip)
    status = one(model, broken)
    assert (status.state, status.record) == (State.STALE, None)
    assert status.reason == "record '.gitml/records/model.json' is not readable"
    assert status.key is not None
    assert one(model, broken, Known(by_key={status.key: [tip.oid_at(b"model")]})).state is State.FRESH


def test_the_record_of_another_stage_is_no_record(model: Stage, tip: Snapshot) -> None:
    record = one(model, tip).record
    assert record is not None
    wrong = place(one(model, tip), tip, tip.oid_at(b"model"), replace(record, stage="other"))
    assert "not readable" in one(model, wrong).reason


def test_missing_parameters_are_the_users_error(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    with pytest.raises(UserError, match=r"params\.yaml"):
        one(model, tree({"params.yaml": None}, tip))
    assert key_at(pipeline(model), "model", tree({"params.yaml": None}, tip)) is None
    assert key_at(pipeline(model), "unknown", tip) is None


def test_a_stage_without_key_has_no_record(model: Stage, tree: MakeTree) -> None:
    snapshot = tree({"params.yaml": FILES["params.yaml"]})
    with pytest.raises(ValueError, match="no key"):
        build_record(one(model, snapshot), snapshot, snapshot.root, 0)


def test_a_corrupt_tree_is_not_hidden(model: Stage, tree: MakeTree, pfs_input: MakeInput) -> None:
    snapshot = tree(FILES)
    entry = snapshot.get(b"README")
    assert entry is not None
    corrupt = tree({"training": Entry(MODE_TREE, entry.oid)}, snapshot)
    with pytest.raises(CorruptError):
        one(replace(model, input=pfs_input("training", "/*")), corrupt)


# --- reasons ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training/a.csv": "9"}, "input 'training' changed (1 file changed)"),
        ({"training/c.csv": "", "training/d/e": ""}, "input 'training' changed (2 files added)"),
        (
            {"training/a.csv": "9", "training/b.csv": None, "training/c": ""},
            "input 'training' changed (1 file added, 1 changed, 1 removed)",
        ),
        ({f"training/{n}": str(n) for n in range(1200)}, "input 'training' changed (more than 1000 files)"),
        ({"train.py": "changed"}, "code 'train.py' changed"),
        ({"train.py": "import helper", "helper.py": ""}, "code 'train.py' changed; code 'helper.py' added"),
        ({"train.py": None}, "code 'train.py' removed"),
        ({"params.yaml": "model: {C: 0.1}\n"}, "parameter 'params.yaml:model.C' 1.0 → 0.1"),
        ({"params.yaml": "model: {C: [1, x]}\n"}, "parameter 'params.yaml:model.C' 1.0 → [1,\"x\"]"),
        (
            {"training/a.csv": "9", "params.yaml": "model: {C: .nan}\n"},
            "input 'training' changed (1 file changed); parameter 'params.yaml:model.C' 1.0 → nan",
        ),
    ],
)
def test_reasons_from_the_tree(
    model: Stage, tip: Snapshot, tree: MakeTree, changes: dict[str, str | None], reason: str
) -> None:
    status = one(model, tree(changes, tip))
    assert (status.state, status.reason) == (State.STALE, reason)


def test_what_no_key_holds_changes_nothing(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    changed = tree({"README": "new", "params.yaml": "other: 2\nmodel: {C: 1.0, D: 3}\n"}, tip)
    assert one(model, changed, Unasked()).state is State.FRESH
    assert one(replace(model, description="d", parallelism=4), tip, Unasked()).state is State.FRESH


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cmd": ("python", "train.py", "-v")}, "specification (cmd) changed"),
        ({"env": (("A", "1"), ("B\n", ""))}, "specification (env A, env B\\n) changed"),
        ({"stdin": ("x",), "image": "i"}, "specification (image, stdin) changed"),
    ],
)
def test_reasons_from_the_specification(model: Stage, tip: Snapshot, fields: dict[str, object], reason: str) -> None:
    changed = replace(model, transform=replace(model.transform, **fields))  # type: ignore[arg-type]
    assert one(changed, tip).reason == reason


def test_reasons_from_the_inputs_of_the_specification(
    model: Stage, tip: Snapshot, tree: MakeTree, pfs_input: MakeInput
) -> None:
    assert one(replace(model, salt="s"), tip).reason == "specification (salt) changed"
    globbed = replace(model, input=pfs_input("training", "/*"))
    assert one(globbed, tip).reason == "input 'training' has the glob '/*' instead of '/'"
    moved = replace(model, input=pfs_input("training", path="rows"))
    snapshot = tree({"rows/x": ""}, tip)
    assert one(moved, snapshot).reason == "input 'training' reads 'rows' instead of 'training'"
    more = replace(model, input=CrossInput(inputs=(pfs_input("training"), pfs_input("rows"))))
    assert one(more, snapshot).reason == "input 'rows' added"
    done = publish(one(more, snapshot), snapshot, "both")
    assert one(model, done).reason == "input 'rows' removed"
    either = replace(model, input=UnionInput(inputs=(pfs_input("training"), pfs_input("rows"))))
    assert one(either, done).reason == "specification (input) changed"


def test_many_names_are_counted(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    files = {f"m{number}.py": "" for number in range(6)}
    imports = "".join(f"import m{number}\n" for number in range(6))
    status = one(model, tree({**files, "train.py": imports}, tip))
    assert status.reason == "code 'train.py' changed; code 'm0.py', 'm1.py', 'm2.py' and 3 more added"


def test_tables_of_parameters_are_opened(pfs_input: MakeInput, tree: MakeTree) -> None:
    whole = stage("s", pfs_input("training"), params=(ParamRef(path=b"params.yaml", key=None),))
    before = tree({**FILES, "params.yaml": "a: {b: 1, c: 2, $d: 3}\nwhen: 2024-01-01\n"})
    before = publish(one(whole, before), before, "x")
    after = tree({"params.yaml": "a: {b: 5, $d: 4, e: 6}\nwhen: 2024-01-02\n"}, before)
    assert one(whole, after).reason == (
        "parameter 'params.yaml:a.$d' 3 → 4; parameter 'params.yaml:a.b' 1 → 5; "
        "parameter 'params.yaml:a.c' removed; 2 more parameters changed"
    )


def test_only_files_the_glob_picks_are_counted(pfs_input: MakeInput, tree: MakeTree) -> None:
    csv = stage("csv", pfs_input("training", "/*.csv"))
    done = publish(one(csv, tree(FILES)), tree(FILES), "x")
    changed = tree({"training/a.csv": "9", "training/notes.txt": ""}, done)
    assert one(csv, changed).reason == "input 'training' changed (1 file changed)"
    assert one(csv, tree({"training/notes.txt": ""}, done), Unasked()).state is State.FRESH


def test_an_input_whose_old_tree_is_not_here(model: Stage, tip: Snapshot, tree: MakeTree) -> None:
    record = one(model, tip).record
    assert record is not None
    inputs = tuple(replace(part, entry=RecordEntry(MODE_TREE, Oid(b"\7" * 20))) for part in record.inputs)
    lost = place(one(model, tip), tip, tip.oid_at(b"model"), replace(record, key="00" * 32, inputs=inputs))
    assert one(model, lost).reason == "input 'training' changed"


def test_an_input_that_is_a_file(pfs_input: MakeInput, tree: MakeTree) -> None:
    single = stage("single", pfs_input("data", path="README"))
    done = publish(one(single, tree(FILES)), tree(FILES), "x")
    assert one(single, tree({"README": "new"}, done)).reason == "input 'data' changed (1 file changed)"


# --- histories ---


class History(Known):
    """What the trees of one line of commits tell, newest first: what a clone without a run cache knows."""

    def __init__(self, made: Stage, *newest_first: Snapshot) -> None:
        super().__init__()
        self.changes: list[tuple[Snapshot, Record | None]] = []
        records = [self.record(made, snapshot) for snapshot in newest_first]
        for at, snapshot in enumerate(newest_first):
            if at + 1 == len(records) or records[at] != records[at + 1]:
                self.changes.append((snapshot, records[at]))
        for _, record in self.changes:
            if record is not None:
                self.by_key.setdefault(record.key, []).append(record.output_tree)
        self.pipeline = pipeline(made)

    @staticmethod
    def record(made: Stage, snapshot: Snapshot) -> Record | None:
        try:
            return parse_record(snapshot.read(record_path(made.name)))
        except KeyError:
            return None

    def rolled_back(self, stage_name: str, key: str, output: bytes) -> bool:
        for snapshot, record in self.changes:
            if record is not None and key_at(self.pipeline, stage_name, snapshot) == record.key:
                return record.key == key
        return False


@dataclass
class Story:
    """First data and its result, second data and its result."""

    model: Stage
    data1: Snapshot
    result1: Snapshot
    data2: Snapshot
    result2: Snapshot

    def take(self, base: Snapshot, *, data: Snapshot | None = None, result: Snapshot | None = None) -> Snapshot:
        """`base` with the data or the result (output and record) of another commit, as git revert makes it."""
        odb = base.odb
        assert isinstance(odb, MemoryOdb)
        changes: dict[bytes, Entry | None] = {}
        if data is not None:
            changes[b"training"] = data.get(b"training")
        if result is not None:
            changes |= {path: result.get(path) for path in (b"model", record_path("model"))}
        return Snapshot(odb, edit_tree(odb, odb, base.root, changes))

    def state(self, *newest_first: Snapshot) -> State:
        return one(self.model, newest_first[0], History(self.model, *newest_first)).state


@pytest.fixture
def story(model: Stage, tree: MakeTree) -> Story:
    data1 = tree(FILES)
    result1 = publish(one(model, data1), data1, "one")
    data2 = tree({"training/a.csv": "bad"}, result1)
    return Story(model, data1, result1, data2, publish(one(model, data2), data2, "two"))


def test_revert_of_data_restores(story: Story) -> None:
    line = (story.result2, story.data2, story.result1, story.data1)
    assert [story.state(*line[at:]) for at in range(4)] == [State.FRESH, State.STALE, State.FRESH, State.STALE]
    reverted = story.take(story.result2, data=story.data1)
    status = one(story.model, reverted, History(story.model, reverted, *line))
    assert (status.state, status.result) == (State.MISSING, story.result1.oid_at(b"model"))
    assert story.state(story.take(reverted, result=story.result1), reverted, *line) is State.FRESH


def test_revert_of_a_result_holds_until_data_changes(story: Story, tree: MakeTree) -> None:
    line = (story.result2, story.data2, story.result1, story.data1)
    reverted = story.take(story.result2, result=story.result1)
    assert story.state(reverted, *line) is State.HELD
    assert story.state(tree({"README": "unrelated"}, reverted), reverted, *line) is State.HELD
    more = tree({"training/a.csv": "good"}, reverted)
    assert story.state(more, reverted, *line) is State.STALE


def test_revert_of_the_first_result_holds_nothing(story: Story) -> None:
    reverted = story.take(story.result1, result=story.data1)
    status = one(story.model, reverted, History(story.model, reverted, story.result1, story.data1))
    assert (status.state, status.reason) == (State.HELD, "rolled back to nothing")


def test_a_restored_result_that_is_reverted_again_holds(story: Story) -> None:
    line = (story.result2, story.data2, story.result1, story.data1)
    data_back = story.take(story.result2, data=story.data1)
    restored = story.take(data_back, result=story.result1)
    again = story.take(restored, result=story.result2)
    # the very tree of `data_back`, and another answer: only the history of the record tells them apart
    assert again.root == data_back.root
    assert story.state(data_back, *line) is State.MISSING
    assert story.state(again, restored, data_back, *line) is State.HELD


def test_a_squash_loses_nothing(story: Story) -> None:
    assert one(story.model, story.result2, Unasked()).state is State.FRESH
    assert story.state(story.result2, story.data1) is State.FRESH


def test_a_result_cherry_picked_onto_other_data(story: Story, tree: MakeTree) -> None:
    other = tree({"training/a.csv": "other"}, story.result1)
    picked = story.take(other, result=story.result2)
    status = one(story.model, picked, History(story.model, picked, other, story.result1, story.data1))
    assert (status.state, status.reason) == (State.STALE, "input 'training' changed (1 file changed)")


def test_a_result_cherry_picked_over_the_right_one_holds(story: Story) -> None:
    picked = story.take(story.result1, result=story.result2)
    assert story.state(picked, story.result1, story.data1) is State.HELD


def test_data_and_result_cherry_picked_together_are_fresh(story: Story) -> None:
    picked = story.take(story.data1, data=story.data2, result=story.result2)
    assert one(story.model, picked, Unasked()).state is State.FRESH
