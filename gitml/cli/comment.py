"""`git ml comment`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json
from gitml.errors import UserError
from gitml.review.forge import KINDS, place_of
from gitml.review.forge import comment as say
from gitml.review.markdown import MARKER


def comment(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="The report; - is standard input.")] = "-",
    forge: Annotated[str | None, typer.Option("--forge", metavar="KIND", help=f"{', '.join(KINDS)}.")] = None,
    api: Annotated[str | None, typer.Option("--api", metavar="URL", help="Where its API is.")] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", metavar="OWNER/NAME", help="Which repository.")
    ] = None,
    pull: Annotated[int | None, typer.Option("--pull", metavar="N", min=1, help="Which pull request.")] = None,
    json_output: Json = False,
) -> None:
    """Put a report of 'git ml diff --md' on a pull request: one comment, brought up to date by each run.

    In a CI job of GitHub, Gitea, Forgejo, GitLab or Bitbucket everything is known but, on the last two, the token.
    """
    if forge is not None and forge not in KINDS:
        raise UserError(f"there is no forge '{forge}'", hint=f"forges: {', '.join(KINDS)}")
    place = place_of(
        os.environ, _event(), kind=forge, api=api, repository=repository, number=None if pull is None else str(pull)
    )
    text = _read(file)
    if not text.startswith(MARKER):
        raise UserError("this is no report", hint="git ml diff A...B --md | git ml comment")
    address, is_new = say(place, text)
    if json_output:
        show_json({"schema": "gitml/comment/1", "url": address, "new": is_new})
    else:
        show(f"{'commented' if is_new else 'brought up to date'}: {safe(address)}")


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read '{file}': {error.strerror}") from None
    return data.decode("utf-8", "replace")


def _event() -> dict[str, Any]:
    """What a job of GitHub or Gitea is told about its event."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        value = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
