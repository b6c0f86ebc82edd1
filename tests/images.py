"""Archives of container images, made here."""

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

Member = tuple[str, str | bytes | int] | tuple[str, str | bytes | int, int]
"""Name and content: bytes of a file, or a mark with text: `->` a symbolic, `=>` a hard link; a number is a type."""


def layer(*members: Member) -> bytes:
    """A tar stream. A name that ends in `/` is a directory; the third item is a mode."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, *mode in members:
            info = tarfile.TarInfo(name.rstrip("/") if name != "./" else "./")
            info.mtime, info.mode = 1_600_000_000, mode[0] if mode else 0o755 if name.endswith("/") else 0o644
            body = b""
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif isinstance(content, int):
                info.type = bytes([content])
            elif isinstance(content, str) and content.startswith("->"):
                info.type, info.linkname = tarfile.SYMTYPE, content[2:]
            elif isinstance(content, str) and content.startswith("=>"):
                info.type, info.linkname = tarfile.LNKTYPE, content[2:]
            else:
                body = content.encode() if isinstance(content, str) else content
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return data.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def configuration(layers: Iterable[bytes], settings: Mapping[str, Any], machine: str = MACHINE) -> bytes:
    document = {
        "os": "linux",
        "architecture": machine,
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
    }
    return json.dumps(document).encode()


def oci(
    layers: Sequence[bytes], machine: str = MACHINE, name: str | None = None, compress: bool = True, **settings: Any
) -> dict[str, bytes]:
    """The files of an OCI image layout with one image."""
    files: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        files["blobs/" + digest(data).replace(":", "/")] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    packed = [gzip.compress(each, mtime=0) if compress else each for each in layers]
    manifest = {
        "schemaVersion": 2,
        "config": blob(configuration(layers, settings, machine), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(each, "application/vnd.oci.image.layer.v1.tar+gzip") for each in packed],
    }
    entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if name is not None:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return files


def saved(layers: Sequence[bytes], name: str, **settings: Any) -> dict[str, bytes]:
    """The files that old versions of `docker save` write."""
    config = configuration(layers, settings)
    files = {f"{number}/layer.tar": each for number, each in enumerate(layers)}
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": list(files)}
    return {**files, "config.json": config, "manifest.json": json.dumps([entry]).encode()}


def write_tar(files: Mapping[str, bytes], path: Path, *, compress: bool = False) -> Path:
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_directory(files: Mapping[str, bytes], path: Path) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
