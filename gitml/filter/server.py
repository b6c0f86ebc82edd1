"""Answering git's filter requests: content in on clean, content out on smudge.

One process serves one git command. An answer to clean is given only once everything it refers to is in the repository
and safe from pruning; it is on the disk when git ends, because git waits for us.
Nothing is held whole in memory except what git asks back, which git itself holds whole.
"""

import fcntl
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

from gitml.allocation import keep_freed_memory, spare_threads
from gitml.errors import ExitCode, GitmlError, MachineError, MissingDataError
from gitml.filter.lookahead import Lookahead, Prepared
from gitml.git.filler import Filler, standing_pointer
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.packindex import ObjectIndex
from gitml.git.packreader import PackReader
from gitml.git.places import Places
from gitml.git.repository import Repository
from gitml.git.skip import SkipPatterns, read_skip, wants_pointers
from gitml.git.staging import Staging
from gitml.git.state import was_told_to_be_quiet
from gitml.git.verified import VerifiedPointers
from gitml.meter import Meter, is_shown, silence
from gitml.oid import Oid
from gitml.protocol.filter_process import Content, End, Event, FilterConnection, Hello, Offer, Request
from gitml.protocol.packetblock import PacketBlock
from gitml.store.comparison import compare_content
from gitml.store.content import Stored, passes_through, read_content, store_content
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import Manifest
from gitml.store.pointer import MAX_POINTER_SIZE, Pointer, format_pointer, is_pointer, parse_pointer

SMUDGE_LIMIT = 512 << 10
"""Content of more bytes than this (or `ml.smudgeLimit`) leaves smudge as a pointer.

Git would hold it in memory, and take twice the time that a hook takes, which fills in two files at a time.
"""

_READ = 1 << 18
_PIPE = 1 << 20
"""Bytes that the pipe from git may hold, so that git need not wait for us after each packet."""

_LONG = 1 << 20
"""Bytes of a file after which it is read in blocks."""

_IN_MEMORY = 16 << 20
_RESTORING = re.compile(r"index\.stash\.\d+")
"""The index of its own, by name, from which `git stash` checks untracked files out; no hook runs after that."""
_PATIENCE = (0.05, 0.5)
"""Seconds of silence, at first and at most, after which others may want to see what was stored."""


def main() -> int:
    """Serve the git process that started us, in the repository that it is in; give the exit status."""
    if is_shown() and was_told_to_be_quiet():
        silence()
    try:
        return serve(Repository.discover(), sys.stdin.buffer, sys.stdout.buffer)
    except GitmlError as error:
        _say(error)
        return int(error.exit_code)


