"""Which files of the repository a task gets as its code.

Either what the stage declares, or what its commands name: the tracked files and directories in `cmd`,
`stdin`, `err_cmd` and `err_stdin`, and the local modules that the Python files among them import, found by
reading the import statements; nothing is executed. What this cannot see (a path put together at run time, an
`importlib.import_module`) is absent from the workspace, so the first run fails and says so; `code` declares it.
"""

import ast
import re
import shlex
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence, Set

from gitml.errors import UserError
from gitml.pipeline.spec.model import CodeMount, Stage
from gitml.provenance.codec import bytes_of, printable, text_of
from gitml.record import record
from gitml.store.tree import MODE_EXECUTABLE, MODE_GITLINK, MODE_LINK, Entry, Snapshot

_OWN = b".gitml"
_LARGEST_SOURCE = 4 << 20
"""Bytes of a Python file that is still searched for imports; more is data in disguise."""


@record
class CodeFile:
    """One file of a task's code."""

    target: str
    """Where the task finds it: absolute (`/code/train.py`), or relative to the top of the workspace."""
    source: bytes
    """Repository path."""
    entry: Entry


def code_files(stage: Stage, snapshot: Snapshot, outputs: Collection[bytes]) -> tuple[CodeFile, ...]:
    """The code of `stage` at the tree of `snapshot`, sorted by target.

    `outputs` are the output directories of all stages of the pipeline: results are never code, or each run
    would change the key of the next. A stage's own inputs are data, not code, for the same reason. Raise
    `UserError` if declared code is missing.
    """
    data = {path for path in outputs if path} | {leaf.path for leaf in stage.inputs if leaf.path} | {_OWN}
    if stage.code is not None:
        found = _declared(stage, stage.code, snapshot, data)
    else:
        found = {text_of(path): CodeFile(text_of(path), path, entry) for path, entry in _named(stage, snapshot, data)}
    return tuple(found[target] for target in sorted(found))


def _within(path: bytes, data: Set[bytes]) -> bool:
    """Whether `path` is one of `data` or below it. A pipeline may have thousands of outputs, a path has few parts."""
    while path:
        if path in data:
            return True
        path = _folder(path)
    return False


def _files(snapshot: Snapshot, path: bytes, entry: Entry, data: Set[bytes]) -> Iterator[tuple[bytes, Entry]]:
    """The files at and below `path`, without submodules and without what is below a path of `data`."""
    if entry.mode == MODE_GITLINK:
        return
    if not entry.is_tree:
        yield path, entry
        return
    for name, child in snapshot.entries(entry.oid).items():
        below = path + b"/" + name if path else name
        if not _within(below, data):
            yield from _files(snapshot, below, child, data)


def _declared(stage: Stage, mounts: Iterable[CodeMount], snapshot: Snapshot, data: Set[bytes]) -> dict[str, CodeFile]:
    found: dict[str, CodeFile] = {}
    for mount in mounts:
        entry = snapshot.get(mount.source)
        if entry is None:
            raise UserError(
                f"code '{printable(mount.source)}' of stage '{printable(stage.name)}' is missing",
                hint=f"commit it, or correct 'code' in {stage.where}",
            )
        top = "" if mount.target in ("", ".") else mount.target.rstrip("/").removeprefix("./")
        for path, child in _files(snapshot, mount.source, entry, data):
            below = text_of(path[len(mount.source) :].lstrip(b"/"))
            target = f"{top}/{below}" if below and (top or mount.target == "/") else top or below
            known = found.setdefault(target, CodeFile(target, path, child))
            if known.source != path:
                raise UserError(
                    f"code of stage '{printable(stage.name)}' has both '{printable(known.source)}' and "
                    f"'{printable(path)}' at '{printable(target)}'",
                    hint=f"correct 'code' in {stage.where}",
                )
    return found


# --- code that commands name ---


