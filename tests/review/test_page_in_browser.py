"""The page in a real browser: widths, colours, keyboard, and what its policy refuses."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitml.review.blocks import Block, Cell, Report, Tone
from gitml.review.comparison import Graph, Node, Picture
from gitml.review.page import page
from gitml.review.words.graphs import graph_block
from tests.browser import CHROMIUM, Browser, browser
from tests.review.example import make_example
from tests.review.test_page import COMMAND, HOSTILE, comparison, rendered

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

DESKTOP, PHONE = 1280, 375


def wide() -> str:
    """Everything that could be too wide for a phone."""
    long = "a_name_without_any_end_" * 12
    nodes = tuple(
        Node(name=f"{long}{number}", stage=True, state=state, what="made anew", touched=True)
        for number, state in enumerate(["fresh", "stale", "failed", "held", "edited", "missing", ""] * 4)
    )
    edges = tuple((number, number + step) for step in (1, 3, 7) for number in range(len(nodes) - step))
    columns = tuple(f"column {number}" for number in range(14))
    rows = tuple(tuple(Cell(f"{long}{number}", name=True) for number in range(14)) for _ in range(3))
    blocks = (
        graph_block("lineage", "Lineage", Graph(nodes=nodes, edges=edges), 7, ("stage", "", "now", "reads")),
        Block(key="files", title=f"Files: {long}", columns=columns, rows=rows, notes=(Cell(long, name=True),)),
        Block(key="tables", title=f"Table: {long}", text=(long * 5,), folded=True),
        Block(
            key="failures", title="Failed", notes=(Cell(long, name=True, tone=Tone.BAD),), text=(long * 5,), folded=True
        ),
        Block(key="model", title=f"Model: {long}", notes=(Cell(" ".join(["word"] * 500)),)),
    )
    found = comparison(long)
    return page(Report(verdict=(Cell(long, tone=Tone.BAD),), blocks=blocks), found.old, found.new, COMMAND)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("pages")
    texts = {"small": rendered(), "hostile": rendered(" ".join(HOSTILE)), "wide": wide()}
    for name, text in texts.items():
        (directory / f"{name}.html").write_text(text)
    return {name: directory / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE, 320, 768])
@pytest.mark.parametrize("name", ["small", "hostile", "wide"])
def test_it_fits_and_nothing_is_wrong(
    chromium: Browser, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    chromium.show(pages[name], width=width, dark=dark)
    assert chromium.complaints == []
    assert chromium.requests == [pages[name].as_uri()]
    chromium.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert chromium.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    # whatever is wider scrolls in a box of its own, which the page shows whole
    outside = chromium.evaluate(
        """[...document.querySelectorAll('.scroll, pre, summary, h1, h2, h3, li, dd, p, .chart')]
        .filter(each => each.getBoundingClientRect().right > innerWidth + 0.5)
        .map(each => each.outerHTML.slice(0, 200))"""
    )
    assert outside == []
    if name == "wide":
        # on a narrow screen tables are no wider than that
        which = ".drawing" if width <= 640 else ".scroll"
        assert chromium.evaluate(
            f"[...document.querySelectorAll('{which}')].every(each => each.scrollWidth > each.clientWidth)"
        )


CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const rect = at.matches('svg.node') && at.querySelector('rect');
      const colour = rect ? getComputedStyle(rect).fill : getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3] === 255) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || element.matches('title')) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(rgb(colour)), light(rgb(behind(element)))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([contrast, element.outerHTML.slice(0, 80), colour, behind(element)]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("name", ["small", "hostile", "wide"])
def test_on_a_phone_tables_are_cards_and_nothing_is_off_screen(
    chromium: Browser, pages: dict[str, Path], name: str
) -> None:
    chromium.show(pages[name], width=360)
    chromium.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    wide = "[...document.querySelectorAll('.scroll:not(.drawing)')].filter(each => each.scrollWidth > each.clientWidth)"
    assert chromium.evaluate(f"{wide}.map(each => each.getAttribute('aria-label'))") == []
    places = "[...document.querySelectorAll('td, tbody th')].map(each => each.getBoundingClientRect())"
    assert chromium.evaluate(f"{places}.filter(each => each.width && (each.left < 0 || each.right > 360)).length") == 0
    # what a column is called stands beside each of its cells, and nowhere else
    said = "[...document.querySelectorAll('td[data-of]')].map(each => getComputedStyle(each, '::before').content)"
    columns = "[...document.querySelectorAll('td[data-of]')].map(each => JSON.stringify(each.dataset.of))"
    assert chromium.evaluate(said) == chromium.evaluate(columns) != []
    assert chromium.evaluate("[...document.querySelectorAll('thead')].every(each => !each.offsetHeight)")
    sizes = "[...document.querySelectorAll('.plot svg')].map(each => each.getScreenCTM().a * 16)"
    assert all(size >= 9 for size in chromium.evaluate(sizes))


@pytest.mark.parametrize("name", ["small", "wide"])
def test_contrast_in_light_and_dark(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    backgrounds = []
    for dark in (False, True):
        chromium.show(pages[name], width=DESKTOP, dark=dark)
        chromium.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found = chromium.evaluate(CONTRASTS)
        assert len(found) > 50
        assert [each for each in found if each[0] < 4.5] == []
        backgrounds.append(chromium.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[0] != backgrounds[1]


def test_it_reads_the_same_without_script(chromium: Browser, pages: dict[str, Path]) -> None:
    read: list[Any] = []
    for script in (True, False):
        chromium.show(pages["small"], width=DESKTOP, script=script)
        read.append(chromium.evaluate("document.body.innerText"))
    assert read[0] == read[1]
    for said in ("What changed", "worse, gate ≥ 0.9", "Metrics over time", "0.95 best", "model", "reading"):
        assert said in read[1]
    sizes = chromium.evaluate("[...document.querySelectorAll('svg')].map(each => each.getBoundingClientRect().width)")
    assert min(sizes) > 100


def test_the_keyboard_reaches_everything(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["small"], width=DESKTOP)
    active = "document.activeElement"
    chromium.press("Tab", code=9)
    assert chromium.evaluate(f"{active}.className") == "skip"
    assert chromium.evaluate(f"{active}.getBoundingClientRect().top") >= 0
    chromium.press("Enter", code=13, text="\r")
    assert chromium.evaluate(f"{active}.id") == "report"
    reached = []
    for _ in range(60):
        chromium.press("Tab", code=9)
        reached.append(chromium.evaluate(f"{active}.tagName"))
        if reached[-1] == "BODY":
            break
        assert chromium.evaluate(f"getComputedStyle({active}).outlineStyle") == "solid"
        if reached[-1] == "SUMMARY":
            before = chromium.evaluate(f"{active}.parentElement.open")
            chromium.press("Enter", code=13, text="\r")
            assert chromium.evaluate(f"{active}.parentElement.open") is not before
            chromium.press("Enter", code=13, text="\r")
    assert reached[-1] == "BODY"
    summaries = chromium.evaluate("document.querySelectorAll('summary').length")
    assert reached.count("SUMMARY") == summaries > 3


def test_a_graph_scrolls_with_the_keyboard(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.show(pages["wide"], width=PHONE)
    chromium.evaluate("document.querySelector('#lineage .scroll').focus()")
    chromium.press("ArrowRight", code=39)
    chromium.press("ArrowRight", code=39)
    for _ in range(100):
        if chromium.evaluate("document.querySelector('#lineage .scroll').scrollLeft") > 0:
            break
        time.sleep(0.02)
    assert chromium.evaluate("document.querySelector('#lineage .scroll').scrollLeft") > 0


def test_the_policy_refuses_what_does_not_belong(chromium: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        there = f"http://127.0.0.1:{server.getsockname()[1]}/"
        planted = (
            "<script>document.title = 'taken'</script><style>body{display:none}</style>"
            f"<img src='{there}' onerror=\"document.title = 'taken'\"><p style='position:fixed'>x</p>"
            f"<script src='{there}'></script><link rel='stylesheet' href='{there}'></main>"
        )
        target = tmp_path / "planted.html"
        target.write_text(pages["small"].read_text().replace("</main>", planted))
        chromium.show(target, width=DESKTOP)
        with pytest.raises(TimeoutError):
            server.accept()
    chromium.evaluate("document.querySelector('main img').dispatchEvent(new Event('error'))")
    assert chromium.evaluate("document.title") == "before accuracy (1111111111) → accuracy (2222222222)"
    assert chromium.evaluate("getComputedStyle(document.body).display") == "block"
    assert chromium.evaluate("getComputedStyle(document.querySelector('main > p')).position") == "static"
    assert len([each for each in chromium.complaints if "Content Security Policy" in each]) >= 6


def test_svg_can_do_nothing_but_be_seen(chromium: Browser, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        there = f"http://127.0.0.1:{server.getsockname()[1]}/"
        hostile = (
            '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60" onload="document.title = 1">'
            f"<script>top.document.title = 1; fetch('{there}')</script><image href='{there}' width='9' height='9'/>"
            f"<style>@import '{there}';</style><foreignObject><iframe src='{there}'/></foreignObject></svg>"
        ).encode()
        picture = Picture(size=len(hostile), media="image/svg+xml", data=hostile)
        block = Block(key="plots", title="Image", pictures={"before": None, "now": picture})
        found = comparison("x")
        target = tmp_path / "svg.html"
        target.write_text(page(Report(verdict=(Cell("ok"),), blocks=(block,)), found.old, found.new, COMMAND))
        chromium.show(target, width=DESKTOP)
        with pytest.raises(TimeoutError):
            server.accept()
    assert chromium.evaluate("document.querySelector('figure img').naturalWidth") == 90
    assert chromium.evaluate("document.title") != "1"
    assert [each for each in chromium.requests if each.startswith("http")] == []


def test_a_real_report(chromium: Browser, tmp_path: Path) -> None:
    project = make_example(tmp_path / "project")
    target = tmp_path / "report.html"
    project.ml("report", "--html", str(target))
    assert target.stat().st_size < 200_000
    for width in (DESKTOP, PHONE):
        chromium.show(target, width=width)
        assert chromium.complaints == []
        assert chromium.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    said = chromium.evaluate("document.body.innerText")
    assert "gate broken: accuracy ≥ 0.9" in said
    assert "predict (failed), dashboard (stale)" in said
    assert "no comma in: a word <script>alert('nobody')</script>" in said
    assert "0.896 now, 0.908 first, 0.952 best, gate ≥ 0.9" in said
    assert chromium.evaluate("document.querySelectorAll('.chart').length") == 4
    assert chromium.evaluate("document.querySelectorAll('.chart circle').length") == 4 * 6
    states = chromium.evaluate("[...document.querySelectorAll('#pipeline .node title')].map(each => each.textContent)")
    assert states == [
        "clean: fresh, made anew", "features: fresh, made anew", "model: fresh, made anew",
        "evaluate: fresh, made anew", "predict: failed", "calibration: fresh, made anew", "dashboard: stale",
        "customers: changed", "labels", "inbox: changed",
    ]  # fmt: skip
