"""Stages of listed specifications that cannot run here: left out, with what they would write as data of the user."""

import json
from typing import Any

import pytest

from gitml.errors import UserError
from gitml.pipeline.choice import Choice
from gitml.pipeline.spec import SpecError, load_pipeline
from gitml.pipeline.spec.load import Checked, check_pipeline, effective_specification
from gitml.pipeline.spec.model import Pipeline
from tests.pipeline.test_spec import tree_with

SPOUT = {
    "pipeline": {"name": "events"},
    "transform": {"image": "acme/reader:1", "cmd": ["python", "/consume.py"], "env": {"TOPIC": "clicks"}},
    "spout": {},
    "autoscaling": False,
}
READER = {
    "pipeline": {"name": "count"},
    "transform": {"cmd": ["sh"], "stdin": ["ls /pfs/events | wc -l > /pfs/out/n"]},
    "input": {"pfs": {"repo": "events", "glob": "/"}},
}
SERVICE = {
    "pipeline": {"name": "page"},
    "transform": {"cmd": ["python3", "-m", "http.server"]},
    "input": {"pfs": {"repo": "count", "glob": "/"}},
    "service": {"internalPort": 80, "externalPort": 30080, "type": "NodePort"},
}
SQL = {
    "pipeline": {"name": "rows"},
    "transform": {"cmd": ["true"]},
    "input": {"pfs": {"repo": "count", "glob": "/"}},
    "egress": {"sqlDatabase": {"url": "postgres://u@h/d", "fileFormat": {"type": "CSV"}, "secret": {"name": "s"}}},
}


def tree(*specs: Any, pipeline: Any = None, **files: str) -> Any:
    """A tree whose pipeline lists one file with `specs`, a line for each."""
    listed = json.dumps(pipeline or {"stages": ["pachyderm.json"]})
    return tree_with({**files, "pipeline.json": listed, "pachyderm.json": "\n".join(map(json.dumps, specs))})


def loaded(*specs: Any, **files: Any) -> Pipeline:
    found = load_pipeline(tree(*specs, **files))
    assert found is not None
    return found


def checked(*specs: Any, **files: Any) -> Checked:
    return check_pipeline(tree(*specs, **files), b"pipeline.json")


def test_the_rest_of_a_file_is_read_without_them() -> None:
    pipeline = loaded(SPOUT, READER, SERVICE, SQL)
    assert [stage.name for stage in pipeline.stages] == ["count"]
    assert [(stage.name, stage.output) for stage in pipeline.left_out] == [
        ("events", b"events"),
        ("page", b"page"),
        ("rows", b"rows"),
    ]
    (events,) = pipeline.stage("count").inputs
    assert (events.path, events.upstream) == (b"events", None)
    assert pipeline.notices == (
        "stage 'events' is left out: 'spout' is not supported: a run ends, a producer does not; what is committed in"
        " 'events' is read as data: let the producer commit files where the other stages read them"
        " (pachyderm.json: documents[0].spout)",
        "stage 'page' is left out: 'service' is not supported: a run ends, a server does not; what is committed in"
        " 'page' is read as data: start the server by hand, on the files of the branch"
        " (pachyderm.json: documents[2].service)",
        "stage 'rows' is left out: 'egress.sqlDatabase' is not supported: a database has no versions that a revert"
        " could bring back; what is committed in 'rows' is read as data: write to it in the command of a stage, with"
        " 'secrets' and ml.network, or load it from an egress of files"
        " (pachyderm.json: documents[3].egress.sqlDatabase)",
    )


def test_a_check_says_where() -> None:
    found = checked(SPOUT, READER)
    assert not found.problems
    column = json.dumps(SPOUT).index('"spout"') + 1
    (told,) = found.notices
    assert told.startswith(f"pachyderm.json:1:{column}: documents[0].spout: stage 'events' is left")
    wrong = checked(SPOUT, {**READER, "stdn": []})
    assert [error.problem for error in wrong.problems] == ["unknown field"]
    assert wrong.notices == (told,)


def test_nothing_else_of_them_is_looked_at_but_their_names() -> None:
    odd = {**SPOUT, "transfrom": {}, "input": {"pfs": {"repo": "nowhere"}}, "enable_stats": True}
    assert [stage.name for stage in loaded(odd, READER).stages] == ["count"]
    (error,) = checked({**SPOUT, "pipeline": {"name": "a b"}}).problems
    assert error.problem == "'a b' is not a name for a stage"
    (error,) = checked(SPOUT, {**READER, "pipeline": {"name": "events"}}).problems
    assert error.problem == "a second stage called 'events'"
    (error,) = checked(SPOUT, {**READER, "output": "events/count"}).problems
    assert "lies inside 'events'" in error.problem


def test_all_reasons_are_one_notice() -> None:
    both = {**SPOUT, "s3Out": True, "input": {"pfs": {"repo": "a", "glob": "/", "s3": True}}}
    (absent,) = loaded(both).left_out
    assert [part.partition(" is ")[0] for part in absent.why.split("; ")] == ["'spout'", "'s3Out'", "'input.pfs.s3'"]
    assert len(loaded(both).notices) == 1


@pytest.mark.parametrize("value", [None, False, 0, "", []])
def test_what_is_set_to_nothing_leaves_nothing_out(value: Any) -> None:
    spec = {**READER, "spout": value, "s3_out": value, "input": {"pfs": {"repo": "events", "glob": "/", "s3": value}}}
    assert [stage.name for stage in loaded(spec, **{"events/a": "1"}).stages] == ["count"]


def test_in_pipeline_json_itself_they_are_errors() -> None:
    for pipeline in ({"stages": [SPOUT]}, SPOUT, [SPOUT], {"stages": ["pachyderm.json"], "defaults": {"spout": {}}}):
        with pytest.raises(SpecError, match="not supported: a run ends, a producer does not"):
            loaded(READER, pipeline=pipeline)


def test_projects_and_branches_of_them_are_found_as_those_of_others() -> None:
    spout = {**SPOUT, "pipeline": {"name": "events", "project": {"name": "web"}}, "outputBranch": "dev"}
    reads = {"repo": "events", "project": "web", "branch": "dev", "glob": "/"}
    pipeline = loaded(spout, {**READER, "input": {"pfs": reads}})
    (leaf,) = pipeline.stage("count").inputs
    assert (leaf.path, leaf.branch, leaf.upstream) == (b"web/events", "", None)
    common = {"stages": ["pachyderm.json"], "defaults": {"pipeline": {"project": {"name": "web"}}}}
    assert loaded(SPOUT, pipeline=common).left_out[0].output == b"web/events"


def test_who_asks_for_one_is_told_why_it_is_not_there() -> None:
    pipeline = loaded(SPOUT, READER)
    with pytest.raises(UserError, match=r"stage 'events' is left out: 'spout' is not supported") as caught:
        Choice(stages=frozenset({"events"})).check(pipeline)
    assert caught.value.hint == "let the producer commit files where the other stages read them"
    with pytest.raises(KeyError):
        effective_specification(tree(SPOUT, READER), "events")
