"""The state of a store as bytes: one form, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitml.errors import CorruptError, UserError
from gitml.oid import ObjectFormat, Oid
from gitml.record import replace
from gitml.remote.state import REMEMBERED, Dropped, Kind, Pack, Ref, State, format_state, is_ref_name, parse_state

ONE, TWO = Oid(b"\1" * 20), Oid(b"\2" * 20)
SOME = State(
    format=ObjectFormat.SHA1,
    head=b"refs/heads/main",
    refs={b"refs/heads/main": Ref(ONE), b"refs/heads/\xff\xc3\xa9": Ref(TWO), b"refs/tags/v1": Ref(TWO, ONE)},
    packs=(Pack("ab" * 20, 1234, 7, Kind.CODE), Pack("cd" * 20, 5 << 30, 1, Kind.DATA, epoch=2)),
    dropped=(Dropped("ef" * 20, 99, 1_700_000_000), Dropped("12" * 20, 0, 1, doomed=True, epoch=1)),
    sweeps=3,
    epoch=2,
    update="0011223344556677",
)


def test_a_state_comes_back() -> None:
    assert parse_state(format_state(SOME), "x") == SOME
    assert parse_state(format_state(State(ObjectFormat.SHA256)), "x") == State(ObjectFormat.SHA256)


def test_the_form_is_this() -> None:
    small = State(
        ObjectFormat.SHA1, b"refs/heads/main", {b"refs/heads/main": Ref(ONE)}, (Pack("ab" * 20, 12, 3, Kind.CODE),)
    )
    assert json.loads(format_state(replace(small, update="00"))) == {
        "format": 1,
        "object_format": "sha1",
        "head": "refs/heads/main",
        "refs": {"refs/heads/main": {"oid": "01" * 20}},
        "packs": [{"id": "ab" * 20, "size": 12, "objects": 3, "kind": "code"}],
        "dropped": [],
        "sweeps": 0,
        "update": "00",
    }


def change(**members: Any) -> bytes:
    return json.dumps({**json.loads(format_state(SOME)), **members}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        change(format="1"),
        change(format=None),
        change(object_format="md5"),
        change(head="refs/heads/../main"),
        change(head=7),
        change(refs=[]),
        change(refs={"refs/heads/../../x": {"oid": "01" * 20}}),
        change(refs={"refs/heads/a b": {"oid": "01" * 20}}),
        change(refs={"refs/heads/a\nb": {"oid": "01" * 20}}),
        change(refs={"refs/heads/x.lock": {"oid": "01" * 20}}),
        change(refs={"HEAD": {"oid": "01" * 20}}),
        change(refs={"refs/heads/x": "01" * 20}),
        change(refs={"refs/heads/x": {"oid": "01" * 32}}),
        change(refs={"refs/heads/x": {"oid": "../" * 13 + "0"}}),
        change(refs={"refs/heads/x": {"oid": "01" * 20, "peeled": 5}}),
        change(packs=[{"id": "../../etc", "size": 1, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "AB" * 20, "size": 1, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "ab" * 20, "size": -1, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "ab" * 20, "size": 1.5, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "ab" * 20, "size": True, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "ab" * 20, "size": 1 << 70, "objects": 1, "kind": "code"}]),
        change(packs=[{"id": "ab" * 20, "size": 1, "objects": 1, "kind": "other"}]),
        change(packs=[{"id": "ab" * 20, "size": 1, "objects": 1}]),
        change(dropped=[{"id": "ab" * 20, "size": 1}]),
        change(sweeps="many"),
        change(update=None),
    ],
)
def test_what_nobody_of_ours_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="'x' is damaged"):
        parse_state(data, "x")


def test_a_later_format_asks_for_a_later_gitml() -> None:
    with pytest.raises(UserError, match="format 2") as caught:
        parse_state(change(format=2), "x")
    assert "pip install --upgrade gitml" in (caught.value.hint or "")


def test_members_that_are_not_known_are_ignored() -> None:
    assert parse_state(change(note="from the future"), "x") == SOME


@given(st.binary(max_size=30))
def test_names_are_those_that_git_takes(tail: bytes) -> None:
    from tests.conftest import git_takes_ref

    name = b"refs/heads/" + tail
    if b"\0" not in name:
        assert is_ref_name(name) == git_takes_ref(name)


def test_packs_that_are_added_are_not_dropped_any_more() -> None:
    new = Pack("ef" * 20, 99, 5, Kind.CODE)
    after = SOME.changed(refs={b"refs/heads/main": Ref(TWO)}, added=[new], removed=["ab" * 20, "ef" * 20], now=50)
    assert {pack.id for pack in after.packs} == {"cd" * 20, "ef" * 20}
    assert after.dropped == (Dropped("12" * 20, 0, 1, doomed=True, epoch=1), Dropped("ab" * 20, 1234, 50))
    assert after.refs[b"refs/heads/main"] == Ref(TWO)
    assert after.update != SOME.update
    assert after.sweeps == SOME.sweeps


def test_pushes_remember_the_latest_of_what_they_drop() -> None:
    packs = tuple(Pack(f"{number:040x}", 1, 1, Kind.CODE) for number in range(1000))
    doomed = Dropped("ff" * 20, 1, 1, doomed=True)
    old = State(ObjectFormat.SHA1, packs=packs[:500], dropped=(doomed,)).changed(
        refs={}, added=[], removed=[pack.id for pack in packs[:150]], now=5
    )
    assert len(old.dropped) == 151
    after = old.changed(refs={}, added=[], removed=[pack.id for pack in packs[150:300]], now=6)
    assert len(after.dropped) == REMEMBERED + 1
    assert doomed in after.dropped
    assert {each.id for each in after.dropped if each.since == 6} == {pack.id for pack in packs[150:300]}


def test_head_stays_while_its_branch_is_there() -> None:
    kept = SOME.changed(refs={b"refs/heads/x": Ref(ONE)}, added=[], removed=[], now=1, head=b"refs/heads/x")
    assert kept.head == b"refs/heads/main"
    empty = State(ObjectFormat.SHA1)
    assert empty.changed(refs={}, added=[], removed=[], now=1, head=b"refs/heads/x").head == b"refs/heads/x"


def test_what_is_pushed_has_the_name_of_its_epoch() -> None:
    used, new = Pack("cd" * 20, 5 << 30, 1, Kind.DATA), Pack("12" * 20, 7, 1, Kind.CODE)
    assert SOME.placed(replace(used, epoch=0)).epoch == 2
    assert SOME.placed(new).epoch == 2
    assert State(ObjectFormat.SHA1).placed(new) == new
    # a doomed one of the same content stays on its way out
    after = SOME.changed(refs={}, added=[SOME.placed(new)], removed=[], now=1)
    assert Dropped("12" * 20, 0, 1, doomed=True, epoch=1) in after.dropped
    assert replace(new, epoch=2) in after.packs
    dropped = after.changed(refs={}, added=[], removed=["12" * 20], now=0).dropped
    assert {each.epoch for each in dropped if each.id == "12" * 20} == {1, 2}


def test_dooming_begins_an_epoch() -> None:
    young = Dropped("ab" * 20, 1, 1, epoch=2)
    assert SOME.swept([young]).epoch == 2
    assert SOME.swept([replace(young, doomed=True)]).epoch == 3
    assert SOME.swept([replace(young, doomed=True, epoch=1)]).epoch == 2
    # whatever a state says, none of its doomed names is one that a push gives
    older = parse_state(change(epoch=0), "x")
    assert older.epoch == 2


def test_a_sweep_counts() -> None:
    assert SOME.swept([]).sweeps == 4
    assert SOME.rewritten(added=[], removed=[], now=1).sweeps == 4
