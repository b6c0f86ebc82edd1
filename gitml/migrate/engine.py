"""Commits rewritten by git-filter-repo, in a process of its own: `python -m gitml.migrate.engine`, in the scratch.

filter-repo keeps state in its module, prints, and ends with `SystemExit`, so it does not live in ours. Blobs stay where
they are (`fast-export --no-data`). What a commit changes is replaced by one change: its new root tree, computed
before. Parents, tags, and commit ids in messages are left to filter-repo.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gitml.errors import GitmlError, UserError
from gitml.git.command import clean_environment
from gitml.git.repository import Repository
from gitml.oid import ObjectFormat, Oid

_TREES = "trees.json"
_REVISIONS = "revisions"
_MAP = "filter-repo/commit-map"


def check_engine(object_format: ObjectFormat) -> None:
    """Raise `UserError` if histories cannot be rewritten here."""
    if object_format is not ObjectFormat.SHA1:
        raise UserError(
            "the history of a SHA-256 repository cannot be rewritten: git-filter-repo reads SHA-1 only",
            hint="migrate the files of the newest commit: leave out --everything, --include-ref and names of refs",
        )
    if find_spec("git_filter_repo") is None:
        raise UserError("rewriting history needs git-filter-repo", hint="pip install 'gitml[migrate]'")


def rewrite_commits(
    scratch: Repository, trees: Mapping[Oid, Oid], revisions: Sequence[str], progress: Callable[[int], None]
) -> dict[Oid, Oid]:
    """Give every commit of `revisions` the tree that `trees` has for it, and move the refs; give old and new ids.

    `revisions` are refs of `scratch` and, with `^` before it, commits to leave out. `progress` gets the number of
    commits done.
    """
    (scratch.git_dir / _TREES).write_text(json.dumps({old.hex(): new.hex() for old, new in trees.items()}))
    # too many for a command line perhaps; only fast-export reads the standard input
    (scratch.git_dir / _REVISIONS).write_text("".join(f"{each}\n" for each in revisions), "utf-8", "surrogateescape")
    environment = {**clean_environment(), "GIT_DIR": str(scratch.git_dir), "LC_ALL": "C"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "gitml.migrate.engine"],
        cwd=scratch.git_dir,
        env=environment,
        stdin=(asked := (scratch.git_dir / _REVISIONS).open("rb")),
        stdout=subprocess.PIPE,
        stderr=(log := (scratch.git_dir / "engine.log").open("w+b")),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, number = line.partition(b" ")
            if word == b"commits":
                progress(int(number))
    asked.close()
    with log:
        if process.returncode != 0:
            log.seek(0)
            said = log.read().decode("utf-8", "replace").strip().splitlines() or [f"status {process.returncode}"]
            fatal = next((each for each in said if each.startswith("fatal: ")), said[-1])
            raise GitmlError(f"git-filter-repo failed: {fatal.removeprefix('fatal: ')}")
    lines = (scratch.git_dir / _MAP).read_bytes().splitlines()[1:]
    return {Oid.parse(old): Oid.parse(new) for old, new in map(bytes.split, lines)}


def main() -> None:
    """Run filter-repo in the current directory as `rewrite_commits` has noted there."""
    import git_filter_repo as engine  # noqa: PLC0415 - an optional package, needed in this process only

    trees = {old.encode(): new.encode() for old, new in json.loads(Path(_TREES).read_bytes()).items()}
    done = 0

    def replace(commit: Any, _: Any) -> None:
        nonlocal done
        commit.file_changes = [engine.FileChange(b"M", b"", trees[commit.original_id], b"040000")]
        done += 1
        if done % 100 == 0:
            print(f"commits {done}", flush=True)  # noqa: T201 - read by the parent

    arguments = ["--force", "--partial", "--quiet", "--prune-empty", "never", "--prune-degenerate", "never"]
    options = engine.FilteringOptions.parse_args([*arguments, "--preserve-commit-encoding"])
    options.refs = ["--stdin"]
    engine.RepoFilter(options, commit_callback=replace).run()


if __name__ == "__main__":
    main()
