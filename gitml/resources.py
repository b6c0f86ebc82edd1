"""Files that come with gitml but are not Python: hook shims and project templates.

Hides where they lie: below `gitml/_data` in an installed wheel, at the top of the repository in a checkout; and how a
template spells names that begin with a dot.
"""

from pathlib import Path

from gitml.errors import UserError

_OTHERS = ("server", "ci")
"""What goes on a git server or into CI stands beside the templates of projects."""
_DOT = "dot-"
"""Stands for the leading dot of a template's file: a real .gitattributes would act on gitml's own repository."""


def data_dir(name: str) -> Path:
    """The directory `name` ("hooks" or "templates"); raise `FileNotFoundError` if this installation lacks it."""
    package = Path(__file__).resolve().parent
    for directory in (package / "_data" / name, package.parent / name):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"the installation at {package} lacks {name!r}")


def template_names() -> list[str]:
    """The names of the templates, sorted."""
    return sorted(path.name for path in data_dir("templates").iterdir() if path.is_dir() and path.name not in _OTHERS)


def template_files(name: str) -> dict[str, bytes]:
    """What the template `name` writes: content by path in the project; raise `UserError` for an unknown name."""
    if name not in template_names():
        raise UserError(f"there is no template '{name}'", hint=f"templates: {', '.join(template_names())}")
    top = data_dir("templates") / name
    files = (path for path in sorted(top.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {_dotted(path.relative_to(top)): path.read_bytes() for path in files}


def _dotted(path: Path) -> str:
    if not path.name.startswith(_DOT):
        return path.as_posix()
    return path.with_name("." + path.name.removeprefix(_DOT)).as_posix()
