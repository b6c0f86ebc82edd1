"""`git ml migrate`: import, export, info, undo."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gitml import install as library
from gitml.cli.context import open_context
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, size, table, talk
from gitml.errors import BusyError, ExitCode, UserError
from gitml.git.refs import list_refs
from gitml.git.repository import Repository
from gitml.git.tracking import committed_patterns
from gitml.install.chain import hooks_dir
from gitml.migrate import journal
from gitml.migrate.dvcstore import is_left_behind
from gitml.migrate.lfs import is_lfs_installed
from gitml.migrate.migration import (
    EXPORTS,
    IMPORTS,
    Outcome,
    Request,
    detect,
    remove_lfs_setup,
    undoing,
    uses_lfs,
)
from gitml.migrate.migration import (
    migrate as perform,
)
from gitml.migrate.selection import Choice
from gitml.migrate.survey import Found, look
from gitml.oid import Oid
from gitml.provenance.codec import text_of

migrate = typer.Typer(
    help="Take over repositories of plain git, git-lfs and DVC, and give them back.", no_args_is_help=True
)

Refs = Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="Rewrite the history of these branches.")]
Include = Annotated[
    list[str] | None,
    typer.Option("-I", "--include", metavar="PATTERN", help="Files, as in .gitattributes; repeatable."),
]
Exclude = Annotated[
    list[str] | None, typer.Option("-X", "--exclude", metavar="PATTERN", help="Not these files; repeatable.")
]
Above = Annotated[str | None, typer.Option("--above", metavar="SIZE", help="Files larger than this, such as 10MB.")]
Everything = Annotated[bool, typer.Option("--everything", help="Rewrite the history of all branches and tags.")]
IncludeRef = Annotated[list[str] | None, typer.Option("--include-ref", metavar="REF", help="Rewrite what REF reaches.")]
ExcludeRef = Annotated[list[str] | None, typer.Option("--exclude-ref", metavar="REF", help="But not what REF reaches.")]
NoRewrite = Annotated[bool, typer.Option("--no-rewrite", help="Add one commit, leave history (the default).")]
SkipFetch = Annotated[bool, typer.Option("--skip-fetch", help="Do not contact remotes.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave files whose content is not here as they are.")]
ObjectMap = Annotated[
    Path | None, typer.Option("--object-map", metavar="FILE", help="Write 'old,new' commit ids there.")
]
Message = Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="Message of the new commit.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Say what would be done; read no contents.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Go on although files have changes; they stay as they are.")]


@migrate.command("info")
def info(
    refs: Refs = None,
    include: Include = None,
    exclude: Exclude = None,
    above: Above = None,
    everything: Everything = False,
    include_ref: IncludeRef = None,
    exclude_ref: ExcludeRef = None,
    json: Json = False,
) -> None:
    """Show what there is to migrate: by pattern the number of files, their versions and bytes."""
    repo = Repository.discover()
    choice = _choice(refs, include_ref, exclude_ref, everything)
    if repo.try_resolve("HEAD") is None:
        raise UserError("there is no commit yet", hint="git add . && git commit")
    found = look(repo, choice, include or (), exclude or (), _bytes(above))
    if json:
        show_json({"schema": "gitml/migrate-info/1", "patterns": [_as_json(each) for each in found]})
        return
    if not found:
        talk("note: no file of 64 KiB or more, and none of git-lfs or DVC")
    for line in table((_row(each) for each in found), indent=""):
        show(line)


@migrate.command("import")
def import_(
    refs: Refs = None,
    source: Annotated[str | None, typer.Option("--from", metavar="KIND", help="git, lfs or dvc.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    above: Above = None,
    no_rewrite: NoRewrite = False,
    everything: Everything = False,
    include_ref: IncludeRef = None,
    exclude_ref: ExcludeRef = None,
    skip_fetch: SkipFetch = False,
    skip_missing: SkipMissing = False,
    object_map: ObjectMap = None,
    message: Message = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Put large files under gitml: from plain git, git-lfs or DVC, in a new commit or in all of history."""
    repo = Repository.discover()
    choice = _choice(refs, include_ref, exclude_ref, everything, no_rewrite=no_rewrite)
    if repo.try_resolve("HEAD") is None:
        raise UserError("there is no commit yet", hint="git add . && git commit")
    kind = _kind(source or detect(repo), IMPORTS)
    if kind == "git" and not include and above is None and not committed_patterns(repo):
        raise UserError(
            "no files are named", hint="--include PATTERN or --above SIZE; what there is shows: git ml migrate info"
        )
    if repo.worktree is not None and not dry_run and not repo.has_filter:
        library.install(repo, fetch=not skip_fetch)
    request = Request(
        imports=True,
        kind=kind,
        choice=choice,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        above=_bytes(above),
        message=message or f"put files under gitml (from {_NAMES[kind]})",
        skip_fetch=skip_fetch,
        skip_missing=skip_missing,
        dirty_is_fine=yes,
        dry_run=dry_run,
    )
    outcome = _perform(repo, request)
    _tell(request, outcome, object_map, json=json)
    if kind == "lfs" and outcome.stamp is not None:
        _leave_lfs(repo)
    return ExitCode.OK


