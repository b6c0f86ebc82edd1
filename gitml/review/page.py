"""The report as one HTML page that needs nothing else: no network, no script, any width, light and dark.

What others chose is text and attributes, always escaped. Should that ever fail, the page's Content-Security-Policy
lets nothing run, load or be sent: no script at all, the one style sheet by its hash, images only from the page.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby

from gitml.record import replace
from gitml.review.blocks import Block, Cell, Report, Tone
from gitml.review.comparison import Picture, Side
from gitml.review.drawing import draw_graph, draw_history, text
from gitml.review.overlay import draw_overlay
from gitml.review.style import STYLE

MOST = 2_000_000
"""Bytes of a page."""
_LONGEST = 2000
"""Characters of a cell or a line."""
_LEAST = 4000
"""Bytes that each block may have however many there are, unless the page has no room even for that."""
_NUMBER = re.compile(r"|-|[+-]?(?:[\d,.]+(?:e[+-]?\d+)?|nan|inf)(?: [a-zA-Z%]{1,3})?(?: \(.*\))?")
"""What a cell holds that is lined up at its end: nothing, or a number, with a unit or a percentage."""
_SHORT = 28
"""Characters of a cell that are not broken into lines."""
_TITLE = 50
"""Characters of a subject in the title."""
_SENTENCE = 2
"""Spaces from which on a name is none."""
_FEW = 8
"""Rows that are shown at once, also of details."""
_SPARE = 2000
"""Bytes for what stands between the parts."""
_FOOT = (
    "</div><footer><p>Made by <code>git ml</code>. This page loads nothing and runs nothing.</p></footer></body></html>"
)
_GROUPS = {
    "params": "Parameters", "model": "Models", "failures": "Failed", "history": "Metrics over time",
}  # fmt: skip
"""What parts of the page are called, where that is not their key."""


def page(report: Report, old: Side, new: Side, command: str, most: int = MOST) -> str:
    """At most `most` bytes as UTF-8: the largest blocks are shortened first, and say so.

    `command` is what shows all of it.
    """
    head, foot = _head(report, old, new), f"{_FOOT}\n"
    room = most - len(head.encode()) - len(foot.encode()) - _SPARE
    told = list(_retitled(report.blocks))
    blocks = _fitted(told, [_render(block) for block in told], room - sum(map(len, _frame(report.blocks))), command)
    parts = [head, _contents(report.blocks), '<main id="report" tabindex="-1">']
    rendered = iter(blocks)
    for key, group in groupby(report.blocks, key=lambda block: block.key):
        members = list(group)
        kind = " charts" if key == "history" else ""
        parts.append(f'<section id="{text(key)}" aria-labelledby="{text(key)}-title">')
        parts.append(f'<h2 id="{text(key)}-title">{text(_name(key))}</h2><div class="blocks{kind}">')
        parts += [next(rendered) for _ in members]
        parts.append("</div></section>")
    left = blocks.count("")
    if left:
        said = f"Left out to keep this page small: the last {left} parts. All of it: {command}"
        parts.append(f'<p class="quiet">{text(said)}</p>')
    return "\n".join([*parts, "</main>", foot])


def _head(report: Report, old: Side, new: Side) -> str:
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    title = f"{_named(old)} → {_named(new)}"
    verdict = "".join(f'<li class="{_tone(cell)}">{_cell(cell)}</li>' for cell in report.verdict)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
            f"<title>{text(title)}</title><style>{STYLE}</style></head><body>",
            '<a class="skip" href="#report">Skip to the report</a>',
            '<header><h1>What changed</h1><dl class="sides">',
            f"<div><dt>before</dt><dd>{_side(old)}</dd></div><div><dt>now</dt><dd>{_side(new)}</dd></div></dl>",
            f'<ul class="verdict" aria-label="Verdict">{verdict}</ul></header><div class="body">',
        ]
    )


def _named(side: Side) -> str:
    """A side for the tab of a browser: what was committed, and which commit that is."""
    return "worktree" if side.worktree else f"{_cut_short(side.title)} ({side.commit.hex()[:10]})"


def _cut_short(subject: str) -> str:
    return subject if len(subject) <= _TITLE else f"{subject[: _TITLE - 1]}…"


def _side(side: Side) -> str:
    if side.worktree:
        return "<strong>the files of the worktree</strong>"
    try:
        day = datetime.fromtimestamp(side.when, UTC).strftime("%Y-%m-%d")
        when = f' <time datetime="{day}">{day}</time>'
    except (ValueError, OverflowError, OSError):
        when = ""  # a commit may claim any date
    problem = f'<br><strong class="bad">{text(side.problem)}</strong>' if side.problem else ""
    subject = f"<strong>{text(_cut(side.title, 200))}</strong>"
    result = "results in " if side.source else ""
    return f"{subject}<br>{result}<code>{side.commit.hex()[:10]}</code> {text(_cut(side.name, 200))}{when}{problem}"


def _contents(blocks: Sequence[Block]) -> str:
    keys = dict.fromkeys(block.key for block in blocks)
    links = "".join(f'<li><a href="#{text(key)}">{text(_name(key))}</a></li>' for key in keys)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _frame(blocks: Sequence[Block]) -> Iterator[str]:
    """About as much as what stands around the blocks."""
    yield _contents(blocks)
    for key, _ in groupby(blocks, key=lambda block: block.key):
        yield f"{key * 3}{_name(key)}{'-' * 120}"


def _name(key: str) -> str:
    return _GROUPS.get(key, key.capitalize())


def _fitted(blocks: Sequence[Block], rendered: list[str], room: int, command: str) -> list[str]:
    """The blocks as HTML in so many bytes: what is larger than its share of the room is shortened to that."""
    sizes = [len(each.encode()) + 1 for each in rendered]
    if sum(sizes) <= room:
        return rendered
    share, left = 0, room
    for number, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - number)
        if size > share:
            break
        left -= size
    if share < _LEAST:
        # so many blocks that none has room: those at the end go
        kept = max(0, room // _LEAST)
        return [*_fitted(blocks[:kept], rendered[:kept], room, command), *([""] * (len(blocks) - kept))]
    return [
        each if size <= share else _shortened(block, share - 1, command)
        for block, each, size in zip(blocks, rendered, sizes, strict=True)
    ]


def _shortened(block: Block, room: int, command: str) -> str:
    """As much of a block as fits, with a line that says so; without its pictures if that leaves nothing else."""
    sides = {what: picture for what, picture in block.pictures.items() if what != "difference"}
    bare = replace(block, graph=None, history=None, plot=None, pictures={})
    for whole in (block, replace(block, pictures=sides), bare):
        best = ""
        low, high = 0, max(len(whole.rows), len(whole.text), len(whole.notes))
        while low <= high:
            most = (low + high) // 2
            html = _render(_first(whole, most, command))
            if len(html.encode()) <= room:
                best, low = html, most + 1
            else:
                high = most - 1
        if best:
            return best
    said = f"{block.title or _name(block.key)}: left out to keep this page small. It is in: {command}"
    return f'<p class="quiet">{text(said)}</p>'


def _first(block: Block, most: int, command: str) -> Block:
    left = [
        f"{most} of {len(part)} {word}"
        for part, word in ((block.rows, "rows"), (block.text, "lines"), (block.notes, "notes"))
        if len(part) > most
    ]
    if not left:
        return block
    note = Cell(f"Shortened to keep this page small: {', '.join(left)}. All of it: {command}", tone=Tone.QUIET)
    return replace(block, rows=block.rows[:most], text=block.text[:most], notes=(*block.notes[:most], note))


def _render(block: Block) -> str:
    title = block.title
    body = "".join(_body(block))
    picture = "".join(_picture(block))
    notes = "".join(f'<li class="{_tone(note)}">{_cell(note)}</li>' for note in block.notes)
    notes = f'<ul class="notes">{notes}</ul>' if notes else ""
    heading = f"<h3>{text(title)}</h3>" if title else ""
    if picture:
        table = f"<details><summary>as a table</summary>{body}</details>" if body else ""
        return f'<article class="block">{heading}{picture}{notes}{table}</article>'
    if block.folded and body and title:
        return f'<article class="block"><details><summary>{text(title)}</summary>{notes}{body}</details></article>'
    if block.folded and body:
        # a few rows take no more room than the line that would hide them
        opened = " open" if block.key == "failures" or 0 < len(block.rows) <= _FEW else ""
        summary = f"<summary>{_amount(block)}</summary>"
        return f'<article class="block">{notes}<details{opened}>{summary}{body}</details></article>'
    return f'<article class="block">{heading}{notes}{body}</article>'


def _retitled(blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks with titles that do not repeat what stands above them: the name of the part, the block before."""
    before = ""
    for block in blocks:
        name = _name(block.key)
        title = "" if block.title == name else block.title
        if before and title.startswith(f"{before}, "):
            title = title.removeprefix(f"{before}, ")
        else:
            before = title
        title = title.removeprefix(f"{name}: ").removeprefix(f"{name.removesuffix('s')}: ")
        yield replace(block, title=_cut(title, 200))


