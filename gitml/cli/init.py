"""`git ml init`."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.install import set_up
from gitml.cli.output import count, show, talk
from gitml.errors import ExitCode, UserError
from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.resources import template_files

_BLANK = "blank"
_EVERYWHERE = ("README.md", ".gitattributes", ".gitignore")
"""Files of templates that do their work with other contents as well."""


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; by default here.")] = Path(),
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="NAME", help="classification, regression or blank.")
    ] = _BLANK,
) -> int:
    """Start a project: a git repository if there is none, a template's files, and `git ml install`.

    Existing files are never overwritten; in a project that has files only what it lacks is written. Nothing is
    committed: look at it, then `git add . && git commit`.
    """
    files = template_files(template)
    directory.mkdir(parents=True, exist_ok=True)
    kept = [path for path in files if os.path.lexists(directory / path)]
    taken = [path for path in kept if path not in _EVERYWHERE] if template != _BLANK else []
    if taken:
        # the others would not fit to a file that is not the template's
        raise UserError(
            f"'{directory}' has files that the template would write: {', '.join(taken[:5])}",
            hint="choose an empty directory, or move them away; to set up a project that has files: git ml init",
        )
    files = {path: content for path, content in files.items() if path not in kept}
    if not _inside_repository(directory):
        done = subprocess.run(
            ["git", "init", "--quiet", str(directory)], check=False, env=clean_environment(), capture_output=True
        )
        if done.returncode:
            raise UserError(f"git init failed: {done.stderr.decode('utf-8', 'replace').strip()}")
    repo = Repository.discover(directory)
    if repo.worktree is None or repo.worktree.resolve() != directory.resolve():
        raise UserError(
            f"'{directory}' lies inside the repository '{repo.worktree}', whose pipeline.json belongs at its top",
            hint="run git ml init at the top of a repository, or in a directory outside",
        )
    code = set_up(repo, fetch=False)
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if files or not kept:
        show(f"  {count(len(files), 'file')} from the template '{template}'")
    for path in kept:
        show(f"  {path} is there and stays as it is")
    if not repo.git.succeeds("var", "GIT_AUTHOR_IDENT"):
        talk("note: git does not know who you are: git config user.name NAME; git config user.email ADDRESS")
    if kept:
        show("next: write your stages into pipeline.json (docs/pipeline.md), git ml validate, then commit it")
    else:
        show("next: git add . && git commit -m 'first commit'")
    return code if code != ExitCode.MISSING_DATA else ExitCode.OK


def _inside_repository(directory: Path) -> bool:
    return (
        subprocess.run(
            ["git", "rev-parse", "--git-dir"], cwd=directory, check=False, env=clean_environment(), capture_output=True
        ).returncode
        == 0
    )
