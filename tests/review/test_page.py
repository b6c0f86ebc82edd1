"""The page: pinned, whatever names are, and never larger than it may be."""

import base64
import hashlib
import json
import math
import os
import re
import stat
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitml.oid import Oid
from gitml.review.blocks import Block, Cell, Report, Tone
from gitml.review.comparison import (
    Comparison,
    Failure,
    FileChange,
    Graph,
    MetricChange,
    Node,
    ParamChange,
    Role,
    Side,
    StageChange,
    Verdict,
)
from gitml.review.drawing import short_number
from gitml.review.history import MetricHistory, Point
from gitml.review.overview import overview
from gitml.review.page import page
from gitml.review.report import report
from gitml.review.style import STYLE
from tests.end_to_end.project import Project
from tests.review.test_diff import PIPELINE, TRAIN

GOLDEN = Path(__file__).parents[1] / "golden" / "page.html"
COMMAND = "git ml diff 1111111111..2222222222"


def side(digit: str, subject: str, name: str = "HEAD") -> Side:
    return Side(name=name, commit=Oid.parse(digit * 40), subject=subject, when=1_790_000_000 + 86_400 * int(digit))


def comparison(name: str = "accuracy") -> Comparison:
    """A small one; `name` is what everything is called that somebody else names."""
    raw = name.encode("utf-8", "surrogatepass")
    return Comparison(
        old=side("1", f"before {name}", name),
        new=side("2", name, name),
        stages_total=2,
        metrics=(
            MetricChange(stage="model", name=name, old=0.95, new=0.89, verdict=Verdict.WORSE, goal="max",
                         gate=(0.9, None), breaks_gate=True),
            MetricChange(stage="model", name="rows", old=10, new=10, verdict=Verdict.SAME),
        ),
        stages=(
            StageChange(stage="model", what="made anew", causes=f"input '{name}' changed", state="fresh"),
            StageChange(stage=name, what="", state="failed", reason=f"datum '{name}' failed", failed=2,
                        failures=(Failure(datum=name, message=name, last_lines=("reading", name)),)),
        ),
        params=(ParamChange(path=name, key=name, old=(name,), new=({name: name},), stages=(name,)),),
        files=(
            FileChange(path=raw, old_path=raw + b"2", new=False, gone=False, old_size=1, new_size=2, role=Role.DATA),
        ),
        libraries={name: (name, None)},
        pipeline=Graph(
            nodes=(
                Node(name="model", stage=True, state="fresh", what="made anew", touched=True, datums=1, done=1),
                Node(name=name, stage=True, state="failed", reason=name, touched=True, datums=2),
                Node(name="quiet", stage=True, state="fresh", datums=1, done=1),
                Node(name=name, stage=False, what="changed", touched=True),
            ),
            edges=((3, 0), (0, 1), (3, 2)),
        ),
    )  # fmt: skip


def histories(name: str = "accuracy") -> list[MetricHistory]:
    values = [0.9, 0.95, math.nan, 0.89]
    points = tuple(
        Point(Oid.parse(f"{at}" * 40), 1_790_000_000 + 86_400 * at, name, value) for at, value in enumerate(values)
    )
    return [
        MetricHistory(stage="model", name=name, points=points, goal="max", gate=(0.9, None)),
        MetricHistory(stage="model", name="once", points=points[:1]),
    ]


def rendered(name: str = "accuracy", most: int = 2_000_000) -> str:
    found = comparison(name)
    said = overview(report(found, COMMAND), found, histories(name), whole=True)
    return page(said, found.old, found.new, COMMAND, most)


def pinned() -> str:
    """What is pinned of a page: all but the style. `python -m tests.review.test_page` pins it anew."""
    return re.sub(r"sha256-[^']*", "sha256-", rendered().replace(STYLE, ""))