def _amount(block: Block) -> str:
    count, noun = (len(block.rows), "row") if block.rows else (len(block.text), "line")
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _picture(block: Block) -> Iterator[str]:
    title = block.title or _name(block.key)
    if block.graph is not None:
        label = f"{title}: {len(block.graph.nodes)} stages and inputs; the table below says the same"
        yield f'<div class="scroll drawing" role="region" tabindex="0" aria-label="{text(title)}, a graph">'
        yield f"{draw_graph(block.graph, label)}</div>"
    if block.history is not None:
        yield draw_history(block.history)
    if any(picture is not None and picture.data for picture in block.pictures.values()):
        yield f'<div class="sides{" three" if len(block.pictures) > 2 else ""}">'
        for what, picture in block.pictures.items():
            yield f"<figure><figcaption>{what}</figcaption>{_image(picture, title, what)}</figure>"
        yield "</div>"
    if block.plot is not None:
        yield f'<div class="scroll plot" role="region" tabindex="0" aria-label="{text(title)}, a plot">'
        yield f"{draw_overlay(block.plot)}</div>"


def _image(picture: Picture | None, title: str, what: str) -> str:
    if picture is None or not picture.data:
        return "-"
    data = b64encode(picture.data).decode()
    return f'<img src="data:{picture.media};base64,{data}" alt="{text(title)}, {what}">'


