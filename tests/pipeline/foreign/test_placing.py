"""What a `pipeline.json` becomes that gets more stages."""

import json
from typing import Any

import pytest

from gitml.errors import UserError
from gitml.pipeline.foreign.placing import with_more

IMAGES = {"x:1": {"code": {"/code": "a"}}}
SPEC = {"pipeline": {"name": "a"}}
HANDMADE = """{
    "stages": [
        {"pipeline": {"name": "own"},   "salt": "é"},
        "list.json"
    ],
    "defaults": {"datum_tries": 1}
}
"""


def test_text_of_people_stays() -> None:
    made = with_more(HANDMADE.encode(), ["b.json", {"salt": "ü"}], IMAGES).decode()
    assert (
        made
        == """{
    "stages": [
        {"pipeline": {"name": "own"},   "salt": "é"},
        "list.json",
        "b.json",
        {
          "salt": "ü"
        }
    ],
    "defaults": {"datum_tries": 1},
    "images": {
      "x:1": {
        "code": {
          "/code": "a"
        }
      }
    }
}
"""
    )


@pytest.mark.parametrize(
    ("before", "stages", "rest"),
    [
        (None, [], {}),
        ("", [], {}),
        ("{}", [], {}),
        ('{"$schema": "x"}', [], {}),
        ('{"stages": []}', [], {}),
        ('{"stages": [\n]\n}', [], {}),
        ('{"stages": ["a.json"]}', ["a.json"], {}),
        ('\ufeff{"stages": ["a.json"], "images": {}}\n', ["a.json"], {}),
        ('{"images": {"y": {"code": ["z"]}}}', [], {"y": {"code": ["z"]}}),
        ("[]", [], {}),
        ('[\n  {"pipeline": {"name": "b"}}\n]\n', [{"pipeline": {"name": "b"}}], {}),
        ('{"pipeline": {"name": "b"}}', [{"pipeline": {"name": "b"}}], {}),
    ],
)
def test_every_form(before: str | None, stages: list[Any], rest: dict[str, Any]) -> None:
    data = before.encode() if before is not None else None
    document = json.loads(with_more(data, ["n.json", SPEC], IMAGES))
    assert document["stages"] == [*stages, "n.json", SPEC]
    assert document["images"] == rest | IMAGES
    assert json.loads(with_more(data, [SPEC], {})).get("images", {}) == rest


@pytest.mark.parametrize(
    "before", ["stages: []\n", "{}{}", "7", '{"stages": {}}', '{"stages": [], "images": []}', "\xff"]
)
def test_what_is_in_the_way(before: str) -> None:
    with pytest.raises(UserError, match=r"cannot add to pipeline\.json: ") as caught:
        with_more(before.encode("latin-1"), ["n.json"], IMAGES)
    assert '"n.json"' in str(caught.value.hint)