class Elements(HTMLParser):
    """What a page is made of; fails the test where elements are not closed in turn."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_pinned() -> None:
    assert pinned() == GOLDEN.read_text()


def test_what_the_page_allows_itself() -> None:
    html = rendered()
    found = Elements(html)
    policy = next(value for tag, key, value in found.attributes if (tag, key) == ("meta", "content") and "src" in value)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert found.tags["script"] == found.tags["img"] == found.tags["link"] == found.tags["iframe"] == 0
    assert {value for _, key, value in found.attributes if key in ("href", "src", "action")} == {
        f"#{name}" for name in (
            "report", "metrics", "history", "pipeline", "stages", "params", "files", "environment", "lineage",
            "failures", "reproduce",
        )
    }  # fmt: skip
    assert not any(key.startswith("on") or key == "style" for _, key, _ in found.attributes)
    assert not re.search(r"url\(|@import|expression\(", STYLE)


def test_the_page_can_be_found_around_in() -> None:
    found = Elements(rendered())
    assert [found.tags[each] for each in ("h1", "main", "nav", "header", "footer")] == [1] * 5
    assert ("html", "lang", "en") in found.attributes
    assert found.tags["thead"] == found.tags["table"] > 5
    scopes = Counter(value for tag, key, value in found.attributes if (tag, key) == ("th", "scope"))
    assert scopes["col"] + scopes["row"] == found.tags["th"]
    ids = [value for _, key, value in found.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    named = {value for _, key, value in found.attributes if key == "aria-labelledby"}
    assert named <= set(ids)
    labels = Counter(tag for tag, key, value in found.attributes if key == "aria-label" and value)
    roles = Counter(
        tag for tag, key, value in found.attributes if (key, value) in (("role", "region"), ("role", "img"))
    )
    assert all(labels[tag] >= count for tag, count in roles.items())


HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</style><b>",
    "</title><b>", "<!--", "--><b>", "]]>", "&lt;b&gt;", "&#60;b>", "\x1b[31mred", "\u202eevil\u2066", "a\nb",
    "\udc80\udcff", "\x00", "javascript:alert(1)", "x" * 5000, "</svg><script>", "\ufeff\u200b", "\u0300" * 50, "{{x}}",
    "\r\n\u2028", " ",
]  # fmt: skip


def check_shape(html: str, plain: Elements) -> None:
    """The page has what one with a harmless name has."""
    found = Elements(html)
    assert set(found.tags) <= {*plain.tags, "code"}
    for tag in ("a", "section", "table", "tr", "th", "td", "svg", "details", "title", "style", "article", "li"):
        assert found.tags[tag] == plain.tags[tag], tag
    assert {(tag, key) for tag, key, _ in found.attributes} == {(tag, key) for tag, key, _ in plain.attributes}
    # control characters and those that turn the direction of text are written as escapes
    assert all(char.isprintable() or char == "\n" for char in html)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name: str) -> None:
    plain = Elements(rendered())
    html = rendered(name)
    check_shape(html, plain)
    if name.isprintable() and len(name) < 100 and name.strip():
        assert name in Elements(html).texts


@settings(max_examples=40, deadline=None)
@example("\ud800")
@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=40))
def test_any_name_is_text(name: str) -> None:
    check_shape(rendered(name), Elements(rendered()))


def large(key: str, rows: int, width: int = 1000, *, folded: bool = False) -> Block:
    listed = tuple(
        (Cell(f"{key} {number} " + "é<" * (width // 8), name=True), Cell("x", tone=Tone.BAD)) for number in range(rows)
    )
    return Block(key=key, title=key.title(), columns=("name", "value"), rows=listed, folded=folded)


@pytest.mark.parametrize("most", [30_000, 100_000, 2_000_000])
def test_a_page_is_never_too_large(most: int) -> None:
    found = comparison()
    blocks = (
        *report(found, COMMAND).blocks,
        large("files", 3000),
        large("tables", 5, 200),
        Block(key="failures", title="Failed", text=tuple("y" * 3000 for _ in range(3000)), folded=True),
        *(large("model", 40, 2000) for _ in range(12)),
    )
    html = page(Report(verdict=(Cell("v" * 9000),), blocks=blocks), found.old, found.new, COMMAND, most)
    assert len(html.encode()) <= most
    assert len(html.encode()) > most * 0.5 or most == 30_000
    said = "".join(Elements(html).texts)
    assert "Shortened to keep this page small" in said or "Left out to keep this page small" in said
    assert f"All of it: {COMMAND}" in said
    # what is small stays whole
    assert "0.95" in said
    assert re.search(r"v{2000}… \(9,000 characters\)", said)


def test_what_is_shortened_says_so() -> None:
    found = comparison()
    blocks = (large("files", 300), *report(found, COMMAND).blocks)
    html = page(Report(verdict=(), blocks=blocks), found.old, found.new, COMMAND, 120_000)
    said = "".join(Elements(html).texts)
    shown = re.search(r"Shortened to keep this page small: (\d+) of 300 rows\.", said)
    assert shown is not None
    assert said.count("files ") >= int(shown[1]) > 30
    whole = page(Report(verdict=(), blocks=blocks), found.old, found.new, COMMAND)
    assert "Shortened" not in whole


def test_a_graph_that_has_no_room_leaves_its_table() -> None:
    found = comparison()
    nodes = tuple(Node(name=f"stage {number}", stage=True, state="fresh") for number in range(300))
    rows = tuple((Cell(node.name, name=True),) for node in nodes)
    block = Block(key="pipeline", title="Pipeline", columns=("stage",), rows=rows, graph=Graph(nodes=nodes))
    html = page(Report(verdict=(), blocks=(block,)), found.old, found.new, COMMAND, 30_000)
    assert len(html.encode()) <= 30_000
    assert "<svg" not in html
    assert "stage 20" in html


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (24000.0, "24k"), (999_999.0, "1M"), (-24_321.0, "-24.3k"), (0.8088, "0.809"), (0.0, "0"), (999.6, "1k"),
        (0.000123, "1.2e-4"), (-0.000123, "-1e-4"), (1.7e308, "2e308"),
    ],
)  # fmt: skip
def test_what_stands_beside_an_axis_has_room_there(value: float, label: str) -> None:
    assert short_number(value) == label


def test_numbers_at_the_end_of_doubles_are_drawn() -> None:
    found = comparison()
    values = [-1.7e308, 1.7e308, 5e-324, math.inf, -math.inf, 0.0]
    points = tuple(Point(Oid.parse("1" * 40), 10**18, "x", value) for value in values)
    extreme = [
        MetricHistory(stage="a", name="b", points=points, goal="min", gate=(-math.inf, 1.0)),
        MetricHistory(stage="a", name="same", points=points[1:2] * 3),
        MetricHistory(stage="a", name="none", points=points[3:5]),
    ]
    html = page(overview(report(found, COMMAND), found, extreme, whole=False), found.old, found.new, COMMAND)
    Elements(html)
    drawing = re.findall(r'<svg class="chart".*?</svg>', html, re.DOTALL)
    assert len(drawing) == 3
    for each in drawing:
        numbers = re.findall(r'(?:cx|cy|x|y|points|d)="([^"]*)"', each)
        assert not re.search("nan|inf", " ".join(numbers))
    assert "no finite number" in drawing[2]


def test_a_worktree_and_a_side_that_cannot_be_read() -> None:
    found = comparison()
    old = Side(name="x", commit=found.old.commit, subject="s", when=10**30, problem="pipeline.json: <b>")
    new = Side(name="worktree", commit=found.new.commit, subject="WIP", when=0, worktree=True)
    html = page(report(found, COMMAND), old, new, COMMAND)
    assert "the files of the worktree" in html
    assert "WIP" not in html
    assert "pipeline.json: &lt;b&gt;" in html


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.path.mkdir()
    project.git("init", "-q")
    project.write("pipeline.json", json.dumps(PIPELINE))
    project.write("train.sh", TRAIN)
    project.write("params.json", '{"alpha": 0.9}\n')
    project.write("training/a.csv", "1\n2\n")
    project.write("input/one", "1\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "first")
    return project


def test_the_command(project: Project, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    # before anything has run
    project.ml("report", "--html", str(target))
    assert "model (stale)" in target.read_text()
    project.ml("run")
    # the first result has nothing before it but its source
    assert "first result" in project.ml("report", "--html", "-").stdout
    project.git("tag", "first")
    project.write("params.json", '{"alpha": 0.8}\n')
    project.git("commit", "-q", "-am", "second")
    project.ml("run")
    said = project.ml("report", "--html", str(target))
    assert said.stdout == f"wrote {target}\n"
    html = target.read_text()
    Elements(html)
    assert project.ml("report", "--html", "-").stdout == html
    assert project.ml("report", "--html", "-", "HEAD").stdout == html
    assert project.head("HEAD~2")[:10] in html
    assert ">model: accuracy</h3>" in html
    assert ">Pipeline</h2>" in html
    ranged = project.ml("report", "first..HEAD", "--html", "-").stdout
    assert project.head("first")[:10] in ranged
    assert 'class="chart"' in ranged
    assert "worse</li>" in html
    assert "worse</li>" not in project.ml("report", "--html", "-", "--tolerance", "accuracy=0.5").stdout
    refused = project.ml("report", "--html", str(target), "--tolerance", "accuracy=much", check=False)
    assert "'accuracy=much' is no tolerance" in refused.stderr
    earlier = project.ml("report", "first", "--html", "-").stdout
    assert 'class="chart"' not in earlier
    # files are replaced, links stay, nothing is left behind
    link = tmp_path / "link.html"
    link.symlink_to(target)
    project.ml("report", "first", "--html", str(link))
    assert link.is_symlink()
    assert target.read_text() == earlier
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.html", "project", "report.html"]


def test_a_page_beside_what_diff_prints(project: Project, tmp_path: Path) -> None:
    project.ml("run")
    project.write("params.json", '{"alpha": 0.8}\n')
    target = tmp_path / "report.html"
    plain = project.ml("diff", "HEAD").stdout
    assert project.ml("diff", "HEAD", "--html", str(target)).stdout == plain
    html = target.read_text()
    Elements(html)
    assert "the files of the worktree" in html
    assert ">Pipeline</h2>" not in html
    assert project.ml("diff", "HEAD", "--html", "-").stdout.replace("\n", "") == html.replace("\n", "")
    assert ">Stages</h2>" not in project.ml("diff", "HEAD", "--html", "-", "--only", "params").stdout
    done = project.ml("diff", "HEAD", "--html", "-", "--md", check=False)
    assert (done.returncode, done.stdout) == (1, "") or done.returncode > 1
    assert "two things cannot both go to standard output" in done.stderr


def test_where_it_cannot_be_written(project: Project, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "report.html"
    for command in ("report", "diff"):
        done = project.ml(command, *(["HEAD..HEAD"] if command == "diff" else []), "--html", str(missing), check=False)
        assert done.returncode != 0
        assert "missing" in done.stderr
        assert "hint: mkdir -p" in done.stderr
    done = project.ml("report", "--html", str(tmp_path), check=False)
    assert done.returncode != 0
    assert "cannot write" in done.stderr
    assert project.ml("report", check=False).returncode == 129
    assert project.ml("report", "nowhere", "--html", "-", check=False).returncode != 0
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    project.ml("report", "--html", str(fifo))
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert os.read(reader, 100).startswith(b"<!doctype html>")
    os.close(reader)


def test_it_opens_a_browser(project: Project, tmp_path: Path) -> None:
    target, noted = tmp_path / "a b.html", tmp_path / "noted"
    seen = tmp_path / "seen"
    seen.write_text(f'#!/bin/sh\nprintf %s "$1" > {noted}\n')
    seen.chmod(0o755)
    project.ml("report", "--html", str(target), "--open", BROWSER=f"{seen} %s")
    project.until(noted.exists)
    project.until(lambda: noted.read_text() == target.as_uri())
    done = project.ml("report", "--html", "-", "--open", check=False)
    assert "standard output cannot be opened" in done.stderr


if __name__ == "__main__":
    GOLDEN.write_text(pinned())
