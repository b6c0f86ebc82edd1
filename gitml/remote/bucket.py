"""A store as a few verbs on named objects: read, write, exchange, list, delete.

`obstore` speaks to the services. Here are what it leaves open: which of its failures mean what, servers that answer
ranges with the wrong status, and how a store that ignores conditions is found out.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import LocalStore, MemoryStore

from gitml.errors import ExitCode, GitmlError, UserError
from gitml.record import record

PROBE = "conditional-writes"
"""The object by which a store shows that it minds conditions. It stays, and is never read."""

_ATTEMPTS = 4
"""Times that what obstore does not repeat by itself is tried."""
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified (bucket|container) does not exist", re.IGNORECASE)
"""How S3, Google and Azure say that there is no bucket."""

NO_CREDENTIALS = re.compile(
    r"/latest/(api/token|meta-data)|computeMetadata|/metadata/identity|169\.254\.|token request"
    r"|Account must be specified",
    re.IGNORECASE,
)
"""Where the clients look last, on the machine of a cloud, when they have found no credentials; and what Azure says."""

_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for profiles: pip install 'gitml[s3]'; "
    "for a public bucket: add ?anonymous=true",
    "gs": "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; for a public bucket: "
    "add ?anonymous=true",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or add ?use_azure_cli=true",
}

_PATIENCE = 8
"""Seconds without an answer after which a terminal is told what is waited for."""

Version = Mapping[str, str]
"""What a conditional write compares; it says nothing to anybody but the store."""


_PART = 16 << 20
"""Bytes of an object above which it is put in parts."""
_MOST_PARTS = 9000
"""Services take 10000."""


class StoreError(GitmlError):
    """A store does not do what it was asked. Carries `detail`, what it said."""

    exit_code = ExitCode.FATAL

    def __init__(self, message: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}: {detail}", hint=hint)
        self.detail = detail


class UnconditionalError(UserError):
    """A store takes writes that must not happen."""


@record
class Listed:
    """An object as a store lists it: its key, its size in bytes."""

    key: str
    size: int


@record
class Pieces:
    """The bytes of something large, one piece after the other, and how many they are together."""

    each: Iterable[bytes]
    size: int


class Bucket:
    """The objects below one address. Threads may use it side by side."""

    def __init__(self, store: Any, url: str) -> None:
        self.url = url
        self.requests = 0
        self._store = store
        self._talks = not isinstance(store, LocalStore | MemoryStore) and sys.stderr.isatty()
        self._trace = _Trace()
        self.gives_ranges = True
        """Whether the server has not yet answered a range with the whole object."""
        self._lock = Lock()

    def read(self, key: str) -> bytes | None:
        """A whole object, None if there is none; raise `StoreError`."""
        found = self._get(key)
        return None if found is None else bytes(found)

    def read_versioned(self, key: str) -> tuple[bytes, Version] | None:
        """A whole object and its version, None if there is none; raise `StoreError`."""
        with self._request("GET", key) as noted:
            found = self._attempt(lambda: _whole(obstore.get(self._store, key)))
            if found is None:
                return None
            data, meta = found
            noted.size = len(data)
            return bytes(data), _version(meta)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end` of an object; raise `StoreError`, also if it is not there or shorter."""
        at, data = self.read_around(key, start, end)
        return bytes(data[start - at : end - at])

    def read_around(self, key: str, start: int, end: int) -> tuple[int, memoryview]:
        """Those bytes and where they begin, perhaps with more: a server without ranges gives the whole object.

        The view is of the memory that they arrived in: copying pieces takes longer than writing them.
        """
        for _ in range(_ATTEMPTS):
            found = self._read_range(key, start, end)
            if found is None:
                detail = "it is not there"
                break
            if found[0] + len(found[1]) >= end:
                return found
            detail = f"{len(found[1])} bytes of {end - found[0]}"
        raise StoreError(f"cannot read '{self.url}/{key}'", detail, hint="git ml remote fsck says what is damaged")

    def write(self, key: str, data: bytes) -> None:
        """Put an object, whole or not at all; raise `StoreError`. Writing what is there already changes nothing."""
        with self._request("PUT", key, large=True) as noted:
            noted.size = len(data)
            self._attempt(lambda: obstore.put(self._store, key, data, use_multipart=False))

    def write_pieces(self, key: str, source: Callable[[], AbstractContextManager[Pieces]]) -> None:
        """Put an object of any size, whole or not at all, without holding a large one in memory; raise `StoreError`.

        `source` is opened once for each attempt; what it raises is passed on.
        """

        def put() -> bool:
            with source() as pieces:
                noted.size = pieces.size
                if pieces.size <= _PART:
                    obstore.put(self._store, key, b"".join(pieces.each), use_multipart=False)
                else:
                    part = max(_PART, pieces.size // _MOST_PARTS + 1)
                    obstore.put(
                        self._store, key, iter(pieces.each), use_multipart=True, chunk_size=part, max_concurrency=2
                    )
            return True

        with self._request("PUT", key, large=True) as noted:
            if self._attempt(put) is None:
                raise StoreError(f"cannot write '{self.url}/{key}'", "there is no such place")

    def write_part(self, key: str, source: int, start: int, end: int) -> None:
        """Put those bytes of an open file, as `write` does; raise `GitmlError` if it has not got them."""
        data = os.pread(source, end - start, start)
        if len(data) != end - start:
            raise cut_short()
        self.write(key, data)

    def tidy(self, seconds: float) -> None:
        """Remove what writes that were killed so long ago left under names of their own; services leave nothing."""

    def rely_on(self, key: str) -> None:
        """Count on an object that somebody else has written, as if we had; a service has it for good anyway."""

    def exchange(self, key: str, data: bytes, version: Version | None) -> bool:
        """Replace the object of this version (None: there must be none); False if it is another by now.

        Raise `StoreError`. If an answer of the store is lost, the write is tried again: False may be wrong, and after
        an error nobody knows; read it again.
        """
        mode: Any = "create" if version is None else dict(version)
        with self._request("PUT", key) as noted:
            noted.size = len(data)
            for attempt in range(_ATTEMPTS):
                try:
                    obstore.put(self._store, key, data, mode=mode, use_multipart=False)
                    return True
                except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                    return False
                except exceptions.NotSupportedError as error:
                    raise UnconditionalError(f"'{self.url}' knows no conditional writes: {detail_of(error)}") from None
                except (exceptions.BaseError, OSError, ValueError) as error:
                    # an answer that broke off: whatever it was, the condition still protects the object
                    if attempt == _ATTEMPTS - 1 or type(error) is not exceptions.GenericError or _is_final(error):
                        raise self._error("write", key, error) from None
                    time.sleep(0.1 * 4**attempt)
        raise AssertionError

    def minds_conditions(self) -> bool:
        """Whether the store refuses a write whose condition does not hold; takes two requests, or three."""
        try:
            first = self.exchange(PROBE, b"", None)
            if first and self.exchange(PROBE, b"", None):
                return False
            return not self.exchange(PROBE, b"", {"e_tag": '"0000"', "version": "1"})
        except UnconditionalError:
            return False

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects whose keys begin with the directory `prefix`; raise `StoreError`."""
        with self._request("LIST", prefix):
            found = self._attempt(
                lambda: [
                    Listed(meta["path"], meta["size"]) for batch in obstore.list(self._store, prefix) for meta in batch
                ]
            )
        yield from found or ()

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is none that failed. Raise `StoreError`."""
        for key in keys:
            with self._request("DELETE", key), suppress(FileNotFoundError):
                self._attempt(lambda key=key: obstore.delete(self._store, key))

    def _say_waiting(self) -> None:
        sys.stderr.write(f"\rwaiting for an answer from '{self.url}'; Ctrl-C ends it\n")

    def _get(self, key: str) -> memoryview | None:
        with self._request("GET", key) as noted:
            found = self._attempt(lambda: _whole(obstore.get(self._store, key)))
            noted.size = 0 if found is None else len(found[0])
        return None if found is None else found[0]

    def _read_range(self, key: str, start: int, end: int) -> tuple[int, memoryview] | None:
        if self.gives_ranges:
            try:
                with self._request("GET", f"{key} {start}-{end}", large=True) as noted:
                    data = self._attempt(lambda: obstore.get_range(self._store, key, start=start, end=end))
                    noted.size = 0 if data is None else len(data)
                return None if data is None else (start, memoryview(data))
            except StoreError as error:
                # a server that answers 200 to a range (rclone serve s3), or to one that is the whole object
                if "non-partial" not in error.detail:
                    raise
                self.gives_ranges = False
        whole = self._get(key)
        return None if whole is None else (0, whole)

    def _attempt(self, ask: Any) -> Any:
        """What `ask` gives, None if there is no such object. Repeats what can be repeated."""
        for attempt in range(_ATTEMPTS):
            try:
                return ask()
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise self._error("read", "", error) from None
                return None
            except exceptions.GenericError as error:
                # dropped connections in the middle of a body
                if attempt == _ATTEMPTS - 1 or "non-partial" in str(error) or _is_final(error):
                    raise self._error("reach", "", error) from None
                time.sleep(0.1 * 4**attempt)
            except (exceptions.BaseError, OSError, ValueError) as error:
                raise self._error("use", "", error) from None
        raise AssertionError

    def _error(self, verb: str, key: str, error: Exception) -> StoreError:
        hint = None
        if NO_CREDENTIALS.search(str(error).partition("\n\nDebug source")[0]):
            return no_credentials(self.url)
        if _NO_BUCKET.search(str(error)):
            return StoreError(
                f"cannot {verb} '{self.url}'", "there is no such bucket", hint="create it, or check the address"
            )
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            hint = "check the credentials: see 'Credentials' in docs/remote.md"
        where = f"{self.url}/{key}" if key else self.url
        return StoreError(f"cannot {verb} '{where}'", detail_of(error), hint=hint)

    @contextmanager
    def _request(self, verb: str, key: str, *, large: bool = False) -> Iterator["_Noted"]:
        noted = _Noted()
        start = time.monotonic()
        with self._lock:
            self.requests += 1
        # large ones have a progress of their own
        timer = Timer(_PATIENCE, self._say_waiting) if self._talks and not large else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield noted
        finally:
            if timer is not None:
                timer.cancel()
            self._trace.write(f"{verb} {key} {noted.size} B {1000 * (time.monotonic() - start):.1f} ms")


def no_credentials(url: str) -> StoreError:
    """What to say where nothing that the clients look at has credentials."""
    return StoreError(f"cannot use '{url}'", "no credentials were found", hint=_CREDENTIALS[url.partition(":")[0]])


def _whole(result: Any) -> tuple[memoryview, Any]:
    """The bytes of an object and what is known of it; raise `GenericError` for less than all of it."""
    data = memoryview(result.bytes())
    if len(data) != result.meta["size"]:
        # obstore goes on after a broken connection, and takes what the second answer has for the rest
        raise exceptions.GenericError(f"{len(data)} bytes of {result.meta['size']}")
    return data, result.meta


def _version(meta: Any) -> Version:
    """Google compares the generation, the others the ETag."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def cut_short() -> GitmlError:
    """What to say of a pack here that ends before it should."""
    return GitmlError("a pack was cut short while it was sent", hint="push again")


def detail_of(error: Exception) -> str:
    """What a service said, in one line."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>([^<]*)</Code>(?:.*?<Message>([^<]*)</Message>)?", text, re.DOTALL)
    if code:
        return f"{code[1]}{': ' + code[2].partition('RequestId')[0].strip() if code[2] else ''}"
    silent = re.search(r"Error performing [A-Z]+ (https?://[^/]+)\S* in .*(?:error sending request|timed out)", text)
    if silent:
        return f"no answer from {silent[1]}"
    broken = re.search(r"Error performing [A-Z]+ (https?://[^/]+).*body error", text)
    if broken:
        return f"the answer of {broken[1]} breaks off"
    status = re.search(r"status code: (\d+ [A-Z][\w ]*)", text)
    if status:
        return f"the server says {status[1].strip()}"
    return " ".join(text.split())[:300] or type(error).__name__


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help: obstore has tried long enough, or nobody is there."""
    text = str(error)
    return (
        "after 8 retries" in text
        or "timed out" in text
        or re.search(r"\bretries: 8\b", text) is not None
        or "status code: 4" in text
        or NO_CREDENTIALS.search(text.partition("\n\nDebug source")[0]) is not None
    )


class _Noted:
    """What a request carried."""

    size = 0


class _Trace:
    """The requests, where `GITML_TRACE_REMOTE` asks for them: 1 for standard error, or an absolute path."""

    def __init__(self) -> None:
        self._target = os.environ.get("GITML_TRACE_REMOTE", "")

    def write(self, line: str) -> None:
        """Add a line."""
        if self._target in ("", "0", "false"):
            return
        if self._target.startswith("/"):
            with suppress(OSError), Path(self._target).open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {line}\n")
        else:
            sys.stderr.write(f"remote: {line}\n")
