"""Files that were made to do harm: no code runs, no limit is exceeded, nothing but a summary comes back."""

import io
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from gitml import confined
from gitml.formats.child import Limits, compare, summarize
from gitml.formats.detect import summarize as summarize_here
from gitml.formats.summary import Summary
from tests.formats.test_readers import (
    library,
    pipeline,
    write_gguf,
    write_lightgbm,
    write_onnx,
    write_weights,
    write_xgboost,
)  # fmt: skip
from tests.formats.torch_files import state, write_old_torch, write_torch

FEW = Limits(memory=1 << 30, seconds=10)

KEYS = (
    "learner", "gradient_booster", "model", "trees", "tree_param", "num_nodes", "version", "attributes", "objective",
    "feature_names", "class_name", "config", "layers", "name", "module", "compile_config", "content", "file",
    "__class__", "__module__", "__loader__", "__metadata__", "dtype", "shape", "data_offsets", "w",
)  # fmt: skip


def documents() -> st.SearchStrategy[Any]:
    """JSON with the names that readers look for, in any place."""
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", "JsonNode", "", "\ud800"])
    )
    return st.recursive(
        scalars | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
        max_leaves=25,
    )


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


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("joblib.numpy_pickle", "os.system"),
        ("numpy", "load"),
        ("torch.hub", "load"),
        ("collections.abc", "sys.modules"),
        ("sklearn.base", "clone.__globals__"),
        ("numpy.testing._private.utils", "runstring"),
        ("joblib.externals.cloudpickle.cloudpickle", "_make_function"),
        ("functools", "reduce"),
        ("uuid", "_uuid.x"),
    ],
)
@pytest.mark.parametrize("opcode", ["new", "old", "escaped"])
def test_names_in_packages_that_models_use(module: str, name: str, opcode: str, tmp_path: Path) -> None:
    texts = [module.encode(), name.encode()]
    if opcode == "new":
        written = b"".join(b"\x8c" + bytes([len(text)]) + text for text in texts)
    elif opcode == "old":
        written = b"".join(b"U" + bytes([len(text)]) + text for text in texts)
    else:
        written = b"".join(b"S'" + b"".join(b"\\x%02x" % byte for byte in text) + b"'\n" for text in texts)
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04" + written + b"\x93)R.")
    found = summarize(path)
    assert found.globals == (f"{module}.{name}",)
    assert found.warnings == (f"loading it uses {module}.{name}",)


def test_objects_in_arrays(tmp_path: Path) -> None:
    array = np.array([1, Reduced(os.system, f"touch {tmp_path / 'marker'}")], dtype=object)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=array)
    for name in ("a.npy", "a.npz"):
        found = summarize(tmp_path / name)
        assert "posix.system" in found.globals
        assert found.warnings[-1] == "loading it uses posix.system"
    assert not (tmp_path / "marker").exists()


def test_a_pickle_behind_the_pickle(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1) + pickle.dumps(2) + pickle.dumps(Reduced(os.system, "true")))
    found = summarize(tmp_path / "m.pkl")
    assert "loading it uses posix.system" in found.warnings
    assert any("pickles follow the pickle: 2," in each for each in found.warnings)


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.pt"])
def test_a_pickle_that_breaks_after_the_deed(name: str, tmp_path: Path) -> None:
    from gitml.review.lines import lines_of

    marker = tmp_path / "marker"
    data = pickle.dumps(Reduced(os.system, f"touch {marker}"))[:-1] + b"\xff"
    if name == "m.pt":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("m/data.pkl", data)
    else:
        (tmp_path / name).write_bytes(data)
    found = summarize(tmp_path / name)
    assert "unknown opcode" in found.opaque
    assert found.globals == ("posix.system",)
    assert "warning: loading it uses posix.system" in lines_of(found)
    assert not marker.exists()
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)
    assert marker.exists()


def test_arrays_that_are_opcodes_to_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump(np.arange(4.0), path)
    data = path.read_bytes()
    array = np.arange(4.0).tobytes()
    head, rest = data.split(array)
    head = head.rstrip(b"\xff")
    # the count of the bytes that joblib passes over: as an opcode, 48 takes an object from the stack
    path.write_bytes(head[:-1] + b"0" + b"cos\ngetpid\n)R.".ljust(48, b".") + array + rest)
    assert np.array_equal(joblib.load(path), np.arange(4.0))
    assert pickle.loads(path.read_bytes()) == os.getpid()
    found = summarize(path)
    assert (found.format, found.opaque) == ("joblib", "")
    assert "os.getpid" in found.globals
    assert "refers to os.getpid if it is loaded by pickle, not joblib" in found.warnings


def test_a_pickle_that_looks_like_safetensors(tmp_path: Path) -> None:
    # eight bytes that are a length, and a brace: part of a number
    data = b"\x80\x04\x8a\x06\x00\x00\x00\x00{" + b"\x00" + b"0cos\nsystem\n."
    (tmp_path / "m.pkl").write_bytes(data)
    assert summarize(tmp_path / "m.pkl").globals == ("os.system",)


