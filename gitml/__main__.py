"""The entry point. What git starts is dispatched before the command line is even imported."""

import gc
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `git ml` with these arguments (default: those of the process); give the exit code."""
    argv = sys.argv[1:] if arguments is None else list(arguments)
    if os.name == "nt":  # `fcntl`, sessions, signals to process groups
        print("error: gitml does not run on Windows itself\nhint: it runs under WSL 2", file=sys.stderr)  # noqa: T201 - as below
        return 128
    # evaluations make many objects and hardly a cycle: looking for one every 700 objects takes a fifth of the time
    gc.set_threshold(50_000, 20, 100)
    # a hook's or filter's words reach whatever git's caller reads; names may hold any bytes
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(argv)
    except KeyboardInterrupt:  # before a command could see to it, while modules were being read
        if argv[:2] == ["wait", "--attached"]:
            print("gitml: detached, the run goes on; git ml wait joins it again", file=sys.stderr)  # noqa: T201 - cli is not there yet
        return 130


def _dispatch(argv: Sequence[str]) -> int:
    command = argv[0] if argv else ""
    if command == "filter-process":
        from gitml.filter.server import main as filter_process

        return filter_process()
    if command == "hook" and len(argv) > 1:
        from gitml.hooks import run_hook

        return run_hook(argv[1], argv[2:])
    if command == "merge-file":
        from gitml.hooks.merging import merge_file

        return merge_file(argv[1:])
    if command == "runner" and len(argv) > 1:
        from gitml.pipeline.background import run_in_background
        from gitml.remote.egress import Egress

        return run_in_background(argv[1], Egress)
    if command == "textconv":
        from gitml.review.textconv import main as textconv

        return textconv(argv[1:])
    if command == "rebase-todo" and len(argv) > 1:
        from gitml.cli.rebase import edit_todo

        return edit_todo(argv[1:])
    if command in ("status", "run"):
        from gitml.cli.glance import glance

        code = glance(argv)
        if code is not None:
            return code
    from gitml.cli.main import main as command_line

    return command_line(argv)


if __name__ == "__main__":
    sys.exit(main())
