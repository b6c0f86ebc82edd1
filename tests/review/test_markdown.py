"""Names that others chose stay names, and long reports stay short enough."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitml.review.blocks import Block, Cell, Report, Tone
from gitml.review.markdown import code, escaped, markdown

HOSTILE = [
    "@everyone", "#1", "GH-1", "!12", "`", "``", "a`b", "`a", "a | b", "<script>alert(1)</script>", "<!-- x -->",
    "![x](http://example.org/x.png)", "[x](javascript:alert(1))", "a\nb", "\x1b[31mred", "| --- |", "~~x~~", "",
    "https://example.org", "\udc80", "\u202eevil", "trailing\\",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_in_a_code_span(text: str) -> None:
    span = code(text)
    assert "\n" not in span
    assert span.isprintable()
    fence = re.match("`+", span)
    assert fence is not None
    assert span.endswith(fence[0])
    inner = span[len(fence[0]) : -len(fence[0])]
    # nothing inside ends the span, and no bar ends a cell of a table
    assert fence[0] not in re.findall("`+", inner)
    assert re.search(r"(?<!\\)\|", inner) is None


@given(st.text())
def test_any_text_in_a_code_span(text: str) -> None:
    span = code(text)
    fence = re.match("`+", span)
    assert fence is not None
    assert fence[0] not in re.findall("`+", span[len(fence[0]) : -len(fence[0])])


@given(st.text())
def test_words_hold_no_markup(text: str) -> None:
    found = escaped(text)
    assert "\n" not in found
    assert not re.search("[<>@]", found)
    assert re.search(r"(?<!\\)(?:\\\\)*[`|*_\[\]]", found) is None


def blocks(rows: int) -> tuple[Block, ...]:
    def block(key: str, folded: bool) -> Block:
        listed = tuple((Cell(f"{key} {number}", name=True), Cell("x", tone=Tone.BAD)) for number in range(rows))
        return Block(key=key, title=key.title(), columns=("name", "value"), rows=listed, folded=folded)

    reproduce = Block(key="reproduce", title="Reproduce", text=("git ml diff a..b",))
    return (block("metrics", False), block("files", True), block("stages", False), block("cost", True), reproduce)


def test_all_of_a_short_report() -> None:
    report = Report(verdict=(Cell("1 worse", tone=Tone.BAD), Cell("fresh")), blocks=blocks(2))
    text = markdown(report, "a → b", "12..34", 60_000)
    assert text.startswith("<!-- gitml:report v1 12..34 -->\n## a → b\n\n❌ 1 worse · fresh\n")
    for title in ("### Metrics", "<summary>Files</summary>", "### Stages", "<summary>Cost</summary>", "### Reproduce"):
        assert title in text
    assert "| `metrics 0` | ❌ x |" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert "Left out" not in text


def test_details_go_first_then_blocks_and_the_verdict_stays() -> None:
    report = Report(verdict=(Cell("1 worse", tone=Tone.BAD),), blocks=blocks(50))
    whole = len(markdown(report, "a", "1..2", 60_000))
    seen = []
    for most in range(whole, 150, -25):
        text = markdown(report, "a", "1..2", most)
        assert len(text) <= most
        assert "❌ 1 worse" in text
        signs = {name: f"| `{name.lower()} 0`" for name in ("Metrics", "Files", "Stages", "Cost")}
        signs["Reproduce"] = "### Reproduce"
        seen.append(tuple(name for name, sign in signs.items() if sign in text))
        if len(seen[-1]) < 5:
            assert "Left out" in text
    assert list(dict.fromkeys(seen))[:5] == [
        ("Metrics", "Files", "Stages", "Cost", "Reproduce"),
        ("Metrics", "Files", "Stages", "Reproduce"),
        ("Metrics", "Stages", "Reproduce"),
        ("Metrics", "Reproduce"),
        ("Reproduce",),
    ]
