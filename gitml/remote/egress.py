"""Egress: outputs copied out of the repository, each file once, as far as it differs from the last copy.

What is kept of a stage and an address, below `ml/egress/` of the common git directory:

    <name>.json     the tree whose files are all there, the one on its way, how the last attempt ended
    <name>.done     files of the one on its way that are there already, so that a kill costs only files under way
    <name>.lock     held while files are copied

Files that are no longer in the output stay where they are, as Pachyderm has it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from gitml.errors import BusyError, ExitCode, GitmlError, UserError
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import flat_name
from gitml.record import asdict, record
from gitml.store.content import read_content
from gitml.store.odb import MissingObjectError
from gitml.store.pointer import is_pointer, parse_pointer
from gitml.store.tree import MODE_EXECUTABLE, MODE_TREE, Entry, Snapshot

if TYPE_CHECKING:
    from gitml.remote.bucket import Pieces
    from gitml.remote.destination import Destination

_SHOW_EVERY = 0.5
"""Seconds between two notes of how far a copy is."""
_WHOLE = 8 << 20
"""Bytes of a blob up to which it is held in memory while it is sent."""


Standing = Literal["elsewhere", "behind", "copying", "copied", "failed"]
"""Of a copy: not this clone's business, not up to date, under way, up to date, the last attempt failed."""


class Stop(Protocol):
    """Says whether to end; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether to end now."""
        ...