def serve(repo: Repository, stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Serve one git process until it closes `stdin`; give the exit status. Messages go to standard error."""
    pipe = _Pipe(stdin, stdout)
    filters = _Filters(repo)
    try:
        while (event := pipe.next_event(filters.idle)) is not None:
            match event:
                case Hello():
                    pipe.send(pipe.connection.send_hello())
                case Offer(capabilities):
                    pipe.send(pipe.connection.send_capabilities(capabilities))
                case Request():
                    _answer(pipe, filters, event)
                    filters.answered(event)
        return 0
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except GitmlError as error:
        _say(error)
        return 1
    finally:
        filters.close()


def _answer(pipe: "_Pipe", filters: "_Filters", request: Request) -> None:
    content = pipe.content()
    answer: Iterator[bytes] | None = None
    try:
        handle = filters.clean if request.command == b"clean" else filters.smudge
        answer = handle(request.pathname, content)
    except BrokenPipeError:
        raise
    except GitmlError as error:
        _say(error, request.pathname)
    except OSError as error:
        _say(MachineError(error), request.pathname)
    except Exception as error:  # one file fails, the session goes on
        _say(GitmlError(f"{type(error).__name__}: {error}"), request.pathname)
    for _ in content:  # git sends the whole file whatever becomes of it
        pass
    if answer is None:
        pipe.send(pipe.connection.send_error())
        return
    pipe.send(pipe.connection.send_success(), flush=False)
    for piece in answer:
        for packet in pipe.connection.send_content(piece):
            pipe.send(packet, flush=False)
    pipe.send(pipe.connection.send_end())


class _Pipe:
    """The connection with its streams."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self.connection = FilterConnection()
        self._input = stdin.fileno()
        self._output = stdout
        self._held = bytearray()
        with suppress(OSError, AttributeError):  # Linux only, and the user may have reached a limit
            fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, _PIPE)

    def next_event(self, idle: "Callable[[float], float | None] | None" = None) -> Event | None:
        """The next event; None when git has closed the pipe between two files.

        `idle` is called with the seconds that git has been silent, 0 at first, and says for how many more it wants
        to wait before it is called again; None: for as long as it takes.
        """
        while (event := self.connection.next_event()) is None:
            silent = 0.0
            while idle is not None and (pause := idle(silent)) is not None:
                if select.select([self._input], [], [], pause)[0]:
                    break
                silent += pause
            data = os.read(self._input, _READ)
            if not data:
                self.connection.end_of_input()
                return None
            self.connection.receive_data(data)
        return event

    def content(self) -> Iterator[memoryview]:
        """The pieces of the requested file."""
        given = 0
        while True:
            block = self.connection.content_block() if given >= _LONG else None
            if block is not None:
                yield self._read_block(block)
                continue
            event = self.next_event()
            if not isinstance(event, Content):
                assert isinstance(event, End)
                return
            given += len(event.data)
            yield event.data

    def _read_block(self, block: PacketBlock) -> memoryview:
        while not block.is_over and (count := os.readv(self._input, block.buffers())):
            block.advance(count)
        content = self.connection.receive_block(block)
        if not block.is_over:
            self.connection.end_of_input()
        return content

    def send(self, data: bytes, *, flush: bool = True) -> None:
        """Send bytes to git, at once with `flush`. Each write wakes git, so what belongs together goes in one."""
        self._held += data
        if flush or len(self._held) >= _PIPE // 4:
            self._output.write(self._held)
            self._output.flush()
            self._held.clear()


