"""`git ml secret`: the secrets of this clone."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.options import Json
from gitml.cli.output import safe, show, show_json
from gitml.errors import ExitCode, UserError
from gitml.git.repository import Repository
from gitml.pipeline.secretstore import SecretStore

secret = typer.Typer(help="Keep secrets for stages, in this clone alone.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What specifications call it.")]


@secret.command("set")
def put(
    name: Name,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Which of its values.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Take the bytes of a file as they are.")
    ] = None,
) -> int:
    """Set one value of a secret.

    It is asked for without echo, or read from standard input.

    One newline at the end of standard input is dropped.
    """
    store = _store()
    if file is not None:
        value = file.read_bytes()
    elif sys.stdin.isatty():
        value = getpass.getpass(f"value of {name}/{key}: ").encode("utf-8", "surrogateescape")
    else:
        value = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise UserError("an empty value", hint=f"git ml secret rm {name} {key}")
    store.set(name, key, value)
    return ExitCode.OK


@secret.command("ls")
def listed(json: Json = False) -> int:
    """List secrets and their keys, never values."""
    names = _store().names()
    if json:
        show_json({"schema": "gitml/secrets/1", "secrets": names})
        return ExitCode.OK
    for name, keys in names.items():
        for key in keys:
            show(f"{safe(name)}  {safe(key)}")
    return ExitCode.OK


@secret.command("rm")
def remove(
    name: Name,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this value of it.")] = None,
) -> int:
    """Forget a secret, or one value of it."""
    _store().remove(name, key)
    return ExitCode.OK


def _store() -> SecretStore:
    return SecretStore(Repository.discover().state_dir / "secrets")
