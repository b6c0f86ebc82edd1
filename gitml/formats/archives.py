"""Models in zip archives: PyTorch, skops, Keras."""

import zipfile
from typing import Any

from gitml.formats.arrays import data_offset, load_json, members, npy_header, open_member, read_npz
from gitml.formats.objects import array, labels, summarize, torch_tensor
from gitml.formats.pickles import Machine, Made
from gitml.formats.source import Source
from gitml.formats.summary import FormatError, Summary, Tensor, flat

_WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_archive(source: Source) -> Summary:
    """A zip archive, by what is in it; raise `FormatError`."""
    infos = {info.filename: info for info in members(source)}
    for name in infos:
        if name == "data.pkl" or name.endswith("/data.pkl"):
            return _torch(source, infos, name)
    if "schema.json" in infos:
        return _skops(source, infos)
    if "config.json" in infos and "metadata.json" in infos:
        return _keras(source, infos)
    if infos and all(name.endswith(".npy") for name in infos):
        return read_npz(source)
    raise FormatError("a zip archive that is no model")


def _torch(source: Source, infos: dict[str, zipfile.ZipInfo], name: str) -> Summary:
    top = name.removesuffix("data.pkl")
    with open_member(source, infos[name]) as file:
        machine = Machine(Source(file, infos[name].file_size))
        found = machine.run()

    def as_array(made: Made) -> Tensor | None:
        tensor = torch_tensor(made)
        if tensor is None:
            return array(made)
        plain, key, offset = tensor
        info, width = infos.get(f"{top}data/{key}"), _WIDTHS.get(plain.dtype)
        if info is None or width is None or info.compress_type != zipfile.ZIP_STORED or plain.order != "C":
            return plain
        start, length = offset * width, plain.count * width
        if start + length > info.file_size:
            raise FormatError(f"storage {key} has {info.file_size} bytes, a tensor ends at {start + length}")
        return Tensor("", plain.dtype, plain.shape, (data_offset(source, info) + start, length))

    return summarize(found, machine.globals, "torch", as_array)


def _document(source: Source, info: zipfile.ZipInfo) -> Any:
    with open_member(source, info) as file:
        return load_json(Source(file, info.file_size).read(info.file_size))


def _skops(source: Source, infos: dict[str, zipfile.ZipInfo]) -> Summary:
    """skops: io/_general.py; each node has its module and class, and its content below."""
    schema = _document(source, infos["schema.json"])
    names: dict[str, None] = {}
    parameters: dict[str, Any] = {}
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        name, node, depth = waiting.pop()
        if depth > 200 or len(names) > 100_000:
            raise FormatError("the schema is too deep or too large")
        if isinstance(node, dict):
            if isinstance(node.get("__class__"), str) and isinstance(node.get("__module__"), str):
                names[f"{node['__module__']}.{node['__class__']}"] = None
            if node.get("__loader__") == "JsonNode" and "content" in node and isinstance(node["content"], str):
                leaf = name.removesuffix(".content")
                if leaf and not leaf.rpartition(".")[2].startswith("_") and not leaf.endswith("_"):
                    parameters[leaf] = _leaf(node["content"])
                continue
            for key, inner in node.items():
                if not str(key).startswith("__") and key != "key_types":
                    inner_name = name if key == "content" else f"{name}.{key}" if name else str(key)
                    waiting.append((inner_name, inner, depth + 1))
        elif isinstance(node, list):
            waiting += [(f"{name}.{number}", inner, depth + 1) for number, inner in enumerate(node)]
    tensors = []
    for info in infos.values():
        if info.filename.endswith(".npy"):
            with open_member(source, info) as file:
                header = npy_header(Source(file, info.file_size), info.filename)
            tensors.append(Tensor(info.filename, header.dtype, header.shape, order=header.order))
    top = schema if isinstance(schema, dict) else {}
    facts = {"class": f"{top.get('__module__')}.{top.get('__class__')}"}
    for key, title in (("_skops_version", "skops"), ("protocol", "protocol")):
        if key in top:
            facts[title] = str(top[key])
    return Summary(
        format="skops", tensors=tuple(sorted(tensors, key=lambda tensor: (tensor.shape, tensor.dtype))),
        parameters=dict(sorted(parameters.items())), facts=facts, globals=tuple(sorted(names)),
        warnings=tuple(labels(names)),
    )  # fmt: skip


def _leaf(text: str) -> Any:
    value = load_json(text.encode())
    return value if value is None or isinstance(value, bool | int | float | str) else text[:200]


def _keras(source: Source, infos: dict[str, zipfile.ZipInfo]) -> Summary:
    """Keras 3: saving/saving_lib.py; the weights are HDF5, of which only the size is known."""
    config, metadata = _document(source, infos["config.json"]), _document(source, infos["metadata.json"])
    facts = {f"metadata.{key}": str(value) for key, value in flat(metadata).items()}
    parameters: dict[str, Any] = {}
    warnings = []
    if isinstance(config, dict):
        facts["class"] = str(config.get("class_name"))
        inner = config.get("config")
        layers = inner.get("layers", []) if isinstance(inner, dict) else []
        facts["layers"] = str(len(layers))
        for layer in layers:
            if isinstance(layer, dict):
                settings: dict[str, Any] = layer["config"] if isinstance(layer.get("config"), dict) else {}
                name = str(settings.get("name", layer.get("name", "?")))
                parameters[f"{name}.class"] = str(layer.get("class_name"))
                parameters.update(flat({key: each for key, each in settings.items() if key != "name"}, name))
                if layer.get("class_name") in ("Lambda", "TFOpLambda") or "__lambda__" in str(settings)[:100_000]:
                    warnings.append(f"layer {name} holds code (Lambda)")
    weights = [info for info in infos.values() if info.filename.endswith((".h5", ".hdf5"))]
    facts.update({f"weights {info.filename}": f"{info.file_size} bytes, crc {info.CRC:08x}" for info in weights})
    return Summary(format="keras", parameters=parameters, facts=facts, warnings=tuple(warnings))
