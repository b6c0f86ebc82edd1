"""How two images differ, pixel by pixel, and a picture of where. Pillow decodes them; it is optional and slow to load.

Channels are compared at 8 bits, as they are shown; colours of transparent pixels do not count. Sizes are judged by the
headers, before anything is decoded.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Self
from warnings import catch_warnings, simplefilter

from gitml.formats.summary import FormatError
from gitml.record import record, replace

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

NO_PILLOW = "differences of images are not drawn without Pillow: pip install 'gitml[data]'"
_MOST_PIXELS = 1 << 24
"""Of an image that is decoded; comparing two takes some 20 bytes for each."""
_LONGEST_SIDE = 1200
"""Pixels of a side of what is drawn."""


@record(kw_only=True)
class PixelDiff:
    """The difference of two images."""

    old_size: tuple[int, int] | None = None
    """Width and height in pixels; None with a problem."""
    new_size: tuple[int, int] | None = None
    changed: int | None = None
    """Pixels that differ in any channel; None with a problem, and if both are not of one size."""
    largest: int | None = None
    """The largest difference in a channel, 0 to 255."""
    drawn: bytes = b""
    """A PNG: the new image pale and grey, what changed in red; empty if nothing did, or nothing is known."""
    problem: str = ""
    """Why they could not be compared."""

    @property
    def share(self) -> float | None:
        """Of the pixels that changed, 0 to 1."""
        if self.changed is None or self.new_size is None:
            return None
        return self.changed / (self.new_size[0] * self.new_size[1])

    def as_json(self) -> dict[str, Any]:
        """The difference as a document."""
        return {
            "old_size": self.old_size, "new_size": self.new_size, "changed": self.changed, "largest": self.largest,
            "drawn": b64encode(self.drawn).decode(), "problem": self.problem,
        }  # fmt: skip

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        old, new = (None if given[name] is None else (*given[name],) for name in ("old_size", "new_size"))
        return cls(
            old_size=old, new_size=new, changed=given["changed"], largest=given["largest"],
            drawn=b64decode(given["drawn"]), problem=given["problem"],
        )  # fmt: skip


def has_pillow() -> bool:
    """Whether images can be decoded."""
    return find_spec("PIL") is not None


def load() -> None:
    """Load all that `compare_pixels` may need: it opens no file then but those of the images."""
    import numpy  # noqa: F401 - loading it is all that is wanted
    from PIL import Image, ImageOps, MpoImagePlugin, TiffImagePlugin  # noqa: F401 - as above

    Image.preinit()


def compare_pixels(old: IO[bytes], new: IO[bytes]) -> PixelDiff:
    """How two PNG or JPEG files differ; what is wrong with one of them is its problem. Needs Pillow."""
    try:
        before, now = _opened(old, "before"), _opened(new, "now")
        sizes = PixelDiff(old_size=before.size, new_size=now.size)
        if before.size != now.size:
            return sizes
        return _compared(_channels(before, "before"), _channels(now, "now"), sizes)
    except FormatError as error:
        return PixelDiff(problem=str(error))


def _opened(file: IO[bytes], when: str) -> "Image":
    """An image of which only the header was read, turned as it is shown."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    too_large = FormatError(f"{when}: an image of more than {_MOST_PIXELS} pixels is not compared")
    try:
        with catch_warnings():
            simplefilter("ignore")  # of sizes between that limit and twice as much
            image: Image.Image = Image.open(file, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise too_large from None
    except MemoryError:
        raise
    except Exception as error:  # whatever the decoder meets
        raise _broken(when, error) from None
    if image.width * image.height > _MOST_PIXELS:
        raise too_large
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise FormatError(f"{when}: an animation is not compared")
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _broken(when, error) from None


def _broken(when: str, error: Exception) -> FormatError:
    return FormatError(f"{when}: the image cannot be decoded: {str(error)[:200] or type(error).__name__}")


def _channels(image: "Image", when: str) -> "numpy.ndarray[Any, Any]":
    """Height × width × red, green, blue, alpha as bytes, where colours are weighted with alpha."""
    import numpy as np
    from PIL import Image

    try:
        if image.mode.startswith("I"):
            # grey of 16 bits, of which Pillow would only keep the darkest shades
            image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        return np.asarray(image.convert("RGBA").convert("RGBa"))
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _broken(when, error) from None


def _compared(before: "numpy.ndarray[Any, Any]", now: "numpy.ndarray[Any, Any]", sizes: PixelDiff) -> PixelDiff:
    import numpy as np

    difference = (np.maximum(before, now) - np.minimum(before, now)).max(axis=2)
    changed = int(np.count_nonzero(difference))
    drawn = _drawn(now, difference) if changed else b""
    return replace(sizes, changed=changed, largest=int(difference.max()), drawn=drawn)


def _drawn(now: "numpy.ndarray[Any, Any]", difference: "numpy.ndarray[Any, Any]") -> bytes:
    import numpy as np
    from PIL import Image

    step = -(-max(difference.shape) // _LONGEST_SIDE)
    height, width = (-(-side // step) for side in difference.shape)
    # a single pixel that changed must not vanish where the picture is made smaller
    padded = np.pad(difference, ((0, height * step - difference.shape[0]), (0, width * step - difference.shape[1])))
    strongest = padded.reshape(height, step, width, step).max(axis=(1, 3))
    some = now[::step, ::step].astype(np.uint16)
    # on white, as weighted colours leave room for it; the weights are those of ITU-R BT.601
    grey = (some[..., 0] * 77 + some[..., 1] * 150 + some[..., 2] * 29) // 256 + (255 - some[..., 3])
    shades = np.where(strongest > 0, 128 + strongest // 2, np.minimum(grey, 255) // 2).astype(np.uint8)
    image = Image.fromarray(shades)
    image.putpalette([part for number in range(256) for part in _colour(number)])
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _colour(number: int) -> tuple[int, int, int]:
    """Pale greys, then reds, the stronger the darker."""
    if number < 128:
        return (191 + number // 2,) * 3
    strength = number - 128
    return 255 - strength * 85 // 127, 150 - strength * 150 // 127, 150 - strength * 130 // 127
