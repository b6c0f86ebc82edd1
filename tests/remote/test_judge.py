"""Which refs may move, as a function of what is there."""

import pytest

from gitml.oid import ObjectFormat, Oid
from gitml.remote.judge import Move, choose_head, judge
from gitml.remote.state import Ref, State

ONE, TWO, SIDE, BLOB = (Oid(bytes([n]) * 20) for n in range(1, 5))
MAIN = b"refs/heads/main"


class History:
    """ONE is the parent of TWO and of SIDE; BLOB is no commit."""

    def __init__(self, *absent: Oid) -> None:
        self._absent = absent

    def has(self, oid: Oid) -> bool:
        return oid not in self._absent

    def commit_of(self, oid: Oid) -> Oid | None:
        return None if oid == BLOB else oid

    def is_ancestor(self, old: Oid, new: Oid) -> bool:
        return old == new or (old, new) in {(ONE, TWO), (ONE, SIDE)}


def state(**refs: Oid) -> State:
    named = {name.replace("__", "/").encode(): Ref(oid) for name, oid in refs.items()}
    return State(ObjectFormat.SHA1, MAIN, named)


def move(name: bytes, new: Oid | None, *, force: bool = False) -> Move:
    return Move(name, None if new is None else Ref(new), None if new is None else "commit", force)


def verdict(
    found: State, *moves: Move, leases: dict[bytes, Oid | None] | None = None, absent: Oid | None = None
) -> list[str | None]:
    return judge(found, moves, leases or {}, History(*([] if absent is None else [absent])))


def test_a_branch_goes_forward_only() -> None:
    assert verdict(state(refs__heads__main=ONE), move(MAIN, TWO)) == [None]
    assert verdict(state(refs__heads__main=TWO), move(MAIN, SIDE)) == ["non-fast forward"]
    assert verdict(state(refs__heads__main=TWO), move(MAIN, SIDE, force=True)) == [None]
    assert verdict(state(refs__heads__main=TWO), move(MAIN, TWO)) == [None]


def test_to_go_forward_takes_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a process of git; what kind of object it was matters to those who are refused."""
    monkeypatch.delattr(History, "commit_of")
    assert verdict(state(refs__heads__main=ONE), move(MAIN, TWO)) == [None]


def test_what_is_not_here_has_to_be_fetched_first() -> None:
    assert verdict(state(refs__heads__main=TWO), move(MAIN, SIDE), absent=TWO) == ["fetch first"]
    assert verdict(state(refs__heads__main=TWO), move(MAIN, SIDE, force=True), absent=TWO) == [None]


def test_a_tag_stays_where_it_is() -> None:
    name = b"refs/tags/v1"
    assert verdict(state(refs__tags__v1=ONE), move(name, TWO)) == ["already exists"]
    assert verdict(state(refs__tags__v1=ONE), move(name, TWO, force=True)) == [None]
    assert verdict(state(), move(name, TWO)) == [None]


def test_refs_of_other_kinds_need_force() -> None:
    assert verdict(state(refs__misc__x=BLOB), move(b"refs/misc/x", TWO)) == ["needs force"]


def test_a_branch_is_a_commit() -> None:
    assert verdict(state(), Move(MAIN, Ref(BLOB), "blob", force=True)) == ["a branch is a commit"]
    assert verdict(state(), Move(b"refs/misc/x", Ref(BLOB), "blob", force=False)) == [None]


@pytest.mark.parametrize(
    ("lease", "there", "reason"),
    [
        (ONE, ONE, None),
        (ONE, TWO, "stale info"),
        (None, None, None),
        (None, ONE, "stale info"),
        (ONE, None, "stale info"),
    ],
)
def test_a_lease_must_hold_and_is_as_good_as_force(lease: Oid | None, there: Oid | None, reason: str | None) -> None:
    found = state() if there is None else state(refs__heads__main=there)
    assert verdict(found, move(MAIN, SIDE), leases={MAIN: lease}) == [reason]
    assert verdict(found, move(MAIN, SIDE, force=True), leases={MAIN: lease}) == [reason]


def test_the_branch_of_head_is_not_deleted() -> None:
    [reason] = verdict(state(refs__heads__main=ONE, refs__heads__x=ONE), move(MAIN, None))
    assert reason is not None
    assert verdict(state(refs__heads__main=ONE, refs__heads__x=ONE), move(b"refs/heads/x", None)) == [None]
    assert verdict(state(), move(b"refs/heads/x", None)) == [None]


def test_no_ref_is_the_directory_of_another() -> None:
    found = state(refs__heads__a__b=ONE)
    taken = "another ref is named like its directory"
    assert verdict(found, move(b"refs/heads/a", ONE)) == [taken]
    assert verdict(found, move(b"refs/heads/a/b/c", ONE)) == [taken]
    assert verdict(found, move(b"refs/heads/ab", ONE)) == [None]
    assert verdict(found, move(b"refs/heads/a", ONE), move(b"refs/heads/a/b", None)) == [None, None]
    assert verdict(state(), move(b"refs/heads/x", ONE), move(b"refs/heads/x/y", ONE)) == [None, taken]


@pytest.mark.parametrize(
    "name",
    [b"refs/heads/../x", b"refs/heads/a b", b"refs/heads/a.lock", b"heads/x", b"refs/heads/.x", b"refs/heads/x\n", b"x",
     b"refs/heads/a//b", b"refs/heads/a@{1}", b"refs/heads/"],
)  # fmt: skip
def test_names_that_git_refuses(name: bytes) -> None:
    assert verdict(state(), move(name, ONE)) == ["no name for a ref"]


def test_head_is_a_branch_that_exists() -> None:
    empty = State(ObjectFormat.SHA1)
    assert choose_head(empty, [b"refs/heads/x", b"refs/heads/y"], b"refs/heads/y") == b"refs/heads/y"
    assert choose_head(empty, [b"refs/heads/x", b"refs/heads/main"], b"refs/heads/y") == MAIN
    assert choose_head(empty, [b"refs/heads/gitml/data/1"], None) is None
    assert choose_head(empty, [b"refs/tags/v1"], MAIN) is None
    assert choose_head(state(refs__heads__main=ONE), [b"refs/heads/x"], b"refs/heads/x") == MAIN
