"""Archives of container images: which image is in one, how it is set up, and its layers.

Two forms, as a tar file (also compressed) or as a directory: the OCI image layout (`index.json` and blobs named by
their digest) and what `docker save` wrote before it wrote that too (`manifest.json`). Manifests and configurations are
checked by their digests, layers by the digests of their content (`diff_ids`). So the digest of the configuration says
all that the image is; it is what docker calls the id of an image.
"""

import bz2
import contextlib
import gzip
import hashlib
import importlib
import json
import lzma
import platform
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from gitml.pipeline.unpack import ImageError
from gitml.provenance.codec import printable
from gitml.record import record

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_DOCUMENT = 16 << 20
_DEEPEST = 4
_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of an image that sets none, as docker has it."""
_HINT = "make it with: docker save -o FILE IMAGE, or skopeo copy docker://IMAGE oci-archive:FILE"


@record(kw_only=True)
class Image:
    """What an image says of itself."""

    digest: str
    """Of its configuration."""
    manifest: str | None
    """Digest of its manifest; None: the archive has none."""
    variables: dict[str, str]
    working_dir: str
    """Empty: none."""
    user: str
    """`user[:group]`, names or numbers; empty: root."""

    def is_meant(self, digest: str) -> bool:
        """Whether a digest is that of the image: of its configuration or its manifest."""
        return digest in {self.digest, self.manifest}


class _Files(Protocol):
    """The files of an archive."""

    def has(self, name: str) -> bool: ...

    def open(self, name: str) -> IO[bytes]: ...


class Archive:
    """An archive that is open. `opened` makes one."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._layers: list[tuple[str, str]] = []
        """File and digest of content of each layer of the image that was asked for, lowest first."""

    def image(self, name: str, digest: str | None = None) -> Image:
        """The image of the archive: the only one for this machine, or the one called `name` or with `digest`.

        Raise `ImageError` if there is none, more than one, or it is damaged.
        """
        found = list(self._oci()) if self._files.has("index.json") else list(self._saved())
        meant = [each for each in found if digest is not None and digest in {each.manifest, each.config_digest}]
        if digest is None:
            tags = {name, name.rpartition(":")[2], _full(name)}
            meant = [each for each in found if tags & each.names] if len(found) > 1 else found
        if not found:
            raise ImageError(f"the archive has no image for {_machine()}", hint=_HINT)
        if not meant:
            wanted = f"with digest {digest}" if digest is not None else f"called '{printable(name.encode())}'"
            raise ImageError(
                f"the archive has no image {wanted}",
                hint=f"it has {', '.join(each.config_digest or '?' for each in found[:3])}",
            )
        if len({each.config_digest for each in meant}) > 1:
            raise ImageError(
                "the archive has several such images",
                hint=f"say which by 'digest': {', '.join(each.config_digest for each in meant)}",
            )
        return self._image(meant[0])

    def layers(self) -> Iterator["LayerStream"]:
        """The content of each layer, lowest first; read each to its end before the next, then `check` it."""
        for file, digest in self._layers:
            with self._files.open(file) as packed, _unpacked(packed) as stream:
                yield LayerStream(stream, digest)

    def _image(self, meant: "_Candidate") -> Image:
        config = meant.config
        settings = _part(config, "config", dict) if config.get("config") is not None else {}
        digests = _part(_part(config, "rootfs", dict), "diff_ids", list)
        if len(digests) != len(meant.layers) or not all(DIGEST.fullmatch(str(each)) for each in digests):
            raise ImageError("the image is damaged: its configuration does not fit its layers")
        self._layers = list(zip(meant.layers, map(str, digests), strict=True))
        return Image(
            digest=meant.config_digest,
            manifest=meant.manifest,
            variables=variables_of(settings),
            working_dir=str(settings.get("WorkingDir") or ""),
            user=str(settings.get("User") or ""),
        )

    # --- the two forms -------------------------------------------------------------------------------------

    def _oci(self) -> Iterator["_Candidate"]:
        yield from self._of_index(self._json("index.json", None), frozenset(), 0)

    def _of_index(self, index: dict[str, Any], names: frozenset[str], depth: int) -> Iterator["_Candidate"]:
        if depth > _DEEPEST:
            raise ImageError("the index of the image is nested too deeply")
        for entry in _part(index, "manifests", list):
            annotations = entry.get("annotations") or {}
            own = names | {str(annotations[key]) for key in _NAMES if key in annotations}
            if not _fits(entry.get("platform") or {}):
                continue
            digest = _digest_of(entry)
            document = self._json(_blob(digest), digest)
            if "manifests" in document:
                yield from self._of_index(document, own, depth + 1)
                continue
            config_digest = _digest_of(_part(document, "config", dict))
            config = self._json(_blob(config_digest), config_digest)
            if "rootfs" not in config or not _fits(config):
                continue  # another kind of artefact, or another machine
            layers = [_blob(_digest_of(layer)) for layer in _part(document, "layers", list)]
            yield _Candidate(config, config_digest, digest, layers, own)

    def _saved(self) -> Iterator["_Candidate"]:
        listed = _parsed(self._read("manifest.json"), object) if self._files.has("manifest.json") else None
        if not isinstance(listed, list):  # skopeo's 'dir:' has an object there
            raise ImageError("it is neither an OCI image layout nor what 'docker save' writes", hint=_HINT)
        for entry in listed:
            file = str(_part(entry, "Config", str))
            data = self._read(file)
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            config = _parsed(data, dict)
            if _fits(config):
                names = frozenset(str(tag) for tag in entry.get("RepoTags") or [])
                yield _Candidate(config, digest, None, [str(each) for each in _part(entry, "Layers", list)], names)

    def _json(self, file: str, digest: str | None) -> Any:
        data = self._read(file)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest.partition(":")[2]:
            raise ImageError(f"the image is damaged: '{file}' is not what its name says")
        return _parsed(data, dict)

    def _read(self, file: str) -> bytes:
        with self._files.open(file) as stream:
            data = stream.read(_LONGEST_DOCUMENT + 1)
        if len(data) > _LONGEST_DOCUMENT:
            raise ImageError(f"'{file}' in the archive is too long")
        return data


