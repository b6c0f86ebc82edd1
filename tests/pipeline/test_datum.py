from collections.abc import Callable

from gitml.pipeline.datum import Datum, DatumInput, datums
from gitml.pipeline.spec.model import CrossInput, PfsInput, Stage, UnionInput
from gitml.record import replace
from gitml.store.tree import MODE_FILE, Entry, Snapshot

MakeTree = Callable[..., Snapshot]
MakeInput = Callable[..., PfsInput]
MakeStage = Callable[..., Stage]

FILES = {"a/1": "", "a/2": "x", "b/p": "y", "b/q": "z", "model/m.bin": "m"}


def labels(stage: Stage, snapshot: Snapshot) -> list[str]:
    return [datum.label for datum in datums(stage, snapshot)]


def test_a_stage_without_input_has_one_datum(tree: MakeTree, make_stage: MakeStage) -> None:
    found = datums(make_stage("s"), tree({}))
    assert found == [Datum(())]
    assert found[0].label == "no input"


def test_a_glob_gives_a_datum_for_each_match(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    snapshot = tree(FILES)
    (first, second) = datums(make_stage("s", input=pfs_input("x", "/*", path="a")), snapshot)
    assert first.label == "a/1"
    assert second.inputs[0].name == "x"
    assert second.inputs[0].source == b"a"
    assert second.inputs[0].path == b"2"
    assert second.inputs[0].entry == snapshot.get(b"a/2")
    assert labels(make_stage("s", input=pfs_input("a", "/")), snapshot) == ["a"]


def test_a_cross_is_every_combination_in_order_of_names(
    tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput
) -> None:
    node = CrossInput(inputs=(pfs_input("b", "/*"), pfs_input("a", "/*")))
    assert labels(make_stage("s", input=node), tree(FILES)) == [
        "a/1 × b/p",
        "a/1 × b/q",
        "a/2 × b/p",
        "a/2 × b/q",
    ]


def test_a_cross_with_an_empty_side_has_none(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    node = CrossInput(inputs=(pfs_input("a", "/*"), pfs_input("b", "/*.none")))
    assert datums(make_stage("s", input=node), tree(FILES)) == []


def test_a_union_is_one_after_the_other(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    node = UnionInput(inputs=(pfs_input("in", "/*", path="b"), pfs_input("in", "/*", path="a")))
    assert labels(make_stage("s", input=node), tree(FILES)) == ["b/p", "b/q", "a/1", "a/2"]


def test_what_several_branches_of_a_union_give_is_one_datum(
    tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput
) -> None:
    every, one = pfs_input("in", "/*", path="a"), pfs_input("in", "/1", path="a")
    node = UnionInput(inputs=(every, one, pfs_input("in", "/p", path="b")))
    assert labels(make_stage("s", input=node), tree(FILES)) == ["a/1", "a/2", "b/p"]
    other = UnionInput(inputs=(every, pfs_input("other", "/1", path="a")))
    assert labels(make_stage("s", input=other), tree(FILES)) == ["a/1", "a/2", "a/1"], "under another name"


def test_unions_and_crosses_nest(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    either = UnionInput(inputs=(pfs_input("b", "/p"), pfs_input("a", "/1")))
    node = CrossInput(inputs=(pfs_input("model", "/"), either))
    assert labels(make_stage("s", input=node), tree(FILES)) == ["a/1 × model", "b/p × model"]


def test_the_id_is_of_names_and_paths_alone(tree: MakeTree) -> None:
    entry = tree(FILES).get(b"a/1")
    assert entry is not None

    def datum(name: str, path: bytes, entry: Entry = entry, source: bytes = b"a") -> str:
        return Datum((DatumInput(name, source, path, entry),)).id

    assert len(datum("a", b"1")) == 64
    assert datum("a", b"1") == datum("a", b"1", source=b"elsewhere")
    assert datum("a", b"1") == datum("a", b"1", entry=Entry(MODE_FILE, entry.oid[::-1]))  # type: ignore[arg-type]
    assert datum("a", b"1") != datum("b", b"1")
    assert datum("a", b"1") != datum("a", b"2")
    assert datum("a", b"1,1:b") != datum("a,1:b", b"1")
    told = [Datum((DatumInput("a", b"a", b"1", entry, origin=origin),)).id for origin in (None, b":a", b"dev:a")]
    assert len(set(told)) == 3


def test_inputs_of_one_name_from_several_places_are_told_apart(
    tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput
) -> None:
    first, second = pfs_input("in", "/1", path="a"), pfs_input("in", "/*", path="b")
    node = UnionInput(inputs=(first, second, pfs_input("other", "/", path="model")))
    snapshot = tree({"a/1": "same", "b/1": "same", "model/m": ""})
    found = datums(make_stage("s", input=node), snapshot)
    assert [datum.inputs[0].origin for datum in found] == [b":a", b":b", None]
    assert len({datum.id for datum in found}) == 3

    entry, there = snapshot.get(b"a"), replace(first, branch="dev")
    assert entry is not None
    elsewhere = make_stage("s", input=UnionInput(inputs=(first, there)))
    found = datums(elsewhere, snapshot, {first: entry, there: entry})
    assert [datum.inputs[0].origin for datum in found] == [b":a", b"dev:a"]

    alike = UnionInput(inputs=(first, pfs_input("in", "/{1,2}", path="a")))
    assert [datum.inputs[0].origin for datum in datums(make_stage("s", input=alike), snapshot)] == [None]


def test_a_label_cannot_steer_a_terminal(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    snapshot = tree({b"a/\x1b[2J\n\xff\\\xe2\x80\xae": "x"})
    assert labels(make_stage("s", input=pfs_input("a", "/*")), snapshot) == ["a/\\u001b[2J\\n\\xff\\\\\\u202e"]
    # the escape of U+202E keeps the text from running backwards


def test_ten_thousand_datums_read_three_trees(tree: MakeTree, make_stage: MakeStage, pfs_input: MakeInput) -> None:
    snapshot = tree({"m/x": "1", **{f"in/{number:05}": "" for number in range(10_000)}})
    node = CrossInput(inputs=(pfs_input("in", "/*"), pfs_input("m", "/")))
    found = datums(make_stage("s", input=node), snapshot)
    assert len(found) == 10_000
    assert found[-1].label == "in/09999 × m"