def test_numbers_that_stand_for_names(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04\x82\x05)R.")
    found = summarize(tmp_path / "m.pkl")
    assert found.globals == ("copyreg extension 5",)
    assert "copyreg extension 5" in found.warnings[0]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    write_torch(tmp_path / "m.pt", state({"w": np.ones(2, "f4")}))
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "m.pt", "a") as archive,
    ):
        archive.writestr("model/data.pkl", pickle.dumps({}))
    assert any("'model/data.pkl' more than once" in each for each in summarize(tmp_path / "m.pt").warnings)


@pytest.mark.parametrize(
    ("offsets", "said"),
    [([[0, 4], [2, 6]], "tensors overlap"), ([[0, 4], [8, 12]], "4 bytes belong to no tensor")],
)
def test_tensors_on_and_beside_each_other(offsets: list[list[int]], said: str, tmp_path: Path) -> None:
    entries = {str(at): {"dtype": "F32", "shape": [1], "data_offsets": each} for at, each in enumerate(offsets)}
    header = json.dumps(entries).encode()
    end = max(each[1] for each in offsets)
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
    assert said in summarize(tmp_path / "m.safetensors").warnings


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
        ("m.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"-" * 59999 + b"1"),
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


@pytest.mark.parametrize(
    "data",
    [
        # a tuple of the same tuple twice, sixty times: as a key it would be hashed 2 ** 60 times
        b"\x80\x02}N\x85" + b"2\x86" * 60 + b"Ns.",
        # dictionaries of dictionaries that are all the same
        b"\x80\x02}q\x00" + b"".join(b"(" + b"X\x01\x00\x00\x00%ch\x00" % 97 * 2 + b"dq\x00" for _ in range(60)) + b".",
        # pairs as the steps of a pipeline are, each of pairs
        b"\x80\x02]q\x00" + b"(X\x01\x00\x00\x00ah\x00t2\x86q\x00" * 60 + b".",
        # a list that is in itself
        b"\x80\x02]q\x00h\x00a.",
        # a list nested a hundred thousand times, and names for all of them
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
    ids=["keys", "dictionaries", "steps", "itself", "deep"],
)
def test_what_takes_longer_than_it_is(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(data)
    found = summarize(tmp_path / "m.pkl", limits=Limits(memory=1 << 30, seconds=4))
    assert (found.format, found.opaque) == ("pickle", "")


def test_keys_that_collide(tmp_path: Path) -> None:
    # multiples of the modulus of hashes: a dictionary of them takes the square of their number
    step = (1 << 61) - 1
    keys = b"".join(b"\x8a\x0b" + (number * step).to_bytes(11, "little") + b"N" for number in range(1, 60_000))
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02}(" + keys + b"u.")
    found = summarize(tmp_path / "m.pkl", limits=Limits(memory=1 << 30, seconds=1))
    # of processor time, or of the clock where others take that
    assert found.opaque in ("reading it takes more than 1 s", "reading it takes more than 2 s")


def test_archives_of_many_files(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {f"a{number}": np.ones(2) for number in range(3000)}
    np.savez(tmp_path / "m.npz", **arrays)
    assert len(summarize(tmp_path / "m.npz", limits=Limits(seconds=5)).tensors) == 3000


def test_the_reader_can_open_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    program = f"""
import os, resource, sys
import gitml.formats.child, gitml.formats.detect
def read(file, size, name):
    for attempt in (
        lambda: open({str(tmp_path / "written")!r}, "w"),
        lambda: open({str(tmp_path / "a.npy")!r}),
        lambda: os.open("/dev/null", os.O_RDONLY),
        lambda: os.pipe(),
        lambda: __import__("socket").socket(),
    ):
        try:
            attempt()
        except (OSError, ImportError):
            continue
        os._exit(3)
    os._exit(4)
gitml.formats.detect.summarize = read
gitml.formats.child.main([str(1 << 30), "10", "summarize", "m.npy", {str(tmp_path / "a.npy")!r}])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_an_answer_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({f"name{number}": number for number in range(10_000)}))
    assert summarize(tmp_path / "m.pkl").parameters["name9999"] == 9999
    found = summarize(tmp_path / "m.pkl", limits=Limits(answer=1000))
    assert found.opaque == "a summary of more than 1000 bytes"


def test_a_reader_that_only_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a program in the place of Python that uses no processor time
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    started = time.monotonic()
    assert summarize(tmp_path / "m.pkl", limits=Limits(seconds=1)).opaque == "reading it takes more than 2 s"
    assert time.monotonic() - started < 10


def test_a_reader_that_answers_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '{}'\nexec >&-\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(confined, "_ENDING", 0.2)
    assert summarize(tmp_path / "m.pkl").opaque == "the reader does not end"


def test_a_reader_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert summarize(tmp_path / "m.pkl").opaque == "the reader ended by signal 11"
    assert compare(tmp_path / "a.pkl", tmp_path / "b.pkl").new.opaque == "the reader ended by signal 11"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert summarize(tmp_path / "nowhere.pkl").opaque == "not a file"
    assert summarize(tmp_path).opaque == "not a file"
    os.mkfifo(tmp_path / "pipe.pkl")
    assert summarize(tmp_path / "pipe.pkl").opaque == "not a file"


@pytest.mark.parametrize("descr", ["<fzz", "<f3", "<i", "<f8,<f8", "<M8[zz]", "|b9", "|O9"])
def test_types_that_there_are_not(descr: str, tmp_path: Path) -> None:
    for name, content in (("a.npy", bytes(24)), ("b.npy", bytes([1]) * 24)):
        header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (3,), }}\n".encode()
        (tmp_path / name).write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + content)
    found = compare(tmp_path / "a.npy", tmp_path / "b.npy")
    assert "reader ended" not in found.new.opaque
    assert all(each.norm is None for each in found.tensors)


@pytest.mark.parametrize("name", ["m.json", "m.keras", "m.skops", "m.safetensors"])
@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(documents())
def test_documents_of_another_shape(name: str, document: Any) -> None:
    text = json.dumps(document).encode()
    file = io.BytesIO()
    if name == "m.safetensors":
        file.write(struct.pack("<Q", len(text)) + text)
    elif name == "m.json":
        file.write(text)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            for member in ("config.json", "metadata.json") if name == "m.keras" else ("schema.json",):
                archive.writestr(member, text)
    found = summarize_here(file, file.tell(), name)
    assert Summary.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found


def test_limits_hold(tmp_path: Path) -> None:
    # an endless loop is none in a pickle, but twenty million opcodes are long
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + b"N0" * 30_000_000)
    found = summarize(tmp_path / "m.pkl", limits=Limits(memory=1 << 30, seconds=1))
    # of processor time, or of the clock where others take that
    assert found.opaque in ("reading it takes more than 1 s", "reading it takes more than 2 s")
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


def test_names_that_are_long(tmp_path: Path) -> None:
    from gitml.review.lines import lines_of

    header = json.dumps({"w" * 1_000_000: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    lines = lines_of(summarize(tmp_path / "m.safetensors"))
    assert max(map(len, lines)) < 2100
    assert any("characters)" in line for line in lines)


SMALL = StandardScaler().fit(np.arange(6.0).reshape(3, 2))


def write_samples(directory: Path) -> None:
    """Small files of every kind."""
    np.save(directory / "a.npy", np.arange(3.0))
    np.savez(directory / "a.npz", x=np.arange(3.0))
    np.savez_compressed(directory / "b.npz", x=np.arange(3.0))
    joblib.dump(SMALL, directory / "a.joblib")
    joblib.dump(SMALL, directory / "b.joblib", compress=3)
    for protocol in range(6):
        (directory / f"{protocol}.pkl").write_bytes(pickle.dumps(SMALL, protocol=protocol))
    write_torch(directory / "a.pt", state({"w": np.ones((2, 2), "f4")}))
    write_old_torch(directory / "b.pt", state({"w": np.ones((2, 2), "f4")}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (directory / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with zipfile.ZipFile(directory / "a.keras", "w") as archive:
        layer = {"class_name": "Dense", "config": {"name": "dense", "units": 8}}
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.3.3"}))
    write_weights(directory / "a.h5", dense=[np.ones((2, 2), "f4")])
    write_gguf(directory / "a.gguf")
    write_onnx(directory / "a.onnx")
    library("skops.io").dump(SMALL, directory / "a.skops")
    for name in ("a.json", "a.ubj"):
        write_xgboost(directory / name)
    write_lightgbm(directory / "a.txt")


def test_every_file_that_is_cut(tmp_path: Path) -> None:
    write_samples(tmp_path)
    # text has no end, fields of ONNX may stand behind the graph; others end with padding or a checksum
    spare = {"a.txt": 1 << 20, "a.onnx": 20, "a.gguf": 32, "b.joblib": 8}
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        assert summarize_here(io.BytesIO(data), len(data), path.name).opaque == ""
        # the long ones not at every byte, but everywhere
        for cut in range(0, len(data), 1 + len(data) // 3000):
            found = summarize_here(io.BytesIO(data[:cut]), cut, path.name)
            assert "not built as it should be" not in found.opaque, (path.name, cut)
            assert found.opaque or len(data) - cut <= spare.get(path.name, 0), (path.name, cut)


def test_files_that_are_damaged(tmp_path: Path) -> None:
    write_samples(tmp_path)
    chance = random.Random(1)
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(min(len(damaged), 2000))] = chance.randrange(256)
            found = summarize_here(io.BytesIO(bytes(damaged)), len(damaged), path.name)
            json.dumps(found.as_json(), allow_nan=False)


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
