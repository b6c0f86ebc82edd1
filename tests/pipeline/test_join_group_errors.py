"""What a specification may not say of joins and groups."""

import json
from typing import Any

import pytest

from gitml.pipeline.spec import load_pipeline
from tests.pipeline.test_spec_errors import DATA, failure, stage, tree_with


def side(repo: str, **fields: Any) -> dict[str, Any]:
    return {"pfs": {"repo": repo, "glob": "/(*).csv", **fields}}


@pytest.mark.parametrize(
    ("given", "place", "said", "hint"),
    [
        ({"join": []}, "input.join", "an empty list", ""),
        (
            {"join": [side("training", join_on="$2"), side("input", join_on="$1")]},
            "input.join[0].pfs.join_on", "names the capturing group 2, and the glob '/(*).csv' has 1", "parentheses",
        ),
        (
            {"group": [side("training", group_by="$1"), side("training", group_by="$1")]},
            "input.group[1]", "two inputs are called 'training'", "another 'name'",
        ),
        (
            {"group": [{"pfs": {"repo": "training", "glob": "/*", "group_by": "$1"}}]},
            "input.group[0].pfs.group_by", "has none", "parentheses",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], place: str, said: str, hint: str) -> None:
    error = failure({"stages": [stage(input=given)]})
    assert place in error.message
    assert said in error.message
    assert hint in (error.hint or "")


def test_a_text_without_groups_puts_all_files_together() -> None:
    text = json.dumps({"stages": [stage(input={"group": [side("training", group_by="all")]})]})
    pipeline = load_pipeline(tree_with({**DATA, "train.py": "", "pipeline.json": text}))
    assert pipeline is not None
    assert [leaf.group_by for leaf in pipeline.stage("model").inputs] == ["all"]
