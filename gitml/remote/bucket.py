"""A store as a few verbs on named objects: read, write, exchange, list, delete.

`obstore` speaks to the services. Here are what it leaves open: conditional writes to files, which of its failures
mean what, servers that answer ranges with the wrong status, and how a store that ignores conditions is found out.
"""

import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock, Timer
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from gitml.errors import ExitCode, GitmlError, UserError
from gitml.remote.address import Address, AddressError

PROBE = "conditional-writes"
"""The object by which a store shows that it minds conditions. It stays, and is never read."""

_RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CLIENT: Any = {
    # of a whole request: a piece must get through a slow line; what stalls is found by the time of one read
    "timeout": timedelta(minutes=15),
    "read_timeout": timedelta(seconds=30),
    "connect_timeout": timedelta(seconds=10),
}
_ATTEMPTS = 4
"""Times that what obstore does not repeat by itself is tried."""
_OWN = {"single_writer", "profile", "anonymous", "allow_http"}
"""Options that are ours and not obstore's."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified (bucket|container) does not exist", re.IGNORECASE)
"""How S3, Google and Azure say that there is no bucket."""

_NO_CREDENTIALS = re.compile(
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

_ENVIRONMENT_OF_S3 = {
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_METADATA_ENDPOINT", "AWS_SKIP_SIGNATURE",
}  # fmt: skip
_SETTING_OF_CREDENTIALS = ("metadata", "skip_signature", "credential", "web_identity")

_METADATA = ("169.254.169.254", 80)
"""Where a machine of a cloud has credentials for what runs on it."""

_PATIENCE = 8
"""Seconds without an answer after which a terminal is told what is waited for."""

Version = Mapping[str, str]
"""What a conditional write compares; it says nothing to anybody but the store."""


_PART = 16 << 20
"""Bytes of an object above which it is put in parts."""
_MOST_PARTS = 9000
"""Services take 10000."""
_LARGE = 1 << 20
"""Bytes of a file in a directory that are brought to the disk at once."""


class StoreError(GitmlError):
    """A store does not do what it was asked. Carries `detail`, what it said."""

    exit_code = ExitCode.FATAL

    def __init__(self, message: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}: {detail}", hint=hint)
        self.detail = detail


class UnconditionalError(UserError):
    """A store takes writes that must not happen."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a store lists it: its key, its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
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
            raise _cut_short()
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
                    raise UnconditionalError(f"'{self.url}' knows no conditional writes: {_detail(error)}") from None
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
        if _NO_CREDENTIALS.search(str(error).partition("\n\nDebug source")[0]):
            return no_credentials(self.url)
        if _NO_BUCKET.search(str(error)):
            return StoreError(
                f"cannot {verb} '{self.url}'", "there is no such bucket", hint="create it, or check the address"
            )
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            hint = "check the credentials: see 'Credentials' in docs/remote.md"
        where = f"{self.url}/{key}" if key else self.url
        return StoreError(f"cannot {verb} '{where}'", _detail(error), hint=hint)

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


