"""The pictures of the documents, made anew: `python -m tests.review.pictures`."""

import os
import tempfile
from pathlib import Path

from tests.browser import browser
from tests.review.example import make_example

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 1200, 1150


def make_pictures(directory: Path, pictures: Path) -> None:
    """Make the example in `directory` and photograph the top of its report."""
    project = make_example(directory / "example")
    target = directory / "report.html"
    project.ml("report", "--html", str(target))
    pictures.mkdir(parents=True, exist_ok=True)
    with browser(directory) as found:
        found.show(target, width=WIDTH, height=HEIGHT)
        (pictures / "report-light.png").write_bytes(found.picture())


def _main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        home.mkdir()
        people = {f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        os.environ.update({name: "Ada" if name.endswith("NAME") else "ada@example.org" for name in people})
        os.environ.update({"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"})
        make_pictures(Path(temporary), PICTURES)


if __name__ == "__main__":
    _main()
