"""Checkpoints of PyTorch, in the layouts that it writes."""

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gitml.formats.child import compare, summarize
from tests.formats.test_hostile import Reduced
from tests.formats.torch_files import Parameter, Storage, View, state, write_old_torch, write_torch

VALUES = np.random.default_rng(3).normal(size=(3, 5)).astype("f4")
WRITERS = pytest.mark.parametrize("write", [write_torch, write_old_torch])


@WRITERS
def test_tensors_and_where_they_are(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    write(path, state({"layer.weight": VALUES, "layer.bias": np.ones(3, "f2"), "steps": np.arange(2)}))
    found = summarize(path)
    assert (found.format, found.opaque, found.warnings) == ("torch", "", ())
    assert [(each.name, each.dtype, each.shape) for each in found.tensors] == [
        ("layer.weight", "F32", (3, 5)), ("layer.bias", "F16", (3,)), ("steps", "I64", (2,))
    ]  # fmt: skip
    start, length = found.tensors[0].extent or (0, 0)
    assert path.read_bytes()[start : start + length] == VALUES.tobytes()
    assert "torch.FloatStorage" in found.globals


@WRITERS
def test_what_changed(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "a.pt", {"model": state({"w": VALUES, "b": np.ones(3, "f4")}), "epoch": 1})
    write(tmp_path / "b.pt", {"model": state({"w": VALUES + np.float32(0.5), "b": np.ones(3, "f4")}), "epoch": 2})
    found = compare(tmp_path / "a.pt", tmp_path / "b.pt")
    (change,) = found.tensors
    assert (change.name, found.same, found.unread) == ("model.w", 1, 0)
    assert change.norm == pytest.approx(0.5 * np.sqrt(15))
    assert found.parameters == {"epoch": (1, 2)}


@WRITERS
def test_views_of_one_storage(write: Callable[..., None], tmp_path: Path) -> None:
    storage = Storage(VALUES)
    write(
        tmp_path / "m.pt",
        OrderedDict(
            whole=View(storage, (3, 5)), last=View(storage, (5,), offset=10), turned=View(storage, (5, 3), 0, (1, 5)),
            learnt=Parameter(View(storage, (15,))),
        ),
    )  # fmt: skip
    found = {each.name: each for each in summarize(tmp_path / "m.pt").tensors}
    assert set(found) == {"whole", "last", "turned", "learnt"}
    start, length = found["last"].extent or (0, 0)
    assert (tmp_path / "m.pt").read_bytes()[start : start + length] == VALUES[2].tobytes()
    assert (found["turned"].order, found["turned"].extent) == ("strided", None)


def test_deflated_and_of_another_byte_order(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pt", state({"w": VALUES}), zipfile.ZIP_DEFLATED)
    write_torch(tmp_path / "b.pt", state({"w": VALUES * 2}), zipfile.ZIP_DEFLATED)
    (change,) = compare(tmp_path / "a.pt", tmp_path / "b.pt").tensors
    assert change.relative == pytest.approx(1.0)
    write_torch(tmp_path / "big.pt", state({"w": VALUES}), byteorder="big")
    assert compare(tmp_path / "a.pt", tmp_path / "big.pt").unread == 1


@WRITERS
def test_a_view_beyond_its_storage(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "m.pt", OrderedDict(w=View(Storage(VALUES), (3, 5), offset=1)))
    assert "a tensor ends at 64" in summarize(tmp_path / "m.pt").opaque


@WRITERS
def test_code_beside_the_tensors(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "m.pt", {"model": state({"w": VALUES}), "note": Reduced(eval, "1")})
    assert summarize(tmp_path / "m.pt").warnings == ("loading it uses __builtin__.eval",)


def test_code_elsewhere_in_the_archive(tmp_path: Path) -> None:
    write_torch(tmp_path / "m.pt", state({"w": VALUES}))
    with zipfile.ZipFile(tmp_path / "m.pt", "a") as archive:
        archive.writestr("model/constants.pkl", b"\x80\x02cos\nsystem\n.")
        archive.writestr("model/code/__torch__.py", "class M: ...")
    found = summarize(tmp_path / "m.pt")
    assert found.warnings == ("loading it uses os.system", "holds code (TorchScript)")
    assert found.facts["files of TorchScript"] == "1"
