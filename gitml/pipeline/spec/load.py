"""`pipeline.json` of a tree as a checked `Pipeline`.

The steps: list the specifications, lay `defaults` under each, settle names and outputs, then resolve
everything else against these and the tree, and put the stages in order.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gitml.pipeline.glob import expand
from gitml.pipeline.spec.additions import Images, Surroundings, code, metrics, params, working_dir
from gitml.pipeline.spec.documents import parse_documents
from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.pipeline.spec.examined import leakage, plots, predictions
from gitml.pipeline.spec.fields import LONGEST_NAME, STAGE_NAME
from gitml.pipeline.spec.inputs import InputReader, check_glob
from gitml.pipeline.spec.model import CodeMount, Pipeline, Stage, Transform
from gitml.pipeline.spec.order import CycleError, topological
from gitml.pipeline.spec.paths import Outputs, entry_at, inside, kind_name, repository_path
from gitml.pipeline.spec.reading import Ignored, Node, merged, mismatch, read_object
from gitml.pipeline.spec.running import every_job, executor, flag, resources, seconds, secrets
from gitml.store.tree import Snapshot

FILE = "pipeline.json"
"""Name of the specification, at the top of the repository."""

_WRAPPED = frozenset({"stages", "defaults", "images"})
_GLOB = re.compile(r"[*?\[{(]")
_NAME = re.compile(STAGE_NAME)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A stage whose name and output are known, and nothing else yet."""

    node: Node
    name: Node
    output: bytes
    output_place: Place


def load_pipeline(snapshot: Snapshot) -> Pipeline | None:
    """The pipeline of a tree, None if it has no `pipeline.json`.

    Raise `SpecError` for the first thing that is wrong with it, `MissingObjectError` if an object of the
    tree is not here.
    """
    if snapshot.get(FILE.encode()) is None:
        return None
    ignored = Ignored()
    document, found, files = _Listing(snapshot, ignored).read()
    defaults = document.get("defaults")
    images = document.get("images")
    common = executor(document.get("executor"))
    table = Images(images.value if images is not None else None, document.place.field("images"))
    read = [read_object(value, place, "stage", ignored) for value, place in found]
    drafts = [_draft(merged(defaults, node) if defaults is not None else node) for node in read]
    _check_apart(drafts)
    outputs = Outputs({draft.output: draft.name.value for draft in drafts})
    for draft in drafts:
        _check_output(draft, files, snapshot)
    around = Surroundings(snapshot, outputs)
    directories = {draft.name.value: draft.output for draft in drafts}
    stages = {draft.name.value: _stage(draft, directories, around, table, common) for draft in drafts}
    return Pipeline(stages=_in_order(drafts, stages), notices=ignored.notices())


class _Listing:
    """Finds the specifications: in `pipeline.json` itself, and in the files that it lists."""

    def __init__(self, snapshot: Snapshot, ignored: Ignored) -> None:
        self._snapshot = snapshot
        self._ignored = ignored
        self._files = [FILE.encode()]

    def read(self) -> tuple[Node, list[tuple[Any, Place]], list[bytes]]:
        """The surrounding object (empty if there is none), each specification with its place, and all files read."""
        documents = self._documents(FILE.encode(), Place(FILE))
        empty = Node({}, Place(FILE))
        if len(documents) == 1 and isinstance(documents[0][0], dict) and _WRAPPED & documents[0][0].keys():
            value, place = documents[0]
            document = read_object(value, place, "document", self._ignored)
            return document, list(self._listed(document)), self._files
        return empty, [one for value, place in documents for one in _specifications(value, place)], self._files

    def _listed(self, document: Node) -> Iterator[tuple[Any, Place]]:
        stages = document.get("stages")
        if stages is None:
            return
        if not isinstance(stages.value, list):
            raise mismatch(stages.value, "a list of stages", stages.place)
        for number, value in enumerate(stages.value):
            place = stages.place.item(number)
            if not isinstance(value, str):
                yield from _specifications(
                    value, place, "a specification or the path of a file with some", nested=False
                )
                continue
            for path in self._matches(value, place):
                self._files.append(path)
                for inner, at in self._documents(path, place):
                    yield from _specifications(inner, at)

    def _matches(self, text: str, place: Place) -> list[bytes]:
        path = repository_path(text, place)
        if self._snapshot.get(path) is not None and path:
            if path == FILE.encode():
                raise SpecError(place, f"{quoted(FILE)} lists itself")
            return [path]
        if not _GLOB.search(text):
            entry_at(self._snapshot, path, place, expected="a file")
        check_glob("/" + path.decode(), place)
        found = [file for file, entry in expand(self._snapshot, b"", "/" + path.decode()) if entry.is_file]
        found = [file for file in found if file != FILE.encode()]
        if not found:
            raise SpecError(place, f"no file matches {quoted(text)}")
        return found

    def _documents(self, path: bytes, place: Place) -> list[tuple[Any, Place]]:
        entry_at(self._snapshot, path, place, expected="a file")
        file = path.decode("utf-8", "surrogateescape")
        documents = parse_documents(self._snapshot.read(path), file)
        if not documents:
            raise SpecError(Place(file), "no specification in it", hint='without stages, write {"stages": []}')
        return documents