@migrate.command("export")
def export(
    refs: Refs = None,
    target: Annotated[str, typer.Option("--to", metavar="KIND", help="git, lfs or dvc.")] = "git",
    include: Include = None,
    exclude: Exclude = None,
    no_rewrite: NoRewrite = False,
    everything: Everything = False,
    include_ref: IncludeRef = None,
    exclude_ref: ExcludeRef = None,
    skip_fetch: SkipFetch = False,
    skip_missing: SkipMissing = False,
    object_map: ObjectMap = None,
    message: Message = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Take files from under gitml: to plain git, git-lfs or DVC, in a new commit or in all of history."""
    repo = Repository.discover()
    choice = _choice(refs, include_ref, exclude_ref, everything, no_rewrite=no_rewrite)
    kind = _kind(target, EXPORTS)
    if kind == "lfs" and not dry_run:
        _configure_lfs(repo)
    request = Request(
        imports=False,
        kind=kind,
        choice=choice,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        message=message or f"take files from under gitml (to {_NAMES[kind]})",
        skip_fetch=skip_fetch,
        skip_missing=skip_missing,
        dirty_is_fine=yes,
        dry_run=dry_run,
    )
    outcome = _perform(repo, request)
    _tell(request, outcome, object_map, json=json)
    if kind == "lfs" and outcome.stamp is not None:
        talk(_LFS_HOOKS)
    if kind == "dvc" and outcome.stamp is not None:
        talk("note: contents are in the cache of DVC; others get them once there is a remote: dvc push --all-commits")
    return ExitCode.OK


@migrate.command("undo")
def undo(
    migration: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The migration; by default the latest.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Go back although files have changes or refs got commits since.")
    ] = False,
) -> None:
    """Take a migration back: branches and tags are what they were, files and index follow."""
    repo = Repository.discover()
    with _no_run(), undoing(repo) as odb:
        journal.check(repo, migration, dirty_is_fine=yes)
        back_to_lfs = uses_lfs(repo, journal.kept(repo, migration))
        if back_to_lfs:
            _configure_lfs(repo)
        moves = journal.undo(repo, odb, migration, lose_later=yes)
    for move in moves:
        show(f"{safe(move.name)} is back at {move.new.hex()[:10]}")
    if repo.worktree is not None and is_left_behind(repo.worktree):
        talk("note: what went to DVC is still in '.dvc/cache'; when you need it no more: rm -r .dvc")
    if back_to_lfs:
        talk(_LFS_HOOKS)


_LFS_HOOKS = (
    "note: so that 'git push' sends what git-lfs keeps, it needs its hooks: git lfs update --manual; "
    "or, if nothing is under gitml any more: git ml uninstall && git lfs install --local"
)


def _configure_lfs(repo: Repository) -> None:
    """Let git run the filter of git-lfs, which the files that follow need."""
    if is_lfs_installed() and repo.config("filter.lfs.process") is None:
        repo.git.run("lfs", "install", "--local", "--skip-repo")


_NAMES = {"git": "plain git", "lfs": "git-lfs", "dvc": "DVC"}


def _choice(
    refs: list[str] | None,
    include_ref: list[str] | None,
    exclude_ref: list[str] | None,
    everything: bool,
    *,
    no_rewrite: bool = False,
) -> Choice:
    choice = Choice(tuple(refs or ()), tuple(include_ref or ()), tuple(exclude_ref or ()), everything)
    if everything and (refs or include_ref or exclude_ref):
        raise typer.BadParameter("--everything leaves no refs to choose")
    if no_rewrite and choice.is_history:
        raise typer.BadParameter("--no-rewrite leaves history alone: name no refs")
    return choice


def _kind(name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise typer.BadParameter(f"'{name}' is none of {', '.join(known)}")
    return name


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise typer.BadParameter(f"'{text}' is not a size such as 500kB, 10MB or 1GiB")
    power = " kmgt".index(match[2] or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def _perform(repo: Repository, request: Request) -> Outcome:
    progress = _Progress()
    try:
        with _no_run():
            return perform(repo, request, progress.report)
    finally:
        progress.close()


@contextmanager
def _no_run() -> Iterator[None]:
    """Keep runners away during the block; raise `BusyError` if one is at work."""
    with open_context() as context, context.lease.acquire() as free:
        if not free:
            raise BusyError("a run is under way", hint="wait for it: git ml wait")
        yield


class _Progress:
    """One line that changes, in a terminal only and after a second."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._phase = ("", 0.0)
        self._drawn = False

    def report(self, phase: str, done: int, total: int, amount: int) -> None:
        """Show how far a phase is."""
        now = time.monotonic()
        if phase != self._phase[0]:
            self._phase = (phase, now)
        if not self._terminal or now - self._started < 1 or (now - self._last < 0.1 and done < total):
            return
        self._last = now
        spent = now - self._phase[1]
        text = f"{phase}: {done}/{total}"
        if amount and spent > 0:
            text += f", {size(amount)}, {size(amount / spent)}/s"
        if 0 < done < total and spent > 1:
            text += f", {spent / done * (total - done):.0f} s left"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
        self._drawn = True

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _tell(request: Request, outcome: Outcome, object_map: Path | None, *, json: bool) -> None:
    if object_map is not None and not request.dry_run:
        _write_map(object_map, outcome.object_map)
    for path in outcome.missing:
        talk(f"note: the content of '{safe(path.decode('utf-8', 'surrogateescape'))}' is missing; it stays as it was")
    for note in outcome.notes:
        talk(f"note: {safe(note)}")
    if json:
        show_json(_outcome_as_json(request, outcome))
    if not outcome.refs:
        talk("nothing to migrate")
        return
    contents = f"{count(outcome.contents, 'content')} of {size(outcome.size)}"
    would = "would be " if request.dry_run else ""
    if not json and outcome.commits:
        show(f"{count(outcome.commits, 'commit')} {would}rewritten, {contents} converted")
    elif not json:
        show(f"{contents} {would}converted in a new commit")
    if outcome.signatures:
        talk(f"warning: {count(outcome.signatures, 'signature')} of commits and tags went with the rewriting")
    for stage, commits in sorted(outcome.records.items()):
        named = f"records in {count(commits, 'commit')} name files"
        if request.kind == "dvc" and not request.imports:
            talk(f"note: '{safe(stage)}' may not run any more: {named} that DVC keeps now")
        else:
            talk(f"note: '{safe(stage)}' runs once more: {named} by their old form")
    if request.dry_run:
        return
    if outcome.commits:
        talk("note: history has new commit ids; a remote takes it with: git push --force-with-lease")
    talk(f"undo: git ml migrate undo {outcome.stamp}")


def _outcome_as_json(request: Request, outcome: Outcome) -> dict[str, object]:
    return {
        "schema": "gitml/migrate/1",
        "dry_run": request.dry_run,
        "commits": outcome.commits,
        "refs": outcome.refs,
        "contents": outcome.contents,
        "bytes": outcome.size,
        "signatures": outcome.signatures,
        "records": outcome.records,
        "missing": [text_of(path) for path in outcome.missing],
        "notes": outcome.notes,
        "undo": outcome.stamp,
    }


def _write_map(path: Path, mapping: Mapping[Oid, Oid]) -> None:
    path.write_text("".join(f"{old},{new}\n" for old, new in mapping.items()))


def _leave_lfs(repo: Repository) -> None:
    """Take the set-up of git-lfs away once no branch needs it."""
    branches = list_refs(repo.git, "refs/heads")
    if uses_lfs(repo, branches):
        talk("note: other files or branches need git-lfs; its hooks stay")
        return
    gone = remove_lfs_setup(repo, hooks_dir(repo))
    if gone:
        talk(f"note: git-lfs is no longer set up here ({', '.join(gone)}); to have it again: git lfs install --local")


def _row(found: Found) -> tuple[str, ...]:
    return (
        size(found.size).rjust(9),
        count(len(found.files), "file"),
        count(found.versions, "version"),
        found.kind,
        safe(found.pattern),
    )


def _as_json(found: Found) -> dict[str, object]:
    return {
        "kind": found.kind,
        "pattern": found.pattern,
        "files": len(found.files),
        "versions": found.versions,
        "bytes": found.size,
    }
