"""The report as Markdown that GitHub, GitLab, Gitea and Bitbucket show alike.

Names stand in code spans, where neither mentions, references, links nor HTML work (CommonMark: code spans). Tables are
those of GitHub Flavored Markdown, details fold with `<details>`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from gitml.provenance.codec import harmless
from gitml.review.comparison import Graph, Picture, PlotChange
from gitml.review.report import Block, Cell, Report, Tone

_MARKS = {Tone.GOOD: "✅ ", Tone.BAD: "❌ "}
_LONGEST_LABEL = 60
"""Characters of a name in a diagram."""
MARKER = "<!-- gitml:report v1"
"""How a report begins, by which its comment is found again; the commits that are compared follow."""


def markdown(report: Report, title: str, identity: str, most: int) -> str:
    """At most `most` characters: details go first, from the last up, then blocks; the verdict stays.

    `title` is text, `identity` hex digits and dots.
    """
    head = f"{MARKER} {identity} -->\n## {escaped(title)}\n\n{_verdict(report)}\n"
    blocks = list(report.blocks)
    left: list[str] = []
    while True:
        parts = [head, *(_block(block) for block in blocks)]
        if left:
            parts.append(
                f"Left out, as comments have limits: {', '.join(reversed(left))}. The command above shows all.\n"
            )
        text = "\n".join(parts)
        if len(text) <= most or not blocks:
            return text[: max(most, 0)] if len(text) > most else text
        # what is folded is missed least; how to see the rest is missed most
        folded = [at for at, block in enumerate(blocks) if block.folded]
        others = [at for at, block in enumerate(blocks) if block.key != "reproduce"]
        at = (folded or others or [0])[-1]
        left.append(escaped(blocks.pop(at).title))


def _verdict(report: Report) -> str:
    return " · ".join(f"{_MARKS.get(cell.tone, '')}{_cell(cell)}" for cell in report.verdict)


def _block(block: Block) -> str:
    body = []
    if block.notes:
        body.append(" · ".join(_MARKS.get(note.tone, "") + _cell(note) for note in block.notes) + "\n")
    if block.graph is not None:
        body += [*_diagram(block.graph), ""]
    elif block.rows:
        body += [*_plot(block.plot), ""] if block.plot is not None and block.plot.address else []
        body += [*_table(block), ""]
        body += ["</details>", ""] if block.plot is not None and block.plot.address else []
    if any(picture is not None and picture.address for picture in block.pictures.values()):
        body += [*_images(block.pictures), ""]
    if block.text:
        body += [_fenced(block.text), ""]
    text = "\n".join(body)
    if block.folded:
        return f"<details><summary>{escaped(block.title)}</summary>\n\n{text}\n</details>\n"
    return f"### {escaped(block.title)}\n\n{text}"


def _table(block: Block) -> Iterator[str]:
    yield _row([escaped(column) for column in block.columns])
    yield _row(["---"] * len(block.columns))
    yield from (_row([_MARKS.get(cell.tone, "") + _cell(cell) for cell in row]) for row in block.rows)


def _plot(plot: PlotChange) -> Iterator[str]:
    """What is drawn, and the beginning of what is folded then: the same as a table."""
    yield f"![{escaped(plot.title)}, before and now](<{plot.address}>)"
    yield ""
    yield "<details><summary>as a table</summary>"


def _images(pictures: Mapping[str, Picture | None]) -> Iterator[str]:
    """Images beside each other; addresses are quoted, so nothing in them is Markdown."""
    # a difference is in no commit unless somebody put it there
    shown = {what: each for what, each in pictures.items() if what != "difference" or (each and each.address)}
    yield _row(list(shown))
    yield _row(["---"] * len(shown))
    yield _row([f"![{what}](<{each.address}>)" if each and each.address else "-" for what, each in shown.items()])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return code(cell.text) if cell.name and cell.text else escaped(cell.text)


def code(text: str) -> str:
    """A code span with this text, on one line, also inside of a table."""
    # in a table even a code span ends at a bar, unless it is escaped (GFM: tables)
    plain = harmless(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def escaped(text: str) -> str:
    """Words of ours, in which nothing is Markdown or HTML; a name among them mentions nobody."""
    escaped_ones = re.sub(r"([\\`*_\[\]|~])", r"\\\1", harmless(text))
    # an entity is no mention, reference or tag to a forge
    return re.sub(r"[<>&@#!]", lambda found: f"&#{ord(found[0])};", escaped_ones)


def _fenced(lines: Sequence[str]) -> str:
    plain = [harmless(line) for line in lines]
    longest = max((len(run) for line in plain for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *plain, fence])


def _diagram(graph: Graph) -> Iterator[str]:
    """A fenced Mermaid flowchart, which GitHub, GitLab and Gitea draw."""
    yield "```mermaid"
    yield "flowchart LR"
    for number, node in enumerate(graph.nodes):
        said = ", ".join(dict.fromkeys(each for each in (node.state, node.what) if each))
        left, right = ("[", "]") if node.stage else ("([", "])")
        style = ":::bad" if node.state not in ("", "fresh") else ":::touched" if node.touched else ""
        yield f"  n{number}{left}{_label(node.name, f': {said}' if said else '')}{right}{style}"
    for source, target in graph.edges:
        yield f"  n{source} --> n{target}"
    # lines only: a fill would not suit both light and dark pages
    yield "  classDef touched stroke-width:3px"
    yield "  classDef bad stroke:#cf222e,stroke-width:3px"
    yield "```"


def _label(name: str, said: str) -> str:
    """A quoted label of Mermaid: what is no letter, digit or plain mark is an entity, so nothing in it is syntax."""
    plain = harmless(name)
    if len(plain) > _LONGEST_LABEL:
        plain = plain[: _LONGEST_LABEL - 1] + "…"
    return '"' + "".join(c if c.isalnum() or c in " _-./:,…" else f"#{ord(c)};" for c in plain + said) + '"'
