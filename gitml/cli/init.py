"""`git ml init`."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.install import set_up
from gitml.cli.output import count, show
from gitml.errors import ExitCode, UserError
from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.resources import data_dir


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; by default here.")] = Path(),
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="NAME", help="classification, regression or blank.")
    ] = "blank",
) -> int:
    """Start a project: a git repository if there is none, a template's files, and `git ml install`.

    Existing files are never overwritten. Nothing is committed: look at it, then `git add . && git commit`.
    """
    source = _template(template)
    directory.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    taken = [path.relative_to(source) for path in files if (directory / path.relative_to(source)).exists()]
    if taken:
        names = ", ".join(str(path) for path in taken[:5])
        raise UserError(
            f"'{directory}' has files that the template would write: {names}",
            hint="choose an empty directory, or move them away",
        )
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
    for path in files:
        target = directory / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.chmod(path.stat().st_mode & 0o777 | 0o200)
    show(f"  {count(len(files), 'file')} from the template '{template}'")
    show("next: git add . && git commit -m 'first commit'")
    return code if code != ExitCode.MISSING_DATA else ExitCode.OK


def _inside_repository(directory: Path) -> bool:
    return (
        subprocess.run(
            ["git", "rev-parse", "--git-dir"], cwd=directory, check=False, env=clean_environment(), capture_output=True
        ).returncode
        == 0
    )


def _template(name: str) -> Path:
    available = sorted(path.name for path in data_dir("templates").iterdir() if path.is_dir())
    if name not in available:
        raise UserError(f"there is no template '{name}'", hint=f"templates: {', '.join(available)}")
    return data_dir("templates") / name
