"""Content of old versions that only remotes keep: from then on it is promised, as in git's partial clone.

A pack of its own, marked `.promisor`, takes the data commits, their trees, and the chunks that stay. Git does not look
behind trees of such a pack, so other chunks are unreachable for `git gc --prune`, and a read fetches them. See
docs/design/0007.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gitml.care.local import LocalReader
from gitml.care.prune import Version, check_allowed
from gitml.care.roots import read_tip_needs
from gitml.errors import CorruptError, GitmlError, UserError
from gitml.git.data import HEADS, REMOTES, DataLog
from gitml.git.odb import GitOdb
from gitml.git.pack import ObjectIndex, PackIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.manifest import read_manifest
from gitml.store.odb import MissingObjectError


@dataclass(slots=True)
class Promised:
    """What is left to the remote: versions, and the chunks that only they need, with their bytes."""

    remote: str
    versions: list[Version] = field(default_factory=list)
    chunks: int = 0
    bytes: int = 0


def leave_to_remote(repo: Repository, remote: str, *, since: int, dry_run: bool = False) -> Promised:
    """Keep here what tips, indexes, the stash, the run cache and commits since `since` need; the rest only at `remote`.

    Only what the remote has when it is asked now, and every other remote that data went to had when last seen, is
    left to it. `since` in seconds since 1970.
    """
    check_allowed(repo)
    done = Promised(remote)
    with GitOdb(repo.git, repo.format) as odb:
        log = DataLog(repo, odb)
        asked = _ask(repo, remote)
        there = set(log.additions(asked))
        for others in _heads_of_others(repo, log, remote):
            there &= set(log.additions(others))
        keep = read_tip_needs(repo, since=since).manifests()
        keep |= {item.manifest for tip in log.refs().staged.values() for item in log.staged(tip)}
        keep |= {manifest for _, manifest in log.additions(log.heads())} - {manifest for _, manifest in there}
    versions = [Version(path, manifest) for path, manifest in sorted(there) if manifest not in keep]
    index = ObjectIndex(repo.objects_dir, repo.format)
    kept = _chunks(repo, index, keep)
    leaving = {
        oid: size
        for oid, size in _chunks(repo, index, {each.manifest for each in versions}).items()
        if oid not in kept and index.has(oid)
    }
    done.versions, done.chunks, done.bytes = versions, len(leaving), sum(leaving.values())
    if leaving and not dry_run:
        _promise(repo, remote)
        _write_pack(repo, asked, set(leaving))
    return done


def promisor_name(remote: str) -> str:
    """The remote entry that stands for what `remote` promised."""
    return f"{remote}.ml"


def _ask(repo: Repository, remote: str) -> list[Oid]:
    """The data heads that the remote has now and that are here, too."""
    done = repo.git.run("ls-remote", "--refs", "--", remote, f"{HEADS}*", check=False)
    if done.returncode:
        detail = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git ls-remote failed"]
        raise UserError(f"cannot reach '{remote}': {detail[0].removeprefix('fatal: ')}")
    oids = [line.split(b"\t")[0] for line in done.stdout.splitlines()]
    if not oids:
        return []
    answer = repo.git.output("cat-file", "--batch-check", input=b"\n".join(oids) + b"\n").splitlines()
    return [Oid.parse(line.split()[0]) for line in answer if line.split()[1:2] == [b"commit"]]


def _heads_of_others(repo: Repository, log: DataLog, remote: str) -> Iterable[list[Oid]]:
    found: dict[str, list[Oid]] = {}
    for name, oid in log.refs().remote.items():
        other = name.removeprefix(REMOTES).rpartition("/data/")[0]
        if other != remote and not repo.config_bool(f"remote.{other}.promisor", False):
            found.setdefault(other, []).append(oid)
    return found.values()


def _chunks(repo: Repository, index: ObjectIndex, manifests: Iterable[Oid]) -> dict[Oid, int]:
    """Every chunk of the manifests that are here, with its size."""
    found: dict[Oid, int] = {}
    reader = LocalReader(repo, index)
    try:
        for oid in manifests:
            try:
                found.update((chunk.oid, chunk.size) for chunk in read_manifest(oid, reader).chunks)
            except (MissingObjectError, CorruptError):
                continue
    finally:
        reader.close()
    return found


def _promise(repo: Repository, remote: str) -> None:
    name = promisor_name(remote)
    address = repo.config(f"remote.{remote}.url")
    if address is None:
        raise UserError(f"'{remote}' is no remote of this repository", hint="git remote -v")
    for key, value in {
        "url": address,
        "promisor": "true",
        "partialclonefilter": "blob:none",
        "skipFetchAll": "true",
        "skipDefaultUpdate": "true",
    }.items():
        repo.git.run("config", "--local", f"remote.{name}.{key}", value)


def _write_pack(repo: Repository, heads: list[Oid], leaving: set[Oid]) -> None:
    """Write the promisor pack, durably, then remove promisor packs of which it has everything that stays."""
    listed = repo.git.output("rev-list", "--objects", "--missing=allow-any", *(oid.hex() for oid in heads), "--")
    index = ObjectIndex(repo.objects_dir, repo.format)
    lines = []
    for line in listed.splitlines():
        oid = Oid.parse(line.split(b" ", 1)[0])
        if oid not in leaving and index.has(oid):
            lines.append(line)
    directory = repo.state_dir / f"promised-{os.getpid()}-{os.urandom(4).hex()}"
    directory.mkdir(parents=True)
    try:
        made = repo.git.run(
            "-c", "core.fsync=pack,pack-metadata", "-c", "core.fsyncObjectFiles=true", "pack-objects", "--quiet",
            "--delta-base-offset", str(directory / "pack"), input=b"\n".join(lines) + b"\n", check=False,
        )  # fmt: skip
        if made.returncode:
            raise GitmlError(f"git pack-objects failed: {made.stderr.decode('utf-8', 'replace').strip()}")
        pack = _install(repo, directory / f"pack-{made.stdout.decode().strip()}.pack")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    present = {oid for oid, _, _ in PackIndex(pack.with_suffix(".idx"), repo.format).entries()} | leaving
    for mark in (repo.objects_dir / "pack").glob("*.promisor"):
        old = mark.with_suffix(".idx")
        if mark.stem != pack.stem and old.exists():
            inside = {oid for oid, _, _ in PackIndex(old, repo.format).entries()}
            if inside <= present:
                for part in (".idx", ".rev", ".bitmap", ".pack", ".promisor"):
                    mark.with_suffix(part).unlink(missing_ok=True)


def _install(repo: Repository, pack: Path) -> Path:
    """Move a pack into place: its mark first, its index last."""
    target = repo.objects_dir / "pack" / pack.name
    target.with_suffix(".promisor").touch()
    for part in (".pack", ".rev", ".idx"):
        if pack.with_suffix(part).exists():
            pack.with_suffix(part).replace(target.with_suffix(part))
    return target
