"""Predictions of two versions, aligned by example."""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitml.tables import compare, predictions, significance
from gitml.tables.child import Limits, predictions_in_child
from gitml.tables.outcome import Measure, PredictionDiff, Version
from gitml.tables.predictions import compare_predictions

COLUMNS: dict[str, Any] = {"id": "id", "prediction": "p", "label": "y", "score": "s", "slices": ("part",)}


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id", "p", "y"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def diff(place: Path, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], **more: Any) -> Any:
    masked = more.pop("masked", ())
    said = {**COLUMNS, **more}
    versions = [
        Version(path=write(place / name, rows), name="p.csv", **said) for name, rows in (("old", old), ("new", new))
    ]
    return compare_predictions(versions[0], versions[1], masked=masked)


def rows(text: str) -> list[dict[str, Any]]:
    """Rows of words: id, prediction, label, score, part."""
    return [dict(zip(("id", "p", "y", "s", "part"), line.split(), strict=False)) for line in text.strip().split("\n")]


OLD = rows("""
    a cat cat 0.9 x
    b dog dog 0.8 x
    c dog cat 0.6 y
    d cat cat 0.7 y
    e cat cat 0.5 y
""")
NEW = rows("""
    f dog dog 0.5 x
    d dog cat 0.9 y
    c cat cat 0.8 y
    b dog dog 0.9 x
    a dog cat 0.6 x
""")


def test_classes(tmp_path: Path) -> None:
    found = diff(tmp_path, OLD, NEW)
    assert (found.kind, found.id, found.rows) == ("classes", "id", (5, 5))
    assert (found.common, found.added, found.removed, found.changed, found.judged) == (4, 1, 1, 3, 4)
    assert (found.broken, found.fixed) == (2, 1)
    assert found.measures[0] == Measure(name="accuracy", old=0.75, new=0.5)
    assert found.measures[1].name == "mean score"
    assert [(each.column, each.value, each.count, each.old, each.new) for each in found.slices] == [
        ("part", "x", 2, 1.0, 0.5),
        ("part", "y", 2, 0.5, 0.5),
    ]
    # surely right before and surely wrong now comes first
    assert [(each.id, each.label, each.old, each.new, each.old_score, each.new_score) for each in found.samples] == [
        ("d", "cat", "cat", "dog", 0.7, 0.9),
        ("a", "cat", "cat", "dog", 0.9, 0.6),
    ]
    assert found.significance is not None
    assert found.significance.p_value == 1.0
    assert found.significance.low < found.significance.difference == -0.25 < found.significance.high
    assert (found.warnings, found.untested, found.opaque) == ((), "", "")


def test_it_survives_json(tmp_path: Path) -> None:
    found = diff(tmp_path, OLD, NEW)
    assert PredictionDiff.from_json(found.as_json()) == found
    empty = PredictionDiff(opaque="x")
    assert PredictionDiff.from_json(empty.as_json()) == empty


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    assert diff(tmp_path, OLD, NEW) == diff(tmp_path, OLD[::-1], sorted(NEW, key=lambda row: row["id"]))


def test_numbers(tmp_path: Path) -> None:
    old: list[dict[str, Any]] = [
        {"id": 1, "p": 1.5, "y": 1, "part": "x"},
        {"id": 2, "p": 2.0, "y": 2, "part": "y"},
        {"id": 3, "p": 3, "y": 4},
    ]
    new: list[dict[str, Any]] = [
        {"id": 1, "p": 1.0, "y": 1, "part": "x"},
        {"id": 2, "p": 5.0, "y": 2, "part": "y"},
        {"id": 3, "p": "nan", "y": 4},
    ]
    found = diff(tmp_path, old, new, score=None)
    assert (found.kind, found.common, found.judged, found.broken, found.fixed) == ("numbers", 3, 2, 1, 1)
    assert found.measures == (
        Measure(name="mean absolute error", old=0.25, new=1.5),
        Measure(name="root mean squared error", old=math.sqrt(0.125), new=math.sqrt(4.5)),
    )
    assert [(each.value, each.new) for each in found.slices] == [("y", 3.0), ("x", 0.0)]
    assert [each.id for each in found.samples] == ["2"]
    assert found.warnings == ("examples that are not judged, as a cell is no finite number: 1",)
    assert found.significance.p_value is None


