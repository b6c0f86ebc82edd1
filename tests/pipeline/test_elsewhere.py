"""Inputs of other commits in `pipeline.json`: what may be said, and what not."""

import json
from typing import Any

import pytest

from gitml.pipeline.spec import SpecError, load_pipeline
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
