"""The templates of dvc.yaml: `${…}`, `vars`, `foreach` and `matrix`, resolved to plain stages as DVC resolves them.

A context of values comes from `params.yaml`, from `vars`, and for generated stages from `item` and `key`.
"""

import itertools
import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.record import record

DEFAULT_PARAMS = "params.yaml"
_MOST_VALUES = 200_000
"""Values of a file and of what its templates become; a small YAML file can stand for a huge value."""
_FIELD = re.compile(r"(?<!\\)\$\{(.*?)\}")
_EXPRESSION = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[^.\[\]]+\])*")

Read = Callable[[str], bytes | None]
"""The content of a file by its repository path, None if there is none."""


@record
class Resolved:
    """A dvc.yaml without templates."""

    stages: Mapping[str, tuple[dict[str, Any], bool]]
    """By name, `group@key` for generated ones: the definition, and whether values were put into it."""
    metrics: tuple[Any, ...]
    plots: tuple[Any, ...]


class _Value:
    """A value that came from the context by its name; as text it looks as Python writes it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def resolve(document: Mapping[str, Any], file: str, read: Read) -> Resolved:
    """The stages of a dvc.yaml, whose repository path is `file`; raise `SpecError` for what DVC would refuse."""
    return _Resolver(document, file, read).all()


def parse_yaml(data: bytes, file: str) -> Any:
    """The value of a YAML 1.2 file, as DVC reads its own; raise `SpecError`."""
    import yaml  # 20 ms, and only imports need it  # noqa: PLC0415

    try:
        value = yaml.load(data.decode("utf-8-sig"), Loader=_loader())  # noqa: S506 - a subclass of SafeLoader
    except UnicodeDecodeError:
        raise SpecError(Place(file), "not UTF-8 text", hint="save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark is not None else None
        raise SpecError(Place(file), f"not YAML: {error.problem or error.context}", position=position) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(Place(file), f"not YAML: {str(error).splitlines()[0]}") from None
    _check_size(value, Place(file))
    return value


def _loader() -> Any:
    """PyYAML's safe loader with the scalars of YAML 1.2: `1e-3` is a number, `yes` and `2020-01-01` are text."""
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?(?:[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
        ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("float", r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("merge", r"<<", "<"),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))

    def integer(_: Any, node: Any) -> int:
        text = str(node.value).replace("_", "")
        return int(text, 0 if re.match(r"[-+]?0[obx]", text) else 10)

    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    return Loader


def _check_size(value: Any, place: Place) -> None:
    waiting, left = [value], _MOST_VALUES
    while waiting:
        inner = waiting.pop()
        left -= 1
        if left < 0:
            raise SpecError(place, "too large with its aliases written out, or it contains itself")
        if isinstance(inner, Mapping):
            waiting += list(inner.values())
        elif isinstance(inner, list):
            waiting += inner


class _Resolver:
    def __init__(self, document: Mapping[str, Any], file: str, read: Read) -> None:
        self._document = document
        self._place = Place(file)
        self._directory = posixpath.dirname(file)
        self._read = read
        self._left = _MOST_VALUES

    def all(self) -> Resolved:
        context = self._with_vars(
            {}, self._document.get("vars") or [], self._directory, self._place.field("vars"), first=True
        )
        stages: dict[str, tuple[dict[str, Any], bool]] = {}
        defined = self._document.get("stages") or {}
        for name, definition in _mapping(defined, self._place.field("stages")).items():
            place = self._place.field("stages").field(str(name))
            for key, values, template in self._generated(_mapping(definition, place), context, place):
                full = f"{name}@{key}" if key is not None else str(name)
                stages[full] = self._stage(template, context | values, place)
        return Resolved(
            stages,
            tuple(self._top("metrics", context)),
            tuple(self._top("plots", context)),
        )

    def _top(self, name: str, context: Mapping[str, Any]) -> list[Any]:
        value = self._resolved(self._document.get(name) or [], context, self._place.field(name))
        if not isinstance(value, list):
            raise SpecError(self._place.field(name), "expected a list")
        return value

    def _generated(
        self, definition: Mapping[str, Any], context: Mapping[str, Any], place: Place
    ) -> Iterator[tuple[str | None, dict[str, Any], Mapping[Any, Any]]]:
        """Key (None: there is only one), `item` and `key`, and template of each stage of a definition."""
        if "matrix" in definition:
            at = place.field("matrix")
            axes = _mapping(self._resolved(definition["matrix"], context, at, nodes=True), at)
            for axis, values in axes.items():
                if not isinstance(_plain(values), list):
                    raise SpecError(at.field(str(axis)), "expected a list")
            choices = [list(enumerate(_members(values))) for values in axes.values()]
            for combination in itertools.product(*choices):
                parts = [
                    f"{axis}{number}" if isinstance(_plain(value), list | dict) else _text(value)
                    for axis, (number, value) in zip(axes, combination, strict=True)
                ]
                key = "-".join(parts)
                item = {axis: _plain(value) for axis, (_, value) in zip(axes, combination, strict=True)}
                yield key, {"item": item, "key": key}, {k: v for k, v in definition.items() if k != "matrix"}
        elif "foreach" in definition:
            template = _mapping(definition.get("do"), place.field("do"))
            each = self._resolved(definition["foreach"], context, place.field("foreach"), nodes=True)
            plain = _plain(each)
            if isinstance(plain, dict):
                for name, value in plain.items():
                    yield _text(name), {"item": value, "key": _text(name)}, template
            elif isinstance(plain, list):
                members = _members(each)
                numbered = any(isinstance(value, list | dict) for value in plain)
                keys = [str(n) if numbered else _text(value) for n, value in enumerate(members)]
                for key, value in dict(zip(keys, members, strict=True)).items():
                    yield key, {"item": _plain(value)}, template
            else:
                raise SpecError(place.field("foreach"), "expected a list or an object")
        else:
            yield None, {}, definition

    def _stage(
        self, template: Mapping[str, Any], context: Mapping[str, Any], place: Place
    ) -> tuple[dict[str, Any], bool]:
        directory = self._directory
        if template.get("wdir"):
            wdir = _text(self._resolved(template["wdir"], context, place.field("wdir")))
            directory = posixpath.normpath(posixpath.join(directory, wdir))
        own = template.get("vars") or []
        if own:
            context = self._with_vars(context, own, directory, place.field("vars"))
        made = {
            key: self._resolved(value, context, place.field(key), key=key)
            for key, value in template.items()
            if key != "vars"
        }
        return made, any(_FIELD.search(text) for text in _texts(template))

    def _with_vars(
        self, context: Mapping[str, Any], entries: Any, directory: str, place: Place, *, first: bool = False
    ) -> dict[str, Any]:
        """The context with more values: those of files, `params.yaml:train,test`, and those written there."""
        made = dict(context)
        if not isinstance(entries, list):
            raise SpecError(place, "expected a list")
        if any(_FIELD.search(text) for text in _texts(entries)):
            raise SpecError(place, "'${' is not allowed here")
        loaded: set[str] = set()
        if first and self._read(posixpath.join(directory, DEFAULT_PARAMS)) is not None:
            made = self._loaded(made, DEFAULT_PARAMS, directory, place, loaded)
        for number, entry in enumerate(entries):
            at = place.item(number)
            if isinstance(entry, str):
                made = self._loaded(made, entry, directory, at, loaded)
            else:
                made = _merged(made, _named(_mapping(entry, at)), at)
        return made

    def _loaded(
        self, context: dict[str, Any], entry: str, directory: str, place: Place, loaded: set[str]
    ) -> dict[str, Any]:
        name, _, keys = entry.partition(":")
        path = posixpath.normpath(posixpath.join(directory, name))
        if not keys and path in loaded:
            return context
        loaded.add(path)
        data = self._read(path)
        if data is None:
            raise SpecError(place, f"there is no file {quoted(path)}")
        values = _named(_mapping(parse_values(data, path), Place(path)))
        wanted = [key for key in keys.split(",") if key]
        for key in wanted:
            if key not in values:
                raise SpecError(place, f"there is no {quoted(key)} in {quoted(path)}")
        return _merged(context, {key: values[key] for key in wanted} if wanted else values, place)

    # values

    def _resolved(
        self, value: Any, context: Mapping[str, Any], place: Place, *, key: str = "", nodes: bool = False
    ) -> Any:
        """`value` with everything put in. With `nodes`, what a whole text stood for is marked as `_Value`."""
        self._left -= 1
        if self._left < 0:
            raise SpecError(place, "too many values")
        if isinstance(value, Mapping):
            return {
                self._resolved(name, context, place, key=key): self._resolved(
                    inner, context, place, key=key, nodes=nodes
                )
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [
                self._resolved(inner, context, place.item(n), key=key, nodes=nodes) for n, inner in enumerate(value)
            ]
        if not isinstance(value, str):
            return value
        fields = list(_FIELD.finditer(value))
        if len(fields) == 1 and fields[0][0] == value:
            found = _select(context, fields[0][1], place)
            if key and isinstance(found, list | dict):
                raise SpecError(place, f"{quoted(value)} is a list or an object, which cannot stand here")
            return _Value(found) if nodes else found
        made, at = "", 0
        for field in fields:
            found = _select(context, field[1], place)
            if key and (isinstance(found, list) or (isinstance(found, dict) and key != "cmd")):
                raise SpecError(place, f"{quoted(field[0])} is a list or an object, which cannot stand here")
            made += value[at : field.start()] + _text(found)
            at = field.end()
        return (made + value[at:]).replace(r"\${", "${")


def parse_values(data: bytes, path: str) -> Any:
    """The values of a file of parameters by its ending; raise `SpecError`."""
    ending = posixpath.splitext(path)[1].lower()
    try:
        if ending == ".json":
            return json.loads(data)
        if ending == ".toml":
            import tomllib  # noqa: PLC0415

            return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise SpecError(Place(path), f"cannot be read: {error}") from None
    if ending == ".py":
        raise SpecError(
            Place(path), "values of Python files are not read", hint="write them to params.yaml, and name that"
        )
    return parse_yaml(data, path)


def _select(context: Mapping[str, Any], expression: str, place: Place) -> Any:
    """The value of `train.layers[0].size`; raise `SpecError`."""
    if not _EXPRESSION.fullmatch(expression.strip()):
        raise SpecError(place, f"{quoted('${' + expression + '}')} is not the name of a value")
    value: Any = context
    for part in expression.replace("[", ".").replace("]", "").split("."):
        word = part.strip()
        try:
            value = value[int(word)] if isinstance(value, list) else value[word]
        except (KeyError, IndexError, ValueError, TypeError):
            raise SpecError(place, f"there is no value {quoted(expression)}") from None
    return value


def _text(value: Any) -> str:
    """A value as part of a text, as DVC writes it; an object becomes options of a command."""
    if isinstance(value, _Value):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return " ".join(_options(value, ""))
    return str(value)


def _options(value: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, inner in value.items():
        option = f"{above}{name}"
        if isinstance(inner, dict):
            yield from _options(inner, f"{option}.")
        elif isinstance(inner, bool):
            if inner:
                yield f"--{option}"
        elif isinstance(inner, list):
            yield " ".join(
                [f"--{option}", *(shlex.quote(each) if isinstance(each, str) else str(each) for each in inner)]
            )
        else:
            yield f"--{option} {shlex.quote(inner) if isinstance(inner, str) else inner}"


def _merged(under: Mapping[str, Any], over: Mapping[str, Any], place: Place) -> dict[str, Any]:
    made = dict(under)
    for name, value in over.items():
        if isinstance(made.get(name), dict) and isinstance(value, dict):
            made[name] = _merged(made[name], value, place.field(name))
        elif name in made:
            raise SpecError(
                place.field(name), "given twice", hint="it stands in another file of parameters or in 'vars'"
            )
        else:
            made[name] = value
    return made


def _named(value: Any) -> Any:
    """`value` without members whose names are no text: no template can name them."""
    if isinstance(value, Mapping):
        return {name: _named(inner) for name, inner in value.items() if isinstance(name, str)}
    return [_named(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, _Value):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _members(value: Any) -> list[Any]:
    """The members of a list; those of one that came from the context came from there too."""
    return [_Value(inner) for inner in value.value] if isinstance(value, _Value) else list(value)


def _mapping(value: Any, place: Place) -> Mapping[Any, Any]:
    value = value.value if isinstance(value, _Value) else value
    if not isinstance(value, Mapping):
        raise SpecError(place, "expected an object")
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)
