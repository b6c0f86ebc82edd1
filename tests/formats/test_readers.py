"""Files that the real libraries wrote."""

import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gitml.formats.child import compare, summarize
from gitml.formats.summary import Summary


def library(name: str) -> Any:
    """A library that wrote the file; some need more of the system than others."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        pytest.skip(f"{name} cannot be imported: {error}")


CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


def pipeline(strength: float = 0.5) -> Any:
    found = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=np.int64(77))).fit(X, Y)
    # as fit() with a table of pandas leaves it
    found[0].feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    return found


def write_pickle(path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps(pipeline(), protocol=protocol))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    write_pickle(path, protocol)
    check_pipeline(summarize(path))


def check_pipeline(found: Summary) -> None:
    assert found.opaque == ""
    assert found.warnings == ()
    assert found.facts["class"] == "sklearn.pipeline.Pipeline"
    assert found.features == ("a", "b", "c", "d")
    assert found.parameters["steps.logisticregression.C"] == 0.5
    assert found.parameters["steps.logisticregression.max_iter"] == 77
    assert found.parameters["steps.logisticregression.solver"] == "lbfgs"
    assert found.parameters["steps.standardscaler"] == "sklearn.preprocessing._data.StandardScaler"
    assert not any(name.endswith("_") for name in found.parameters)
    shapes = {tensor.name.rpartition(".")[2]: (tensor.dtype, tensor.shape) for tensor in found.tensors}
    assert shapes["coef_"] == ("<f8", (1, 4))
    assert shapes["mean_"] == ("<f8", (4,))
    assert "sklearn.linear_model._logistic.LogisticRegression" in found.globals


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_joblib(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(pipeline(), path, compress=compress)
    found = summarize(path)
    assert found.format == "joblib"
    check_pipeline(found)


def test_the_numbers_of_joblib_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    model = pipeline()
    joblib.dump(model, path)
    (coefficients,) = [tensor for tensor in summarize(path).tensors if tensor.name.endswith("coef_")]
    assert coefficients.extent is not None
    start, length = coefficients.extent
    assert np.array_equal(np.frombuffer(path.read_bytes()[start : start + length]), model[1].coef_[0])


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_the_trees_of_a_boosted_ensemble(dump: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    """scikit-learn keeps them in an array of objects, which has no numbers of its own."""
    path = tmp_path / "boosted"
    dump(GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=1).fit(X, Y), path)
    found = summarize(path)
    names = [tensor.name for tensor in found.tensors]
    assert [f"estimators_.{number}.tree_.values" in names for number in range(4)] == [True, True, True, False]
    assert "estimators_" not in names
    assert found.facts["inputs"] == str(X.shape[1])


def test_a_forest(tmp_path: Path) -> None:
    path = tmp_path / "forest.joblib"
    joblib.dump(RandomForestClassifier(5, max_depth=3, random_state=1).fit(X, Y), path)
    found = summarize(path)
    assert found.opaque == ""
    assert found.parameters["n_estimators"] == 5
    assert found.parameters["max_depth"] == 3
    assert found.facts["class"] == "sklearn.ensemble._forest.RandomForestClassifier"


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    np.savez(tmp_path / "stored.npz", x=X, y=Y)
    np.savez_compressed(tmp_path / "deflated.npz", x=X, y=Y)
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    (c,), (f,) = (summarize(tmp_path / name).tensors for name in ("c.npy", "f.npy"))
    assert (c.dtype, c.shape, c.order, f.order) == ("<f8", (60, 4), "C", "F")
    for name in ("stored.npz", "deflated.npz"):
        assert [(each.name, each.shape) for each in summarize(tmp_path / name).tensors] == [
            ("x", (60, 4)),
            ("y", (60,)),
        ]
    start, length = summarize(tmp_path / "stored.npz").tensors[0].extent or (0, 0)
    assert (tmp_path / "stored.npz").read_bytes()[start : start + length] == X.tobytes()
    assert "can run code" in summarize(tmp_path / "objects.npy").warnings[0]


def test_safetensors(tmp_path: Path) -> None:
    save_file = library("safetensors.numpy").save_file
    save_file({"w": X.astype("f4"), "b": Y}, tmp_path / "m.safetensors", metadata={"step": "3"})
    found = summarize(tmp_path / "m.safetensors")
    assert {(each.name, each.dtype, each.shape) for each in found.tensors} == {
        ("w", "F32", (60, 4)),
        ("b", "I64", (60,)),
    }
    assert found.facts == {"metadata.step": "3"}


def test_skops(tmp_path: Path) -> None:
    library("skops.io").dump(pipeline(), tmp_path / "m.skops")
    found = summarize(tmp_path / "m.skops")
    assert (found.format, found.opaque) == ("skops", "")
    assert found.facts["class"] == "sklearn.pipeline.Pipeline"
    assert 0.5 in [value for name, value in found.parameters.items() if name.endswith(".C")]
    assert "sklearn.preprocessing._data.StandardScaler" in found.globals
    assert ("steps.1.1.coef_", "<f8", (1, 4)) in [(each.name, each.dtype, each.shape) for each in found.tensors]
    # files are named by addresses, tensors are not
    library("skops.io").dump(pipeline(0.7), tmp_path / "n.skops")
    change = compare(tmp_path / "m.skops", tmp_path / "n.skops")
    assert list(change.parameters.values()) == [(0.5, 0.7)]
    assert all(each.old == each.new for each in change.tensors)
    assert "steps.0.1.mean_" not in [each.name for each in change.tensors]


def write_onnx(path: Path) -> None:
    onnx = library("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = helper.make_tensor("w", kind, [4, 2], np.arange(8, dtype="f4").tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", 4])],
        [helper.make_tensor_value_info("z", kind, ["N", 2])],
        [weights],
    )
    onnx.save(helper.make_model(graph, producer_name="us"), str(path))


def test_onnx(tmp_path: Path) -> None:
    write_onnx(tmp_path / "m.onnx")
    found = summarize(tmp_path / "m.onnx")
    assert [(each.name, each.dtype, each.shape) for each in found.tensors] == [("w", "F32", (4, 2))]
    assert found.features == ("x",)
    assert found.facts["input x"] == "F32 [N, 4]"
    assert found.facts["producer"] == "us"
    assert (found.facts["operator MatMul"], found.facts["operator Relu"], found.facts["nodes"]) == ("1", "1", "2")
    start, length = found.tensors[0].extent or (0, 0)
    assert (tmp_path / "m.onnx").read_bytes()[start : start + length] == np.arange(8, dtype="f4").tobytes()


def test_onnx_with_weights_in_another_file(tmp_path: Path) -> None:
    onnx = library("onnx")
    write_onnx(tmp_path / "whole.onnx")
    onnx.save(
        onnx.load(tmp_path / "whole.onnx"), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.data",
        size_threshold=0,
    )  # fmt: skip
    found = summarize(tmp_path / "m.onnx")
    assert found.warnings == ("tensor w is in another file: w.data",)
    assert [(each.name, each.shape, each.extent) for each in found.tensors] == [("w", (4, 2), None)]


def write_gguf(path: Path) -> None:
    gguf = library("gguf")
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_array("tokens", ["a", "b"])
    writer.add_tensor("t.w", np.arange(12, dtype="f4").reshape(3, 4))
    writer.add_tensor("t.b", np.ones(3, dtype="f2"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    found = summarize(tmp_path / "m.gguf")
    assert [(each.name, each.dtype, each.shape) for each in found.tensors] == [
        ("t.w", "F32", (3, 4)),
        ("t.b", "F16", (3,)),
    ]
    assert found.parameters["llama.block_count"] == 2
    assert found.parameters["tokens"] == "[a, b]"
    start, length = found.tensors[0].extent or (0, 0)
    assert (tmp_path / "m.gguf").read_bytes()[start : start + length] == np.arange(12, dtype="f4").tobytes()


def write_lightgbm(path: Path) -> None:
    lightgbm = library("lightgbm")
    data = lightgbm.Dataset(X, Y, feature_name=["a", "b", "c", "d"], params={"verbose": -1, "min_data_in_leaf": 2})
    lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 7}, data, 3).save_model(path)


def test_lightgbm(tmp_path: Path) -> None:
    write_lightgbm(tmp_path / "m.txt")
    found = summarize(tmp_path / "m.txt")
    assert (found.format, found.facts["trees"], found.features) == ("lightgbm", "3", ("a", "b", "c", "d"))
    assert found.parameters["num_leaves"] == "7"


def write_xgboost(path: Path) -> None:
    xgboost = library("xgboost")
    data = xgboost.DMatrix(X, Y, feature_names=["a", "b", "c", "d"])
    xgboost.train({"objective": "binary:logistic", "max_depth": 2}, data, 3).save_model(path)


@pytest.mark.parametrize("name", ["m.json", "m.ubj"])
def test_xgboost(name: str, tmp_path: Path) -> None:
    write_xgboost(tmp_path / name)
    found = summarize(tmp_path / name)
    assert (found.format, found.facts["trees"], found.features) == ("xgboost", "3", ("a", "b", "c", "d"))
    assert found.parameters["objective.name"] == "binary:logistic"
    assert found.facts["xgboost"] == library("xgboost").__version__


def write_weights(target: Any, **layers: Any) -> None:
    """As Keras does: saving/saving_lib.py, H5IOStore."""
    with library("h5py").File(target, "w") as file:
        for name, arrays in layers.items():
            variables = file.create_group(f"layers/{name}").create_group("vars")
            for number, each in enumerate(arrays):
                variables[str(number)] = each
        file.create_group("vars")


def write_keras(path: Path, weights: bytes, *, compression: int = zipfile.ZIP_STORED, units: int = 8) -> None:
    layer = {"class_name": "Dense", "config": {"name": "dense", "units": units, "activation": "relu"}}
    odd = {"class_name": "Lambda", "config": {"name": "odd", "function": {"class_name": "__lambda__"}}}
    config = {"class_name": "Sequential", "config": {"layers": [layer, odd]}}
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.3.3"}))
        archive.writestr("model.weights.h5", weights)


def weights(**layers: Any) -> bytes:
    content = io.BytesIO()
    write_weights(content, **layers)
    return content.getvalue()


def test_keras(tmp_path: Path) -> None:
    write_keras(tmp_path / "m.keras", weights(dense=[X.astype("f4"), Y]))
    found = summarize(tmp_path / "m.keras")
    assert (found.format, found.parameters["dense.units"], found.facts["layers"]) == ("keras", 8, "2")
    assert found.warnings == ("layer odd holds code (Lambda)",)
    assert [(each.name, each.dtype, each.shape) for each in found.tensors] == [
        ("layers/dense/vars/0", "<f4", X.shape), ("layers/dense/vars/1", "<i8", Y.shape)
    ]  # fmt: skip
    assert not [name for name in found.facts if name.startswith("weights")]


def test_what_changed_in_weights_of_keras(tmp_path: Path) -> None:
    moved = X.astype("f4")
    moved[3, 1] += 0.25
    write_keras(tmp_path / "old.keras", weights(dense=[X.astype("f4"), Y], gone=[Y]))
    write_keras(tmp_path / "new.keras", weights(dense=[moved, Y], wide=[Y]))
    found = compare(tmp_path / "old.keras", tmp_path / "new.keras")
    changes = {each.name: each for each in found.tensors}
    assert changes.keys() == {"layers/dense/vars/0", "layers/gone/vars/0", "layers/wide/vars/0"}
    assert changes["layers/dense/vars/0"].largest == pytest.approx(0.25, abs=1e-6)
    assert (found.same, found.unread) == (1, 0)


def test_weights_of_keras_that_are_not_looked_into(tmp_path: Path) -> None:
    write_keras(tmp_path / "m.keras", weights(dense=[Y]), compression=zipfile.ZIP_DEFLATED)
    assert "not looked into: they are compressed" in summarize(tmp_path / "m.keras").facts["weights model.weights.h5"]
    write_keras(tmp_path / "m.keras", b"\x89HDF")
    assert "not looked into: " in summarize(tmp_path / "m.keras").facts["weights model.weights.h5"]


def test_hdf5(tmp_path: Path) -> None:
    h5py = library("h5py")
    arrays = {
        f"{dtype.strip('<>|')}{'b' if dtype[0] == '>' else ''}": np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("<f2", "<f4", "<f8", ">f4", "|i1", "|u1", "<i2", ">i8", "<u4")
    }
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, array in arrays.items():
            file[f"group/{name}"] = array
        for number in range(300):  # more than one node of the tree
            file[f"many/{number}"] = number
        file["scalar"] = np.float32(3)
        file["empty"] = np.zeros((0, 3))
        file["text"] = "words"
        file["squeezed"] = file.create_dataset("chunked", data=X, compression="gzip")  # one dataset of two names
        file["link"] = h5py.SoftLink("/scalar")
        file.create_group("itself")["loop"] = file["/"]
        file.create_dataset("elsewhere", (4,), "<f4", external=[("/etc/passwd", 0, 16)])
        small = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        small.set_layout(h5py.h5d.COMPACT)
        inside = h5py.h5d.create(file.id, b"inside", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((2,)), small)
        inside.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.5, 2.5]))
    data = (tmp_path / "m.h5").read_bytes()
    found = summarize(tmp_path / "m.h5")
    assert found.opaque == ""
    tensors = {each.name: each for each in found.tensors}
    assert len(tensors) == len(arrays) + 300 + 6
    for name, array in arrays.items():
        tensor = tensors[f"group/{name}"]
        assert (tensor.dtype, tensor.shape) == (array.dtype.str, (2, 3))
        assert tensor.extent is not None
        start, length = tensor.extent
        assert data[start : start + length] == array.tobytes()
    start, length = tensors["inside"].extent or (0, 0)
    assert np.frombuffer(data[start : start + length]).tolist() == [1.5, 2.5]
    assert (tensors["empty"].shape, tensors["empty"].extent) == ((0, 3), (0, 0))
    for name in ("text", "elsewhere", "chunked" if "chunked" in tensors else "squeezed"):
        assert tensors[name].extent is None
    with h5py.File(tmp_path / "new.h5", "w", libver="latest") as file:
        file["x"] = X
    assert "newer form of HDF5" in summarize(tmp_path / "new.h5").opaque


# comparing


def test_what_changed_between_two_models(tmp_path: Path) -> None:
    save_file = library("safetensors.numpy").save_file
    old = {"same": X.astype("f4"), "moved": X.astype("f4"), "gone": Y, "cast": X.astype("f4"), "half": X.astype("f2")}
    new = {"same": old["same"], "moved": old["moved"].copy(), "new": Y, "cast": X.astype("f8"), "half": X.astype("f2")}
    new["moved"][3, 1] += np.float32(0.25)
    save_file(old, tmp_path / "old.safetensors", metadata={"step": "1"})
    save_file(new, tmp_path / "new.safetensors", metadata={"step": "2"})
    found = compare(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    changes = {each.name: each for each in found.tensors}
    assert set(changes) == {"moved", "gone", "new", "cast"}
    assert (changes["gone"].new, changes["new"].old, changes["cast"].old) == (None, None, "F32 [60, 4]")
    assert changes["cast"].new == "F64 [60, 4]"
    assert (found.same, found.unread) == (2, 0)
    moved = changes["moved"]
    assert moved.norm == moved.largest == pytest.approx(0.25, rel=1e-5)
    x, y = old["moved"].astype("f8").ravel(), new["moved"].astype("f8").ravel()
    assert moved.relative == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    assert moved.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    assert found.facts == {"metadata.step": ("1", "2")}


def test_bfloat16(tmp_path: Path) -> None:
    def write(name: str, values: np.ndarray[Any, Any]) -> Path:
        data = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        header = json.dumps({"w": {"dtype": "BF16", "shape": [len(values)], "data_offsets": [0, len(data)]}}).encode()
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header + data)
        return tmp_path / name

    first = write("a.safetensors", np.array([1.0, 2.0, -4.0]))
    second = write("b.safetensors", np.array([1.0, 2.5, -4.0]))
    (change,) = compare(first, second).tensors
    assert (change.norm, change.largest) == (0.5, 0.5)


def test_models_of_the_same_class(tmp_path: Path) -> None:
    joblib.dump(pipeline(0.5), tmp_path / "old.joblib")
    joblib.dump(pipeline(5.0), tmp_path / "new.joblib")
    found = compare(tmp_path / "old.joblib", tmp_path / "new.joblib")
    assert found.parameters == {"steps.logisticregression.C": (0.5, 5.0)}
    assert {each.name.rpartition(".")[2] for each in found.tensors} >= {"coef_", "intercept_"}
    assert found.same >= 3
    assert found.features == ((), ())
    assert found.globals == ((), ())


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_archives_of_arrays(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "a.npz", same=Y, x=X, y=Y)
    # in another order
    write(tmp_path / "b.npz", y=Y + 2, x=X + 1, same=Y)
    found = compare(tmp_path / "a.npz", tmp_path / "b.npz")
    assert (found.same, found.unread) == (1, 0)
    assert {each.name: each.largest for each in found.tensors} == {"x": pytest.approx(1.0), "y": 2.0}
    (moved,) = [each for each in found.tensors if each.name == "x"]
    assert moved.norm == pytest.approx(np.sqrt(X.size))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)], ids=str)
def test_numbers_in_compressed_pickles(compress: Any, tmp_path: Path) -> None:
    joblib.dump({"first": X, "second": Y, "third": X}, tmp_path / "a.joblib", compress=compress)
    joblib.dump({"third": X, "second": Y, "first": X * 2}, tmp_path / "b.joblib", compress=compress)
    found = compare(tmp_path / "a.joblib", tmp_path / "b.joblib")
    assert (found.same, found.unread) == (2, 0)
    (change,) = found.tensors
    assert change.name == "first"
    assert change.relative == pytest.approx(1.0)
    assert change.cosine == pytest.approx(1.0)


def test_compressed_numbers_that_are_damaged(tmp_path: Path) -> None:
    noise = CHANCE.bytes(1 << 20)
    np.savez_compressed(tmp_path / "a.npz", x=np.frombuffer(noise, "u1"))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "b.npz").write_bytes(data)
    found = compare(tmp_path / "a.npz", tmp_path / "b.npz")
    assert (found.tensors, found.same, found.unread) == ((), 0, 1)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i4", "u8", "?"])
def test_types_of_numbers(dtype: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([0, 1, 1], dtype))
    np.save(tmp_path / "b.npy", np.array([1, 1, 0], dtype))
    (change,) = compare(tmp_path / "a.npy", tmp_path / "b.npy").tensors
    assert change.norm == pytest.approx(2**0.5)
    assert change.largest == 1.0
    assert change.cosine == pytest.approx(0.5)


def test_numbers_in_several_blocks(tmp_path: Path) -> None:
    first = CHANCE.normal(size=3_000_001).astype("f4")
    second = first.copy()
    second[-1] += 1
    np.save(tmp_path / "a.npy", first)
    np.save(tmp_path / "b.npy", second)
    (change,) = compare(tmp_path / "a.npy", tmp_path / "b.npy").tensors
    x, y = first.astype("f8"), second.astype("f8")
    assert change.norm == change.largest == abs(y - x)[-1]
    assert change.relative == pytest.approx(abs(y - x)[-1] / np.linalg.norm(x))
    assert change.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_numbers_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.0, 2.0]))
    np.save(tmp_path / "b.npy", np.array([1.0, np.nan]))
    (change,) = compare(tmp_path / "a.npy", tmp_path / "b.npy").tensors
    assert (change.norm, change.largest, change.not_finite) == (None, None, 1)
    # also those in blocks that did not change
    before = np.ones(3_000_000)
    before[:2] = np.inf, np.nan
    after = before.copy()
    after[-1] = -np.inf
    np.save(tmp_path / "c.npy", before)
    np.save(tmp_path / "d.npy", after)
    (change,) = compare(tmp_path / "c.npy", tmp_path / "d.npy").tensors
    assert change.not_finite == 3
    assert compare(tmp_path / "b.npy", tmp_path / "b.npy").same == 1


def test_parameters_that_are_no_numbers_did_not_change(tmp_path: Path) -> None:
    joblib.dump(SimpleImputer(), tmp_path / "a.joblib")
    found = compare(tmp_path / "a.joblib", tmp_path / "a.joblib")
    assert found.new.parameters["missing_values"] == "nan"
    assert found.parameters == {}


def test_other_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "b.bin").write_bytes(b"no model at all" * 10)
    found = compare(tmp_path / "a.npy", tmp_path / "b.bin")
    assert found.old.format == "npy"
    assert found.new.opaque == "not the format of a model that is known"
