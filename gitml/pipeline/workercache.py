"""What the workers of one machine keep of what they fetched, within a bound.

    lock           held for a moment by who looks for the cache that is in use, makes one, or takes one away
    <name>/        a cache: a bare repository for each object format, with the images that it unpacked
      open         there as long as batches may begin in it
      in-use       locked, shared, by every batch that is in it
    gone-<name>/   a cache that is being removed, or what a killed process left of one

Nothing is taken out of a cache, which would take an object from under a batch that saw it a moment before. One that is
full is closed: batches that begin then make a new one, and it is removed as a whole when the last batch in it has
ended. It gets another name for that while nobody can enter it, so that half a cache is never taken for one. All locks
go with the processes that hold them.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gitml.pipeline.limits import size_below
from gitml.pipeline.removal import remove_tree

_GONE = "gone-"
_IMAGES = "*/ml/images/sha256-*"
"""Unpacked images below a cache: whole from the beginning, and of many files."""


class WorkerCache:
    """The caches below `directory`. Safe to use from several processes and threads at once.

    `limit` is how many bytes they may have together between batches; None leaves it to the free disk.
    """

    def __init__(self, directory: Path, limit: int | None = None) -> None:
        self.directory = directory
        self._limit = limit
        self._image_sizes: dict[Path, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def entered(self) -> Iterator[Path]:
        """The cache that a batch is to use; it stays for as long as the block takes."""
        with self._locked():
            place = next((each for each in self._caches() if is_open(each)), None)
            if place is None:
                place = self.directory / secrets.token_hex(8)
                place.mkdir()
                (place / "open").touch()
            held = (place / "in-use").open("a+b")
            fcntl.flock(held, fcntl.LOCK_SH)  # without waiting: only a closed cache is ever locked by one alone
        with held:
            yield place

    def keep_bound(self) -> None:
        """Close the cache if there is more than may be; remove those that are closed and that no batch is in.

        What cannot be done now, because of a batch or an error of the disk, is left to the next call.
        """
        with contextlib.suppress(OSError):
            sizes = {place: self._size(place) for place in self._caches()}
            used = sum(sizes.values())
            if used > self.bound(used):
                with self._locked():
                    for place in sizes:
                        # what is taken away is the mark of an open one: that works on a disk that is full
                        (place / "open").unlink(missing_ok=True)
            for place, held in self._taken():
                with held, contextlib.suppress(OSError):
                    _remove(place)

    def bound(self, used: int) -> int:
        """How many bytes may be kept where `used` are.

        Without a limit it is half of what the disk had free without us: files of inputs and outputs, which a batch lays
        out beside the cache, are about as large as what was fetched for them.
        """
        if self._limit is not None:
            return self._limit
        return (shutil.disk_usage(self.directory).free + used) // 2

    def _caches(self) -> list[Path]:
        return [
            Path(entry.path)
            for entry in os.scandir(self.directory)
            if entry.is_dir() and not entry.name.startswith(_GONE)
        ]

    def _taken(self) -> list[tuple[Path, IO[bytes]]]:
        """Caches to be removed, which nobody can enter any more, with what keeps others from removing them too."""
        taken: list[tuple[Path, IO[bytes]]] = []
        with self._locked():
            for place in [*self._caches(), *self.directory.glob(f"{_GONE}*")]:
                if is_open(place):
                    continue
                with contextlib.suppress(OSError), contextlib.ExitStack() as undone:
                    held = undone.enter_context((place / "in-use").open("a+b"))
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    gone = place
                    if not place.name.startswith(_GONE):
                        gone = place.rename(place.with_name(_GONE + place.name))
                    undone.pop_all()
                    taken.append((gone, held))
        return taken

    def _size(self, place: Path) -> int:
        """Bytes in files of a cache, which others may be writing or removing."""
        images: set[Path] = set()
        with contextlib.suppress(FileNotFoundError):
            images.update(place.glob(_IMAGES))
        for image in images - self._image_sizes.keys():
            self._image_sizes[image] = size_below(image)[0]
        return size_below(place, apart=images)[0] + sum(self._image_sizes[image] for image in images)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def is_open(place: Path) -> bool:
    """Whether batches may begin in a cache."""
    return (place / "open").exists()


def _remove(place: Path) -> None:
    """Remove a cache; what says that somebody is at it goes last."""
    for entry in list(os.scandir(place)):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
    remove_tree(place)