def test_numbers_beyond_a_double(tmp_path: Path) -> None:
    old = [{"id": 1, "p": "-1.5e308", "y": "1.5e308"}, {"id": 2, "p": "0.5", "y": "1"}]
    found = diff(tmp_path, old, [{**each, "p": "1.5"} for each in old], score=None, slices=())
    assert (found.measures[0].old, found.measures[0].new) == (None, pytest.approx(7.5e307))
    assert PredictionDiff.from_json(found.as_json()) == found


@pytest.mark.parametrize(
    ("labels", "guesses", "kind", "right"),
    [
        (["1", "2", "3"], ["1", "2.0", "4"], "classes", 2),
        (["1", "2", "3"], ["1", "2.5", "4"], "numbers", None),
        (["0.5", "2", "3"], ["1", "2", "4"], "numbers", None),
        (["1", "2", "x"], ["1", "2.5", "x"], "classes", 2),
        (["true", "false", "true"], ["true", "true", ""], "classes", 1),
        (["9007199254740993", "2", "3"], ["9007199254740992", "2", "3"], "classes", 2),
    ],
)
def test_which_are_classes(tmp_path: Path, labels: list[str], guesses: list[str], kind: str, right: int | None) -> None:
    both = [
        {"id": number, "p": guess, "y": label}
        for number, (guess, label) in enumerate(zip(guesses, labels, strict=True))
    ]
    found = diff(tmp_path, both, both, score=None, slices=())
    assert found.kind == kind
    assert found.significance is None
    if right is not None:
        assert found.measures[0].new == pytest.approx(right / 3)


def test_without_labels_only_changes_are_counted(tmp_path: Path) -> None:
    found = diff(tmp_path, OLD, NEW, label=None)
    assert (found.kind, found.common, found.changed, found.measures, found.samples) == ("", 4, 3, (), ())


def test_labels_of_another_table(tmp_path: Path) -> None:
    plain = [[{"id": row["id"], "p": row["p"]} for row in each] for each in (OLD, NEW)]
    truth = [{"key": row["id"], "y": row["y"], "part": row["part"]} for row in [*OLD, NEW[0]]]
    truth[1]["y"] = "cat"
    versions = []
    for which, table in (("old", plain[0]), ("new", plain[1])):
        labels = write(tmp_path / f"labels-{which}", truth if which == "old" else [truth[0], *truth[2:], truth[2]])
        versions.append(
            Version(
                path=write(tmp_path / which, table), name="p.csv", id="id", prediction="p", label="y", labels=labels,
                labels_name="truth.csv", labels_id="key", slices=("part",),
            )
        )  # fmt: skip
    found = compare_predictions(versions[0], versions[1])
    # b has no label any more, and c has two
    assert (found.common, found.judged, found.relabelled) == (4, 2, 0)
    assert found.warnings == (
        "new: ids that are repeated among the labels: 1",
        "examples without a label that are not judged: 2",
    )
    assert {each.value for each in found.slices} == {"x", "y"}


def test_labels_that_changed_judge_both(tmp_path: Path) -> None:
    new = [{**row, "y": "dog"} if row["id"] == "d" else row for row in NEW]
    found = diff(tmp_path, OLD, new)
    assert found.relabelled == 1
    assert (found.broken, found.fixed) == (1, 2)


def test_ids_that_cannot_be_aligned(tmp_path: Path) -> None:
    found = diff(tmp_path, [*OLD, OLD[0], OLD[0]], [*NEW, {**NEW[0], "id": ""}, NEW[2], NEW[1]])
    assert (found.common, found.added, found.removed, found.repeated) == (1, 2, 3, (1, 2))
    assert found.warnings == ("rows without an id that are not compared: 1",)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    bare = [{"id": row["id"], "p": row["p"]} for row in NEW]
    found = diff(tmp_path, OLD, bare)
    assert (found.kind, found.changed) == ("", 3)
    assert found.warnings == tuple(f"new: there is no column '{name}'" for name in ("y", "s", "part"))
    assert diff(tmp_path, OLD, NEW, id="key").opaque == "there is no column 'key' in the old version of p.csv"
    (tmp_path / "binary").write_bytes(b"\0\1" * 9)
    version = Version(path=tmp_path / "old", name="p.csv", id="id", prediction="p")
    other = Version(path=tmp_path / "binary", name="p.csv", id="id", prediction="p")
    assert compare_predictions(version, other).opaque == "new version of p.csv: it is binary"


