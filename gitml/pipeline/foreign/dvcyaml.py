"""What the dvc.yaml files of a repository say: stages with paths of the repository, without templates."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gitml.pipeline.foreign.dvctemplate import DEFAULT_PARAMS, Read, parse_yaml, resolve
from gitml.pipeline.foreign.findings import Imported, Kind
from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.record import field, record

_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_FIELDS = frozenset(
    {"cmd", "wdir", "deps", "outs", "params", "metrics", "plots", "frozen", "always_changed", "desc", "meta"}
)


class _OutsideError(Exception):
    """A path that is not one of this repository."""


@record(kw_only=True)
class Drawing:
    """A plot: columns of a table, or an image if there are none."""

    path: str
    x: str | None = None
    y: tuple[str, ...] = ()
    title: str = ""


@record(kw_only=True)
class DvcStage:
    """A stage. All paths are those of the repository."""

    name: str
    """As it is called here: `train/us` for DVC's `train@us`."""
    file: str
    """The dvc.yaml that it is in."""
    title: str
    """As DVC calls it."""
    commands: tuple[str, ...]
    """Each for a shell."""
    wdir: str
    """`""` is the top of the repository."""
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[tuple[str, str | None], ...]
    """File and dotted key; None: all of the file."""
    description: str


@record(frozen=False)
class Declared:
    """Everything that the dvc.yaml files declare."""

    stages: list[DvcStage] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)


def read_dvc_yaml(files: Mapping[str, bytes], root: str, read: Read, result: Imported) -> Declared:
    """The stages of dvc.yaml files, by repository path; those of other directories than `root` are named after these.

    What cannot be taken over is noted in `result`. Raise `SpecError` for a file that DVC would not read either.
    """
    declared = Declared()
    for file, data in files.items():
        _FileReader(file, root, read, declared, result).read(data)
    return declared