@record
class _Candidate:
    """An image of the archive."""

    config: dict[str, Any]
    config_digest: str
    manifest: str | None
    layers: list[str]
    names: frozenset[str]


class LayerStream:
    """The content of a layer, hashed as it is read."""

    def __init__(self, stream: IO[bytes], digest: str) -> None:
        self._stream = stream
        self._digest = digest
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end; raise `ImageError` for damaged data."""
        try:
            data = self._stream.read(size)
        except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
            raise ImageError(f"a layer of the image is damaged: {error}") from None
        self._hash.update(data)
        return data

    def check(self) -> None:
        """Read what is left, and raise `ImageError` unless all of it is what the image says."""
        while self.read(1 << 20):
            pass
        if f"sha256:{self._hash.hexdigest()}" != self._digest:
            raise ImageError("the image is damaged: a layer is not what its configuration says")


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at `path`, a tar file or a directory; raise `ImageError` if it cannot be read as one."""
    try:
        if path.is_dir():
            yield Archive(_Directory(path))
            return
        with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
            yield Archive(_Tar(tar))
    except tarfile.TarError as error:
        raise ImageError(f"it is no archive of an image: {error}", hint=_HINT) from None
    except FileNotFoundError:
        raise ImageError("the archive of the image is not there") from None
    except OSError as error:
        raise ImageError(f"cannot read the archive of the image: {error.strerror or error}") from None


class _Directory:
    def __init__(self, top: Path) -> None:
        self._top = top.resolve()

    def has(self, name: str) -> bool:
        return (self._top / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        path = (self._top / name).resolve()
        if not path.is_relative_to(self._top) or not path.is_file():
            raise ImageError(f"the archive lacks '{printable(name.encode('utf-8', 'surrogateescape'))}'")
        return path.open("rb")


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar}

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        stream = None
        with contextlib.suppress(KeyError):
            stream = self._tar.extractfile(self._members[name])  # follows links within the archive
        if stream is None:
            raise ImageError(f"the archive lacks '{printable(name.encode('utf-8', 'surrogateescape'))}'")
        return stream


@contextmanager
def _unpacked(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """The content of a layer, whatever compressed it; types in manifests are not always true."""
    start = packed.read(6)
    packed.seek(0)
    if start.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=packed) as stream:
            yield cast("IO[bytes]", stream)
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        with _zstd()(packed) as stream:
            yield stream
    elif start.startswith(b"BZh"):
        with bz2.BZ2File(packed) as stream:
            yield cast("IO[bytes]", stream)
    elif start.startswith(b"\xfd7zXZ\0"):
        with lzma.LZMAFile(packed) as stream:
            yield cast("IO[bytes]", stream)
    else:
        yield packed


def _zstd() -> Callable[[IO[bytes]], Any]:
    """What opens a stream that zstd compressed: Python itself from 3.14 on, or a package of its own."""
    for module, name in (("compression.zstd", "open"), ("zstandard", "open")):
        with contextlib.suppress(ImportError):
            return cast("Callable[[IO[bytes]], Any]", getattr(importlib.import_module(module), name))
    raise ImageError(
        "the layers of the image are compressed with zstd, which this Python cannot read",
        hint="pip install zstandard, or make the archive with 'docker save'",
    )


def variables_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The variables that an image sets, by the part `config` of its configuration; PATH is always among them."""
    found = {
        name: value
        for name, _, value in (str(each).partition("=") for each in settings.get("Env") or [])
        if name and "\0" not in name + value
    }
    return {"PATH": PATH, **found}


def _parsed(data: bytes, kind: type) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ImageError("the image is damaged: a document in it is not what it should be")
    return value


def _part(document: Any, name: str, kind: type) -> Any:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        raise ImageError(f"the image is damaged: '{name}' is missing in a document of it")
    return value


def _digest_of(descriptor: Any) -> str:
    digest = str(_part(descriptor, "digest", str))
    if not DIGEST.fullmatch(digest):
        raise ImageError("the image has digests other than sha256", hint=_HINT)
    return digest


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _machine() -> str:
    return _MACHINES.get(platform.machine(), platform.machine())


def _fits(described: dict[str, Any]) -> bool:
    """Whether an image is for this machine; what says nothing fits."""
    system, machine = described.get("os") or "linux", described.get("architecture") or _machine()
    return system == "linux" and machine == _machine()


def _full(name: str) -> str:
    """The name with everything that docker leaves out."""
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in host and ":" not in host and host != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
