"""Inputs of other commits and cron inputs in `pipeline.json`: what may be said, and what not."""

import json
from typing import Any

import pytest

from gitml.pipeline.spec import SpecError, load_pipeline
from gitml.pipeline.spec.model import Cron
from tests.pipeline.test_spec_errors import DATA, stage, tree_with


def load(**pfs: Any) -> Any:
    stages = [stage(input={"pfs": {"repo": "training", "glob": "/", **pfs}}), stage("other")]
    return load_pipeline(tree_with({**DATA, "pipeline.json": json.dumps(stages)}))


def test_what_is_elsewhere_need_not_be_here_and_is_not_upstream() -> None:
    for where in ({"branch": "staging/new"}, {"commit": "v1.0"}, {"commit": "0123abcd"}):
        for repo, path in (("nowhere", b"nowhere"), ("other", b"other"), ("model", b"model"), ("other/a", b"other/a")):
            (leaf,) = load(repo=repo, **where).stage("model").inputs
            assert (leaf.path, leaf.upstream, leaf.is_elsewhere) == (path, None, True)
    (leaf,) = load(branch="master", commit="", lazy=True, propagationSpec={"never": False}).stage("model").inputs
    assert [leaf.is_elsewhere, leaf.never, leaf.empty_files, leaf.reference] == [False] * 4


@pytest.mark.parametrize(
    ("pfs", "message"),
    [
        *(
            ({"branch": name}, "is not the name of a branch")
            for name in (
                "-x",
                "a..b",
                "a b",
                "a:b",
                "a/.b",
                "x.lock",
                "a~1",
                "HEAD^",
                "a@{1}",
                "/a",
                "a/",
                "a\nb",
                "\\",
            )
        ),
        ({"commit": "v1^{tree}"}, "is neither an oid nor a tag"),
        ({"commit": "v1", "branch": "staging"}, "'commit' and 'branch' in one input"),
        ({"commit": "v1", "repo": ""}, "an empty name"),
        ({"propagation_spec": {"never": 1}}, "expected true or false"),
    ],
)
def test_what_is_refused(pfs: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        load(**pfs)
    assert message in raised.value.message


def clock(**fields: Any) -> Any:
    stages = [stage(input={"cron": {"name": "tick", "spec": "@daily", **fields}}), stage("other/one")]
    return load_pipeline(tree_with({**DATA, "pipeline.json": json.dumps(stages)}))


def test_ticks_need_not_be_there() -> None:
    (leaf,) = clock().stage("model").inputs
    assert (leaf.name, leaf.path, leaf.glob) == ("tick", b"model_tick", "/*")
    (leaf,) = clock(overwrite=True, repo="ticks", start="2026-01-01T00:00:00Z", commit="x").stage("model").inputs
    assert (leaf.path, leaf.glob, leaf.cron) == (
        b"ticks", "/", Cron(spec="@daily", start="2026-01-01T00:00:00Z", overwrite=True)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spec": "daily"}, "'daily' is not a schedule of five fields"),
        ({"spec": None}, "'spec' is missing"),
        ({"name": "out"}, "an input cannot be called 'out'"),
        ({"start": "yesterday"}, "'yesterday' is not a time"),
        ({"start": "2026-01-01T00:00:00"}, "is not a time"),
        ({"repo": "other/one/ticks"}, "ticks cannot stand in 'other/one/ticks': it is the output of stage 'other/one'"),
        ({"repo": "other"}, "ticks cannot stand in 'other'"),
        ({"repo": "."}, "ticks cannot stand in '.'"),
    ],
)
def test_what_a_cron_input_must_not_say(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        clock(**fields)
    assert message in raised.value.message