class DirectoryBucket(Bucket):
    """A directory as a store. What is written is on the disk before `exchange` makes it visible."""

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(_local(directory) if directory.is_dir() else MemoryStore(), url)
        self._directory = directory
        self._unsynced: list[str] = []

    def write(self, key: str, data: bytes) -> None:
        """As for any bucket; the directory is made where there is none."""
        self._make()
        super().write(key, data)
        if len(data) >= _LARGE:
            # while other threads copy; one after the other at the end the disk would wait for us, then we for it
            try:
                _sync_file(self._directory / key)
            except OSError as error:
                raise self._error("write", key, error) from None
        with self._lock:
            self._unsynced.append(key)

    def write_part(self, key: str, source: int, start: int, end: int) -> None:
        """As for any bucket. The kernel copies, nothing passes through our memory, and the disk begins at once."""
        self._make()
        path = self._directory / key
        new = path.with_name(f"{path.name}#{os.urandom(4).hex()}")
        with self._request("PUT", key, large=True) as noted:
            noted.size = end - start
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    _copy(source, descriptor, start, end)
                    os.fsync(descriptor)
                    new.rename(path)
                finally:
                    os.close(descriptor)
                    new.unlink(missing_ok=True)
            except OSError as error:
                raise self._error("write", key, error) from None
        with self._lock:
            self._unsynced.append(key)

    def tidy(self, seconds: float) -> None:
        """As for any bucket; neither git nor a listing sees such files, only the clock of the file system tells."""
        over = time.time() - seconds
        for path in (*self._directory.glob(".refs.json.*"), *self._directory.glob("packs/**/*#*")):
            with suppress(OSError):
                if path.stat().st_mtime <= over:
                    path.unlink()

    def rely_on(self, key: str) -> None:
        """As for any bucket: a push that was killed may have left it in memory only."""
        with self._lock:
            self._unsynced.append(key)

    def exchange(self, key: str, data: bytes, version: Version | None) -> bool:
        """As for any bucket; under a lock of the kernel, which goes with its process."""
        with self._request("PUT", key) as noted:
            noted.size = len(data)
            try:
                self._make()
                self._sync()
                return self._replace(self._directory / key, data, version)
            except OSError as error:
                raise self._error("write", key, error) from None

    def read_versioned(self, key: str) -> tuple[bytes, Version] | None:
        """As for any bucket."""
        data = self.read(key)
        return None if data is None else (data, _digest(data))

    def minds_conditions(self) -> bool:
        """A file system with locks does."""
        return True

    def _make(self) -> None:
        if isinstance(self._store, MemoryStore):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._store = _local(self._directory)

    def _sync(self) -> None:
        with self._lock:
            keys, self._unsynced = self._unsynced, []
        for key in keys:
            _sync_file(self._directory / key)
        directories: set[Path] = set()
        for key in keys:
            # up to the store itself: a directory is on the disk once the one that names it is
            directories.update(each for each in (self._directory / key).parents if each.is_relative_to(self._directory))
        for directory in directories:
            _sync_file(directory)

    def _replace(self, path: Path, data: bytes, version: Version | None) -> bool:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                current: Version | None = _digest(path.read_bytes())
            except FileNotFoundError:
                current = None
            if current != version:
                return False
            new = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
            try:
                with new.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                new.rename(path)
            finally:
                new.unlink(missing_ok=True)
            os.fsync(descriptor)
            return True
        finally:
            os.close(descriptor)


def open_bucket(address: Address) -> Bucket:
    """The bucket at an address; nothing is asked of it yet. Raise `AddressError`."""
    if address.scheme == "file":
        unknown = address.options.keys() - {"single_writer"}
        if unknown:
            raise AddressError(f"a directory has no option '{min(unknown)}'")
        return DirectoryBucket(Path(address.path), address.url)
    build = {"s3": _open_s3, "gs": _open_gs, "az": _open_az}[address.scheme]
    try:
        return Bucket(build(address), address.url)
    except exceptions.UnknownConfigurationKeyError as error:
        raise AddressError(f"unknown option in the address: {_detail(error)}", hint="see docs/remote.md") from None
    except (exceptions.BaseError, ValueError, TypeError) as error:
        if _NO_CREDENTIALS.search(str(error)):
            raise no_credentials(address.url) from None
        raise AddressError(f"cannot use '{address.url}': {_detail(error)}") from None


def no_credentials(url: str) -> StoreError:
    """What to say where nothing that the clients look at has credentials."""
    return StoreError(f"cannot use '{url}'", "no credentials were found", hint=_CREDENTIALS[url.partition(":")[0]])


def _require_machine(address: Address) -> None:
    """Raise `StoreError` unless this may be a machine of a cloud: the clients would look for one for a minute."""
    with suppress(OSError), socket.create_connection(_METADATA, timeout=1):
        return
    raise no_credentials(address.url)


