"""The recipe that gives files to DVC: in the place of each stands `<name>.dvc`, and `.gitignore` names it.

What DVC would refuse is refused before anything is written, for no commit could be used: a `.dvc` file that git
ignores, or that is there already. What DVC cannot have stays under gitml and is named.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from gitml.errors import UserError
from gitml.git.attributes import filters_by_files
from gitml.git.ignores import ignored_by_files
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.migrate.attributes import ML, AttributeChange, exact_pattern, line, with_lines
from gitml.migrate.convert import Job, Report, lanes, read_plain
from gitml.migrate.dvc import is_dvc_file
from gitml.migrate.dvcstore import CONFIG, PROJECT, DvcStore, Kept, format_dvc_file, ignore_line, with_ignored
from gitml.migrate.recipe import ATTRIBUTES, CONTROL, OURS, Rewritten, classify, sizes_of, trees_below
from gitml.oid import Oid
from gitml.provenance.codec import printable, text_of
from gitml.store.content import read_content
from gitml.store.odb import ObjectWriter
from gitml.store.pointer import Pointer
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, Entry, Snapshot, empty_tree, format_tree

_GITIGNORE = b".gitignore"
_DVCIGNORE = b".dvcignore"
_DVC = b".dvc"
_OF_DVC = frozenset({_DVCIGNORE, b"dvc.yaml", b"dvc.lock"})

_UNREAD = Kept("0" * 32, 0)
"""In place of what is known of a content only once it is read, for a dry run."""

_Texts = tuple[tuple[bytes, bytes], ...]
"""Paths, or directories with their slash, and contents of files that hold for a directory, from the top."""


class _Place(NamedTuple):
    """What holds for the files of a directory: attribute files before and after, both lists of what is ignored."""

    before: _Texts
    after: _Texts
    ignored_by_git: _Texts
    ignored_by_dvc: _Texts
    project: bytes
    """The directory of the DVC project, with its slash; empty at the top."""


class _Part(NamedTuple):
    """A directory rewritten. `left` are the files of it that stay under gitml."""

    tree: Oid
    changed: bool
    left: tuple[bytes, ...]


class DvcExport:
    """Has DVC keep what `.gitattributes` puts under gitml, as far as `change` takes it away.

    `stores` gives the cache of a project by its directory.
    """

    def __init__(
        self, repo: Repository, odb: GitOdb, change: AttributeChange, stores: Callable[[bytes], DvcStore]
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._change = change
        self._stores = stores
        self._empty = empty_tree(repo.format)
        self._trees = Snapshot(odb, self._empty)
        self._places: dict[_Place, int] = {}
        self._known: list[_Place] = []
        self._directories: dict[tuple[Oid, bytes, int | None], int] = {}
        self._files: dict[int, dict[bytes, dict[Oid, None]]] = {}
        self._links: dict[int, set[bytes]] = {}
        self._given: dict[int, set[bytes]] = {}
        self._left: dict[int, set[bytes]] = {}
        self._ignored: set[tuple[int, bytes]] = set()
        self._kept: dict[bytes, Kept] = {}
        self._config = PROJECT[CONFIG]
        self._rewritten: dict[tuple[Oid, bytes, int | None], _Part] = {}
        self._notes: dict[str, None] = {}

    def collect(self, trees: Iterable[Oid], report: Report) -> list[Job]:
        """What DVC is to keep of these trees, given oldest first; raise `UserError` if it cannot have it."""
        listed = list(dict.fromkeys(trees))
        self._trees = trees_below(self._repo, self._odb, listed)
        start = _Place((), (), (), (), b"")
        for number, tree in enumerate(listed, 1):
            self._walk(tree, b"", start, None)
            report("trees", number, len(listed), 0)
        self._config = self._newest_config(listed)
        self._choose()
        self._check_ignored()
        self._check_directories()
        sizes = sizes_of(self._repo, (oid for _, _, oid in self._versions()))
        first: dict[bytes, tuple[bytes, Oid]] = {}
        versions = []
        for number, path, oid in self._versions():
            key = self._key(number, oid)
            first.setdefault(key, (path, oid))
            versions.append((path, key))
        lane = lanes(versions)
        return [self._job(key, path, oid, sizes.get(oid, 0), lane[key]) for key, (path, oid) in first.items()]

    def keep(self, job: Job, pieces: Iterator[bytes]) -> bytes:
        """Put a content into the cache of its project; give the file that speaks of it."""
        project = job.key[: len(job.key) - self._repo.format.size]
        kept = self._kept[job.key] = self._stores(project).write(pieces)
        return format_dvc_file(kept, text_of(posixpath.basename(job.path)), executable=False)

    def rewrite(self, tree: Oid, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Rewritten:
        """The tree with files of DVC in place of the contents that were converted."""
        part = self._rewrite(tree, b"", None, blobs, writer)
        return Rewritten(part.tree, part.changed)

    def notes(self) -> list[str]:
        """What stays under gitml because DVC cannot have it."""
        return list(self._notes)

    def _walk(self, tree: Oid, directory: bytes, above: _Place, outer: int | None) -> None:
        """Note the files below a directory; `outer` is the number of the place `above` it."""
        entries = self._trees.entries(tree)
        place = self._place(entries, directory, above)
        number = self._places.setdefault(place, len(self._places))
        if number == len(self._known):
            self._known.append(place)
        self._directories[tree, directory, outer] = number
        files = self._files.setdefault(number, {})
        for name, entry in entries.items():
            path = directory + name
            if entry.is_tree:
                if name != _DVC and path != OURS and (entry.oid, path + b"/", number) not in self._directories:
                    self._walk(entry.oid, path + b"/", place, number)
            elif entry.is_file and name not in CONTROL:
                files.setdefault(path, {})[entry.oid] = None
            elif not entry.is_file and entry.mode & 0o170000 == 0o120000:
                self._links.setdefault(number, set()).add(path)

    def _place(self, entries: Mapping[bytes, Entry], directory: bytes, above: _Place) -> _Place:
        before, after, by_git, by_dvc, project = above
        present = entries.get(ATTRIBUTES)
        if present is None or present.is_file:
            text = self._odb.read(present.oid)[1] if present is not None else None
            if text is not None:
                before = (*before, (directory + ATTRIBUTES, text))
            new = self._change.changed(directory, text)
            if new is not None:
                after = (*after, (directory + ATTRIBUTES, new))
        by_git += self._text(entries.get(_GITIGNORE), directory)
        by_dvc += self._text(entries.get(_DVCIGNORE), directory)
        settings = entries.get(_DVC)
        if directory and settings is not None and settings.is_tree and b"config" in self._trees.entries(settings.oid):
            project = directory
            by_dvc = self._text(entries.get(_DVCIGNORE), directory)  # DVC looks no higher than its project
        return _Place(before, after, by_git, by_dvc, project)

    def _text(self, entry: Entry | None, directory: bytes) -> _Texts:
        if entry is None or not entry.is_file:
            return ()
        return ((directory, self._odb.read(entry.oid)[1]),)

    def _newest_config(self, trees: list[Oid]) -> bytes:
        """The settings of the project for commits that had none: those of later ones, so that one cache serves all."""
        for tree in reversed(trees):
            entry = Snapshot(self._trees.odb, tree).get(CONFIG)
            if entry is not None and entry.is_file:
                return self._odb.read(entry.oid)[1]
        return PROJECT[CONFIG]

    def _choose(self) -> None:
        """Find out which files leave gitml, and which of them stay because DVC cannot have them."""
        before = self._filters(lambda place: place.before)
        after = self._filters(lambda place: place.after)
        for number, files in self._files.items():
            place = self._known[number]
            for path in self._links.get(number, ()):
                if before[place.before].get(path) == b"ml" != after[place.after].get(path):
                    self._note(path, "it is a symbolic link")
            leaving = [
                path for path in files if before[place.before].get(path) == b"ml" != after[place.after].get(path)
            ]
            ignored = ignored_by_files(self._repo, dict(place.ignored_by_dvc), _with_dvc_files(leaving))
            for path in leaving:
                if path in ignored or path + _DVC in ignored:
                    self._note(path, "'.dvcignore' has DVC ignore it")
                elif (reason := _why_not(path)) is not None:
                    self._note(path, reason)
                elif not _is_of_dvc(path):
                    self._given.setdefault(number, set()).add(path)
                    continue
                self._left.setdefault(number, set()).add(path)

    def _filters(self, of: Callable[[_Place], _Texts]) -> dict[_Texts, dict[bytes, bytes]]:
        """By attribute files the filter of all paths that are in places for which these hold."""
        paths: dict[_Texts, dict[bytes, None]] = {}
        for number, files in self._files.items():
            paths.setdefault(of(self._known[number]), {}).update(dict.fromkeys((*files, *self._links.get(number, ()))))
        return {texts: filters_by_files(self._repo, dict(texts), listed) for texts, listed in paths.items()}

    def _check_ignored(self) -> None:
        """Note what git ignores already; raise `UserError` if that is a `.dvc` file, which DVC would refuse."""
        for number, paths in self._given.items():
            files = dict(self._known[number].ignored_by_git)
            ignored = ignored_by_files(self._repo, files, _with_dvc_files(paths))
            self._ignored.update((number, path) for path in ignored & paths)
            hidden = sorted(path for path in paths if path + _DVC in ignored)
            if hidden:
                raise UserError(
                    f"'{printable(hidden[0] + _DVC)}' would be ignored by git, and DVC refuses such files",
                    hint=f"change '.gitignore' in the commits to be exported, {_OR_LEAVE_OUT}",
                )

    def _check_directories(self) -> None:
        """Raise `UserError` where what DVC needs cannot be written because something stands there."""
        for (tree, directory, _), number in self._directories.items():
            given = self._given.get(number, set())
            entries = self._trees.entries(tree)
            leaving = [name for name, entry in entries.items() if entry.is_file and directory + name in given]
            for name in leaving:
                if name + _DVC in entries:
                    raise UserError(
                        f"'{printable(directory + name + _DVC)}' stands there already",
                        hint=f"git rm it if DVC needs it no more, {_OR_LEAVE_OUT}",
                    )
            lists = entries.get(_GITIGNORE)
            needed = any((number, directory + name) not in self._ignored for name in leaving)
            if needed and lists is not None and not lists.is_file:
                raise UserError(
                    f"'{printable(directory + _GITIGNORE)}' is no file that could name '{printable(leaving[0])}'",
                    hint=f"make it a file, {_OR_LEAVE_OUT}",
                )
            settings = entries.get(_DVC)
            if not directory and settings is not None and not settings.is_tree and self._given:
                raise UserError("'.dvc' is a file, and DVC needs a directory there", hint="git mv it")

    def _versions(self) -> Iterator[tuple[int, bytes, Oid]]:
        for number, paths in self._given.items():
            for path, oids in self._files[number].items():
                if path in paths:
                    for oid in oids:
                        yield number, path, oid

    def _key(self, number: int, oid: Oid) -> bytes:
        return self._known[number].project + oid

    def _job(self, key: bytes, path: bytes, oid: Oid, size: int, lane: int) -> Job:
        blob = classify(self._odb, oid, size) if size else None
        if blob is not None and isinstance(blob.pointer, Pointer):
            pointer = blob.pointer
            return Job(key, path, pointer.size, lane, lambda odb: read_content(pointer, odb))
        return Job(key, path, size, lane, read_plain(oid))

    def _rewrite(
        self, tree: Oid, directory: bytes, outer: int | None, blobs: Mapping[bytes, Oid], writer: ObjectWriter
    ) -> _Part:
        known = self._rewritten.get((tree, directory, outer))
        if known is not None:
            return known
        entries = self._trees.entries(tree)
        number = self._directories[tree, directory, outer]
        given, staying = self._given.get(number, set()), self._left.get(number, set())
        new = dict(entries)
        changed = False
        left: list[bytes] = []
        lines: list[bytes] = []
        for name, entry in entries.items():
            path = directory + name
            if entry.is_tree and name != _DVC and path != OURS:
                below = self._rewrite(entry.oid, path + b"/", number, blobs, writer)
                changed |= below.changed
                left += below.left
                if below.tree == self._empty != entry.oid:
                    del new[name]
                else:
                    new[name] = Entry(MODE_TREE, below.tree)
            elif entry.is_file and path in given:
                key = self._key(number, entry.oid)
                if key not in blobs:
                    left.append(path)
                    continue
                del new[name]
                new[name + _DVC] = Entry(MODE_FILE, self._dvc_file(key, name, entry, writer))
                if (number, path) not in self._ignored:
                    lines.append(ignore_line(name))
                changed = True
            elif entry.is_file and path in staying and self._needs_gitml(path, entry):
                left.append(path)
        if lines:
            self._add_ignored(new, lines, writer)
        changed |= self._edit_attributes(new, directory, left, writer)
        if not directory and any(self._known[each].project == b"" for each in self._given):
            self._add_project(new, writer)
        oid = tree if new == entries else writer.write("tree", format_tree(new.items()))
        part = self._rewritten[tree, directory, outer] = _Part(oid, changed, tuple(left))
        return part

    def _needs_gitml(self, path: bytes, entry: Entry) -> bool:
        """Whether a file must stay under gitml: what DVC reads itself need not, unless it is a pointer."""
        if not _is_of_dvc(path):
            return True
        size = sizes_of(self._repo, [entry.oid]).get(entry.oid, 0)
        return isinstance(classify(self._odb, entry.oid, size).pointer, Pointer)

    def _dvc_file(self, key: bytes, name: bytes, entry: Entry, writer: ObjectWriter) -> Oid:
        text = format_dvc_file(self._kept.get(key, _UNREAD), text_of(name), executable=entry.mode == MODE_EXECUTABLE)
        return writer.write("blob", text)

    def _add_ignored(self, new: dict[bytes, Entry], lines: list[bytes], writer: ObjectWriter) -> None:
        present = new.get(_GITIGNORE)
        text = with_ignored(self._odb.read(present.oid)[1] if present is not None else b"", lines)
        new[_GITIGNORE] = Entry(present.mode if present is not None else MODE_FILE, writer.write("blob", text))

    def _edit_attributes(
        self, new: dict[bytes, Entry], directory: bytes, left: list[bytes], writer: ObjectWriter
    ) -> bool:
        """Bring the attribute file of a directory into its new state; give whether the rule changed it."""
        present = new.get(ATTRIBUTES)
        if present is not None and not present.is_file:
            return False
        old = self._odb.read(present.oid)[1] if present is not None else None
        text = self._change.changed(directory, old)
        if left and not directory:
            text = with_lines(text, [line(exact_pattern(path), ML) for path in sorted(left)])
        if text is not None:
            mode = present.mode if present is not None else MODE_FILE
            new[ATTRIBUTES] = Entry(mode, writer.write("blob", text))
        elif present is not None:
            del new[ATTRIBUTES]
        return old is not None and self._change.rule(old) != old

    def _add_project(self, new: dict[bytes, Entry], writer: ObjectWriter) -> None:
        """Add what `dvc init` writes, if it is not there; a project that is there may do without `.dvcignore`."""
        present = new.get(_DVC)
        inside = dict(self._trees.entries(present.oid)) if present is not None and present.is_tree else {}
        begun = b"config" in inside
        for path, text in {**PROJECT, CONFIG: self._config}.items():
            name = path.removeprefix(_DVC + b"/")
            where = inside if name != path else new
            if name not in where and not (begun and where is new):
                where[name] = Entry(MODE_FILE, writer.write("blob", text))
        new[_DVC] = Entry(MODE_TREE, writer.write("tree", format_tree(inside.items())))

    def _note(self, path: bytes, reason: str) -> None:
        self._notes[f"'{printable(path)}' stays as it is: {reason}"] = None


_OR_LEAVE_OUT = "or leave the file out: --exclude PATTERN"


def _with_dvc_files(paths: Iterable[bytes]) -> list[bytes]:
    return [each for path in paths for each in (path, path + _DVC)]


def _is_of_dvc(path: bytes) -> bool:
    """Whether DVC reads the file itself."""
    name = posixpath.basename(path)
    return name in _OF_DVC or is_dvc_file(name)


def _why_not(path: bytes) -> str | None:
    """Why DVC cannot have a file of this name; None if it can."""
    if b"\n" in path or b"\r" in path:
        return "no line of '.gitignore' can hold its name"
    try:
        path.decode()
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    return None
