"""Images unpacked from archives, kept in `.git/ml/images/` by the digest of their configuration.

    <digest>/root/        the files of the image, as `unpack` made them
    <digest>/image.json   what its configuration says
    known/<name>          which digest an archive has, so that it need not be read again
    tmp-*                 an image that is being unpacked, or what a killed process left of one
    lock                  held while one is unpacked

One process unpacks at a time and the others wait; an image appears whole, by a rename. So whatever is called `tmp-*`
when the lock is taken is garbage and goes. So does an image that nobody has used for a month.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, cast

from gitml.pipeline.archive import Image, opened
from gitml.pipeline.removal import remove_tree
from gitml.pipeline.unpack import ImageError, Unpacking
from gitml.record import asdict, record

UNPACK_LIMIT = 20 << 30
"""Bytes in the files of an image, at most."""
_UNUSED = 30 * 86_400
_WAIT = 0.1


@record
class Unpacked:
    """An image whose files are at `root`."""

    image: Image
    root: Path


class ImageStore:
    """The images below `directory`. Safe to use from several processes at once."""

    def __init__(
        self, directory: Path, *, limit: int = UNPACK_LIMIT, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._directory = directory
        self._limit = limit
        self._stopped = stopped

    def get(
        self, mark: str, name: str, digest: str | None, archive: Callable[[Path], AbstractContextManager[Path]]
    ) -> Unpacked:
        """The image called `name`, or with `digest` if one is given, unpacked now if it was not before.

        `mark` says what the archive is, so that equal ones need not be read; `archive` gives its place and may use a
        directory. Raise `ImageError` for an archive that has no such image or cannot be unpacked.
        """
        asked = f"gitml/image/1\n{mark}\n{name}\n{digest}".encode("utf-8", "surrogateescape")
        known = self._directory / "known" / hashlib.sha256(asked).hexdigest()
        found = self._known(known)
        if found is not None:
            return found
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                found = self._known(known)
                if found is not None:
                    return found
                self._sweep()
                unpacked = self._unpack(name, digest, archive)
                known.parent.mkdir(exist_ok=True)
                partial = self._directory / f"tmp-known-{secrets.token_hex(4)}"
                partial.write_text(unpacked.image.digest)
                partial.replace(known)
                return unpacked
        except OSError as error:
            raise ImageError(f"cannot unpack the image: {error.strerror or error}") from error

    def _known(self, known: Path) -> Unpacked | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return self._kept(known.read_text())
        return None

    def _kept(self, digest: str) -> Unpacked:
        """The image with this digest; raise `OSError` if it is not here."""
        place = self._directory / digest.replace(":", "-")
        image = Image(**json.loads((place / "image.json").read_bytes()))
        os.utime(place)
        return Unpacked(image, place / "root")

    def _unpack(
        self, name: str, digest: str | None, archive: Callable[[Path], AbstractContextManager[Path]]
    ) -> Unpacked:
        partial = self._directory / f"tmp-{os.getpid()}-{secrets.token_hex(4)}"
        partial.mkdir()
        try:
            with archive(partial) as path, opened(path) as files:
                image = files.image(name, digest)
                with contextlib.suppress(OSError):
                    return self._kept(image.digest)  # another archive had it too
                growing = Unpacking(partial / "root", self._limit)
                for layer in files.layers():
                    growing.apply(cast("IO[bytes]", layer))
                    layer.check()
                    self._check_stop()
            (partial / "image.json").write_text(json.dumps(asdict(image)))
            for other in partial.iterdir():
                if other.name not in {"root", "image.json"}:
                    remove_tree(other) if other.is_dir() else other.unlink()
            os.sync()  # an image that is there after a power cut has its content
            place = self._directory / image.digest.replace(":", "-")
            remove_tree(place)
            partial.rename(place)
            return Unpacked(image, place / "root")
        finally:
            remove_tree(partial)

    def _sweep(self) -> None:
        """Remove what killed processes left, and images that nobody uses any more. The lock is held."""
        for path in self._directory.iterdir():
            if path.name.startswith("tmp-") and path.is_file():
                path.unlink()
            elif path.name.startswith("tmp-"):
                remove_tree(path)
            elif path.name.startswith("sha256-") and path.stat().st_mtime < time.time() - _UNUSED:
                doomed = self._directory / f"tmp-{secrets.token_hex(4)}"
                path.rename(doomed)
                remove_tree(doomed)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / "lock").open("wb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._check_stop()
                    time.sleep(_WAIT)
            yield

    def _check_stop(self) -> None:
        if self._stopped():
            raise ImageError("stopped while the image was unpacked")
