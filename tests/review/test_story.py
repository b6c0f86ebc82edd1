"""The change that docs/review.md walks through: it says what the commands say, and its pictures can be made."""

import re
import struct
from pathlib import Path

from tests.browser import CHROMIUM
from tests.review.pictures import PAGE, PICTURES, SHOWN, WIDTH, commands, make_pictures, say, told
from tests.review.story import make_story

_LARGEST = 150_000
"""Bytes of a picture, so that the page loads fast and the repository stays small."""


def _without_ids(text: str) -> str:
    """A text without ids of commits: they depend on the versions of libraries."""
    return re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,12}\b", lambda found: "x" * len(found[0]), text)


def _size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def test_the_page_says_what_the_commands_say(tmp_path: Path) -> None:
    project = make_story(tmp_path / "story")
    steps = list(commands(told(PAGE.read_text())[1]))
    assert len(steps) >= 10
    made: dict[str, bytes] = {}
    if CHROMIUM is not None:
        made = dict(make_pictures(project, tmp_path, tmp_path / "pictures"))
    for command, said in steps:
        assert _without_ids(say(project, command)) == _without_ids(said), f"{command}\nafter a change: make pictures"
    # the way back is a way back
    assert project.git("diff", "--stat", "october~2", "HEAD") == ""
    for name, picture in made.items():
        kept = (PICTURES / name).read_bytes()
        assert max(len(picture), len(kept)) < _LARGEST
        assert _size(picture)[0] == _size(kept)[0] == WIDTH
        # fonts differ from machine to machine
        assert abs(_size(picture)[1] - _size(kept)[1]) < 200, f"{name} is not what the page shows: make pictures"


def test_every_picture_is_shown_and_every_shown_picture_is_there() -> None:
    shown = re.findall(r"!\[[^]]+\]\(pictures/([^)]+)\)", PAGE.read_text())
    assert sorted(shown) == sorted(SHOWN) == sorted(path.name for path in PICTURES.iterdir())
