"""DVC on disk: `.dvc` files and `dvc.lock` in the tree, contents by MD5 in its cache; and the recipe that takes them.

Formats as DVC documents them: files `<name>.dvc`, a list `outs` with `md5`, `size`, `path`; a directory's digest ends
in `.dir` and names a JSON list of `md5` and `relpath`. The cache has `files/md5/aa/…` since DVC 3, `aa/…` before.
Digests of DVC before version 3 are those of text with LF line ends, whatever it has.
"""

import configparser
import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gitml.errors import CorruptError, MissingDataError
from gitml.git.attributes import filters_by_files
from gitml.git.command import clean_environment
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.migrate.attributes import ML, exact_pattern, line, with_lines
from gitml.migrate.convert import Job, Report, lanes
from gitml.migrate.dvcstore import ignore_line
from gitml.migrate.recipe import ATTRIBUTES, Rewritten, trees_below
from gitml.oid import Oid
from gitml.provenance.codec import printable
from gitml.record import field, record
from gitml.store.odb import ObjectWriter
from gitml.store.tree import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, Entry, Snapshot, edit_tree, empty_tree

_READ = 1 << 20
_DIR = ".dir"


class Output(NamedTuple):
    """One file or directory that DVC keeps: its path in the repository and the digest of its content."""

    path: bytes
    md5: str
    executable: bool
    legacy: bool
    """The digest may be that of the text with LF line ends."""

    @property
    def is_directory(self) -> bool:
        """Whether the digest is that of a list of files."""
        return self.md5.endswith(_DIR)

    @property
    def key(self) -> bytes:
        """The key of its content among jobs."""
        return b"md5:" + self.md5.encode()


@record(frozen=False)
class _Parsed:
    """What one file of DVC says. `refused` are outputs that cannot be taken over, with the reason."""

    outputs: list[Output] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


class DvcCache:
    """Where contents are looked for: the caches of the repository, then remotes that are directories."""

    def __init__(self, places: Iterable[Path], fetch: Callable[[], None] | None = None) -> None:
        self._places = list(places)
        self._fetch = fetch

    def find(self, md5: str) -> Path | None:
        """The file with this digest; contents that are missing are fetched once, if there is a way."""
        for _ in range(2):
            for place in self._places:
                for path in (place / "files" / "md5" / md5[:2] / md5[2:], place / md5[:2] / md5[2:]):
                    if path.is_file():
                        return path
            if self._fetch is None:
                break
            fetch, self._fetch = self._fetch, None
            fetch()
        return None

    def read(self, md5: str, *, legacy: bool) -> Iterator[bytes]:
        """The content in pieces; raise `MissingDataError`, or `CorruptError` at the end."""
        path = self.find(md5)
        if path is None:
            raise MissingDataError(
                f"DVC content '{md5}' is missing",
                hint="fetch it first: dvc fetch --all-commits; or leave out what is missing: --skip-missing",
            )
        digest, unix = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
        held = b""
        with path.open("rb") as file:
            while piece := file.read(_READ):
                digest.update(piece)
                if legacy:
                    text = held + piece
                    held = b"\r" if text.endswith(b"\r") else b""
                    unix.update(text.removesuffix(b"\r").replace(b"\r\n", b"\n"))
                yield piece
        unix.update(held)
        found = {digest.hexdigest(), unix.hexdigest()} if legacy else {digest.hexdigest()}
        if md5.removesuffix(_DIR) not in found:
            raise CorruptError(f"DVC content '{path}' is damaged: its MD5 is {digest.hexdigest()}, expected {md5}")


def cache_places(roots: Iterable[Path]) -> list[Path]:
    """Caches, then directories that serve as remotes, of the projects at `roots`."""
    caches: list[Path] = []
    remotes: list[Path] = []
    for root in roots:
        place = root / ".dvc"
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read([place / "config", place / "config.local"], encoding="utf-8")
        caches.append(place / parser.get("cache", "dir", fallback="cache"))
        for section in parser.sections():
            url = parser.get(section, "url", fallback="") if "remote" in section else ""
            if url and ("://" not in url or url.startswith("file://")):
                remotes.append(place / url.removeprefix("file://"))
    return [path for path in dict.fromkeys([*caches, *remotes]) if path.is_dir()]


