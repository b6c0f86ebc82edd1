"""`git ml remote`: info, fsck, gc of a store of `git-remote-ml`."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gitml.cli.options import DryRun, Json
from gitml.cli.output import count, day, safe, show, show_json, size, table, talk
from gitml.errors import ExitCode, UserError
from gitml.git.remotes import fetching_remotes
from gitml.git.repository import Repository
from gitml.provenance.codec import text_of
from gitml.remote.address import parse_address
from gitml.remote.helper import settings_of
from gitml.remote.interrupt import end_when_interrupted
from gitml.remote.state import Kind
from gitml.remote.store import Store, require_state
from gitml.remote.sweep import sweep
from gitml.remote.verify import verify

remote = typer.Typer(help="Look after repositories in object storage (ml:: addresses).", no_args_is_help=True)

Where = Annotated[
    str | None, typer.Argument(metavar="[REMOTE|URL]", help="A remote or an address; else the branch's remote.")
]

_DAY = 24 * 3600
_SHOWN = 20


@remote.command()
def info(where: Where = None, json: Json = False) -> int:
    """Show what a store holds: refs, packs, what waits to be deleted."""
    with _open(where) as store:
        state = require_state(store.read(), store.address)
        requests = store.bucket.requests
    packs = {
        kind: [pack for pack in state.packs if pack.kind is kind] for kind in Kind
    }  # in the order in which they are declared
    if json:
        show_json(
            {
                "schema": "gitml/remote-info/1",
                "url": store.address.url,
                "object_format": state.format.value,
                "head": None if state.head is None else text_of(state.head),
                "refs": {text_of(name): ref.oid.hex() for name, ref in sorted(state.refs.items())},
                "packs": [
                    {"id": pack.id, "size": pack.size, "objects": pack.objects, "kind": pack.kind.value}
                    for pack in state.packs
                ],
                "dropped": [{"id": each.id, "size": each.size, "since": each.since} for each in state.dropped],
                "requests": requests,
            }
        )
        return ExitCode.OK
    show(f"{safe(store.address.url)}: {count(len(state.refs), 'ref')}, {state.format.value}")
    if state.head is not None:
        show(f"HEAD is {safe(text_of(state.head))}")
    rows = [
        (kind.value, count(len(found), "pack"), size(sum(pack.size for pack in found)),
         count(sum(pack.objects for pack in found), "object"))
        for kind, found in packs.items() if found
    ]  # fmt: skip
    for line in table(rows, indent=""):
        show(line)
    if state.dropped:
        oldest = min((each.since for each in state.dropped if each.since), default=0)
        waiting = size(sum(each.size for each in state.dropped))
        since = f", since {day(oldest)}" if oldest else ""
        show(f"no longer in use: {count(len(state.dropped), 'pack')}, {waiting}{since}; git ml remote gc")
    return ExitCode.OK


@remote.command()
def fsck(
    where: Where = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every pack and hash every object.")] = False,
    json: Json = False,
) -> int:
    """Check that a store holds all that its refs reach.

    Exit code 5 if something is missing, 6 if something is damaged.
    """
    with _open(where) as store:
        report = verify(store, deep=deep, shown=sys.stderr.isatty())
    if json:
        show_json(
            {
                "schema": "gitml/remote-fsck/1",
                "url": store.address.url,
                "deep": deep,
                "refs": report.refs,
                "packs": report.packs,
                "objects": report.objects,
                "faults": [
                    {"subject": each.subject, "reason": each.reason, "missing": each.missing} for each in report.faults
                ],
                "unreadable": {text_of(name): reason for name, reason in report.unreadable.items()},
            }
        )
    else:
        for fault in report.faults[:_SHOWN]:
            show(f"{safe(fault.subject)}: {safe(fault.reason)}")
        if len(report.faults) > _SHOWN:
            show(f"and {count(len(report.faults) - _SHOWN, 'more fault')}")
        for name, reason in list(report.unreadable.items())[:_SHOWN]:
            show(f"{safe(text_of(name))} cannot be read whole: {safe(reason)}")
        if report.unreadable:
            others = report.refs - len(report.unreadable)
            show(f"{count(others, 'other ref')} can" if others else "no ref can")
        talk(
            f"{count(report.refs, 'ref')}, {count(report.packs, 'pack')}, {count(report.objects, 'object')}: "
            + ("all good" if not report.faults else count(len(report.faults), "fault"))
        )
        if report.faults:
            talk("what a clone still has can be pushed to a new address: git push --mirror ml::…")
        elif not deep:
            talk("file contents were not read; --deep does")
    if any(not fault.missing for fault in report.faults):
        return ExitCode.VERIFICATION_FAILED
    return ExitCode.MISSING_DATA if report.faults else ExitCode.OK


@remote.command()
def gc(
    where: Where = None,
    grace: Annotated[
        float, typer.Option("--grace", metavar="DAYS", min=0, help="Keep what is no longer in use for so long.")
    ] = 14,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Free the space of what a store no longer needs: folded packs, killed pushes, deleted branches.

    Safe beside pushes and fetches. Readers that began before keep what they read for the grace period.
    """
    with _open(where) as store:
        done = sweep(store, grace=grace * _DAY, dry_run=dry_run, shown=sys.stderr.isatty())
    if json:
        show_json(
            {
                "schema": "gitml/remote-gc/1",
                "url": store.address.url,
                "dry_run": dry_run,
                "deleted": [{"id": each.id, "size": each.size} for each in done.deleted],
                "rewritten": [{"id": pack.id, "size": pack.size} for pack in done.rewritten],
                "waiting": [{"id": each.id, "size": each.size, "since": each.since} for each in done.waiting],
                "unreached": done.unreached,
            }
        )
        return ExitCode.OK
    would = "would be " if dry_run else ""
    if done.rewritten:
        show(f"{count(len(done.rewritten), 'pack')} {would}written anew without what no ref reaches")
    if done.deleted:
        show(f"{count(len(done.deleted), 'pack')}, {size(sum(each.size for each in done.deleted))}, {would}deleted")
    if done.waiting:
        last = day(max(max(each.since for each in done.waiting) + grace * _DAY, time.time()))
        waiting = size(sum(each.size for each in done.waiting))
        show(f"{count(len(done.waiting), 'pack')}, {waiting}, will go with a gc after {last}")
    if not (done.rewritten or done.deleted or done.waiting):
        talk("nothing to free")
    elif done.waiting and not dry_run:
        talk("--grace=0 deletes them now; a fetch that is under way may fail then and has to be repeated")
    return ExitCode.OK