class _Filters:
    """Clean and smudge, and what they share during one session."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._meter = Meter("reading")
        self._odb = GitOdb(repo.git, repo.format)
        self._staging = Staging(repo, self._odb)
        self._verified = VerifiedPointers(repo)
        self._lookahead = Lookahead()
        self._index: dict[bytes, Oid] | None = None
        self._patience = _PATIENCE[0]
        self._reader: PackReader | None = None
        self._limit: int | None = None
        self._skip: SkipPatterns | None = None
        self._untracked: list[bytes] | None = [] if _RESTORING.fullmatch(_name_of_index()) else None
        """The pointers left where no hook will come to fill them in; None where one will."""

    def close(self) -> None:
        """End the session: what was stored is durable, in few packs."""
        self._fill_in_untracked()
        self._meter.close()
        if self._reader is not None:
            self._reader.close()
        try:
            self._staging.close()
        except (GitmlError, OSError) as error:
            reason = error if isinstance(error, GitmlError) else MachineError(error)
            _say(
                GitmlError(
                    f"what was added is safe, but not part of the repository yet: {reason.message}",
                    hint="once the reason is gone, the next git add or commit sees to it",
                )
            )
        self._odb.close()

    def idle(self, silent: float) -> float | None:
        """See `_Pipe.next_event`: what was stored becomes visible to others once git asks for nothing more.

        Each time it turns out that git did go on, twice the silence is waited for the next time.
        """
        if not self._staging.is_pending:
            return None
        if silent < self._patience:
            return self._patience - silent
        self._meter.close()  # git may start an editor now
        with suppress(GitmlError, OSError):  # what is stored is safe; `close` tries again and tells
            self._staging.flush()
        self._patience = min(2 * self._patience, _PATIENCE[1])
        return None

    def answered(self, request: Request) -> None:
        """Git has our answer and is busy with it for a moment."""
        if request.command == b"clean":
            self._lookahead.follow(request.pathname, self._pack_of_new)

    def clean(self, path: bytes, content: Iterator[memoryview]) -> Iterator[bytes]:
        """What git should store for a file of the worktree: small content as it is, else its pointer."""
        content = self._metered(path, content)
        head = bytearray()
        for piece in content:
            head += piece
            if passes_through(head, ended=False) is not None:
                break
        if passes_through(head, ended=True):
            return iter([bytes(head)])
        return iter([format_pointer(self._stored(path, chain([bytes(head)], content)))])

    def smudge(self, path: bytes, content: Iterator[memoryview]) -> Iterator[bytes]:
        """What stands in the worktree for a blob: the content behind a pointer, anything else as it is."""
        head = bytearray()
        for piece in content:
            head += piece
            if len(head) > MAX_POINTER_SIZE:
                break
        data = bytes(head)
        if not is_pointer(data):
            return _spooled(chain([data], content))
        try:
            pointer = parse_pointer(data)
            if wants_pointers() or self._skips(path):
                return iter([data])
            if pointer.size > self._smudge_limit():
                if self._untracked is not None:
                    self._untracked.append(path)
                return iter([data])
            return iter(list(read_content(pointer, self._packs())))
        except MissingDataError:
            # the hook that runs after the checkout fetches it, or says that it is nowhere
            if self._untracked is not None:
                self._untracked.append(path)
        except GitmlError as error:
            self._warn(path, error, "the pointer stays in its place; add the file again, or restore it from history")
        # A failing answer would stop a checkout half way, so the pointer itself is handed out.
        return _spooled(chain([data], content))

    def _fill_in_untracked(self) -> None:
        """Put content in place of the pointers that `git stash pop` wrote as untracked files; by now they are there."""
        if not self._untracked or self._repo.worktree is None:
            return
        places = Places(self._repo.worktree)
        found = (standing_pointer(places, path) for path in self._untracked)
        remedy = "once the reason is gone: git add it, git ml checkout it"
        try:
            for filled in Filler(self._repo, places, self._packs()).fill(each for each in found if each is not None):
                if filled.error is not None:
                    self._warn(filled.filling.path, filled.error, remedy)
        except OSError as error:
            _say(MachineError(error))

    def _packs(self) -> PackReader:
        """What reads chunks straight from packs, several times faster than git gives them."""
        if self._reader is None:
            self._reader = PackReader(ObjectIndex(self._repo.objects_dir, self._repo.format), self._staging)
        return self._reader

    def _stored(self, path: bytes, content: Iterator[bytes | memoryview]) -> Pointer:
        """Make content part of the repository and referenced; its pointer."""
        keep_freed_memory()
        spare_threads()
        prepared = self._lookahead.take(path)
        if prepared is not None:
            unequal = prepared.compare(content)
            if unequal is None:
                return self._written(path, prepared)
            content = unequal
        expected = self._expected(path)
        if expected is not None:
            pointer, manifest = expected
            is_verified = pointer in self._verified
            different = compare_content(content, pointer, manifest, self._repo.format, is_verified=is_verified)
            if different is None:
                self._verified.add(pointer)
                self._reference(path, pointer, manifest)
                return pointer
            # what was equal is read back from the chunks that are stored already
            equal, rest = different
            content = chain((self._staging.read(chunk.oid)[1] for chunk in manifest.chunks[:equal]), rest)
        with self._staging.storing(path) as pack:
            rereading, size = self._staging.rereading(path), _size_of(path)
            return self._kept(path, pack, lambda: store_content(content, pack, rereading, size=size))

    def _kept(self, path: bytes, pack: PackWriter, store: Callable[[], Stored]) -> Pointer:
        """Store content in `pack` and keep it; its pointer."""
        before = len(pack)
        stored = store()
        manifest_id = stored.pointer.manifest
        if len(pack) > before or not self._staging.references(path, manifest_id):
            self._staging.keep(path, manifest_id, stored.data_tree, stored.pointer)
        self._verified.add(stored.pointer)
        return stored.pointer

    def _written(self, path: bytes, prepared: Prepared) -> Pointer:
        """Store content that was prepared; its pointer."""
        with self._staging.storing(path) as pack:
            if pack is prepared.pack:
                return self._kept(path, pack, prepared.write)
            content = prepared.content
            return self._kept(path, pack, lambda: store_content([content], pack, size=len(content)))

    def _pack_of_new(self, path: bytes) -> PackWriter | None:
        """The pack that takes the content of a file that the index does not have; None for any other file."""
        if self._staging.is_full or self._staged_blob(path) is not None:
            return None
        return self._staging.current

    def _metered(self, path: bytes, content: Iterator[memoryview]) -> Iterator[memoryview]:
        self._meter.begin(_size_of(path) or 0)
        for piece in content:
            self._meter.advance(len(piece))
            yield piece

    def _expected(self, path: bytes) -> tuple[Pointer, Manifest] | None:
        """What the index says stands at `path`: most often git asks about files that did not change."""
        blob = self._staged_blob(path)
        found = self._odb.lookup(blob.hex()) if blob is not None else None
        if found is None or not is_pointer(found[2]):
            return None
        try:
            pointer = parse_pointer(found[2])
        except GitmlError:
            return None
        manifest = self._staging.whole_manifest(pointer)
        return None if manifest is None else (pointer, manifest)

    def _staged_blob(self, path: bytes) -> Oid | None:
        """What the index had at `path` when the session began to ask."""
        if self._index is None:
            self._index = {}
            for line in self._repo.git.output("ls-files", "-s", "-z").split(b"\0"):
                meta, tab, name = line.partition(b"\t")
                if tab and meta.startswith(b"100") and meta.endswith(b" 0"):
                    self._index[name] = Oid.parse(meta.split(b" ")[1])
        return self._index.get(path)

    def _reference(self, path: bytes, pointer: Pointer, manifest: Manifest) -> None:
        """Keep content that is stored already from being pruned."""
        if self._staging.references(path, pointer.manifest):
            return
        with self._staging.storing(path) as pack:
            self._staging.keep(path, pointer.manifest, write_data_tree(pointer.manifest, manifest, pack), pointer)

    def _smudge_limit(self) -> int:
        if self._limit is None:
            self._limit = self._repo.config_int("ml.smudgeLimit", SMUDGE_LIMIT)
        return self._limit

    def _skips(self, path: bytes) -> bool:
        if self._skip is None:
            self._skip = read_skip(self._repo)
        return self._skip.match(path)

    def _warn(self, path: bytes, error: GitmlError, remedy: str) -> None:
        _say(GitmlError(error.message, hint=remedy), path)


def _name_of_index() -> str:
    """The name of the file that git uses as its index, empty if it is that of the worktree."""
    return Path(os.environ.get("GIT_INDEX_FILE", "")).name


def _spooled(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """All of `pieces`, taken now and given later: git wants no answer before it has sent everything."""
    spool = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by the generator
    for piece in pieces:
        spool.write(piece)
    spool.seek(0)

    def given() -> Iterator[bytes]:
        with spool:
            while piece := spool.read(_READ):
                yield piece

    return given()


def _size_of(path: bytes) -> int | None:
    """Bytes of the file that git reads, as far as we can tell."""
    try:
        return os.lstat(path).st_size  # git starts filters at the top of the worktree
    except (OSError, ValueError):
        return None


def _say(error: GitmlError, path: bytes | None = None) -> None:
    where = "" if path is None else f"'{path.decode('utf-8', 'backslashreplace')}': "
    line = "\r\x1b[K" if sys.stderr.isatty() else ""  # where progress may stand
    text = f"{line}gitml: {where}{error.message}\n" + (f"gitml: hint: {error.hint}\n" if error.hint else "")
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    sys.stderr.flush()
