"""`git ml import`: pachyderm, dvc."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, paint, safe, show, show_json, talk
from gitml.errors import ExitCode, UserError
from gitml.git.repository import Repository
from gitml.pipeline.foreign.dvcproject import import_dvc
from gitml.pipeline.foreign.findings import Imported, Kind
from gitml.pipeline.foreign.pachyderm import import_pachyderm
from gitml.pipeline.foreign.placing import FILE
from gitml.pipeline.foreign.project import Project

import_ = typer.Typer(help="Take over pipelines of Pachyderm and DVC into pipeline.json.", no_args_is_help=True)

_COLOURS = {Kind.MAPPED: "32", Kind.IGNORED: "2", Kind.REFUSED: "31", Kind.TODO: "33"}


@import_.command("pachyderm")
def pachyderm(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Specifications, as pachctl takes them.")],
    arg: Annotated[
        list[str] | None, typer.Option("--arg", metavar="NAME=VALUE", help="For templates in Jsonnet; repeatable.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Take over specifications of Pachyderm: 2.x as they are, 1.x converted.

    Exit code 1 if something was refused.
    """
    project = Project.of(Repository.discover())
    arguments = dict(_argument(text) for text in arg or ())
    values = {path: project.value(path, arguments) for path in map(project.path_of, files)}
    return _finish(project, import_pachyderm(values, project.present(), arguments), dry_run=dry_run, json=json)


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"'{text}' is no argument", hint="write --arg NAME=VALUE")
    return name, value


@import_.command("dvc")
def dvc(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIRECTORY]", help="Take every dvc.yaml from here down.")
    ] = Path(),
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Take over the stages of dvc.yaml files, converted. Data comes with: git ml migrate import --from dvc.

    Exit code 1 if something was refused.
    """
    project = Project.of(Repository.discover())
    return _finish(project, import_dvc(project, project.path_of(directory)), dry_run=dry_run, json=json)


def _finish(project: Project, imported: Imported, *, dry_run: bool, json: bool) -> int:
    data = project.plan(imported)
    if data is not None and not imported.unfinished:
        for problem in project.problems(data):  # of what nobody foresaw, or of what was there before
            imported.say(Kind.TODO, "git ml validate", problem)
    if data is not None and not dry_run:
        project.write(data)
    if json:
        show_json(_as_json(imported, written=data is not None and not dry_run))
    else:
        _tell(imported, changed=data is not None, dry_run=dry_run)
    return ExitCode.DIFFERENT if imported.refused else ExitCode.OK


def _tell(imported: Imported, *, changed: bool, dry_run: bool) -> None:
    for taken in imported.stages:
        how = "converted" if taken.converted else "as it is"
        show(f"{paint(safe(taken.name), '1')}  {safe(taken.source)}, {how}")
    for kind in Kind:
        for finding in imported.findings:
            if finding.kind is kind:
                show(f"{paint(f'{kind}:', _COLOURS[kind])} {safe(finding.where)}: {safe(finding.what)}")
    if not changed:
        talk(f"nothing to add to {FILE}")
        return
    number = count(len(imported.stages), "stage")
    talk(f"{number} would be added to {FILE}" if dry_run else f"{number} added to {FILE}")
    if not dry_run:
        talk("hint: read it, see to what is to do and check it: git ml validate")


def _as_json(imported: Imported, *, written: bool) -> dict[str, Any]:
    return {
        "schema": "gitml/import/1",
        "written": written,
        "stages": [
            {"name": taken.name, "source": taken.source, "converted": taken.converted} for taken in imported.stages
        ],
        "add": {"stages": imported.entries, "images": imported.images},
        "findings": [{"kind": each.kind, "where": each.where, "what": each.what} for each in imported.findings],
    }
