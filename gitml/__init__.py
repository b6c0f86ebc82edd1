"""gitml: data, models and pipelines in plain git."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitml.reading.content import ContentReader

__version__ = "0.1.0"


def open(  # noqa: A001 - as in `io.open` and `fsspec.open`: `gitml.open`
    path: str | bytes | os.PathLike[str], rev: str = "HEAD", repo: str | os.PathLike[str] = "."
) -> "ContentReader":
    """The file at `path` in the commit `rev`, as a seekable binary file; nothing has to be checked out.

    `path` starts at the top of the repository that the directory `repo` is in. Content that is stored as chunks is read
    chunk by chunk, as far as it is touched, and fetched if it is not here. Close the file, or use it in `with`.

    Raise `FileNotFoundError`, `IsADirectoryError`, and `gitml.errors.GitmlError` for a revision that does not exist,
    for what is stored and damaged, and for content that is neither here nor on a remote.
    """
    # whoever starts the command line or a filter imports this module too
    from gitml.reading.revision import Revision  # noqa: PLC0415

    revision = Revision.at(repo, rev)
    try:
        return revision.open(path, closes=True)
    except BaseException:
        revision.close()
        raise
