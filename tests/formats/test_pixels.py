"""Differences of images: real files of Pillow, and files that are made to harm."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gitml.formats.child import Limits, compare_images
from gitml.formats.pixels import PixelDiff, compare_pixels


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def compared(old: bytes, new: bytes) -> PixelDiff:
    return compare_pixels(BytesIO(old), BytesIO(new))


def in_child(directory: Path, old: bytes, new: bytes, limits: Limits | None = None) -> PixelDiff:
    paths = directory / "old", directory / "new"
    for path, data in zip(paths, (old, new), strict=True):
        path.write_bytes(data)
    return compare_images(*paths, limits)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_changed_is_counted_and_drawn_in_red(tmp_path: Path) -> None:
    old = Image.new("RGB", (40, 20), (200, 200, 200))
    new = old.copy()
    new.putpixel((3, 4), (200, 10, 200))
    new.putpixel((30, 10), (201, 200, 200))
    found = in_child(tmp_path, encoded(old), encoded(new))
    assert (found.old_size, found.new_size, found.problem) == ((40, 20), (40, 20), "")
    assert (found.changed, found.largest, found.share) == (2, 190, 2 / 800)
    drawn = Image.open(BytesIO(found.drawn)).convert("RGB")
    assert drawn.size == (40, 20)
    pixels = np.asarray(drawn).astype(int)
    red = pixels[..., 0] - pixels[..., 1] > 50
    assert sorted(zip(*np.nonzero(red), strict=True)) == [(4, 3), (10, 30)]
    assert pixels[4, 3, 1] < pixels[10, 30, 1]
    # what did not change is grey, and pale enough to see the rest
    assert (pixels[0, 0] == pixels[0, 0, 0]).all()
    assert pixels[0, 0, 0] > 190
    assert PixelDiff.from_json(found.as_json()) == found
    same = in_child(tmp_path, encoded(old), encoded(old, compress_level=0))
    assert (same.changed, same.largest, same.drawn, same.problem) == (0, 0, b"", "")


def test_other_sizes_are_said() -> None:
    found = compared(encoded(Image.new("L", (4, 5))), encoded(Image.new("L", (5, 4))))
    assert found == PixelDiff(old_size=(4, 5), new_size=(5, 4))
    assert found.share is None


def test_a_lone_pixel_survives_in_a_smaller_drawing() -> None:
    old = Image.new("L", (3000, 500), 90)
    new = old.copy()
    new.putpixel((2999, 499), 91)
    found = compared(encoded(old), encoded(new))
    drawn = Image.open(BytesIO(found.drawn)).convert("RGB")
    assert drawn.size == (1000, 167)
    assert found.changed == 1
    corner = drawn.getpixel((999, 166))
    assert isinstance(corner, tuple)
    assert corner[0] - corner[1] > 50


def test_modes_of_files(tmp_path: Path) -> None:
    """A palette, transparency, 16 bits, CMYK and a turned photograph are compared as they are shown."""
    grey = Image.new("RGB", (6, 4), (77, 77, 77))
    palette = grey.quantize(4)
    assert in_child(tmp_path, encoded(grey), encoded(palette)).changed == 0
    clear = [Image.new("RGBA", (6, 4), (shade, 0, 0, 0)) for shade in (0, 250)]
    assert compared(*map(encoded, clear)).changed == 0
    deep = [Image.fromarray(np.full((4, 6), value, np.uint16)) for value in (0x1000, 0x9000)]
    found = compared(*map(encoded, deep))
    assert (found.changed, found.largest) == (24, 0x80)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(grey, "JPEG", exif=exif)
    assert in_child(tmp_path, turned, encoded(grey.rotate(90, expand=True), "JPEG")).changed == 0
    inks = encoded(Image.new("CMYK", (6, 4), (0, 0, 0, 0)), "JPEG")
    assert in_child(tmp_path, inks, encoded(Image.new("RGB", (6, 4), "white"))).largest == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(100_000, 100_000, zlib.compress(bytes(1 << 20))), "now: an image of more than 16777216 pixels"),
        (png(5000, 5000, zlib.compress(bytes(1 << 20))), "now: an image of more than 16777216 pixels"),
        (png(4000, 4000, b"x"), "now: the image cannot be decoded"),
        (png(8, 8, zlib.compress(bytes(72)))[:44], "now: the image cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 13), "now: the image cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27))), "now: the image cannot be"),
        (b"\xff\xd8\xff" + b"\xff" * 1000, "now: the image cannot be decoded"),
        (b"GIF89a" + bytes(100), "now: the image cannot be decoded"),
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes, said: str) -> None:
    found = in_child(tmp_path, encoded(Image.new("L", (8, 8))), data)
    assert found.problem.startswith(said)
    assert found.drawn == b""


def test_limits(tmp_path: Path) -> None:
    image = encoded(Image.new("L", (4000, 4000)))
    assert "memory" in in_child(tmp_path, image, image, Limits(memory=350 << 20)).problem
    frames = [Image.new("L", (8, 8), shade) for shade in (1, 200)]
    moving = encoded(frames[0], save_all=True, append_images=frames[1:])
    assert compared(encoded(frames[0]), moving).problem == "now: an animation is not compared"