def _body(block: Block) -> Iterator[str]:
    title = block.title or _name(block.key)
    if block.rows:
        numeric = [
            all(_NUMBER.fullmatch(row[at].text) and not row[at].name for row in block.rows)
            for at in range(len(block.columns))
        ]
        short = [all(len(row[at].text) <= _SHORT for row in block.rows) for at in range(len(block.columns))]
        kinds = [' class="number"' if a else ' class="word"' if b else "" for a, b in zip(numeric, short, strict=True)]
        labels = [f' data-of="{text(column)}"' if column else "" for column in block.columns]
        yield f'<div class="scroll" role="region" tabindex="0" aria-label="{text(title)}, a table"><table><thead><tr>'
        for column, kind in zip(block.columns, kinds, strict=True):
            # a heading without words is none
            yield f'<th scope="col"{kind}>{text(column)}</th>' if column else "<td></td>"
        yield "</tr></thead><tbody>"
        for first, *others in block.rows:
            yield f'<tr><th scope="row"{kinds[0]}>{_toned(first)}</th>'
            # on a narrow screen a row is a card, and each cell says what it is
            yield "".join(
                f"<td{kind}{label}>{_toned(cell)}</td>"
                for cell, kind, label in zip(others, kinds[1:], labels[1:], strict=True)
            )
            yield "</tr>"
        yield "</tbody></table></div>"
    if block.text:
        lines = "\n".join(text(_cut(line, _LONGEST)) for line in block.text)
        yield f'<pre role="region" tabindex="0" aria-label="{text(title)}, text"><code>{lines}</code></pre>'


def _toned(cell: Cell) -> str:
    return f'<span class="{_tone(cell)}">{_cell(cell)}</span>' if cell.tone is not Tone.PLAIN else _cell(cell)


def _tone(cell: Cell) -> str:
    return str(cell.tone) or "plain"


def _cell(cell: Cell) -> str:
    said = text(_cut(cell.text, _LONGEST))
    # a sentence is read as text, whoever wrote it
    return f"<code>{said}</code>" if cell.name and said and said.count(" ") < _SENTENCE else said


def _cut(value: str, most: int) -> str:
    return value if len(value) <= most else f"{value[:most]}… ({len(value):,} characters)"
