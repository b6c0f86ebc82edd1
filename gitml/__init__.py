"""gitml: data, models and pipelines in plain git.

`gitml.open` reads a file of any commit without a checkout.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitml.reading.view import ContentFile

__all__ = ["__version__", "open"]

__version__ = "0.1.0"


def open(  # noqa: A001 - read as gitml.open
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    rev: str = "HEAD",
    repo: str | os.PathLike[str] = ".",
) -> "ContentFile":
    """The file at `path` of a revision, as a seekable binary stream; only what is read is fetched.

    `path` is from the top of the repository, or with a leading `./` from the directory `repo`, which may lie anywhere
    in it. Close the stream, or use it in `with`. Errors are those of `open`: `FileNotFoundError` where there is no such
    file, revision or repository, `IsADirectoryError`, and `OSError` for content that is damaged or cannot be had.
    """
    # whoever only wants the version does without
    from gitml.reading.view import View  # noqa: PLC0415

    view = View.open(repo, rev)
    try:
        return view.open_file(view.path_from(path), owned=True)
    except BaseException:
        view.close()
        raise