def test_masks(tmp_path: Path) -> None:
    found = diff(tmp_path, OLD, NEW, masked=("i*", "y", "s", "part"))
    text = repr(found)
    assert {(each.id, each.label, each.old_score) for each in found.samples} == {("***", "***", None)}
    assert {each.value for each in found.slices} == {"***"}
    assert "'cat'" in text
    assert "'a'" not in text


def test_many_values_are_no_slices(tmp_path: Path) -> None:
    many = [{"id": number, "p": "a", "y": "a", "s": 1, "part": number % 201} for number in range(400)]
    found = diff(tmp_path, many, many)
    assert found.slices == ()
    assert found.warnings == ("column 'part' has more than 200 values: no slices",)


def test_small_groups_come_last(tmp_path: Path) -> None:
    old: list[dict[str, Any]] = [
        {"id": number, "p": "a", "y": "a", "s": 1, "part": "small" if number < 5 else "large"} for number in range(99)
    ]
    new = [{**row, "p": "b"} if row["id"] < 5 or row["id"] == 50 else row for row in old]
    assert [each.value for each in diff(tmp_path, old, new).slices] == ["large", "small"]


def test_no_tables(tmp_path: Path) -> None:
    found = diff(tmp_path, [], [], score=None, slices=())
    assert (found.common, found.measures, found.opaque) == (0, (), "")


def test_without_polars_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diff(tmp_path, OLD, NEW)
    monkeypatch.setattr(compare, "has_polars", lambda: False)
    assert diff(tmp_path, OLD, NEW) == found


def test_without_scipy_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "has_scipy", lambda: False)
    found = diff(tmp_path, OLD, NEW)
    assert found.significance is None
    assert found.untested == significance.NEEDS_SCIPY
    assert (found.broken, found.fixed, found.measures[0].new) == (2, 1, 0.5)


def test_parquet_has_the_same_examples(tmp_path: Path) -> None:
    found = diff(tmp_path, OLD, NEW)
    versions = []
    for name, table in (("old", OLD), ("new", NEW)):
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame([{**row, "s": float(row["s"])} for row in table]).write_parquet(path)
        versions.append(Version(path=path, name="p.parquet", **COLUMNS))
    assert compare_predictions(versions[0], versions[1]) == found


# significance


def test_mcnemar_is_exact() -> None:
    found = significance.of_pairs([-1.0] * 8 + [1.0] * 2 + [0.0] * 90, (8, 2))
    assert found is not None
    assert found.p_value == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)
    assert found.difference == pytest.approx(-0.06)


def test_intervals_hold_what_they_say_and_are_the_same_each_time() -> None:
    differences = [(-1.0, 0.0, 0.0, 1.0, 0.0)[number % 5] * (number % 3) for number in range(1000)]
    found = significance.of_pairs(differences)
    assert found is not None
    assert found == significance.of_pairs(differences)
    mean = sum(differences) / 1000
    error = math.sqrt(sum((each - mean) ** 2 for each in differences) / 999 / 1000)
    assert found.method == "bootstrap"
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)
    large = significance.of_pairs(differences * 60)
    assert large is not None
    assert large.method == "t"
    assert large.high - large.low == pytest.approx(2 * 1.96 * error / math.sqrt(60), rel=0.01)


def test_all_alike() -> None:
    assert significance.of_pairs([0.0, 0.0]) is None
    assert significance.of_pairs([]) is None
    found = significance.of_pairs([-1.0] * 10, (10, 0))
    assert found is not None
    assert (found.low, found.high) == (-1.0, -1.0)
    assert found.p_value == pytest.approx(2 / 2**10)


# against a computation that is as simple as can be

examples = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["", *"abcdefghijkl"]),
            "p": st.sampled_from(["", "u", "v"]),
            "y": st.sampled_from(["", "u", "v"]),
            "part": st.sampled_from(["", "x", "z"]),
        }
    ),
    min_size=1,
    max_size=14,
)


