"""Pages and other files that commands write beside what they print."""

import os
import sys
from pathlib import Path

from gitml.cli.context import Context
from gitml.errors import GitmlError, UserError
from gitml.pipeline.loading import load_pipeline
from gitml.review.blocks import Report
from gitml.review.comparison import Comparison
from gitml.review.history import metric_history
from gitml.review.overview import RESULTS, overview
from gitml.review.page import page
from gitml.store.tree import Snapshot

STANDARD_OUTPUT = Path("-")


def page_of(context: Context, found: Comparison, words: Report, command: str, *, whole: bool, history: bool) -> bytes:
    """A comparison as a page; with the state of all stages if it is to be `whole`, with the `history` of metrics."""
    histories = []
    if history:
        try:
            pipeline = load_pipeline(Snapshot(context.odb, context.surveyor.tree_of(found.new.commit)))
        except GitmlError:
            pipeline = None  # the verdict says why it cannot be read
        stages = () if pipeline is None else pipeline.stages
        histories = metric_history(context.repo, context.odb, stages, found.new.commit, RESULTS)
    said = overview(words, found, histories, whole=whole)
    return page(said, found.old, found.new, command).encode()


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all; `-` is standard output. Raise `UserError` if that fails."""
    if path == STANDARD_OUTPUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a pipe or a device stays what it is
            return
        # where a link leads to is replaced, not the link
        target = path.resolve()
        new = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            new.write_bytes(data)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        hint = None if path.parent.is_dir() else f"mkdir -p '{path.parent}'"
        raise UserError(f"cannot write '{path}': {error.strerror}", hint=hint) from None
