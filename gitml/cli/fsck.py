"""`git ml fsck`."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gitml.care.repair import Repaired, join, repair
from gitml.care.roots import Needs, only_below, read_needs, read_needs_of
from gitml.care.verify import Fault, Verified, examine
from gitml.cli.options import Json
from gitml.cli.output import count, safe, show, show_json, size, talk
from gitml.cli.place import from_here
from gitml.errors import ExitCode
from gitml.git.repository import Repository
from gitml.meter import Meter

_SHOWN = 5
_ROUNDS = 4


def fsck(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REV]... [-- PATH...]", help="Only these commits or ranges; only these files."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read all content and compare its sha256.")] = False,
    fix: Annotated[bool, typer.Option("--repair", help="Put right what can be put right.")] = False,
    json: Json = False,
) -> int:
    """Check that everything a pointer refers to is here, whole, and kept.

    Looks at all that branches, tags, indexes, stashes, reflogs and the run cache lead to. Exit code 5 if content is
    missing, 6 if something is damaged, 1 if something is only not kept, or left by a killed process.
    """
    repo = Repository.discover()
    revisions, paths = _split(repo, names or [])

    def look(label: str) -> Verified:
        with Meter(label) as meter:
            return examine(repo, lambda repo: _needs(repo, revisions, paths), deep=deep, progress=meter)

    report = look("checking")
    rounds: list[Repaired] = []
    before: Verified | None = None
    while fix and (report.faults or report.packs) and report != before and len(rounds) < _ROUNDS:
        # what comes back may name more: a pack has the pointers, a manifest the chunks
        rounds.append(repair(repo, report))
        before, report = report, look("checking again")
    repaired = join(rounds) if fix else None
    if json:
        show_json(_as_json(report, repaired))
    else:
        _show(report, repaired, deep=deep)
    return _exit_code(report)


def _split(repo: Repository, names: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """Revisions and paths of `[REV...] [-- PATH...]`; without `--` a name that git knows as a commit is one."""
    if "--" in sys.argv:
        at = len(names) - (len(sys.argv) - sys.argv.index("--") - 1)
    else:
        known = (".." in n or n.startswith("^") or repo.try_resolve(f"{n}^{{commit}}") is not None for n in names)
        at = next((number for number, is_revision in enumerate(known) if not is_revision), len(names))
    return list(names[:at]), [from_here(repo, name) for name in names[at:]]


def _needs(repo: Repository, revisions: list[str], paths: list[bytes]) -> Needs:
    needs = read_needs_of(repo, revisions) if revisions else read_needs(repo)
    return only_below(needs, paths) if paths else needs


def _exit_code(report: Verified) -> int:
    if report.of("corrupt", "malformed") or not all(fault.incomplete for fault in report.packs):
        return ExitCode.VERIFICATION_FAILED
    if report.of("missing"):
        return ExitCode.MISSING_DATA
    return ExitCode.DIFFERENT if report.faults or report.packs else ExitCode.OK


def _show(report: Verified, repaired: Repaired | None, *, deep: bool) -> None:
    if repaired is not None:
        for where, number in repaired.objects.items():
            if number:
                talk(f"{count(number, 'object')} put back from {safe(where)}")
        for path in repaired.reindexed:
            talk(f"new index for '{safe(path.name)}'")
        for path in repaired.moved:
            if path.suffix not in (".idx", ".rev"):
                talk(f"'{safe(path.name)}' was damaged; it is kept in .git/ml/damaged")
        if repaired.covered:
            talk(f"{count(repaired.covered, 'content')} covered")
        for note in repaired.notes:
            talk(safe(note))
    for pack in report.packs:
        show(f"{'incomplete' if pack.incomplete else 'damaged   '} '{safe(pack.path.name)}': {pack.what}")
    for fault in report.faults:
        name = safe(os.fsdecode(fault.uses[0].path)) if fault.uses else "?"
        show(f"{fault.kind.ljust(9)}  '{name}': {safe(fault.what)}")
        for use in fault.uses[:_SHOWN]:
            commit = use.where[:12] if len(use.where) in (40, 64) else use.where
            show(f"           {safe(os.fsdecode(use.path))} in {safe(commit)}")
        if len(fault.uses) > _SHOWN:
            show("           and more")
    read = "read and compared" if deep else "looked up"
    talk(f"{count(report.contents, 'content')}, {count(report.chunks, 'chunk')}, {size(report.bytes)} {read}")
    if report.elsewhere:
        talk(f"note: {count(report.elsewhere, 'content')} not kept here; remotes whose branches have them should")
    if report.unknown:
        talk(f"note: {count(report.unknown, 'file')} of the history not here, so nobody knows what they need")
    if (report.faults or report.packs) and repaired is None:
        talk(f"hint: git ml fsck {'--deep ' if deep else ''}--repair")


def _as_json(report: Verified, repaired: Repaired | None) -> dict[str, object]:
    return {
        "schema": "gitml/fsck/1",
        "contents": report.contents,
        "chunks": report.chunks,
        "bytes": report.bytes,
        "elsewhere": report.elsewhere,
        "unknown": report.unknown,
        "faults": [_fault_as_json(fault) for fault in report.faults],
        "packs": [{"path": str(fault.path), "what": fault.what} for fault in report.packs],
        "repaired": None
        if repaired is None
        else {
            "objects": repaired.objects,
            "covered": repaired.covered,
            "moved": [str(path) for path in repaired.moved],
            "reindexed": [str(path) for path in repaired.reindexed],
        },
    }


def _fault_as_json(fault: Fault) -> dict[str, object]:
    return {
        "kind": fault.kind,
        "what": fault.what,
        "sha256": fault.pointer.sha256.hex() if fault.pointer else None,
        "size": fault.pointer.size if fault.pointer else None,
        "objects": [oid.hex() for oid in fault.oids],
        "uses": [{"path": os.fsdecode(use.path), "where": use.where} for use in fault.uses],
    }
