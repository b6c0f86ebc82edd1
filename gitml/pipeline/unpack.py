"""Layers of a container image become a directory: what each adds, and what it takes away from those below.

A layer is a tar stream, as the OCI image specification has it: `.wh.NAME` removes what lower layers have at NAME,
`.wh..wh..opq` all that they have in its directory. Whoever made the image is not trusted: nothing is written outside of
the directory, whatever names, symbolic and hard links say, and no more than so many bytes. Owners, devices and the bits
that give programs another user are left out.
"""

import contextlib
import os
import posixpath
import shutil
import stat
import tarfile
from collections import deque
from pathlib import Path
from typing import IO

from gitml.errors import UserError
from gitml.provenance.codec import printable

_HIDES = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."
_MOST_LINKS = 40
_MOST_ENTRIES = 4_000_000
_LONGEST_HEADER = 1 << 20
_PIECE = 1 << 20


class ImageError(UserError):
    """An image cannot be unpacked or used."""


class LinkError(ImageError):
    """Symbolic links lead in a circle."""


def inside(root: Path, path: str, *, last: bool = True) -> str:
    """Where `path` leads for a process whose root directory is `root`, as a path relative to `root`.

    Symbolic links are followed, in the last part only if `last` is set; parts that are not there stand as they are.
    Raise `LinkError` after 40 links.
    """
    pending = deque(path.split("/"))
    done: list[str] = []
    links = 0
    while pending:
        part = pending.popleft()
        if part in {"", "."}:
            continue
        if part == "..":
            del done[-1:]
            continue
        target = None
        if last or any(part not in {"", "."} for part in pending):
            with contextlib.suppress(OSError):  # not there, or no link
                target = os.readlink(os.path.join(root, *done, part))  # noqa: PTH115, PTH118 - the text as it is
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise LinkError(f"too many symbolic links at '{_shown(path)}' in the image")
        if target.startswith("/"):
            done.clear()
        pending.extendleft(reversed(target.split("/")))
    return "/".join(done)


class _Member(tarfile.TarInfo):
    """A member whose extended headers do not fill our memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        plain = self.type in tarfile.SUPPORTED_TYPES and self.type not in _EXTENDED
        if not plain and self.size > _LONGEST_HEADER:
            raise ImageError("a header in a layer of the image is too long")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]  # not in the stubs


_EXTENDED = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}


class Unpacking:
    """An image that is growing in the directory `root`, layer by layer, up to `limit` bytes in files."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._left = limit
        self._limit = limit
        self._entries = 0
        self._added: set[str] = set()
        """What the present layer has brought, and the directories above that."""
        self._parents: dict[str, str] = {}
        """Where directories lead, until something is removed; a link takes the place of nothing that is known."""
        root.mkdir()

    def apply(self, stream: IO[bytes]) -> None:
        """Put a layer, an uncompressed tar stream, above those before it.

        Raise `ImageError` for one that is damaged, leaves the image or is too large, `OSError` if the disk is.
        """
        self._added.clear()
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=_Member, encoding="utf-8", errors="surrogateescape"
            ) as archive:
                for member in archive:
                    self._entry(archive, member)
                    archive.members.clear()  # type: ignore[attr-defined]  # it remembers every one
        except (tarfile.TarError, EOFError) as error:
            raise ImageError(f"a layer of the image is damaged: {error}") from None

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > _MOST_ENTRIES:
            raise ImageError(f"the image has more than {_MOST_ENTRIES} files")
        parts = [part for part in member.name.split("/") if part not in {"", "."}]
        if ".." in parts or "\0" in member.name:
            raise ImageError(f"'{_shown(member.name)}' leaves the image")
        if not parts:
            return
        parent, name = self._parent("/".join(parts[:-1])), parts[-1]
        if name == _OPAQUE:
            self._hide_below(parent)
        elif name.startswith(_RESERVED):
            return  # what aufs kept for itself
        elif name.startswith(_HIDES):
            if name[len(_HIDES) :] in {"", ".", ".."}:
                raise ImageError(f"'{_shown(member.name)}' leaves the image")
            self._hide(posixpath.join(parent, name[len(_HIDES) :]))
        else:
            self._add(archive, member, parent, posixpath.join(parent, name))

    def _parent(self, path: str) -> str:
        """The real directory that the members of a directory go into, made if it is not there."""
        known = self._parents.get(path)
        if known is not None:
            return known
        found = inside(self._root, path)
        place = self._root / found
        try:
            place.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ImageError(f"'{_shown(path)}' is not a directory in the image, yet has files in it") from None
        self._parents[path] = found
        return found

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: str, path: str) -> None:
        place = self._root / path
        if member.isdir():
            if place.is_symlink() or not place.is_dir():
                self._remove(path)
                place.mkdir()
            place.chmod(member.mode & 0o777 | 0o700)
        elif member.isreg():
            self._remove(path)
            self._write(archive, member, place)
        elif member.issym():
            self._remove(path)
            place.symlink_to(member.linkname)
        elif member.islnk():
            self._link(member, path)
        else:
            return  # devices and pipes: /dev is given to tasks
        self._added.add(path)
        while parent and parent not in self._added:
            self._added.add(parent)
            parent = posixpath.dirname(parent)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
        self._left -= member.size
        if self._left < 0:
            raise ImageError(
                f"the image has more than {self._limit / 1e9:.1f} GB in files",
                hint="git config ml.imageLimit 40g raises the limit",
            )
        source = archive.extractfile(member)
        assert source is not None
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - an open descriptor
            shutil.copyfileobj(source, file, _PIECE)
            os.fchmod(descriptor, member.mode & 0o777 | 0o400)
            # what Python compiled is used only if its source has this very time
            os.utime(descriptor, (max(member.mtime, 0), max(member.mtime, 0)))

    def _link(self, member: tarfile.TarInfo, path: str) -> None:
        parts = [part for part in member.linkname.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise ImageError(f"the link '{_shown(member.name)}' leaves the image")
        target = inside(self._root, "/".join(parts), last=False)
        if target == path:
            return
        try:
            mode = (self._root / target).lstat().st_mode
        except OSError:
            mode = 0
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise ImageError(f"'{_shown(member.name)}' is a link to '{_shown(member.linkname)}', which is no file")
        self._remove(path)
        os.link(self._root / target, self._root / path, follow_symlinks=False)

    def _hide(self, path: str) -> None:
        """Take away what lower layers have at `path`; what this one has brought stays."""
        if path not in self._added:
            self._remove(path)
        elif (self._root / path).is_dir() and not (self._root / path).is_symlink():
            self._hide_below(path)

    def _hide_below(self, path: str) -> None:
        for name in os.listdir(self._root / path):
            self._hide(posixpath.join(path, name))

    def _remove(self, path: str) -> None:
        place = self._root / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
            self._parents.clear()
        elif os.path.lexists(place):
            if place.is_symlink():
                self._parents.clear()
            place.unlink()


def _shown(path: str) -> str:
    return printable(path.encode("utf-8", "surrogateescape"))