@contextmanager
def _open(where: str | None) -> Iterator[Store]:
    """The store of a remote of this repository, or at an address; outside a repository nothing is kept."""
    end_when_interrupted()
    try:
        repo: Repository | None = Repository.discover()
    except UserError:
        repo = None
    name, url = where or "", where or ""
    if repo is not None and "::" not in url and "://" not in url:
        name, url = _address_of(repo, where)
    elif repo is None and where is None:
        raise UserError("this is no repository, so an address is needed", hint="git ml remote info ml::s3://…")
    address = parse_address(url, settings_of(repo, name))
    if repo is not None:
        yield Store(address, repo.state_dir / "stores")
        return
    with tempfile.TemporaryDirectory(prefix="git-ml-remote-") as place:
        yield Store(address, Path(place))


def _address_of(repo: Repository, where: str | None) -> tuple[str, str]:
    """Name and address of a remote; by default the first that is in object storage."""
    names = fetching_remotes(repo)
    if where is not None and where not in names:
        raise UserError(f"there is no remote '{where}'", hint="git remote -v lists them; or give an ml:: address")
    urls = {name: repo.git.line("remote", "get-url", name) for name in ([where] if where is not None else names)}
    for name, url in urls.items():
        if url.startswith("ml::"):
            return name, url
    if where is not None:
        raise UserError(f"'{where}' is no repository in object storage, but {urls[where]}")
    raise UserError("no remote is a repository in object storage", hint="git remote add storage ml::s3://BUCKET/PATH")
