"""Where inputs are read from, and which changes of them count: evaluated on trees in memory."""

from collections.abc import Callable

from gitml.oid import Oid
from gitml.pipeline.plan import State, build_record, evaluate, evaluate_stage, key_at
from gitml.pipeline.sources import Source
from gitml.pipeline.spec.model import CrossInput, PfsInput, Stage
from gitml.provenance.record import parse_record, record_path
from gitml.record import replace
from gitml.store.tree import Snapshot
from tests.pipeline.test_plan import Known, one, pipeline, publish, stage

MakeTree = Callable[..., Snapshot]
MakeInput = Callable[..., PfsInput]


def two(one_input: PfsInput, other: PfsInput) -> Stage:
    return stage("model", CrossInput(inputs=(one_input, other)), cmd=("true",))


def test_a_branch_is_read_at_its_tip_and_the_record_names_the_commit(tree: MakeTree, pfs_input: MakeInput) -> None:
    leaf = replace(pfs_input("data", "/*"), branch="staging")
    here, there = tree({"data/a": "here"}), tree({"data/a": "1", "data/b": "2"})
    first, second = Oid(b"1" * 20), Oid(b"2" * 20)
    known = Known(elsewhere={"staging": Source(first, there.root)})
    reads = stage("model", leaf, cmd=("true",))
    status = one(reads, here, known)
    assert [datum.inputs[0].path for datum in status.datums] == [b"a", b"b"]
    assert status.datums[0].inputs[0].entry == there.get(b"data/a")
    done = publish(status, here, "r")
    record = parse_record(done.read(record_path("model")))
    assert record.inputs[0].commit == first
    assert one(reads, done, known).state is State.FRESH
    assert key_at(pipeline(reads), "model", done) == record.key  # whatever the branch has now

    known.elsewhere["staging"] = Source(second, there.root)  # a commit that does not touch the path
    assert one(reads, done, known).state is State.FRESH
    known.elsewhere["staging"] = Source(second, tree({"data/b": "3"}, there).root)
    assert one(reads, done, known).reason == "input 'data' changed (1 file changed)"
    known.elsewhere["staging"] = Source(second, tree({"other": ""}).root)
    assert one(reads, done, known).reason == "input 'data' is missing: there is no 'data' in 'staging'"
    del known.elsewhere["staging"]
    status = one(reads, done, known)
    assert status.key is None
    assert status.reason == "input 'data' is missing: there is no branch 'staging' here; git fetch may bring it"
    pinned = stage("model", replace(leaf, branch="", commit="v1"), cmd=("true",))
    assert "no commit 'v1' here; git fetch --tags" in one(pinned, here, known).reason


def test_a_quiet_input_runs_nothing_alone_and_is_read_with_the_next_change(
    tree: MakeTree, pfs_input: MakeInput
) -> None:
    quiet = replace(pfs_input("lookup"), never=True)
    reads = two(pfs_input("data"), quiet)
    first = tree({"data/a": "1", "lookup/x": "1"})
    done = publish(one(reads, first), first, "r")
    changed = tree({"lookup/x": "2"}, done)
    status = one(reads, changed)
    assert status.state is State.FRESH
    assert status.reading.entries[quiet] == first.get(b"lookup")
    assert key_at(pipeline(reads), "model", changed) == status.key
    asked = evaluate_stage(pipeline(reads), reads, changed, Known(), (), current=True)
    assert asked.reading.entries[quiet] == changed.get(b"lookup")
    assert one(two(pfs_input("data"), pfs_input("lookup")), changed).state is State.STALE

    both = tree({"data/a": "2"}, changed)
    status = one(reads, both)
    assert status.state is State.STALE
    assert status.reading.entries[quiet] == both.get(b"lookup")
    assert build_record(status, both, status.output, 0).inputs[1].entry.oid == both.oid_at(b"lookup")


def test_a_quiet_input_of_a_stage_that_is_not_settled_is_not_waited_for(tree: MakeTree, pfs_input: MakeInput) -> None:
    lookup = stage("lookup", pfs_input("raw"), cmd=("true",))
    reads = two(pfs_input("data"), replace(pfs_input("lookup", upstream="lookup"), never=True))
    files = tree({"data/a": "1", "raw/x": "1"})
    with_lookup = publish(one(lookup, files), files, "lookup 1")
    done = publish(evaluate(pipeline(lookup, reads), with_lookup, Known())[1], with_lookup, "r")
    for change, states in (
        ({"raw/x": "2"}, (State.STALE, State.FRESH)),
        ({"raw/x": "2", "data/a": "2"}, (State.STALE, State.STALE)),
    ):
        statuses = evaluate(pipeline(lookup, reads), tree(change, done), Known())
        assert tuple(status.state for status in statuses) == states
    assert statuses[1].waits_for == ("lookup",)


def test_the_content_of_a_reference_is_recorded_and_not_in_the_key(tree: MakeTree, pfs_input: MakeInput) -> None:
    reference = replace(pfs_input("lookup", "/*"), reference=True)
    reads = two(pfs_input("data"), reference)
    first = tree({"data/a": "1", "lookup/x": "1"})
    status = one(reads, first)
    done = publish(status, first, "r")
    assert parse_record(done.read(record_path("model"))).inputs[1].entry.oid == first.oid_at(b"lookup")
    changed = tree({"lookup/x": "2"}, done)
    assert one(reads, changed).state is State.FRESH
    assert one(reads, tree({"lookup/y": ""}, done)).state is State.STALE  # the names are known to tasks
    why = one(reads, tree({"lookup/x": "2", "data/a": "2"}, done)).reason
    assert why == "input 'data' changed (1 file changed)"
    assert one(two(pfs_input("data"), replace(reference, reference=False)), first).key != status.key


def test_empty_files_are_another_task_and_keep_the_content_in_the_key(tree: MakeTree, pfs_input: MakeInput) -> None:
    whole, empty = pfs_input("data", "/*"), replace(pfs_input("data", "/*"), empty_files=True)
    keys = {
        one(stage("s", leaf, cmd=("true",)), tree({"data/a": text})).key for leaf in (whole, empty) for text in "12"
    }
    assert len(keys) == 4
