"""Files that were made to do harm: no code runs, no limit is exceeded, nothing but a summary comes back."""

import io
import json
import os
import pickle
import random
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitml.formats.child import Limits, compare, summarize
from gitml.formats.detect import summarize as summarize_here
from tests.formats.test_readers import pipeline, write_torch

FEW = Limits(memory=1 << 30, seconds=10)


class Reduced:
    """Pickles as a call."""

    def __init__(self, what: Callable[..., Any], *arguments: Any) -> None:
        self._call = what, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["alone", "nested", "in a model"])
def test_code_in_a_pickle_never_runs(protocol: int, where: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    attack: Any = Reduced(os.system, f"touch {marker}")
    if where == "nested":
        attack = {"a": [1, (2, {"b": attack})]}
    elif where == "in a model":
        model = pipeline()
        model[1].note_ = attack
        attack = model
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(attack, protocol=protocol))
    found = summarize(path)
    assert any(name in ("posix.system", "os.system") for name in found.globals)
    assert any("loading it uses posix.system" in each for each in found.warnings)
    assert not marker.exists()
    # the file would do it
    pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("name", ["eval", "exec", "__import__", "getattr", "compile"])
def test_builtins_that_run_code_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Reduced(getattr(__import__("builtins"), name), "1")))
    assert summarize(path).warnings == (f"loading it uses builtins.{name}",)


def test_a_name_that_is_computed(tmp_path: Path) -> None:
    # STACK_GLOBAL of what a call gives
    data = b"\x80\x04cos\ngetcwd\n)R\x8c\x06system\x93."
    (tmp_path / "m.pkl").write_bytes(data)
    found = summarize(tmp_path / "m.pkl")
    assert "os.getcwd" in found.globals
    assert any("a name that is computed" in each for each in found.warnings)


def test_names_by_way_of_the_memo(tmp_path: Path) -> None:
    data = b"\x80\x04\x8c\x06posix0\x8c\x05posix\x94\x8c\x06system\x940h\x01h\x00" + b"0" + b"h\x00h\x01\x93."
    (tmp_path / "m.pkl").write_bytes(data)
    assert "posix.system" in summarize(tmp_path / "m.pkl").globals


