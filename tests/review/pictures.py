"""What docs/review.md shows of a change, made anew by `make pictures`: what commands print, pictures of the page."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.browser import browser
from tests.end_to_end.project import Project
from tests.review.story import ENVIRONMENT, make_story

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "review.md"
PICTURES = TOP / "docs" / "pictures"
WIDTH = 1000
SHOWN = {
    "verdict-light.png": (False, ["header", "#metrics", "#history"]),
    "tables-light.png": (False, ["#tables"]),
    "predictions-light.png": (False, ["#predictions"]),
    "plots-dark.png": (True, ["#plots"]),
}
"""For each picture whether it is dark, and what of the page it shows, as selectors."""
_BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
_BEGIN, _END = "## One change, from the first look to the way back\n", "\n## "


def told(text: str) -> tuple[str, str, str]:
    """The text of the page before, in and after the section that tells the story."""
    before, begin, rest = text.partition(_BEGIN)
    assert begin, "the section has another title"
    inside, end, after = rest.partition(_END)
    return before + begin, inside, end + after


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command that a text has in blocks of a console, with what stands below it, without the last newlines."""
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, said = part.partition("\n")
            yield command, said.rstrip("\n")


def say(project: Project, command: str) -> str:
    """What a command of the page prints, without the last newline; talk on standard error is not part of it."""
    said = project.run("sh", "-c", command, check=False, extra=ENVIRONMENT).stdout
    return "\n".join(line.rstrip() for line in said.splitlines())


def with_outputs(text: str, run: Callable[[str], str]) -> str:
    """The text with what `run` gives for each of its commands, in their order."""

    def written(block: re.Match[str]) -> str:
        listed = [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]
        pieces = [f"$ {command}\n{said}\n\n" if (said := run(command)) else f"$ {command}\n" for command in listed]
        return "".join(pieces).rstrip("\n") + "\n"

    return _BLOCK.sub(written, text)


def make_pictures(project: Project, directory: Path, pictures: Path) -> Mapping[str, bytes]:
    """Photograph the report of the story; `directory` is for what the browser needs."""
    target = directory / "report.html"
    project.ml("report", "--html", str(target), "main...october")
    pictures.mkdir(parents=True, exist_ok=True)
    with browser(directory) as found:
        for name, (dark, parts) in SHOWN.items():
            found.show(target, width=WIDTH, dark=dark)
            assert found.complaints == []
            found.evaluate("document.querySelector('#predictions details').open = true")
            (pictures / name).write_bytes(found.picture_of(parts))
    return {name: (pictures / name).read_bytes() for name in SHOWN}


def _main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        home.mkdir()
        os.environ.update({"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "TZ": "UTC", "NO_COLOR": "1"})
        project = make_story(Path(temporary) / "story")
        before, inside, after = told(PAGE.read_text())
        make_pictures(project, Path(temporary), PICTURES)
        PAGE.write_text(before + with_outputs(inside, lambda command: say(project, command)) + after)


if __name__ == "__main__":
    _main()