def _specifications(
    value: Any, place: Place, expected: str = "a specification", *, nested: bool = True
) -> Iterator[tuple[Any, Place]]:
    """The specifications in `value`: itself or, where `nested`, the items of a list."""
    if isinstance(value, list) and nested:
        for number, item in enumerate(value):
            yield from _specifications(item, place.item(number), nested=False)
    elif isinstance(value, dict):
        extra = sorted(_WRAPPED & value.keys())
        if extra:
            raise SpecError(
                place.field(extra[0]), f"{quoted(extra[0])} outside the one object of {FILE}", hint="move it there"
            )
        yield {key: inner for key, inner in value.items() if key != "$schema"}, place
    else:
        raise mismatch(value, expected, place)


def _draft(node: Node) -> _Draft:
    name = node.require("pipeline").require("name")
    if not _NAME.fullmatch(name.value) or len(name.value) > LONGEST_NAME:
        raise SpecError(
            name.place,
            f"{quoted(name.value)} is not a name for a stage",
            hint="use letters, digits, '_', '-' and '.', with '/' between parts that begin with a letter or digit, "
            f"at most {LONGEST_NAME} characters",
        )
    output = node.get("output")
    place = output.place if output is not None else name.place
    path = repository_path(output.value if output is not None else name.value, place)
    if not path:
        raise SpecError(place, "the output cannot be the top of the repository", hint="name a directory")
    return _Draft(node, name, path, place)


def _check_apart(drafts: list[_Draft]) -> None:
    """Raise `SpecError` if two stages share a name, or write to one directory or into each other's."""
    names: dict[str, _Draft] = {}
    for draft in drafts:
        other = names.setdefault(draft.name.value, draft)
        if other is not draft:
            raise SpecError(
                draft.name.place,
                f"a second stage called {quoted(draft.name.value)}",
                hint=f"the first: {other.name.place}",
            )
    earlier: dict[bytes, _Draft] = {}
    for draft in sorted(drafts, key=lambda one: one.output + b"/"):
        parts = draft.output.split(b"/")
        for length in range(1, len(parts) + 1):
            other_output = b"/".join(parts[:length])
            if other_output not in earlier:
                continue
            other = earlier[other_output]
            relation = "is also" if other_output == draft.output else f"lies inside {quoted(other_output)},"
            raise SpecError(
                draft.output_place,
                f"the output {quoted(draft.output)} {relation} the output of stage {quoted(other.name.value)}",
                hint="give each stage an 'output' of its own",
            )
        earlier[draft.output] = draft


def _check_output(draft: _Draft, files: list[bytes], snapshot: Snapshot) -> None:
    """Raise `SpecError` if results would replace something that is not a result."""
    parts = draft.output.split(b"/")
    for length in range(1, len(parts) + 1):
        path = b"/".join(parts[:length])
        entry = snapshot.get(path)
        if entry is not None and not entry.is_tree:
            raise SpecError(
                draft.output_place, f"{quoted(path)} is {kind_name(entry)}, expected a directory for the output"
            )
    for file in files:
        if inside(file, draft.output):
            raise SpecError(
                draft.output_place, f"the output {quoted(draft.output)} holds the specification {quoted(file)}"
            )


