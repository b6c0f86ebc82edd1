"""A migration from start to end: choose commits, build trees and commits in the scratch, make them real."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gitml.errors import CorruptError, GitmlError, MissingDataError, UserError
from gitml.git.commits import Commit, Signature, format_commit, parse_commit
from gitml.git.data import HEADS, REMOTES, DataLog, UncoveredError
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.refs import RefUpdate, list_refs
from gitml.git.repository import Repository
from gitml.migrate import journal
from gitml.migrate.attributes import (
    LFS,
    ML,
    AttributeChange,
    exact_pattern,
    gitml_to_lfs,
    lfs_to_gitml,
    line,
    unchanged,
    without_gitml,
)
from gitml.migrate.convert import ConversionError, Converted, Converter, Form, Report
from gitml.migrate.dvc import DvcCache, DvcRecipe, cache_places, fetch_with_dvc
from gitml.migrate.dvcexport import DvcExport
from gitml.migrate.dvcstore import DvcStore, cache_of
from gitml.migrate.engine import check_engine, rewrite_commits
from gitml.migrate.follow import check_worktrees
from gitml.migrate.lfs import LfsStore, is_lfs_installed
from gitml.migrate.recipe import FilterRecipe, Recipe, sizes_of
from gitml.migrate.scratch import adopt_objects, locked, scratch_repository
from gitml.migrate.selection import Choice, Selection, current_branch, distinct_files, fetch_remotes, select
from gitml.oid import Oid
from gitml.provenance.record import RECORDS, parse_record
from gitml.record import field, record
from gitml.store.content import SMALL
from gitml.store.tree import Snapshot

IMPORTS = ("git", "lfs", "dvc")
EXPORTS = ("git", "lfs", "dvc")


@record(kw_only=True)
class Request:
    """What is to be migrated. `above` in bytes; `kind` is where from (import) or where to (export)."""

    imports: bool
    kind: str
    choice: Choice
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    above: int | None = None
    message: str = ""
    skip_fetch: bool = False
    skip_missing: bool = False
    dirty_is_fine: bool = False
    dry_run: bool = False
    """Find out what would be done, without reading contents; nothing is kept of it."""


@record(frozen=False)
class Outcome:
    """What a migration did. `stamp` undoes it; without one nothing was to be done."""

    stamp: str | None = None
    commits: int = 0
    refs: list[str] = field(default_factory=list)
    contents: int = 0
    size: int = 0
    """Bytes of the converted contents."""
    signatures: int = 0
    """Signed commits and tags that are no longer."""
    missing: list[bytes] = field(default_factory=list)
    """Paths of contents that were not here and stay in their old form."""
    records: dict[str, int] = field(default_factory=dict)
    """Stages whose records name files by their old form, with the number of commits."""
    object_map: dict[Oid, Oid] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def migrate(repo: Repository, request: Request, report: Report) -> Outcome:
    """Do what is asked, or nothing: raise `GitmlError` of many kinds with refs, index and worktrees untouched."""
    history = request.choice.is_history
    if history:
        check_engine(repo.format)
        if repo.git.line("rev-parse", "--is-shallow-repository") == "true":
            raise UserError("the history of a shallow clone ends early", hint="get the rest: git fetch --unshallow")
        limited = request.choice.everything or request.choice.include or request.choice.exclude
        if not limited and not request.skip_fetch:
            fetch_remotes(repo, repo.git.lines("remote"))
    with locked(repo), GitOdb(repo.git, repo.format) as odb:
        journal.finish_interrupted(repo, odb)
        selection = select(repo, odb, request.choice) if history else _newest(repo, odb)
        check_worktrees(repo, selection.refs, dirty_is_fine=request.dirty_is_fine)
        refs = {name: oid for name, oid in selection.refs.items() if name != "HEAD"}
        with scratch_repository(repo, {**refs, **_data_refs(repo), **list_refs(repo.git, "refs/notes")}) as scratch:
            return _Migration(repo, scratch, selection, request, report).run()


def _newest(repo: Repository, odb: GitOdb) -> Selection:
    branch = current_branch(repo)
    head = repo.resolve("HEAD")
    return Selection({head: parse_commit(odb.read(head)[1])}, {branch: head})


def _data_refs(repo: Repository) -> dict[str, Oid]:
    found = list_refs(repo.git, HEADS.rstrip("/"), REMOTES.rstrip("/"))
    return {name: oid for name, oid in found.items() if name.startswith(HEADS) or "/data/" in name}


class _Migration:
    """One migration under way, in its scratch."""

    def __init__(
        self, repo: Repository, scratch: Repository, selection: Selection, request: Request, report: Report
    ) -> None:
        self._repo = repo
        self._scratch = scratch
        self._selection = selection
        self._request = request
        self._report = report
        self._outcome = Outcome()
        self._new_commits: list[Oid] = []
        self._dvc_stores: dict[bytes, DvcStore] = {}

    def run(self) -> Outcome:
        """Build everything, then make it real."""
        with GitOdb(self._scratch.git, self._scratch.format) as odb:
            trees = self._trees(odb)
        commits = self._selection.commits
        changing = _changing(commits, trees)
        if not changing:
            return self._outcome
        with GitOdb(self._scratch.git, self._scratch.format) as odb:  # sees what was written
            self._look_at_records(odb, changing, trees)
            if self._request.dry_run:
                return self._planned(changing)
            history = self._request.choice.is_history
            moves = self._rewrite(odb, changing, trees) if history else self._commit(odb, trees)
            if not moves:
                return self._outcome
            self._cover(odb)
        more = self._data_updates() + (self._note_updates() if history else [])
        for dvc_store in self._dvc_stores.values():
            dvc_store.adopt()
        adopt_objects(self._repo, self._scratch)
        with GitOdb(self._repo.git, self._repo.format) as odb:
            self._outcome.stamp = journal.apply(self._repo, odb, moves, more)
        self._outcome.commits = len(self._outcome.object_map)
        self._outcome.refs = [move.name for move in moves]
        return self._outcome

    def _planned(self, changing: list[Oid]) -> Outcome:
        """What would be done, as far as it is known before contents are read."""
        inside = set(changing)
        refs = self._selection.refs
        self._outcome.refs = [name for name in refs if self._repo.resolve(f"{name}^{{commit}}") in inside]
        self._outcome.commits = len(changing) if self._request.choice.is_history else 0
        return self._outcome

    def _trees(self, odb: GitOdb) -> dict[Oid, Oid]:
        """The new tree of every commit; equal to the old one where nothing is to be done."""
        commits = self._selection.commits
        roots = [commit.tree for commit in commits.values()]
        store = LfsStore(self._repo)
        recipe = self._recipe(odb, store, roots)
        jobs = recipe.collect(roots, self._report)
        if self._request.dry_run:
            # one that is none of theirs stands for each: which commits change does not depend on what is in it
            converted = Converted(
                dict.fromkeys((job.key for job in jobs), self._scratch.format.oid_of("blob", b"")), {}
            )
        else:
            keep = recipe.keep if isinstance(recipe, DvcExport) else lambda _, pieces: store.write(pieces)
            with Converter(self._scratch, _target(self._request), keep) as converter:
                converted = converter.convert(jobs, self._report)
        self._take_failures(converted.failed)
        self._outcome.contents = len(converted.blobs)
        self._outcome.size = sum(job.size for job in jobs if job.key in converted.blobs)
        known = ObjectIndex(self._scratch.objects_dir, self._scratch.format)
        with PackWriter(self._scratch.objects_dir, self._scratch.format, known=known, reader=odb) as pack:
            rewritten = {root: recipe.rewrite(root, converted.blobs, pack) for root in dict.fromkeys(roots)}
            pack.finish()
        self._outcome.notes += recipe.notes()
        trees: dict[Oid, Oid] = {}
        begun: set[Oid] = set()
        for oid, commit in commits.items():  # parents come first
            new = rewritten[commit.tree]
            if new.changed or any(parent in begun for parent in commit.parents):
                begun.add(oid)
            trees[oid] = new.tree if oid in begun else commit.tree
        return trees

    def _take_failures(self, failed: Mapping[bytes, GitmlError]) -> None:
        fatal = {
            path: error
            for path, error in failed.items()
            if not (self._request.skip_missing and isinstance(error, MissingDataError))
        }
        if fatal:
            raise ConversionError(fatal)
        self._outcome.missing = sorted(failed)

    def _recipe(self, odb: GitOdb, store: LfsStore, roots: list[Oid]) -> Recipe:
        request = self._request
        if request.imports and request.kind == "dvc":
            if request.above is not None:
                raise UserError("--above chooses files of plain git", hint="choose outputs by --include and --exclude")
            return DvcRecipe(self._scratch, odb, self._dvc_cache(odb, roots), request.include, request.exclude)
        if request.kind == "dvc":
            if self._repo.worktree is None:
                raise UserError("a bare repository has no place for the cache of DVC", hint="export in a clone of it")
            return DvcExport(self._scratch, odb, self._change(odb, roots), self._dvc_store)
        return FilterRecipe(
            self._scratch,
            odb,
            store,
            self._change(odb, roots),
            _sources(request),
            _target(request),
            drop_lfs_config=request.imports and request.kind == "lfs" and not request.include and not request.exclude,
            fetch=self._lfs_fetch(),
        )

    def _change(self, odb: GitOdb, roots: list[Oid]) -> AttributeChange:
        request = self._request
        include = list(request.include)
        if request.above is not None:
            include += [exact_pattern(path) for path in _large_paths(self._scratch, odb, roots, request.above)]
        if request.imports and request.kind == "git":
            lines = [line(pattern, ML) for pattern in include]
            lines += [line(pattern, b"!filter !text") for pattern in request.exclude]
            return AttributeChange(unchanged, tuple(lines))
        if request.imports:
            rule, to, back = lfs_to_gitml, ML + b" !diff !merge", LFS
        elif request.kind != "lfs":
            rule, to, back = without_gitml, b"!filter !text !diff !merge", ML
        else:
            rule, to, back = gitml_to_lfs, LFS, ML + b" !diff !merge"
        lines = [line(pattern, to) for pattern in include] + [line(pattern, back) for pattern in request.exclude]
        return AttributeChange(unchanged if include else rule, tuple(lines))

    def _lfs_fetch(self) -> "_LfsFetch | None":
        if (
            self._request.dry_run
            or self._request.skip_fetch
            or not is_lfs_installed()
            or not self._repo.git.lines("remote")
        ):
            return None
        return _LfsFetch(self._repo, everything=self._request.choice.is_history)

    def _dvc_cache(self, odb: GitOdb, roots: list[Oid]) -> DvcCache:
        top = self._repo.worktree or self._repo.git_dir
        names = {b""}
        for path, entry in Snapshot(odb, roots[-1]).walk():
            if entry.is_file and path.endswith(b"/.dvc/config"):
                names.add(path.removesuffix(b"/.dvc/config"))
        fetch = None
        if not self._request.skip_fetch and not self._request.dry_run:
            fetch = fetch_with_dvc(top, all_commits=self._request.choice.is_history)
        return DvcCache(cache_places(top / os.fsdecode(name) for name in sorted(names)), fetch)

    def _dvc_store(self, project: bytes) -> DvcStore:
        """The cache of the project in this directory; what goes there waits in the scratch."""
        known = self._dvc_stores.get(project)
        if known is not None:
            return known
        assert self._repo.worktree is not None
        waiting = self._scratch.git_dir / "dvc" / hashlib.sha256(project).hexdigest()
        store = DvcStore(cache_of(self._repo.worktree / os.fsdecode(project)), waiting)
        return self._dvc_stores.setdefault(project, store)  # two threads ask

    def _commit(self, odb: GitOdb, trees: Mapping[Oid, Oid]) -> list[journal.Move]:
        """One new commit on top of the newest."""
        ((branch, head),) = self._selection.refs.items()
        author, committer = (self._identity(f"GIT_{who}_IDENT") for who in ("AUTHOR", "COMMITTER"))
        message = self._request.message.encode("utf-8", "surrogateescape").rstrip(b"\n") + b"\n"
        with PackWriter(self._scratch.objects_dir, odb.format, reader=odb) as pack:
            commit = pack.write("commit", format_commit(Commit(trees[head], (head,), author, committer, message)))
            pack.finish()
        self._new_commits = [commit]
        return [journal.Move(branch, head, commit)]

    def _identity(self, name: str) -> Signature:
        text = self._repo.git.output("var", name).rstrip(b"\n")
        who, _, when = text.rpartition(b"> ")
        person, _, email = who.partition(b" <")
        seconds, _, offset = when.partition(b" ")
        return Signature(person, email, int(seconds), offset.decode())

    def _rewrite(self, odb: GitOdb, changing: list[Oid], trees: Mapping[Oid, Oid]) -> list[journal.Move]:
        """The history from the first commit that changes."""
        commits = self._selection.commits
        inside = set(changing)
        limits = {parent for oid in changing for parent in commits[oid].parents if parent not in inside}
        walked = [name for name in self._selection.refs if self._scratch.resolve(f"{name}^{{commit}}") in inside]
        detached = self._detached()
        if detached in inside:
            assert detached is not None
            walked.append("refs/ml/migrate-head")
            self._scratch.git.run("update-ref", walked[-1], detached.hex())
        if not walked:
            return []
        total = len(changing)
        mapped = rewrite_commits(
            self._scratch,
            {oid: trees[oid] for oid in changing},
            [*walked, *(f"^{oid}" for oid in limits)],
            lambda done: self._report("commits", done, total, 0),
        )
        self._outcome.object_map = {old: new for old, new in mapped.items() if old != new}
        self._new_commits = [self._outcome.object_map[oid] for oid in changing if oid in self._outcome.object_map]
        after = list_refs(self._scratch.git, "refs")
        moves = [
            journal.Move(name, old, after[name])
            for name, old in self._selection.refs.items()
            if after.get(name, old) != old
        ]
        if detached in self._outcome.object_map:
            assert detached is not None
            moves.append(journal.Move("HEAD", detached, self._outcome.object_map[detached]))
        self._outcome.signatures = sum(
            any(key.startswith(b"gpgsig") for key, _ in commits[oid].extra) for oid in changing
        ) + sum(_is_signed_tag(odb, move.old) for move in moves)
        return moves

    def _detached(self) -> Oid | None:
        head = self._repo.try_resolve("HEAD") if self._is_detached() else None
        return head if head in self._selection.commits else None

    def _is_detached(self) -> bool:
        return not self._repo.git.succeeds("symbolic-ref", "--quiet", "HEAD")

    def _cover(self, odb: GitOdb) -> None:
        """Data commits for every pointer of the new commits."""
        try:
            DataLog(self._scratch, odb).cover_commits(self._new_commits)
        except UncoveredError as error:
            self._outcome.notes.append(error.message)

    def _data_updates(self) -> list[RefUpdate]:
        before = list_refs(self._repo.git, HEADS.rstrip("/"))
        after = list_refs(self._scratch.git, HEADS.rstrip("/"))
        updates = [RefUpdate(name, oid, None) for name, oid in after.items() if name not in before]
        return updates + [RefUpdate(name, None, oid) for name, oid in before.items() if name not in after]

    def _note_updates(self) -> list[RefUpdate]:
        """Notes of rewritten commits stand at the new ids too."""
        pairs = "".join(f"{old} {new}\n" for old, new in self._outcome.object_map.items()).encode()
        updates = []
        for name, oid in list_refs(self._scratch.git, "refs/notes").items():
            noted = {fields.split()[1] for fields in self._scratch.git.lines("notes", f"--ref={name}", "list")}
            wanted = b"".join(pair + b"\n" for pair in pairs.splitlines() if pair.split()[0].decode() in noted)
            if not wanted:
                continue
            self._scratch.git.run(
                "notes", f"--ref={name}", "copy", "--force", "--stdin", input=wanted, env=self._author()
            )
            updates.append(RefUpdate(name, self._scratch.resolve(name), oid))
        return updates

    def _author(self) -> dict[str, str]:
        who = self._identity("GIT_COMMITTER_IDENT")
        names = {"NAME": os.fsdecode(who.name), "EMAIL": os.fsdecode(who.email)}
        return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in names.items()}

    def _look_at_records(self, odb: GitOdb, changing: list[Oid], trees: Mapping[Oid, Oid]) -> None:
        """Name the stages whose records speak of files that now have another form."""
        seen: dict[tuple[Oid, Oid, Oid], set[str]] = {}
        for oid in changing:
            old_tree = self._selection.commits[oid].tree
            old, new = Snapshot(odb, old_tree), Snapshot(odb, trees[oid])
            records = old.get(RECORDS)
            if records is None:
                continue
            key = (records.oid, old_tree, trees[oid])
            if key not in seen:
                seen[key] = set(_outdated(old, new))
            for stage in seen[key]:
                self._outcome.records[stage] = self._outcome.records.get(stage, 0) + 1


class _LfsFetch:
    """Has git-lfs fetch what is missing; what it cannot fetch is found to be missing afterwards."""

    def __init__(self, repo: Repository, *, everything: bool) -> None:
        self._repo = repo
        self._everything = everything

    def __call__(self) -> None:
        for remote in self._repo.git.lines("remote"):
            self._repo.git.run("lfs", "fetch", *(["--all"] if self._everything else []), remote, check=False)


def _target(request: Request) -> Form:
    if request.imports:
        return Form.GITML
    return {"git": Form.PLAIN, "lfs": Form.LFS, "dvc": Form.DVC}[request.kind]


def _sources(request: Request) -> frozenset[Form]:
    if request.imports:
        return frozenset({Form.PLAIN, Form.LFS})
    return frozenset({Form.GITML} if request.kind == "git" else {Form.GITML, Form.PLAIN})


def _changing(commits: Mapping[Oid, Commit], trees: Mapping[Oid, Oid]) -> list[Oid]:
    """The commits that get another id, oldest first: those with another tree, and all that follow."""
    changing: dict[Oid, None] = {}
    for oid, commit in commits.items():
        if trees[oid] != commit.tree or any(parent in changing for parent in commit.parents):
            changing[oid] = None
    return list(changing)


def _large_paths(repo: Repository, odb: GitOdb, roots: Iterable[Oid], above: int) -> list[bytes]:
    """Paths at which any of the trees has a file of more bytes than `above` (or than what always stays plain)."""
    versions: dict[bytes, set[Oid]] = {}
    for path, entry in distinct_files(odb, roots):
        versions.setdefault(path, set()).add(entry)
    sizes = sizes_of(repo, (oid for oids in versions.values() for oid in oids))
    limit = max(above, SMALL - 1)
    return sorted(path for path, oids in versions.items() if any(sizes.get(oid, 0) > limit for oid in oids))


def _outdated(old: Snapshot, new: Snapshot) -> Iterator[str]:
    for path, _ in old.walk(RECORDS):
        try:
            record = parse_record(old.read(path))
        except (CorruptError, KeyError):
            continue
        paths = [part.path for part in record.inputs] + [file.source for file in record.code] + [record.output_path]
        if any(old.get(each) != new.get(each) for each in paths):
            yield record.stage


def _is_signed_tag(odb: GitOdb, oid: Oid) -> bool:
    kind, data = odb.read(oid)
    return kind == "tag" and b"-----BEGIN " in data and b" SIGNATURE-----" in data


@contextmanager
def undoing(repo: Repository) -> Iterator[GitOdb]:
    """Objects of `repo` with migrations kept away and what a killed one left done."""
    with locked(repo), GitOdb(repo.git, repo.format) as odb:
        journal.finish_interrupted(repo, odb)
        yield odb


def detect(repo: Repository) -> str:
    """What the newest commit keeps its data in: 'git', 'lfs' or 'dvc'; raise `UserError` if both of the latter."""
    names = repo.git.output("ls-tree", "-r", "-z", "--name-only", "--full-tree", "HEAD").split(b"\0")
    dvc = any(name.endswith(b".dvc") or name.rpartition(b"/")[2] == b"dvc.lock" for name in names)
    lfs = uses_lfs(repo, ["HEAD"])
    if dvc and lfs:
        raise UserError("files are kept by git-lfs and by DVC", hint="say which to take over: --from lfs or --from dvc")
    return "dvc" if dvc else "lfs" if lfs else "git"


def uses_lfs(repo: Repository, revisions: Iterable[str]) -> bool:
    """Whether attributes of any of these commits name git-lfs."""
    return any(
        repo.git.succeeds("grep", "-q", "-e", "filter=lfs", revision, "--", ":(top,glob)**/.gitattributes")
        for revision in revisions
    )


def remove_lfs_setup(repo: Repository, hooks: Path) -> list[str]:
    """Take away the hooks and the configuration that git-lfs has put into this clone; give what went."""
    gone = []
    for name in ("pre-push", "post-checkout", "post-commit", "post-merge"):
        # below pre-commit (.legacy), and below ours
        for path in (hooks / f"{name}{ending}" for ending in ("", ".gitml-orig", ".legacy", ".legacy.gitml-orig")):
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError):
                continue
            words = [row for row in text.splitlines() if row.strip() and not row.startswith("#")]
            if len(words) == 2 and "git-lfs" in words[0] and words[1] == f'git lfs {name} "$@"':
                path.unlink()
                gone.append(name)
    if repo.configure("--remove-section", "filter.lfs", check=False):
        gone.append("filter.lfs")
    return gone