def _named(stage: Stage, snapshot: Snapshot, data: Set[bytes]) -> Iterable[tuple[bytes, Entry]]:
    transform = stage.transform
    base = b""
    if transform.working_dir is not None and not transform.working_dir.startswith("/"):
        base = _resolve(b"", transform.working_dir) or b""
    finder = _Finder(snapshot, data, base)
    finder.search_command(transform.cmd, transform.stdin)
    finder.search_command(transform.err_cmd, transform.err_stdin)
    finder.follow_imports()
    return finder.found.items()


def _resolve(base: bytes, text: str) -> bytes | None:
    """The repository path that `text` means in the directory `base`, None if it leaves the repository."""
    try:
        path = bytes_of(text)
    except ValueError:
        return None
    if path.startswith(b"/") or b"\0" in path:
        return None
    names = base.split(b"/") if base else []
    for name in path.split(b"/"):
        if name == b"..":
            if not names:
                return None
            names.pop()
        elif name not in (b"", b"."):
            names.append(name)
    return b"/".join(names)


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


_PYTHON = re.compile(r"(?:.*/)?(?:python|pypy)[0-9.]*(?:\.exe)?")
_SHELL_SCRIPT_FOLLOWS = re.compile(r"-[a-z]*c")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def _shell_words(script: str) -> list[str]:
    """The words of a shell script, its operators among them; words it cannot make out are split at spaces."""
    script = script.replace("\\\n", " ")
    text = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#")).replace("`", " ")
    lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # an open quote
        words = re.split(r"""[\s;&|()<>'"]+""", text)
    # substitutions inside double quotes are scripts of their own
    return [inner for word in words for inner in (re.split(r"[\s()]+", word) if "$(" in word else (word,))]


