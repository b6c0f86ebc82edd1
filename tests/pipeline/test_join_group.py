"""Joins and groups, against the definition written out."""

from collections.abc import Callable
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.oid import Oid
from gitml.pipeline.datum import datums
from gitml.pipeline.environment import task_environment
from gitml.pipeline.glob import compile_glob
from gitml.pipeline.key import task_key
from gitml.pipeline.params import read_params
from gitml.pipeline.spec.model import CrossInput, GroupInput, Input, JoinInput, PfsInput, Stage, Transform, UnionInput
from gitml.record import replace
from gitml.store.odb import MemoryOdb
from gitml.store.tree import MODE_FILE, Entry, Snapshot, edit_tree, empty_tree

MakeTree = Callable[..., Snapshot]
SIXTEEN = {f"{repo}/file-{repo}.{n:04b}": "" for repo in "01" for n in range(16)}


def pfs(name: str, glob: str, **fields: object) -> PfsInput:
    return replace(
        PfsInput(name=name, repo=name, path=name.encode(), upstream=None, glob=glob),
        **fields,  # type: ignore[arg-type]
    )


def stage(node: Input) -> Stage:
    return Stage(name="s", transform=Transform(cmd=("true",)), input=node, output=b"s")


def labels(node: Input, snapshot: Snapshot) -> list[str]:
    return [datum.label for datum in datums(stage(node), snapshot)]


def test_a_join_matches_what_the_parentheses_match(tree: MakeTree) -> None:
    node = JoinInput(
        inputs=(pfs("0", "/file-?.(11*)", join_on="$1"), pfs("1", "/file-?.(*0)", join_on="${1}")),
    )
    assert labels(node, tree(SIXTEEN)) == ["0/file-0.1100 × 1/file-1.1100", "0/file-0.1110 × 1/file-1.1110"]


def test_a_join_of_directories(tree: MakeTree) -> None:
    snapshot = tree({f"{repo}/dir-{a}{b}/file": "" for repo in "01" for a in "01" for b in "01"})
    node = JoinInput(inputs=(pfs("0", "/dir-(?)(?)", join_on="$2"), pfs("1", "/dir-(?)(?)", join_on="$1")))
    assert labels(node, snapshot) == [
        f"0/dir-{a}{b} × 1/dir-{b}{c}" for b in "01" for a in "01" for c in "01"
    ]  # fmt: skip


def test_an_outer_join_keeps_the_side_that_has_no_match(tree: MakeTree) -> None:
    snapshot = tree({"a/x": "", "a/y": "", "b/y": "", "b/z": ""})
    left, right = pfs("a", "/(*)", join_on="$1"), pfs("b", "/(*)", join_on="$1")
    outer = replace(left, outer_join=True)
    assert labels(JoinInput(inputs=(left, right)), snapshot) == ["a/y × b/y"]
    assert labels(JoinInput(inputs=(outer, right)), snapshot) == ["a/x", "a/y × b/y"]
    assert labels(JoinInput(inputs=(outer, replace(right, outer_join=True))), snapshot) == ["a/x", "a/y × b/y", "b/z"]
    assert labels(JoinInput(inputs=(left, replace(right, glob="/(none)"))), snapshot) == []


def test_a_group_is_one_datum_for_each_key_of_any_input(tree: MakeTree) -> None:
    snapshot = tree({"a/x-1": "", "a/x-2": "", "a/y-1": "", "b/3-x": "", "b/3-z": ""})
    node = GroupInput(inputs=(pfs("b", "/(?)-(?)", group_by="$2"), pfs("a", "/(*)-*", group_by="$1")))
    assert labels(node, snapshot) == ["a/x-1 × a/x-2 × b/3-x", "a/y-1", "b/3-z"]


def test_joins_and_groups_nest(tree: MakeTree) -> None:
    snapshot = tree({"a/1x": "", "a/2x": "", "b/1y": "", "b/2y": "", "m": ""})
    join = JoinInput(
        inputs=tuple(pfs(name, "/(?)(?)", join_on="$1", group_by="all $2$$") for name in "ab"),
    )
    assert labels(GroupInput(inputs=(join,)), snapshot) == ["a/1x × a/2x", "b/1y × b/2y"]
    assert labels(CrossInput(inputs=(join, pfs("m", "/"))), snapshot) == ["a/1x × b/1y × m", "a/2x × b/2y × m"]
    assert len(labels(UnionInput(inputs=(join, GroupInput(inputs=(join,)))), snapshot)) == 4


def test_a_task_sees_what_was_matched_and_its_key_has_it(tree: MakeTree) -> None:
    snapshot = tree({"a/x1": "", "b/x1": ""})
    node = JoinInput(inputs=tuple(pfs(name, "/(?)(?)", join_on="$1", group_by="$2") for name in "ab"))
    (datum,) = datums(stage(node), snapshot)
    seen = task_environment(stage(node), datum, environ={}, datum_id="d", job_id="j")
    assert seen["PACH_DATUM_a_JOIN_ON"] == "x"
    assert seen["PACH_DATUM_b_GROUP_BY"] == "1"
    other = JoinInput(inputs=tuple(replace(leaf, group_by="") for leaf in node.inputs if isinstance(leaf, PfsInput)))
    (bare,) = datums(stage(other), snapshot)
    params = read_params(stage(node), snapshot)
    assert bare.id == datum.id
    assert task_key(stage(node), (), params, bare) != task_key(stage(node), (), params, datum)


def test_replacing_takes_bytes_and_two_digits() -> None:
    glob = compile_glob("/(?)(?)?(z)")
    assert glob.replace(b"\xc3b", "$0|${1}2|$3|$$1") == "/\udcc3b|\udcc32||$1"
    assert compile_glob("/(?)b(?)").replace(b"\xc3b\xa9", "$1$2") == "é"


NAMES = st.sets(st.tuples(st.sampled_from("pq"), st.sampled_from("xyz"), st.sampled_from("12")), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, st.booleans()), min_size=2, max_size=3))
def test_as_the_definition_says(sides: list[tuple[set[tuple[str, str, str]], bool]]) -> None:
    odb = MemoryOdb()
    blob: Oid = odb.write("blob", b"")
    files = {
        f"{at}/{''.join(name)}".encode(): Entry(MODE_FILE, blob)
        for at, (names, _) in enumerate(sides)
        for name in names
    }
    snapshot = Snapshot(odb, edit_tree(odb, odb, empty_tree(odb.format), dict(files)))
    inputs = tuple(
        pfs(str(at), "/[pq](?)(?)", join_on="$1", group_by="$2$1", outer_join=outer)
        for at, (_, outer) in enumerate(sides)
    )
    named = [[(f"{at}/{''.join(name)}", name) for name in sorted(names)] for at, (names, _) in enumerate(sides)]

    joined: set[str] = set()
    for key in "xyz":
        with_key = [[label for label, name in side if name[1] == key] for side in named]
        if not all(with_key):
            with_key = [side for side, (_, outer) in zip(with_key, sides, strict=True) if outer and side]
        if with_key:
            joined |= {" × ".join(parts) for parts in product(*with_key)}
    found = labels(JoinInput(inputs=inputs), snapshot)
    assert len(found) == len(joined)
    assert set(found) == joined

    groups = {
        key: [label for side in named for label, name in side if name[2] + name[1] == key]
        for key in sorted({name[2] + name[1] for side in named for _, name in side})
    }
    assert labels(GroupInput(inputs=inputs), snapshot) == [" × ".join(parts) for parts in groups.values()]