def is_dvc_file(name: bytes) -> bool:
    """Whether a file of this name says what DVC keeps."""
    return name == b"dvc.lock" or (name.endswith(b".dvc") and len(name) > 4)


def fetch_with_dvc(where: Path, *, all_commits: bool) -> Callable[[], None] | None:
    """Has DVC fetch what is missing; None where DVC is not installed."""
    if shutil.which("dvc") is None:
        return None

    def fetch() -> None:
        command = ["dvc", "fetch", "--quiet", *(["--all-commits"] if all_commits else [])]
        # what it cannot fetch is found to be missing afterwards
        subprocess.run(command, cwd=where, check=False, capture_output=True, env=clean_environment())

    return fetch


class DvcRecipe:
    """Puts contents in the place of what DVC keeps for them: outputs of `.dvc` files and of `dvc.lock`."""

    def __init__(
        self,
        repo: Repository,
        odb: GitOdb,
        cache: DvcCache,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
    ) -> None:
        self._repo = repo
        self._odb = odb
        self._cache = cache
        self._include = include
        self._exclude = exclude
        self._trees = Snapshot(odb, empty_tree(repo.format))
        self._found: dict[tuple[Oid, bytes], tuple[tuple[bytes, Oid], ...]] = {}
        self._parsed: dict[tuple[bytes, Oid, Oid | None], _Parsed] = {}
        self._listings: dict[str, list[tuple[bytes, str]] | None] = {}
        self._directories: dict[str, Oid] = {}
        self._selected: dict[bytes, bool] = {}
        self._rewritten: dict[Oid, Rewritten] = {}
        self._notes: dict[str, None] = {}

    def collect(self, trees: Iterable[Oid], report: Report) -> list[Job]:
        """The contents of all outputs that any of these trees has."""
        jobs: dict[bytes, tuple[bytes, Output]] = {}
        for content in self.contents(trees, report):
            jobs.setdefault(content.key, (content.path, content))
        lane = lanes((path, key) for key, (path, _) in jobs.items())
        return [self._job(key, path, content, lane[key]) for key, (path, content) in jobs.items()]

    def contents(self, trees: Iterable[Oid], report: Report) -> Iterator[Output]:
        """Every file that DVC keeps for any of these trees, by path; some come again and again."""
        listed = list(dict.fromkeys(trees))
        self._trees = trees_below(self._repo, self._odb, listed)
        for number, tree in enumerate(listed, 1):
            for parsed in self._files(tree).values():
                for output in parsed.outputs:
                    yield from self._contents(output)
            report("trees", number, len(listed), 0)

    def size(self, content: Output) -> int:
        """The bytes of a content, 0 if it is not here."""
        place = self._cache.find(content.md5)
        return place.stat().st_size if place is not None else 0

    def rewrite(self, tree: Oid, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Rewritten:
        """The tree with contents in place of what DVC kept for them."""
        known = self._rewritten.get(tree)
        if known is None:
            known = self._rewritten[tree] = self._rewrite(tree, blobs, writer)
        return known

    def notes(self) -> list[str]:
        """What stays with DVC."""
        return list(self._notes)

    def _job(self, key: bytes, path: bytes, content: Output, lane: int) -> Job:
        def read(_: GitOdb) -> Iterator[bytes]:
            return self._cache.read(content.md5, legacy=content.legacy)

        return Job(key, path, self.size(content), lane, read)

    def _contents(self, output: Output) -> list[Output]:
        """The files of an output; of a directory whose list is missing, the list itself."""
        listing = self._listing(output) if output.is_directory else None
        if listing is None:
            return [output]
        return [Output(output.path + b"/" + name, md5, False, output.legacy) for name, md5 in listing]

    def _listing(self, output: Output) -> list[tuple[bytes, str]] | None:
        if output.md5 not in self._listings:
            try:
                data = b"".join(self._cache.read(output.md5, legacy=output.legacy))
                self._listings[output.md5] = [
                    (os.fsencode(entry["relpath"]), str(entry["md5"])) for entry in json.loads(data)
                ]
            except (MissingDataError, CorruptError, ValueError, KeyError, TypeError):
                self._listings[output.md5] = None
        return self._listings[output.md5]

    def _files(self, tree: Oid) -> dict[bytes, _Parsed]:
        """What each file of DVC in a tree says."""
        snapshot = Snapshot(self._trees.odb, tree)
        found: dict[bytes, _Parsed] = {}
        for path, oid in self._find(tree, b""):
            pipeline = snapshot.get(posixpath.join(posixpath.dirname(path), b"dvc.yaml"))
            key = (path, oid, pipeline.oid if pipeline else None)
            if key not in self._parsed:
                self._parsed[key] = self._parse(path, oid, pipeline.oid if pipeline else None)
            parsed = self._parsed[key]
            taken = [output for output in parsed.outputs if snapshot.get(output.path) is None]
            found[path] = _Parsed([output for output in taken if self._is_selected(output.path)], parsed.refused)
        return found

    def _find(self, tree: Oid, directory: bytes) -> tuple[tuple[bytes, Oid], ...]:
        known = self._found.get((tree, directory))
        if known is None:
            found: list[tuple[bytes, Oid]] = []
            for name, entry in self._trees.entries(tree).items():
                if entry.is_tree:
                    found += self._find(entry.oid, directory + name + b"/")
                elif entry.is_file and is_dvc_file(name):
                    found.append((directory + name, entry.oid))
            known = self._found[tree, directory] = tuple(found)
        return known

    def _parse(self, path: bytes, oid: Oid, pipeline: Oid | None) -> _Parsed:
        parsed = _Parsed()
        try:
            document = _as_text(self._odb.read(oid)[1])
            if path.endswith(b".dvc"):
                _add_outputs(parsed, document, posixpath.dirname(path))
                if document.get("deps"):
                    self._note(
                        f"'{printable(path)}' was an import: its content is taken over, where it came from is not"
                    )
            else:
                stages = _as_text(self._odb.read(pipeline)[1]) if pipeline is not None else None
                _add_lock(parsed, document, stages, posixpath.dirname(path))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError):
            self._note(f"'{printable(path)}' cannot be read and stays as it is")
            return _Parsed(refused=[(printable(path), "unreadable")])
        for name, reason in parsed.refused:
            self._note(f"'{name}' of '{printable(path)}' stays with DVC: {reason}")
        if path.endswith(b"dvc.lock"):
            self._note(f"'{printable(path)}' and its dvc.yaml stay: stages come with git ml import dvc")
        return parsed

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _is_selected(self, path: bytes) -> bool:
        if not self._include and not self._exclude:
            return True
        if path not in self._selected:
            rules = [line(pattern, ML) for pattern in self._include or ("*",)]
            rules += [line(pattern, b"!filter") for pattern in self._exclude]
            inside = path + b"/x"
            chosen = filters_by_files(self._repo, {ATTRIBUTES: b"\n".join(rules) + b"\n"}, [path, inside])
            self._selected[path] = bool(chosen)
        return self._selected[path]

    def _rewrite(self, tree: Oid, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Rewritten:
        snapshot = Snapshot(self._trees.odb, tree)
        changes: dict[bytes, Entry | None] = {}
        ignored: dict[bytes, set[bytes]] = {}
        patterns: dict[bytes, None] = {}
        for path, parsed in self._files(tree).items():
            placed = [(output, self._entry(output, blobs, writer)) for output in parsed.outputs]
            for output, entry in placed:
                if entry is None:
                    continue
                changes[output.path] = entry
                patterns[line(exact_pattern(output.path) + ("/**" if output.is_directory else ""), ML)] = None
                directory, name = posixpath.split(output.path)
                lines = ignored.setdefault(posixpath.join(directory, b".gitignore"), set())
                lines.update((b"/" + name, ignore_line(name)))
            complete = not parsed.refused and all(entry is not None for _, entry in placed)
            if path.endswith(b".dvc") and placed and complete:
                changes[path] = None
        if not changes:
            return Rewritten(tree, False)
        for path, lines in ignored.items():
            entry = snapshot.get(path)
            if entry is not None and entry.is_file:
                changes[path] = _without(self._odb.read(entry.oid)[1], lines, entry, writer)
        present = snapshot.get(ATTRIBUTES)
        text = self._odb.read(present.oid)[1] if present is not None and present.is_file else None
        changes[ATTRIBUTES] = Entry(MODE_FILE, writer.write("blob", with_lines(text, sorted(patterns))))
        return Rewritten(edit_tree(self._trees.odb, writer, tree, changes), True)

    def _entry(self, output: Output, blobs: Mapping[bytes, Oid], writer: ObjectWriter) -> Entry | None:
        """What stands at the path of an output; None if some of its content is missing."""
        if not output.is_directory:
            blob = blobs.get(output.key)
            return Entry(MODE_EXECUTABLE if output.executable else MODE_FILE, blob) if blob is not None else None
        if output.md5 not in self._directories:
            listing = self._listing(output)
            files: dict[bytes, Entry | None] = {}
            for name, md5 in listing or ():
                blob = blobs.get(b"md5:" + md5.encode())
                files[name] = Entry(MODE_FILE, blob) if blob is not None else None
            if not files or None in files.values():
                return None
            empty = writer.write("tree", b"")
            self._directories[output.md5] = edit_tree(self._odb, writer, empty, files)
        return Entry(MODE_TREE, self._directories[output.md5])


class _Text(yaml.SafeLoader):
    """Makes text of every value but null, as it is written: names are wanted, no numbers, days or truth values.

    DVC reads YAML 1.2, in which `yes`, `1:30` and `2024-01-01` are text anyway.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as the base class has it


_Text.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Text.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _as_text(data: bytes) -> Any:
    return yaml.load(data, Loader=_Text)  # noqa: S506 - it is a safe loader


def _without(text: bytes, lines: set[bytes], entry: Entry, writer: ObjectWriter) -> Entry | None:
    """A `.gitignore` without lines that DVC wrote; None if nothing is left."""
    kept = [each for each in text.split(b"\n") if each.rstrip(b"\r") not in lines]
    new = b"\n".join(kept)
    return Entry(entry.mode, writer.write("blob", new)) if new.strip() else None


def _add_outputs(parsed: _Parsed, document: Any, directory: bytes) -> None:
    base = posixpath.join(directory, os.fsencode(document.get("wdir") or "."))
    for each in document["outs"]:
        _add(parsed, each, base)


def _add_lock(parsed: _Parsed, document: Any, pipeline: Any, directory: bytes) -> None:
    stages = document["stages"] if "schema" in document else document
    specified = (pipeline or {}).get("stages", {})
    for name, stage in stages.items():
        specification = specified.get(name.partition("@")[0]) or {}
        wdir = str((specification.get("do") or specification).get("wdir") or ".")
        for each in stage.get("outs", ()):
            if "${" in wdir:
                parsed.refused.append((str(each.get("path")), "its directory is computed"))
            else:
                _add(parsed, each, posixpath.join(directory, os.fsencode(wdir)))


_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})


def _add(parsed: _Parsed, each: Mapping[str, Any], base: bytes) -> None:
    name = each["path"]
    if not isinstance(name, str):
        raise TypeError("a path is text")
    path = posixpath.normpath(posixpath.join(base, os.fsencode(name)))
    md5 = each.get("md5")
    if each.get("cache") in _FALSE:
        return  # git has it
    if "://" in name or posixpath.isabs(name) or path.startswith(b"../") or path in (b".", b".."):
        parsed.refused.append((name, "it lies outside the repository"))
    elif not isinstance(md5, str):
        parsed.refused.append((name, "it has no MD5"))
    else:
        parsed.outputs.append(Output(path, md5, each.get("isexec") in _TRUE, each.get("hash") != "md5"))