def _stage(draft: _Draft, directories: dict[str, bytes], around: Surroundings, images: Images, common: str) -> Stage:
    node = draft.node
    transform, mounts = _transform(node, around, images)
    source = node.get("input")
    workers = node.get("parallelism_spec")
    tries = node.get("datum_tries")
    return Stage(
        name=draft.name.value,
        description=node.text("description"),
        transform=transform,
        input=InputReader(draft.name.value, directories, around).read(source) if source is not None else None,
        output=draft.output,
        code=mounts,
        params=params(node.nodes("params"), around),
        metrics=metrics(node.nodes("metrics")),
        predictions=predictions(node.nodes("predictions"), around),
        leakage=leakage(node.nodes("leakage"), around),
        plots=plots(node.nodes("plots")),
        parallelism=(asked := _count(workers.get("constant")) if workers is not None else 0) or 1,
        parallel_asked=asked or None,
        executor=executor(node.get("executor")) or common,
        datum_tries=_count(tries) or 3,
        datum_timeout=seconds(node, "datum_timeout"),
        job_timeout=seconds(node, "job_timeout"),
        every_job=every_job(node.get("reprocess_spec")),
        requests=resources(node.get("resource_requests")),
        limits=resources(node.get("resource_limits")),
        salt=node.text("salt"),
        where=str(node.place),
    )


def _count(node: Node | None) -> int:
    """A number of things, 0 if absent."""
    if node is None:
        return 0
    if node.value < 0:
        raise SpecError(node.place, "less than 0")
    return int(node.value)


def _transform(stage: Node, around: Surroundings, images: Images) -> tuple[Transform, tuple[CodeMount, ...] | None]:
    """How the stage runs, and its code: what the stage says itself comes before what its image stands for."""
    node = stage.require("transform")
    cmd = node.require("cmd")
    if not cmd.value or not cmd.value[0].value:
        raise SpecError(cmd.place, "an empty command", hint='write ["python", "train.py"], for instance')
    image = node.get("image")
    image = image if image is not None and image.value else None
    stand_in = images.entry(image) if image is not None else Node({}, node.place)
    own_code, own_dir = stage.get("code"), node.get("working_dir")
    mounted = own_code if own_code is not None else stand_in.get("code")
    directory = own_dir if own_dir is not None and own_dir.value else stand_in.get("working_dir")
    transform = Transform(
        cmd=node.items("cmd"),
        stdin=node.items("stdin"),
        err_cmd=node.items("err_cmd"),
        err_stdin=node.items("err_stdin"),
        env=_env(node.get("env")),
        accept_return_code=_codes(node.nodes("accept_return_code")),
        working_dir=working_dir(directory),
        image=image.value if image is not None else None,
        secrets=secrets(node.nodes("secrets")),
        debug=flag(node, "debug"),
    )
    return transform, code(mounted, around) if mounted is not None else None


def _env(node: Node | None) -> tuple[tuple[str, str], ...]:
    if node is None:
        return ()
    for name, value in node.value.items():
        if not name or "=" in name:
            raise SpecError(value.place, f"{quoted(name)} cannot be the name of an environment variable")
    return tuple(sorted((name, value.value) for name, value in node.value.items() if value.value is not None))


def _codes(nodes: list[Node]) -> tuple[int, ...]:
    for node in nodes:
        if not 0 <= node.value <= 255:
            raise SpecError(node.place, f"{node.value} is not a return code", hint="they are between 0 and 255")
    return tuple(node.value for node in nodes)


def _in_order(drafts: list[_Draft], stages: dict[str, Stage]) -> tuple[Stage, ...]:
    upstream = {
        name: [source.upstream for source in stage.inputs if source.upstream is not None]
        for name, stage in stages.items()
    }
    try:
        return tuple(stages[name] for name in topological(upstream))
    except CycleError as error:
        first = next(draft for draft in drafts if draft.name.value == error.names[0])
        raise SpecError(
            first.node.place.field("input"),
            f"the stages form a cycle: {error}",
            hint="let one of them read data that no stage makes",
        ) from None
