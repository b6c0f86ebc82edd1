"""Which numbers a user and a group have, by the files of an image or of this machine."""

from pathlib import Path

from gitml.errors import UserError
from gitml.pipeline.unpack import inside


class UnknownUserError(UserError):
    """There is no such user or group. The message begins with the name."""


def ids(root: Path, user: str) -> tuple[int, int]:
    """The numbers of `user[:group]`, looked up in the files below `root` as docker does; 0 for an empty text.

    Numbers need not be there. Raise `UnknownUserError` for a name that is not.
    """
    name, _, group = user.partition(":")
    entry = _entry(root, "etc/passwd", name) if name else ["", "", "0", "0"]
    if entry is None and not _is_number(name):
        raise UnknownUserError(f"user '{user}'")
    uid = int(entry[2]) if entry is not None else int(name)
    gid = int(entry[3]) if entry is not None else 0
    if group:
        found = _entry(root, "etc/group", group)
        if found is None and not _is_number(group):
            raise UnknownUserError(f"the group of user '{user}'")
        gid = int(found[2]) if found is not None else int(group)
    return uid, gid


def _entry(root: Path, file: str, name: str) -> list[str] | None:
    """The line of passwd(5) or group(5) for a name or number, None if there is none."""
    try:
        lines = (root / inside(root, file)).read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for fields in (line.split(":") for line in lines):
        numbers = fields[2:4] if file == "etc/passwd" else fields[2:3]
        if len(fields) >= 4 and name in {fields[0], fields[2]} and all(map(_is_number, numbers)):
            return fields
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
