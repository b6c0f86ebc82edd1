"""The attributes that hold in one clone only: our block of `info/attributes`, and which paths stand in it.

Git merges results by the driver `ml-result`, which keeps our side without starting a process, and large files by the
driver `ml`. That need not stand in `.gitattributes`: which paths are outputs is known from the pipeline, and a clone
without gitml has no such drivers.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from gitml.git.repository import Repository
from gitml.git.tracking import committed_patterns, literal_pattern, quoted_pattern
from gitml.store.datatree import INCOMPRESSIBLE_SUFFIX

_BINARY = (
    ".safetensors", ".npy", ".npz", ".pkl", ".pickle", ".joblib", ".skops", ".pt", ".pth", ".onnx", ".gguf", ".keras",
    ".ubj", ".parquet", ".arrow", ".feather", ".sqlite", ".sqlite3", ".db",
)  # fmt: skip
"""Ends of names of which `git diff` would only say that they differ, or show pointers."""
_BEGIN = b"# gitml: begin\n"
_END = b"# gitml: end\n"


def write_attributes(repo: Repository, outputs: Iterable[bytes]) -> None:
    """Bring our block up to date for a pipeline with these outputs; the file is not written if it is so already."""
    lines = [f"*{INCOMPRESSIBLE_SUFFIX.decode()} -delta"]
    # by name, and not with the filter: git starts a process for each version that it shows
    lines += [f"*{suffix} diff=ml" for suffix in _BINARY]
    lines += [f"{pattern} merge=ml" for pattern in committed_patterns(repo)]
    lines.append(".gitml/records/** merge=ml-result -text")
    # last, so that an output that is stored as chunks is a result first
    lines += [f"{_below(output)} merge=ml-result" for output in sorted(outputs)]
    _edit(repo, _BEGIN + os.fsencode("".join(f"{line}\n" for line in lines)) + _END)


def remove_attributes(repo: Repository) -> None:
    """Take our block out; what else stands in the file stays byte for byte."""
    _edit(repo, b"")


def _below(output: bytes) -> str:
    return quoted_pattern("/" + literal_pattern(os.fsdecode(output)) + "/**")


def _edit(repo: Repository, block: bytes) -> None:
    path = repo.common_dir / "info" / "attributes"
    before = _read(path)
    head, begin, rest = before.partition(_BEGIN)
    text = head + rest.partition(_END)[2] if begin else before
    if text and not text.endswith(b"\n"):
        text += b"\n"
    text += block
    if text == before:
        return
    if not text:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("attributes.gitml-tmp")
    temporary.write_bytes(text)
    temporary.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
