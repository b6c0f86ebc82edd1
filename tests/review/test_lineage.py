"""What changed in the pipeline, as a graph; and which datums failed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gitml.oid import Oid
from gitml.review.blocks import Block, Report
from gitml.review.comparison import Comparison, Graph, Node, Side
from gitml.review.lineage import around, limited
from gitml.review.markdown import markdown
from gitml.review.report import report
from tests.end_to_end.project import Project


def stage(name: str, *, touched: bool = False, state: str = "fresh") -> Node:
    return Node(name=name, stage=True, state=state, what="made anew" if touched else "", touched=touched)


def data(name: str, what: str = "") -> Node:
    return Node(name=name, stage=False, what=what, touched=bool(what))


GRAPH = Graph(
    nodes=(stage("clean"), stage("train", touched=True), stage("test"), stage("publish"), data("raw", "changed"),
           data("labels", "changed"), data("seen")),
    edges=((4, 0), (0, 1), (5, 1), (1, 2), (2, 3), (6, 3)),
)  # fmt: skip


def side() -> Side:
    return Side(name="x", commit=Oid.parse("1" * 40), subject="", when=0)


def blocks(graph: Graph) -> list[Block]:
    found = report(Comparison(old=side(), new=side(), stages_total=1, pipeline=graph), "git ml diff")
    return [block for block in found.blocks if block.key == "lineage"]


def test_one_hop_around_what_changed() -> None:
    near = around(GRAPH)
    # raw changed, but no stage that reads it did
    assert [node.name for node in near.nodes] == ["clean", "train", "test", "labels"]
    assert near.edges == ((0, 1), (3, 1), (1, 2))
    assert around(Graph(nodes=(stage("a"), data("b", "changed")), edges=((1, 0),))) == Graph()


def test_what_changed_is_kept_first() -> None:
    nodes = (*(stage(f"quiet{number}") for number in range(100)), stage("loud", touched=True))
    graph, left = limited(Graph(nodes=nodes, edges=((0, 100), (0, 99))), 60)
    assert len(graph.nodes) == 60
    assert left == 41
    assert graph.nodes[-1].name == "loud"
    assert graph.edges == ((0, 59),)


def test_the_block() -> None:
    (block,) = blocks(GRAPH)
    assert [[cell.text for cell in row] for row in block.rows] == [
        ["clean", "", "fresh", ""],
        ["train", "made anew", "fresh", "clean, labels (changed)"],
        ["test", "", "fresh", "train"],
    ]
    assert not block.folded
    assert blocks(Graph(nodes=(stage("clean"),))) == []


def test_a_diagram_has_at_most_sixty_nodes() -> None:
    nodes = tuple(stage(f"s{number}", touched=True) for number in range(200))
    (block,) = blocks(Graph(nodes=nodes, edges=tuple((0, number) for number in range(1, 200))))
    text = markdown(Report(verdict=(), blocks=(block,)), "t", "1..2", 60_000)
    assert len(re.findall(r"^  n\d+\[", text, re.MULTILINE)) == 60
    assert "and 140 more stages and inputs" in text
    assert "<details>" in text


HOSTILE = [
    'a"] --> b', "```", "end", "click n0 href", "<img src=x onerror=alert(1)>", "`**x**`", "a\nclick n0 call x()",
    "#quot;", "%%{init: {}}%%", "@everyone", "\u202eevil", "\x1b[31m", "x" * 500, "\udc80", "a;b", "&lt;b&gt;",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_no_syntax_in_a_diagram(name: str) -> None:
    graph = Graph(nodes=(stage(name, touched=True), data(name)), edges=((1, 0),))
    (block,) = blocks(graph)
    text = markdown(Report(verdict=(), blocks=(block,)), "t", "1..2", 60_000)
    fence = text[text.index("```mermaid") : text.rindex("```") + 3].splitlines()
    assert len(fence) == 8
    assert fence[:2] == ["```mermaid", "flowchart LR"]
    assert fence[4:] == [
        "  n1 --> n0", "  classDef touched stroke-width:3px", "  classDef bad stroke:#cf222e,stroke-width:3px", "```",
    ]  # fmt: skip
    shape = re.compile(r'  n\d(?:\["([^"]*)"\]:::touched|\(\["([^"]*)"\]\))')
    for line in fence[2:4]:
        found = shape.fullmatch(line)
        assert found is not None
        # nothing but letters, digits, plain marks and entities by number
        assert re.fullmatch(r"(?:[\w .,:/…-]|#\d+;)*", found[1] or found[2])
        assert len(re.sub(r"#\d+;", "x", found[1] or found[2])) <= 60 + len(": fresh, made anew")
    assert fence[2].endswith(': fresh, made anew"]:::touched')


PIPELINE: dict[str, Any] = {
    "stages": [
        {
            "pipeline": {"name": "check"},
            "transform": {
                "cmd": ["sh", "-c", "for f in pfs/input/*; do echo look at $f; sh $f || exit 3; cp $f pfs/out/; done"]
            },
            "input": {"pfs": {"repo": "input", "glob": "/*"}},
            "datum_tries": 1,
        },
        {
            "pipeline": {"name": "after"},
            "transform": {"cmd": ["sh", "-c", "cp -r pfs/check/. pfs/out/"]},
            "input": {"pfs": {"repo": "check", "glob": "/"}},
        },
    ]
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    for number in range(14):
        project.write(f"input/{number:02}", "true\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "first")
    project.ml("run")
    return project


def test_every_datum_that_failed(project: Project) -> None:
    for number in range(12):
        project.write(f"input/{number:02}", f"echo reason {number}; exit 3\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "second")
    project.ml("run", check=False)
    said = project.ml("diff", "HEAD^..HEAD", "--only", "lineage,failures").stdout
    assert re.search(r"^  check +failed +input \(changed\)$", said, re.MULTILINE)
    assert re.search(r"^  after +stale +check$", said, re.MULTILINE)
    assert said.count("\nFailed\n") == 11
    assert re.findall(r"^  reason (\d+)$", said, re.MULTILINE) == [str(number) for number in range(10)]
    assert "look at pfs/input/03" in said
    assert "and 2 datums more" in said
    found = project.json("diff", "HEAD^..HEAD")["lineage"]
    assert found == {
        "nodes": [
            {"name": "check", "stage": True, "state": "failed", "what": None},
            {"name": "after", "stage": True, "state": "stale", "what": None},
            {"name": "input", "stage": False, "state": None, "what": "changed"},
        ],
        "edges": [[2, 0], [0, 1]],
    }
    assert '  n2(["input: changed"]):::touched' in project.ml("diff", "HEAD^..HEAD", "--md").stdout


def test_one_datum_that_failed(project: Project) -> None:
    project.write("input/03", "echo because; exit 3\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "second")
    project.ml("run", check=False)
    said = project.ml("diff", "HEAD^..HEAD", "--only", "failures").stdout
    assert said.count("\nFailed\n") == 1
    assert re.search(r"^  because$", said, re.MULTILINE)
