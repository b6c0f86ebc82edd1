"""`docs/pachyderm.md` says of every field what becomes of it, and says what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path

from gitml.pipeline.spec.fields import OBJECTS, Disposition, Field

PAGE = (Path(__file__).parents[2] / "docs" / "pachyderm.md").read_text("utf-8")
OWN = {"output", "code", "params", "metrics", "predictions", "leakage", "plots"}
"""Fields that Pachyderm has not."""
STATES = {
    Disposition.SUPPORTED: {"same", "better", "mapped"},
    Disposition.IGNORED: {"notice"},
    Disposition.NEVER: {"refused"},
}


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def fields(name: str, trail: str) -> Iterator[tuple[str, Field]]:
    """Every field below the object `name` that says something of its own, by its path."""
    for key, field in OBJECTS[name].items():
        if name == "stage" and key in OWN:
            continue
        path = f"{trail}{key}"
        below = field.object if field.disposition is Disposition.SUPPORTED and field.object != "input" else None
        if below is not None or path == "input":
            yield from fields(str(field.object), f"{path}.")
        else:
            yield path, field


ALL = dict(fields("stage", ""))
ROWS = dict(re.findall(r"^\| `([a-zA-Z0-9_.]+)` \| (\w+) \|", section("Fields"), re.MULTILINE))
OLD = set(re.findall(r"`([a-z_.]+)`", section("Fields of Pachyderm 1.x")))


def test_each_field_of_pachyderm_is_on_the_page_and_is_what_it_says() -> None:
    current = {path: field for path, field in ALL.items() if field.disposition is not Disposition.REMOVED}
    assert sorted(current.keys() - ROWS.keys()) == []
    assert sorted(ROWS.keys() - current.keys()) == []
    wrong = {path for path, field in current.items() if ROWS[path] not in STATES[field.disposition]}
    assert wrong == set()


def test_each_field_of_1x_is_on_the_page() -> None:
    removed = {path for path, field in ALL.items() if field.disposition is Disposition.REMOVED}
    assert "input.atom" in removed
    assert sorted(removed - OLD) == []


def test_our_own_fields_are_named() -> None:
    sentence = re.search(r"Fields of gitml's own stand next to these: (.*)", section("Fields"))
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == OWN & OBJECTS["stage"].keys()


def test_every_feature_has_a_state() -> None:
    rows = [line for line in section("Features").splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    assert {row.split(" | ")[1] for row in rows} == {"same", "better", "mapped", "absent"}
    assert [row for row in rows if len(row.strip("| ").split(" | ")) != 3] == []