class _FileReader:
    def __init__(self, file: str, root: str, read: Read, declared: Declared, result: Imported) -> None:
        self._file = file
        self._place = Place(file)
        self._directory = posixpath.dirname(file)
        below = posixpath.relpath(self._directory or ".", root or ".")
        self._prefix = "" if below == "." else below + "/"
        self._read = read
        self._declared = declared
        self._computed: list[str] = []
        self._result = result

    def read(self, data: bytes) -> None:
        document = parse_yaml(data, self._file) or {}
        if not isinstance(document, Mapping):
            raise SpecError(self._place, "expected an object")
        resolved = resolve(document, self._file, self._read)
        for name, (definition, computed) in resolved.stages.items():
            place = self._place.field("stages").field(name)
            try:
                self._declared.stages.append(self._stage(name, definition, place, computed=computed))
            except _OutsideError as outside:
                self._result.say(
                    Kind.REFUSED, place, f"{outside} is not in this repository, and tasks see nothing else"
                )
        if self._computed:
            what = f"values stand for '${{…}}' in {', '.join(self._computed)}: when they change, change the stages"
            self._result.say(Kind.MAPPED, self._file, what)
        for value in resolved.metrics:
            self._declared.metrics += self._inside([value])
        for value in resolved.plots:
            self._top_plot(value)
        for key, what in (
            ("artifacts", "nothing registers models here: git tags name versions"),
            ("datasets", "data is named by its path"),
            ("params", "parameters of stages are compared in any case"),
        ):
            if document.get(key):
                self._result.say(Kind.IGNORED, self._place.field(key), what)

    def _stage(self, title: str, definition: Mapping[str, Any], place: Place, *, computed: bool) -> DvcStage:
        wdir = self._path(definition.get("wdir") or ".", self._directory)
        cmd = definition.get("cmd")
        commands = [cmd] if isinstance(cmd, str) else cmd
        if not isinstance(commands, list) or not all(isinstance(each, str) for each in commands) or not commands:
            raise SpecError(place.field("cmd"), "expected a command or a list of commands")
        unknown = sorted(str(key) for key in definition if key not in _FIELDS)
        if unknown:
            raise SpecError(place.field(unknown[0]), "unknown field")
        name = self._prefix + "/".join(_named(part) for part in title.split("@"))
        if computed:
            self._computed.append(name)
        if definition.get("frozen"):
            self._result.say(
                Kind.IGNORED, place.field("frozen"), f"an output is kept as it stands by: git ml hold {name}"
            )
        if definition.get("always_changed"):
            what = f"nothing runs without a change: git ml run --force {name}, or a cron input"
            self._result.say(Kind.IGNORED, place.field("always_changed"), what)
        outs: dict[str, None] = {}
        for path, options in _entries(definition.get("outs"), place.field("outs")):
            outs[self._path(path, wdir)] = None
            if options.get("persist"):
                what = f"{quoted(path)} is not there when the command starts"
                self._result.say(Kind.TODO, place.field("outs"), what)
        for path, _ in _entries(definition.get("metrics"), place.field("metrics")):
            outs[self._path(path, wdir)] = None
            self._declared.metrics.append(self._path(path, wdir))
        for path, options in _entries(definition.get("plots"), place.field("plots")):
            outs[self._path(path, wdir)] = None
            self._declared.drawings.append(_drawing(self._path(path, wdir), options))
        return DvcStage(
            name=name,
            file=self._file,
            title=title,
            commands=tuple(commands),
            wdir=wdir,
            deps=tuple(self._path(each, wdir) for each in _list(definition.get("deps"), place.field("deps"))),
            outs=tuple(outs),
            params=tuple(self._params(definition.get("params"), wdir, place.field("params"))),
            description=str(definition.get("desc") or ""),
        )

    def _params(self, value: Any, wdir: str, place: Place) -> Iterator[tuple[str, str | None]]:
        for entry in _list(value, place):
            if not isinstance(entry, Mapping):
                yield self._path(DEFAULT_PARAMS, wdir), str(entry)
                continue
            for name, keys in entry.items():
                path = self._path(name, wdir)
                for key in _list(keys, place) or [None]:
                    yield path, str(key) if key is not None else None

    def _top_plot(self, value: Any) -> None:
        for title, given in value.items() if isinstance(value, Mapping) else [(value, None)]:
            options = given or {}
            y = options.get("y")
            if isinstance(y, Mapping):
                x = options.get("x")
                for path, columns in y.items():
                    column = x.get(path) if isinstance(x, Mapping) else x
                    for inside in self._inside([path]):
                        self._declared.drawings.append(
                            _drawing(inside, {"x": column, "y": columns, "title": options.get("title") or title})
                        )
            else:
                for inside in self._inside([title]):
                    self._declared.drawings.append(_drawing(inside, options))

    def _inside(self, paths: list[Any]) -> list[str]:
        found = []
        for path in paths:
            try:
                found.append(self._path(path, self._directory))
            except _OutsideError:
                self._result.say(Kind.IGNORED, self._place, f"{quoted(str(path))} is not in this repository")
        return found

    def _path(self, text: Any, directory: str) -> str:
        """The repository path of a path in `directory`; raise `_OutsideError`."""
        path = posixpath.normpath(posixpath.join(directory, str(text)))
        if "://" in str(text) or path.startswith(("/", "../")) or path == "..":
            raise _OutsideError(quoted(str(text)))
        return "" if path == "." else path


def _drawing(path: str, options: Mapping[str, Any]) -> Drawing:
    y = options.get("y")
    columns = y if isinstance(y, list) else [y] if y else []
    x = options.get("x")
    title = options.get("title")
    return Drawing(
        path=path,
        x=x if isinstance(x, str) and x else None,
        y=tuple(str(each) for each in columns),
        title=str(title) if title and title != path else "",
    )


def _entries(value: Any, place: Place) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Paths with their options: `- a.csv` and `- a.csv: {cache: false}`."""
    for entry in _list(value, place):
        if isinstance(entry, Mapping):
            for path, options in entry.items():
                several = options if isinstance(options, list) else [options]
                for each in several or [None]:
                    yield str(path), each if isinstance(each, Mapping) else {}
        else:
            yield str(entry), {}


def _list(value: Any, place: Place) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise SpecError(place, "expected a list")
    return value


def _named(text: str) -> str:
    """A part of the name of a stage."""
    name = _ODD.sub("-", text)
    return name if name[:1].isalnum() else f"x{name}"