def _open_s3(address: Address) -> S3Store:
    config: Any = {name: value for name, value in address.options.items() if name not in _OWN}
    if address.flag("anonymous"):
        config["skip_signature"] = True
    provider = _s3_credentials(address)
    elsewhere = any(word in name.lower() for name in config for word in _SETTING_OF_CREDENTIALS)
    if provider is None and not (elsewhere or address.flag("anonymous") or _ENVIRONMENT_OF_S3 & os.environ.keys()):
        _require_machine(address)
    return S3Store(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address, config),
        retry_config=_RETRIES, credential_provider=provider,
    )  # fmt: skip


def _open_gs(address: Address) -> GCSStore:
    config: Any = {name: value for name, value in address.options.items() if name not in _OWN}
    if address.flag("anonymous"):
        config["skip_signature"] = True
    return GCSStore(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address, config),
        retry_config=_RETRIES,
    )  # fmt: skip


def _open_az(address: Address) -> AzureStore:
    config: Any = {name: value for name, value in address.options.items() if name not in _OWN}
    if address.flag("anonymous"):
        config["skip_signature"] = True
    return AzureStore(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address, config),
        retry_config=_RETRIES,
    )  # fmt: skip


def _client(address: Address, config: Mapping[str, Any]) -> Any:
    """Settings of the HTTP client. Without TLS only to this machine, unless the user asks for it."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if address.scheme == "s3" else ()
    endpoint = config.get("endpoint") or next((os.environ[name] for name in names if os.environ.get(name)), "")
    allowed = address.flag("allow_http") or (bool(endpoint) and urlsplit(endpoint).hostname in _LOOPBACK)
    if endpoint.startswith("http://") and not allowed:
        raise AddressError(f"'{endpoint}' is not encrypted", hint="use https, or say allow_http=true")
    return {**_CLIENT, "allow_http": allowed}


def _s3_credentials(address: Address) -> Any:
    """The credentials of boto3, which knows profiles and single sign-on; None leaves the choice to obstore.

    obstore reads the environment and asks the machine it runs on (web identity, container, instance).
    """
    profile = address.options.get("profile") or os.environ.get("AWS_PROFILE")
    if address.flag("anonymous") or (profile is None and "AWS_ACCESS_KEY_ID" in os.environ):
        return None
    files = [os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
             os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")]  # fmt: skip
    if profile is None and not any(Path(file).expanduser().exists() for file in files):
        return None
    try:
        import boto3.session  # noqa: PLC0415 - 0.3 s, and only where there are profiles
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError:
        if profile is None:
            return None
        raise AddressError(
            f"the AWS profile '{profile}' can only be read with boto3", hint="pip install 'gitml[s3]'"
        ) from None
    try:
        return Boto3CredentialProvider(boto3.session.Session(profile_name=profile))
    except Exception as error:  # botocore has many
        raise AddressError(f"no credentials from the AWS configuration: {error}") from None


def _whole(result: Any) -> tuple[memoryview, Any]:
    """The bytes of an object and what is known of it; raise `GenericError` for less than all of it."""
    data = memoryview(result.bytes())
    if len(data) != result.meta["size"]:
        # obstore goes on after a broken connection, and takes what the second answer has for the rest
        raise exceptions.GenericError(f"{len(data)} bytes of {result.meta['size']}")
    return data, result.meta


def _local(directory: Path) -> LocalStore:
    return LocalStore(prefix=directory, automatic_cleanup=True)


def _version(meta: Any) -> Version:
    """Google compares the generation, the others the ETag."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def _digest(data: bytes) -> Version:
    return {"e_tag": sha256(data).hexdigest()}


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Append those bytes of one open file to another."""
    copied = 0
    while start < end:
        try:
            copied = os.copy_file_range(source, target, end - start, start)
        except (AttributeError, OSError) as error:  # another system, another file system, or one that cannot
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            copied = os.write(target, os.pread(source, min(end - start, _LARGE), start))
        if copied == 0:
            raise _cut_short()
        start += copied


def _cut_short() -> GitmlError:
    return GitmlError("a pack was cut short while it was sent", hint="push again")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _detail(error: Exception) -> str:
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
        or _NO_CREDENTIALS.search(text.partition("\n\nDebug source")[0]) is not None
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
