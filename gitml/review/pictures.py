"""Declared images that changed, with what can show them: their bytes, or where their forge shows them.

A child with limits compares their pixels, as images come from anybody.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gitml.errors import GitmlError
from gitml.formats.child import compare_images
from gitml.formats.pixels import NO_PILLOW, PixelDiff, has_pillow
from gitml.git.repository import Repository
from gitml.pipeline.spec.model import Stage
from gitml.reading.source import Source
from gitml.reading.view import View
from gitml.record import replace
from gitml.review.addresses import addresses, shows_svg
from gitml.review.comparison import Picture, PictureChange, Side
from gitml.store.tree import Snapshot

_MOST = 20
"""Images that are shown."""
_LARGEST = 4 << 20
"""Bytes of an image that is shown."""
_MAGICS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_BEGINS_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:<\?xml\b|<!--|<!DOCTYPE\b)[^<]*>\s*)*<svg[\s>]")
"""A document type that declares something has '<' in it and is not taken: entities can grow without end."""
_BEGINNING = 1 << 16
"""Bytes in which SVG is to begin."""


def picture_changes(
    repo: Repository,
    old: tuple[Side, Snapshot],
    new: tuple[Side, Snapshot],
    stages: Iterable[tuple[Stage | None, Stage, bool]],
    *,
    forge: str | None = None,
) -> list[PictureChange]:
    """The images among the plots of the new side that changed.

    `old` and `new` are sides with their trees; `stages` are those of the new side, each with what it was on the old
    side, and whether its results are fresh. `forge` is the kind of the forge, where it does not show in the address of
    the remote. What is not here is fetched. Whatever goes wrong is said of the image.
    """
    found = [
        (stage, fresh, paths)
        for earlier, stage, fresh in stages
        for plot in stage.plots
        for paths in [tuple(each.output + b"/" + plot.path.encode() for each in (earlier or stage, stage))]
        if plot.is_image and old[1].get(paths[0]) != new[1].get(paths[1])
    ]
    if not found:
        return []
    remote = repo.config("remote.origin.url") or ""
    address_of = addresses(remote, forge)
    source = Source(repo)

    def picture(side: Side, tree: Snapshot, path: bytes) -> Picture | None:
        if tree.get(path) is None:
            return None
        view = View(source, side.commit.hex()[:10], side.commit, tree.root, b"")
        try:
            file = view.check_file(path)
            # a forge has no more of a large file than its pointer, and nothing of the worktree
            is_shown = address_of is not None and not side.worktree and view.describe_file(file).pointer is None
            address = address_of(side.commit.hex(), file.path) if is_shown and address_of is not None else ""
            with view.open_file(path) as content:
                if content.size > _LARGEST:
                    return Picture(size=content.size, problem=f"larger than {_LARGEST} bytes")
                content.bring([(0, content.size)])
                data = content.read()
        except (GitmlError, OSError) as error:
            return Picture(size=0, problem=error.message if isinstance(error, GitmlError) else str(error.strerror))
        media = _media_of(path, data)
        if not media:
            return Picture(size=len(data), problem="it is neither PNG, JPEG nor SVG")
        found = Picture(size=len(data), media=media, data=data, address=address)
        return replace(found, address="") if found.is_svg and not shows_svg(remote, forge) else found

    try:
        return [
            PictureChange(
                stage=stage.name, path=paths[1], old=before, new=now, difference=_difference(before, now), fresh=fresh
            )
            for stage, fresh, paths in found[:_MOST]
            for before, now in [(picture(*old, paths[0]), picture(*new, paths[1]))]
        ]
    finally:
        source.close()


def _media_of(path: bytes, data: bytes) -> str:
    """What kind of image it is by how it begins, '' if it is none that is shown; SVG by its name too."""
    if path.lower().endswith(b".svg"):
        return "image/svg+xml" if _BEGINS_SVG.match(data[:_BEGINNING]) else ""
    return next((media for magic, media in _MAGICS if data.startswith(magic)), "")


def _difference(old: Picture | None, new: Picture | None) -> PixelDiff | None:
    if old is None or new is None or not old.data or not new.data or old.is_svg or new.is_svg:
        return None
    if not has_pillow():
        return PixelDiff(problem=NO_PILLOW)
    with tempfile.TemporaryDirectory(prefix="gitml-review-") as temporary:
        places = Path(temporary) / "old", Path(temporary) / "new"
        for place, picture in zip(places, (old, new), strict=True):
            place.write_bytes(picture.data)
        return compare_images(*places)