@given(old=examples, new=examples)
@settings(max_examples=150, deadline=None)
def test_any_predictions(tmp_path_factory: pytest.TempPathFactory, old: Any, new: Any) -> None:
    found = diff(tmp_path_factory.mktemp("p"), old, new, score=None)
    tables = []
    for table in (old, new):
        counts = Counter(row["id"] for row in table)
        tables.append({row["id"]: row for row in table if row["id"] and counts[row["id"]] == 1})
    before, now = tables
    both = [id_ for id_ in now if id_ in before]
    assert found.rows == (len(old), len(new))
    assert (found.common, found.added, found.removed) == (len(both), len(now) - len(both), len(before) - len(both))
    assert found.changed == sum(before[id_]["p"] != now[id_]["p"] for id_ in both)
    labelled = [id_ for id_ in both if now[id_]["y"]]
    right = {id_: (before[id_]["p"] == now[id_]["y"], now[id_]["p"] == now[id_]["y"]) for id_ in labelled}
    assert found.judged == len(labelled)
    assert found.broken == sum(one and not two for one, two in right.values())
    assert found.fixed == sum(two and not one for one, two in right.values())
    assert {each.id for each in found.samples} == {id_ for id_, (one, two) in right.items() if one and not two}
    if labelled:
        assert found.measures[0].old == pytest.approx(sum(one for one, _ in right.values()) / len(labelled))
        assert found.measures[0].new == pytest.approx(sum(two for _, two in right.values()) / len(labelled))
    for each in found.slices:
        group = [right[id_] for id_ in labelled if now[id_]["part"] == (each.value or "")]
        assert each.count == len(group)
        assert each.new == pytest.approx(sum(two for _, two in group) / len(group))
    assert sum(each.count for each in found.slices) == len(labelled)


# real predictions


def test_classes_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score

    data, labels = load_digits(return_X_y=True)
    guesses = []
    for name, strength in (("old", 1.0), ("new", 1e-5)):
        model = LogisticRegression(C=strength, max_iter=200).fit(data[:900], labels[:900])
        guesses.append(model.predict(data[900:]))
        sure = model.predict_proba(data[900:]).max(axis=1)
        write(tmp_path / name, [
            {"id": number, "p": guess, "y": label, "s": score, "part": label % 2}
            for number, (guess, label, score) in enumerate(zip(guesses[-1], labels[900:], sure, strict=True))
        ])  # fmt: skip
    versions = [Version(path=tmp_path / name, name="p.csv", **COLUMNS) for name in ("old", "new")]
    found = predictions_in_child(versions[0], versions[1])
    assert found.opaque == ""
    assert (found.kind, found.common, found.changed) == ("classes", 897, int((guesses[0] != guesses[1]).sum()))
    assert found.measures[0].old == pytest.approx(accuracy_score(labels[900:], guesses[0]))
    assert found.measures[0].new == pytest.approx(accuracy_score(labels[900:], guesses[1]))
    odd = next(each for each in found.slices if each.value == "1")
    chosen = labels[900:] % 2 == 1
    assert odd.count == chosen.sum()
    assert odd.new == pytest.approx(accuracy_score(labels[900:][chosen], guesses[1][chosen]))
    assert found.significance is not None
    assert found.significance.low < found.significance.difference < found.significance.high
    assert len(found.samples) == min(10, found.broken) > 0


def test_numbers_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.metrics import mean_absolute_error, mean_squared_error

    data, targets = load_diabetes(return_X_y=True)
    guesses = []
    for name, strength in (("old", 0.01), ("new", 10.0)):
        guesses.append(Ridge(alpha=strength).fit(data[:200], targets[:200]).predict(data[200:]))
        pairs = zip(guesses[-1], targets[200:], strict=True)
        write(
            tmp_path / name, [{"id": number, "p": guess, "y": target} for number, (guess, target) in enumerate(pairs)]
        )
    said: dict[str, Any] = {"id": "id", "prediction": "p", "label": "y"}
    old, new = (Version(path=tmp_path / name, name="p.csv", **said) for name in ("old", "new"))
    found = predictions_in_child(old, new)
    assert found.kind == "numbers"
    for measure, judge in zip(found.measures, (mean_absolute_error, mean_squared_error), strict=True):
        power = 0.5 if judge is mean_squared_error else 1
        assert measure.old == pytest.approx(judge(targets[200:], guesses[0]) ** power)
        assert measure.new == pytest.approx(judge(targets[200:], guesses[1]) ** power)
    losses = abs(guesses[1] - targets[200:]) - abs(guesses[0] - targets[200:])
    assert found.samples[0].id == str(losses.argmax())
    assert found.broken == (losses > 0).sum()


def test_limits(tmp_path: Path) -> None:
    write(tmp_path / "p.csv", [{"id": number, "p": f"class {number}", "y": "a"} for number in range(200_000)])
    version = Version(path=tmp_path / "p.csv", name="p.csv", id="id", prediction="p", label="y")
    found = predictions_in_child(version, version, limits=Limits(memory=1, seconds=60))
    assert found.opaque == "comparing takes more than 1 bytes of memory"