def bomb(path: Path, name: str, size: int = 20 << 30) -> None:
    """An archive of a file that is said, and deflated, to be very long."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file,
    ):
        block = bytes(1 << 20)
        for _ in range(min(size, 256 << 20) >> 20):
            file.write(block)


@pytest.mark.parametrize(("name", "inner"), [("m.npz", "a.npy"), ("m.keras", "config.json"), ("m.pt", "m/data.pkl")])
def test_zip_bombs(name: str, inner: str, tmp_path: Path) -> None:
    bomb(tmp_path / name, inner)
    if name.endswith("keras"):
        with zipfile.ZipFile(tmp_path / name, "a") as archive:
            archive.writestr("metadata.json", "{}")
    found = summarize(tmp_path / name, limits=FEW)
    assert found.opaque != ""


def test_a_gzip_bomb(tmp_path: Path) -> None:
    import zlib

    squeeze = zlib.compressobj(9)
    text = pickle.dumps(b"x")[:2] + b"\x96" + struct.pack("<Q", 64 << 30)
    data = squeeze.compress(text) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(300)) + squeeze.flush()
    (tmp_path / "m.joblib").write_bytes(data)
    assert summarize(tmp_path / "m.joblib", limits=FEW).opaque != ""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.safetensors", struct.pack("<Q", 100 << 30) + b"{}"),
        ("m.safetensors", struct.pack("<Q", 1 << 63) + b"{" * 100),
        ("m.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000),
        ("m.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{}"),
        ("m.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"(" * 60000),
        ("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60)),
        ("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62)),
        ("m.onnx", b"\x3a" + b"\xff" * 100),
        ("m.onnx", b"\x3a\xff\xff\xff\xff\x0f"),
        ("m.json", b'{"learner":' + b"[" * 100_000),
        ("m.ubj", b"{L" + struct.pack(">q", 1 << 60)),
        ("m.ubj", b"{" + b"i\x01a[" * 100_000),
        ("m.pkl", b"\x80\x05\x8e" + struct.pack("<Q", 1 << 62)),
        ("m.pkl", b"\x80\x05\x8b" + struct.pack("<i", 1 << 30)),
        ("m.pkl", b"(" * 3_000_000),
        ("m.pkl", b"\x80\x02" + b"]2a" * 100),
        ("m.pkl", b"\x80\x02" + b"}]s"),
        ("m.pkl", b"I" + b"9" * 5000 + b"\n."),
    ],
)
def test_what_promises_too_much(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    found = summarize(tmp_path / name, limits=FEW)
    assert found.opaque != ""
    assert "reader ended" not in found.opaque


def test_deep_nesting_in_a_pickle(tmp_path: Path) -> None:
    # a list in a list, and so on: what walks it must not recurse
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    found = summarize(tmp_path / "m.pkl", limits=FEW)
    assert found.format == "pickle"


def test_limits_hold(tmp_path: Path) -> None:
    # an endless loop is none in a pickle, but twenty million opcodes are long
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + b"N0" * 30_000_000)
    found = summarize(tmp_path / "m.pkl", limits=Limits(memory=1 << 30, seconds=1))
    assert found.opaque == "reading it takes more than 1 s"
    # a few bytes of file, many of memory: each entry of the list is a list
    (tmp_path / "n.pkl").write_bytes(b"\x80\x02(" + b"}" * 1_900_000 + b"l.")
    found = summarize(tmp_path / "n.pkl", limits=Limits(memory=160 << 20, seconds=20))
    assert found.opaque == f"reading it takes more than {160 << 20} bytes of memory"
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert used > 0


def test_names_that_steer_a_terminal(tmp_path: Path) -> None:
    from gitml.review.lines import lines_of

    header = json.dumps({"w\x1b[31m\n+tensor": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    text = "\n".join(lines_of(summarize(tmp_path / "m.safetensors")))
    assert "\x1b" not in text
    assert "w\\u001b[31m\\n+tensor" in text


def samples(tmp_path: Path) -> dict[str, bytes]:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    np.savez(tmp_path / "a.npz", x=np.arange(3.0))
    joblib.dump(pipeline(), tmp_path / "a.joblib")
    write_torch(tmp_path / "a.pt", {"w": np.ones((2, 2), "f4")})
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found["a.pkl"] = pickle.dumps(pipeline(), protocol=0)
    found["a.safetensors"] = struct.pack("<Q", len(header)) + header + bytes(4)
    return found


def test_files_that_are_cut_or_damaged(tmp_path: Path) -> None:
    chance = random.Random(1)
    for name, data in samples(tmp_path).items():
        cuts = sorted({0, 1, 7, 8, 9, len(data) - 1, *(chance.randrange(len(data)) for _ in range(60))})
        for cut in cuts:
            summarize_here(io.BytesIO(data[:cut]), cut, name)
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            summarize_here(io.BytesIO(bytes(damaged)), len(damaged), name)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["m.pkl", "m.onnx", "m.ubj", "m.gguf", "m.json", "m.npy"]))
def test_any_bytes(data: bytes, name: str) -> None:
    heads = {"m.gguf": b"GGUF\x03\x00\x00\x00", "m.npy": b"\x93NUMPY\x01\x00", "m.ubj": b"{L", "m.pkl": b"\x80\x04"}
    whole = heads.get(name, b"") + data
    summarize_here(io.BytesIO(whole), len(whole), name)


def test_a_comparison_of_hostile_files(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 100 << 30) + b"{}")
    np.save(tmp_path / "b.npy", np.arange(3.0))
    assert compare(tmp_path / "a.safetensors", tmp_path / "b.npy").old.opaque != ""