class EgressStoppedError(GitmlError):
    """A copy was ended because somebody asked; files that arrived need not be copied again."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self) -> None:
        super().__init__("egress was stopped", hint="git ml egress goes on")


@record(frozen=False)
class EgressState:
    """What is known of the copies of one stage at one address; trees as hex."""

    stage: str
    url: str
    done: str | None = None
    """The output that was copied last, all of it; None: none yet."""
    wanted: str | None = None
    """The output that is, or was to be, copied after that."""
    commit: str | None = None
    """The commit that has `wanted`."""
    files: int = 0
    """Of the files of `wanted` that differ from `done`, those that arrived."""
    total: int = 0
    """How many differ."""
    message: str = ""
    """Why the last attempt ended early; empty if it did not."""
    updated: float = 0.0
    """Seconds since the epoch."""


class Egress:
    """The copies that one clone makes."""

    def __init__(self, repo: Repository, odb: GitOdb) -> None:
        self._odb = odb
        self._dir = repo.state_dir / "egress"
        self._forbidden = [path for path in (repo.worktree, repo.common_dir, repo.git_dir) if path is not None]

    def state(self, stage: str, url: str) -> EgressState | None:
        """What is known of a stage and an address; None if this clone never copied it and was never told to."""
        try:
            return EgressState(**json.loads(self._file(stage, url, ".json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def claim(self, stage: str, url: str) -> None:
        """From now on it is for this clone to keep the copy up to date."""
        if self.state(stage, url) is None:
            self._write(EgressState(stage, url))

    def is_claimed(self, stage: str, url: str) -> bool:
        """Whether it is."""
        return self.state(stage, url) is not None

    def is_due(self, stage: str, url: str, tree: Oid) -> bool:
        """Whether it is for this clone to copy the output `tree`."""
        state = self.state(stage, url)
        return state is not None and state.done != tree.hex()

    def standing(self, stage: str, url: str, tree: Oid) -> tuple[Standing, EgressState | None]:
        """Where the copy of the output `tree` stands."""
        state = self.state(stage, url)
        if state is None:
            return "elsewhere", None
        try:
            with self._locked(stage, url):
                pass
        except BusyError:
            return "copying", state
        if state.done == tree.hex():
            return "copied", state
        return ("failed" if state.message else "behind"), state

    def missing(self, stage: str, url: str, tree: Oid, *, everything: bool = False) -> Collection[bytes]:
        """The paths of the files that `send` would copy."""
        state = None if everything else self.state(stage, url)
        arrived = {} if state is None else _read_journal(self._file(stage, url, ".done"))
        return self._missing(Snapshot(self._odb, tree), state.done if state is not None else None, arrived)

    def send(
        self,
        stage: str,
        url: str,
        tree: Oid,
        *,
        commit: Oid,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        stop: Stop | None = None,
        everything: bool = False,
    ) -> int:
        """Copy the files of `tree`, the output of `stage` at `commit`, that are not at `url` yet; give their number.

        `everything`: also those that are known to be there. `progress` is told of files. What was reached is kept
        whatever happens, and so is why it ended. Raise `BusyError` if another process is at it, `EgressStoppedError`,
        and what the destination and the repository raise.
        """
        with self._locked(stage, url):
            state = self.state(stage, url) or EgressState(stage, url)
            if everything:
                state.done = None
                self._file(stage, url, ".done").unlink(missing_ok=True)
            state.wanted, state.commit, state.message = tree.hex(), commit.hex(), ""
            try:
                self._copy(state, tree, progress, stop)
            except GitmlError as error:
                state.message = error.message
                self._write(state)
                raise
            except OSError as error:
                state.message = error.strerror or str(error)
                self._write(state)
                raise
            state.done = state.wanted
            self._write(state)
            # after it: over the new tree these lines say nothing
            self._file(stage, url, ".done").unlink(missing_ok=True)
            return state.total

    def _copy(self, state: EgressState, tree: Oid, progress: Callable[[int, int], None], stop: Stop | None) -> None:
        snapshot = Snapshot(self._odb, tree)
        journal = self._file(state.stage, state.url, ".done")
        todo = self._missing(snapshot, state.done, _read_journal(journal))
        state.files, state.total = 0, len(todo)
        self._write(state)
        if not todo:
            return
        progress(0, len(todo))
        from gitml.remote.destination import open_destination  # noqa: PLC0415 - 20 ms that only a copy need pay

        destination = open_destination(state.url, self._forbidden)
        for path in todo:
            destination.check(path)
        shown = time.monotonic()
        with journal.open("ab") as file:
            for path in self._write_all(destination, todo, stop):
                _note(file, path, todo[path])
                state.files += 1
                if time.monotonic() - shown >= _SHOW_EVERY:
                    shown = time.monotonic()
                    self._write(state)
                    progress(state.files, state.total)
        if state.files < state.total:
            raise EgressStoppedError

    def _write_all(self, destination: "Destination", todo: Mapping[bytes, Entry], stop: Stop | None) -> Iterator[bytes]:
        """Write files, several at once; give the paths of those that arrived. Ends early if told to stop."""
        waiting = iter(todo.items())
        with ThreadPoolExecutor(destination.workers, thread_name_prefix="egress") as pool:
            running: dict[Future[None], bytes] = {}
            failure: Exception | None = None
            while True:
                if failure is None and not (stop is not None and stop.is_set()):
                    for path, entry in islice(waiting, 2 * destination.workers - len(running)):
                        running[pool.submit(self._write_one, destination, path, entry)] = path
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future)
                    error = future.exception()
                    if error is None:
                        yield path
                    elif isinstance(error, Exception):
                        failure = failure or error
                    else:
                        raise error
            if failure is not None:
                raise failure

    def _write_one(self, destination: "Destination", path: bytes, entry: Entry) -> None:
        destination.write(path, lambda: self._content(entry.oid), executable=entry.mode == MODE_EXECUTABLE)

    @contextmanager
    def _content(self, oid: Oid) -> Iterator["Pieces"]:
        """The bytes of a file: of the blob, or of the content that it points to."""
        from gitml.remote.bucket import Pieces  # noqa: PLC0415 - as above

        with self._odb.open(oid) as (_, size, pieces):
            if size > _WHOLE:  # others who read wait so long
                yield Pieces(pieces, size)
                return
            data = b"".join(pieces)
        if is_pointer(data):
            pointer = parse_pointer(data)
            yield Pieces(read_content(pointer, self._odb), pointer.size)
        else:
            yield Pieces([data], size)

    def _missing(
        self, snapshot: Snapshot, done: str | None, arrived: Mapping[bytes, tuple[int, str]]
    ) -> dict[bytes, Entry]:
        """The files of a tree that are not at the destination, by path."""
        todo: dict[bytes, Entry] = {}
        try:
            before = Snapshot(self._odb, Oid.parse(done)) if done is not None else None
            todo.update(_differing(before, snapshot))
        except MissingObjectError:
            # what was copied last is garbage by now: nothing is known of it but what the tree has itself
            todo = dict(snapshot.walk())
        for path, known in arrived.items():
            entry = snapshot.get(path)
            if entry is None or entry.is_tree:
                continue
            if known == (entry.mode, entry.oid.hex()):
                todo.pop(path, None)
            else:
                todo[path] = entry
        return {path: entry for path, entry in todo.items() if entry.is_file}

    def _file(self, stage: str, url: str, suffix: str) -> Path:
        return self._dir / f"{flat_name(stage)}-{sha256(url.encode('utf-8', 'replace')).hexdigest()[:12]}{suffix}"

    def _write(self, state: EgressState) -> None:
        state.updated = time.time()
        self._dir.mkdir(parents=True, exist_ok=True)
        where = self._file(state.stage, state.url, ".json")
        new = where.with_suffix(".tmp")
        new.write_text(json.dumps(asdict(state)))
        new.replace(where)

    @contextmanager
    def _locked(self, stage: str, url: str) -> Iterator[None]:
        self._dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file(stage, url, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another process copies the output of '{stage}' to '{url}'"
                raise BusyError(message, hint="git ml status shows how far it is") from None
            yield
        finally:
            os.close(descriptor)


def _differing(before: Snapshot | None, after: Snapshot, path: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
    """The files of `after` that are others in `before`, or are not there. Equal directories are not read."""
    old = before.list(path) if before is not None else {}
    for name, entry in after.list(path).items():
        below = path + b"/" + name if path else name
        if old.get(name) == entry:
            continue
        if entry.mode == MODE_TREE:
            there = old.get(name)
            yield from _differing(before if there is not None and there.is_tree else None, after, below)
        else:
            yield below, entry


def _note(file: BinaryIO, path: bytes, entry: Entry) -> None:
    """Add a file that arrived to a journal. A line that a kill cut off has no NUL at its end."""
    file.write(f"{entry.mode:o} {entry.oid.hex()} ".encode() + path + b"\0")
    file.flush()


def _read_journal(where: Path) -> dict[bytes, tuple[int, str]]:
    """Path to mode and oid of the files that a journal says are there."""
    try:
        data = where.read_bytes()
    except FileNotFoundError:
        return {}
    found: dict[bytes, tuple[int, str]] = {}
    for line in data.split(b"\0")[:-1]:
        mode, _, rest = line.partition(b" ")
        oid, _, path = rest.partition(b" ")
        try:
            found[path] = int(mode, 8), oid.decode()
        except ValueError:
            raise UserError(f"the list '{where}' is damaged", hint="git ml egress --all copies everything") from None
    return found