class _Finder:
    """Collects files, and the Python files whose imports are still to be followed."""

    def __init__(self, snapshot: Snapshot, data: Set[bytes], base: bytes) -> None:
        self.found: dict[bytes, Entry] = {}
        self._snapshot = snapshot
        self._data = data
        self._base = base
        self._queue: list[tuple[bytes, tuple[bytes, ...]]] = []
        self._queued: set[tuple[bytes, tuple[bytes, ...]]] = set()

    # what a command names

    def search_command(self, command: Sequence[str], stdin: Sequence[str]) -> None:
        python = bool(command) and _PYTHON.fullmatch(command[0]) is not None
        named = self._search_words(command)
        source_follows = False
        for word in command[1:]:
            if source_follows:
                if python:
                    self._search_source(word, self._base, self._roots())
                else:
                    self._search_words(_shell_words(word))
            source_follows = _SHELL_SCRIPT_FOLLOWS.fullmatch(word) is not None
        if python and not named:
            self._search_source("\n".join(stdin), self._base, self._roots())
        else:
            self._search_words(_shell_words("\n".join(stdin)))

    def _search_words(self, words: Sequence[str]) -> bool:
        """Take the files that `words` name; whether there were any."""
        before = len(self.found)
        folders = [self._base, b""]
        starts_command = True
        last = ""
        for word in words:
            if word and not word.strip(";&|()<>"):
                starts_command = not word.strip(";&|()")
                last = ""
                continue
            if last == "-m":
                if _MODULE.fullmatch(word):
                    self._take_module(word)
            elif last == "cd":
                moved = _resolve(folders[0], word)
                if moved is not None:
                    folders.insert(0, moved)
            elif not starts_command or "/" in word:  # a bare command word is looked up in PATH, not here
                self._take_word(word, folders)
            starts_command = starts_command and "=" in word  # X=1 before a command
            last = word
        return len(self.found) > before

    def _take_word(self, word: str, folders: Sequence[bytes]) -> None:
        _, equals, value = word.partition("=")
        for text in (word, value) if equals else (word,):
            for folder in folders:
                path = _resolve(folder, text)
                if path and self._take(path):
                    return

    def _take(self, path: bytes) -> bool:
        """Take the file or directory at `path`; whether there is one that is code."""
        if _within(path, self._data):
            return False
        entry = self._snapshot.get(path)
        if entry is None or entry.mode == MODE_GITLINK:
            return False
        script_folder = path if entry.is_tree else _folder(path)
        for file, child in _files(self._snapshot, path, entry, self._data):
            self._add(file, child, self._roots(script_folder))
        return True

    # files and modules

    def _roots(self, *script_folders: bytes) -> tuple[bytes, ...]:
        """Where imports are looked for."""
        return tuple(dict.fromkeys((*script_folders, self._base, b"")))

    def _add(self, path: bytes, entry: Entry, roots: tuple[bytes, ...]) -> None:
        known = path in self.found
        self.found[path] = entry
        if entry.mode == MODE_LINK:
            if not known:  # also what stops at links that lead to each other
                target = _resolve(_folder(path), text_of(self._snapshot.odb.read(entry.oid)[1]))
                if target:
                    self._take(target)
            return
        if (path, roots) not in self._queued and self._is_python(path, entry):
            self._queued.add((path, roots))
            self._queue.append((path, roots))

    def _is_python(self, path: bytes, entry: Entry) -> bool:
        if path.endswith((b".py", b".pyw")):
            return True
        if entry.mode != MODE_EXECUTABLE or b"." in path.rpartition(b"/")[2]:
            return False
        first_line = self._snapshot.odb.read(entry.oid)[1][:200].partition(b"\n")[0]
        return first_line.startswith(b"#!") and b"python" in first_line

    def _file(self, path: bytes) -> Entry | None:
        entry = self._snapshot.get(path)
        if entry is None or entry.is_tree or entry.mode == MODE_GITLINK or _within(path, self._data):
            return None
        return entry

    def _take_module(self, name: str) -> None:
        """Take what `python -m name` runs."""
        parts = name.split(".")
        roots = self._roots()
        self._import(parts, roots, roots)
        self._import([*parts, "__main__"], roots, roots)

    def follow_imports(self) -> None:
        while self._queue:
            path, roots = self._queue.pop()
            data = self._snapshot.odb.read(self.found[path].oid)[1]
            if len(data) <= _LARGEST_SOURCE:
                self._search_source(data, _folder(path), roots)

    def _search_source(self, source: str | bytes, package: bytes, roots: tuple[bytes, ...]) -> None:
        """Take the local modules that Python source in the directory `package` imports."""
        for level, module, name in _imports(source):
            parts = module.split(".") if module else []
            if level:
                at: bytes | None = package
                for _ in range(level - 1):
                    at = _folder(at) if at else None
                if at is None:
                    continue
                where: tuple[bytes, ...] = (at,)
                init = _join(at, b"__init__.py")
                entry = self._file(init)
                if entry is not None:
                    self._add(init, entry, roots)
            else:
                where = roots
            self._import([*parts, name] if name else parts, where, roots)

    def _import(self, parts: Sequence[str], where: Iterable[bytes], roots: tuple[bytes, ...]) -> None:
        """Take the module `parts` and the packages above it from the first place that has any of them."""
        for root in where:
            files = self._module(root, parts)
            for path, entry in files:
                self._add(path, entry, roots)
            if files:
                return

    def _module(self, root: bytes, parts: Sequence[str]) -> list[tuple[bytes, Entry]]:
        files: list[tuple[bytes, Entry]] = []
        at = root
        for part in parts:
            at = _join(at, part.encode("utf-8", "surrogateescape"))
            for path in (at + b"/__init__.py", at + b".py"):
                entry = self._file(path)
                if entry is not None:
                    files.append((path, entry))
                    break
            else:
                folder = self._snapshot.get(at)
                if folder is None or not folder.is_tree:
                    break  # a name inside the module, or nothing of ours
        return files


def _imports(source: str | bytes) -> Iterator[tuple[int, str, str | None]]:
    """The imports of Python source as (level, module, name); none of a text that is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.level, node.module or "", alias.name if alias.name != "*" else None
