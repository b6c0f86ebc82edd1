import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitml.errors import CorruptError
from gitml.oid import Oid
from gitml.provenance.codec import printable
from gitml.provenance.record import (
    Record,
    RecordCode,
    RecordEntry,
    RecordHold,
    RecordInput,
    format_record,
    parse_record,
    record_path,
)
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_TREE

ONE, TWO = Oid(b"\x11" * 20), Oid(b"\x22" * 20)

RECORD = Record(
    stage="model",
    key="ab" * 32,
    output_path=b"model",
    output_tree=TWO,
    inputs=(RecordInput(name="training", path=b"data/\xff", glob="/", entry=RecordEntry(MODE_TREE, ONE)),),
    code=(RecordCode(target="/code/train.py", source=b"train.py", entry=RecordEntry(MODE_FILE, TWO)),),
    params={"p.yaml": {"C": 1.0}},
    spec={"cmd": ["python", "train.py"]},
    total=1,
    recovered=0,
)

TEXT = b"""{
 "code": [
  {
   "mode": "100644",
   "oid": "2222222222222222222222222222222222222222",
   "source": "train.py",
   "target": "/code/train.py"
  }
 ],
 "datums": {
  "recovered": 0,
  "total": 1
 },
 "inputs": [
  {
   "glob": "/",
   "mode": "040000",
   "name": "training",
   "oid": "1111111111111111111111111111111111111111",
   "path": "data/\\udcff"
  }
 ],
 "key": "abababababababababababababababababababababababababababababababab",
 "output": {
  "path": "model",
  "tree": "2222222222222222222222222222222222222222"
 },
 "params": {
  "p.yaml": {
   "C": 1.0
  }
 },
 "schema": "gitml/record/1",
 "spec": {
  "cmd": [
   "python",
   "train.py"
  ]
 },
 "stage": "model"
}
"""


def test_the_text_of_a_record() -> None:
    assert format_record(RECORD) == TEXT
    assert parse_record(TEXT) == RECORD


_OIDS = st.binary(min_size=20, max_size=20).map(Oid) | st.binary(min_size=32, max_size=32).map(Oid)
_ENTRIES = st.builds(RecordEntry, st.sampled_from([MODE_FILE, MODE_EXECUTABLE, MODE_TREE]), _OIDS)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_RECORDS = st.builds(
    Record,
    stage=st.text(),
    key=st.binary(min_size=32, max_size=32).map(bytes.hex),
    output_path=st.binary(),
    output_tree=_OIDS,
    inputs=st.lists(
        st.builds(RecordInput, name=st.text(), path=st.binary(), glob=st.text(), entry=_ENTRIES), max_size=3
    ).map(tuple),
    code=st.lists(st.builds(RecordCode, target=st.text(), source=st.binary(), entry=_ENTRIES), max_size=3).map(tuple),
    params=st.dictionaries(st.text(), st.dictionaries(st.text(), _JSON, max_size=2), max_size=2),
    spec=st.dictionaries(st.text(), _JSON, max_size=3),
    total=st.integers(0, 10**9),
    recovered=st.integers(0, 10**9),
    accepted=st.none() | st.text(),
    hold=st.none()
    | st.builds(
        RecordHold,
        reason=st.text(),
        until=st.just("") | st.dates().map(lambda day: day.isoformat()),
        key=st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex),
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(_RECORDS)
def test_parse_and_format_are_inverse(record: Record) -> None:
    data = format_record(record)
    assert parse_record(data) == record
    assert format_record(parse_record(data)) == data


def edited(**changes: object) -> bytes:
    return json.dumps({**json.loads(TEXT), **changes}, sort_keys=True, indent=1).encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"<<<<<<< ours\n" + TEXT,
        TEXT + b"\n",
        TEXT.replace(b"\n", b"\r\n"),
        json.dumps(json.loads(TEXT)).encode(),
        edited(schema="gitml/record/2"),
        edited(more=1),
        edited(key="ab"),
        edited(key="AB" * 32),
        edited(key=None),
        edited(stage=1),
        edited(output={"path": "x"}),
        edited(output={"path": "\ud800", "tree": "22" * 20}),
        edited(output={"path": "x", "tree": "22"}),
        edited(output=[]),
        edited(inputs={}),
        edited(inputs=[1]),
        edited(code=[{"target": "x", "source": "x", "mode": "9", "oid": "22" * 20}]),
        edited(params=[]),
        edited(params={"p": 1}),
        edited(spec=None),
        edited(datums={"total": -1, "recovered": 0}),
        edited(datums={"total": True, "recovered": 0}),
        edited(accepted="by me"),
        edited(accepted={}),
        edited(hold={"until": "tomorrow"}),
        edited(hold={"until": "2027-1-31"}),
        edited(hold={"key": "ab"}),
        edited(hold={"reason": ""}),
        edited(hold={"for": "ever"}),
    ],
)
def test_anything_else_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not a record"):
        parse_record(data)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model", b"model.json"),
        ("a/b", b"a/b.json"),
        ("a.json/b", b"a%2Ejson/b.json"),
        ("a.json", b"a.json.json"),
        ("..", b"%2E%2E.json"),
        ("../x", b"%2E%2E/x.json"),
        (".git/config", b"%2Egit/config.json"),
        ("/etc", b"%/etc.json"),
        ("a//b", b"a/%/b.json"),
        ("a%b", b"a%25b.json"),
        ("a\nb", b"a%0Ab.json"),
        ("ä", b"%C3%A4.json"),
        ("v1.2 final", b"v1.2 final.json"),
    ],
)
def test_where_records_stand(name: str, path: bytes) -> None:
    assert record_path(name) == b".gitml/records/" + path


_NAMES = st.lists(
    st.sampled_from(["a", "A", ".", "..", ".git", "a.json", "%", "", "%2E", "a.json.json", " "]), max_size=3
)


@settings(deadline=None)
@given(st.lists(_NAMES.map("/".join) | st.text(), min_size=2, max_size=2, unique=True))
def test_two_stages_never_share_a_place(names: list[str]) -> None:
    one, two = (record_path(name) for name in names)
    assert one != two
    assert not two.startswith(one + b"/")
    assert not one.startswith(two + b"/")
    parts = one.split(b"/")[2:]
    assert not {b"", b".", b"..", b".git"} & set(parts)


@settings(deadline=None)
@given(st.binary(max_size=12), st.binary(max_size=12))
def test_printable_names_are_printable_and_differ(one: bytes, two: bytes) -> None:
    assert printable(one).isprintable()
    assert (printable(one) == printable(two)) == (one == two)
