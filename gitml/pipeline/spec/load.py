"""`pipeline.json` of a tree as a checked `Pipeline`.

The steps: list the specifications, lay `defaults` under each, settle names and outputs, then resolve
everything else against these and the tree, and put the stages in order.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gitml.pipeline import FILE
from gitml.pipeline.glob import expand
from gitml.pipeline.spec.additions import Images, Surroundings, code, metrics, params, working_dir
from gitml.pipeline.spec.documents import parse_documents
from gitml.pipeline.spec.drafts import Draft, apart, check_output, read_drafts
from gitml.pipeline.spec.effective import effective
from gitml.pipeline.spec.error import Findings, Place, SpecError, quoted
from gitml.pipeline.spec.examined import leakage, plots, predictions
from gitml.pipeline.spec.inputs import InputReader, check_glob
from gitml.pipeline.spec.model import CodeMount, Pipeline, Resources, Stage, Transform, keyless
from gitml.pipeline.spec.order import CycleError, topological
from gitml.pipeline.spec.paths import Outputs, entry_at, repository_path
from gitml.pipeline.spec.positions import position
from gitml.pipeline.spec.reading import Node, mismatch, read_object
from gitml.pipeline.spec.running import egress, every_job, executor, flag, resources, seconds, secrets
from gitml.pipeline.spec.template import Evaluate, Refusal, is_template, read_item, request
from gitml.provenance.codec import text_of
from gitml.record import record
from gitml.store.tree import Snapshot

_WRAPPED = frozenset({"stages", "defaults", "images"})
_GLOB = re.compile(r"[*?\[{(]")


def load_pipeline(snapshot: Snapshot, evaluate: Evaluate | None = None) -> Pipeline | None:
    """The pipeline of a tree, None if it has no `pipeline.json`. `evaluate` gives the values of templates.

    Raise `SpecError` for the first thing that is wrong with it, `MissingObjectError` if an object of the
    tree is not here.
    """
    if snapshot.get(FILE.encode()) is None:
        return None
    try:
        return _load(snapshot, Findings(), FILE.encode(), (), evaluate)[0]
    except SpecError as error:
        raise _located(error, snapshot) from None


def effective_specification(snapshot: Snapshot, name: str, evaluate: Evaluate | None = None) -> dict[str, Any]:
    """The specification that holds for a stage of the tree's pipeline, as a JSON value: see `effective`.

    Raise as `load_pipeline`, and `KeyError` if there is no such stage.
    """
    try:
        drafts = _load(snapshot, Findings(), FILE.encode(), (), evaluate)[1]
    except SpecError as error:
        raise _located(error, snapshot) from None
    draft = {each.name.value: each for each in drafts if each.left_out is None}[name]
    return effective(draft.node, draft.output)


@record(kw_only=True)
class Checked:
    """What is found in a pipeline when reading does not end with the first problem."""

    problems: tuple[SpecError, ...]
    """With their positions, in the order of files and lines."""
    notices: tuple[str, ...]
    pipeline: Pipeline | None
    """None if there is a problem."""


def check_pipeline(
    snapshot: Snapshot, document: bytes | None, files: Sequence[bytes] = (), evaluate: Evaluate | None = None
) -> Checked:
    """Everything that is wrong with a pipeline.

    `document` is read as `pipeline.json` is (None: there is none), `files` as if it listed them. A stage in which a
    field is wrong is not looked at any further, and what follows from one problem is not told. Raise
    `MissingObjectError` if an object of the tree is not here.
    """
    findings = Findings(everything=True)
    pipeline, drafts = _load(snapshot, findings, document, files, evaluate)
    found = {(error.message, error.hint): _located(error, snapshot) for error in findings.problems}
    ordered = sorted(found.values(), key=lambda error: (error.place.file, error.position or (0, 0)))
    absent = [
        _located(SpecError(draft.where, draft.left_out.in_words), snapshot).message
        for draft in drafts
        if draft.left_out is not None and draft.where is not None
    ]
    notices = (*absent, *findings.notices())
    return Checked(problems=tuple(ordered), notices=notices, pipeline=pipeline if not found else None)


def _located(error: SpecError, snapshot: Snapshot) -> SpecError:
    """The error with line and column, if these can be told."""
    if error.position is not None or is_template(error.place.file.encode("utf-8", "surrogateescape")):
        return error
    try:
        text = snapshot.read(error.place.file.encode("utf-8", "surrogateescape")).decode("utf-8-sig")
    except (KeyError, UnicodeError):
        return error
    found = position(text, error.place.document or 0, error.place.steps) if error.place.path else None
    return error.at(found) if found is not None else error


def _load(
    snapshot: Snapshot, findings: Findings, root: bytes | None, more: Sequence[bytes], evaluate: Evaluate | None
) -> tuple[Pipeline, list[Draft]]:
    document, found, files = _Listing(snapshot, findings, evaluate).read(root, more)
    defaults = document.get("defaults")
    images = document.get("images")
    common = document.get("executor")
    if common is not None:
        under = defaults.value if defaults is not None else {}
        defaults = Node({"executor": common, **under}, document.place)
    at = document.place.field("images")
    table = findings.guarded(None, Images, images.value if images is not None else None, at, findings)
    kept = [*files, *(table.places() if table is not None else ())]
    settled = apart(read_drafts(found, document.place.file, defaults, kept, findings), findings)
    drafts = [draft for draft in settled if draft.left_out is None]
    outputs = Outputs({draft.output: draft.name.value for draft in drafts})
    for draft in drafts:
        findings.guarded(None, check_output, draft, files, snapshot)
    around = Surroundings(snapshot, outputs, document.place.file)
    directories = {draft.name.value: draft.output for draft in settled}
    branches = {draft.name.value: draft.branch for draft in settled if draft.branch}
    absent = {draft.name.value: draft.left_out for draft in settled if draft.left_out is not None}
    stages: dict[str, Stage] = {}
    for draft in drafts:
        if draft.sound and table is not None:
            stages[draft.name.value] = _stage(draft, directories, branches, absent, around, table, findings)
    if findings.problems:
        return Pipeline(stages=()), settled
    ordered = findings.guarded((), _in_order, drafts, stages)
    for stage, draft in ((stages[draft.name.value], draft) for draft in drafts):
        for leaf, field in keyless(stage.input) if stage.input is not None else ():
            findings.remark(
                f"input {quoted(leaf.name)} has no {quoted(field)}, so that each of its files matches", draft.node.place
            )
    told = (f"{draft.left_out.in_words} ({draft.where})" for draft in settled if draft.left_out is not None)
    return Pipeline(stages=ordered, left_out=tuple(absent.values()), notices=(*told, *findings.notices())), settled


class _Listing:
    """Finds the specifications: in `pipeline.json` itself, and in the files that it lists."""

    def __init__(self, snapshot: Snapshot, findings: Findings, evaluate: Evaluate | None) -> None:
        self._snapshot = snapshot
        self._findings = findings
        self._evaluate = evaluate
        self._root = b""
        self._files: list[bytes] = []

    def read(self, root: bytes | None, more: Sequence[bytes]) -> tuple[Node, list[tuple[Any, Place]], list[bytes]]:
        """The surrounding object (empty if there is none), each specification with its place, and all files read."""
        document = Node({}, Place(FILE))
        found: list[tuple[Any, Place]] = []
        if root is not None:
            self._root = root
            document = self._findings.guarded(document, self._document, root, found)
        for path in more:
            if path not in self._files:
                found += self._of_file(path, Place(text_of(path)))
        return document, found, self._files

    def _document(self, root: bytes, found: list[tuple[Any, Place]]) -> Node:
        """The surrounding object of the file `root`, empty if it has none; its specifications go into `found`."""
        place = Place(text_of(root))
        documents = self._documents(root, place)
        if len(documents) == 1 and is_wrapped(documents[0][0]):
            value, place = documents[0]
            document = read_object(value, place, "document", self._findings)
            found += self._listed(document)
            return document
        for value, place in documents:
            found += self._specifications(value, place)
        return Node({}, place)

    def _listed(self, document: Node) -> Iterator[tuple[Any, Place]]:
        stages = document.get("stages")
        if stages is None:
            return
        if not isinstance(stages.value, list):
            raise mismatch(stages.value, "a list of stages", stages.place)
        items = [(value, stages.place.item(number)) for number, value in enumerate(stages.value)]
        self._evaluate_all(items)
        for value, place in items:
            try:
                named = self._named(value, place)
            except SpecError as error:
                self._findings.refuse(error)
                continue
            if named is None:
                yield from self._specifications(
                    value, place, "a specification or the path of a file with some", nested=False
                )
                continue
            paths, arguments = named
            for path in paths:
                yield from self._of_file(path, place, arguments)

    def _named(self, value: Any, place: Place) -> tuple[list[bytes], Mapping[str, Any]] | None:
        """The files that an item of `stages` stands for, and the arguments for templates; None for a specification."""
        if isinstance(value, str):
            return self._matches(value, place), {}
        item = read_item(value, place)
        return (self._matches(item[0], place.field("file")), item[1]) if item is not None else None

    def _evaluate_all(self, items: list[tuple[Any, Place]]) -> None:
        """Have all templates evaluated at once, which takes one process. What is wrong is found later, one by one."""
        requests = []
        for value, place in items:
            with suppress(SpecError):
                paths, arguments = self._named(value, place) or ([], {})
                requests += [request(self._snapshot, path, arguments, place) for path in paths if is_template(path)]
        if requests and self._evaluate is not None:
            self._evaluate(requests)

    def _of_file(
        self, path: bytes, place: Place, arguments: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, Place]]:
        """The specifications in a file that is named at `place`, with arguments if it is a template."""
        for inner, at in self._findings.guarded([], self._documents, path, place, arguments):
            yield from self._specifications(inner, at)

    def _matches(self, text: str, place: Place) -> list[bytes]:
        path = repository_path(text, place)
        if self._snapshot.get(path) is not None and path:
            if path == self._root:
                raise SpecError(place, f"{quoted(path)} lists itself")
            return [path]
        if not _GLOB.search(text):
            entry_at(self._snapshot, path, place, expected="a file")
        check_glob("/" + path.decode(), place)
        found = [file for file, entry in expand(self._snapshot, b"", "/" + path.decode()) if entry.is_file]
        found = [file for file in found if file != self._root]
        if not found:
            raise SpecError(place, f"no file matches {quoted(text)}")
        return found

    def _documents(
        self, path: bytes, place: Place, arguments: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, Place]]:
        entry_at(self._snapshot, path, place, expected="a file")
        self._files.append(path)
        file = text_of(path)
        data = self._evaluated(path, arguments or {}) if is_template(path) else self._snapshot.read(path)
        documents = parse_documents(data, file)
        if not documents:
            raise SpecError(Place(file), "no specification in it", hint='without stages, write {"stages": []}')
        return documents

    def _evaluated(self, path: bytes, arguments: Mapping[str, Any]) -> bytes:
        """The value of a template."""
        place = Place(text_of(path))
        if self._evaluate is None:
            raise SpecError(place, "templates are not evaluated here")
        (value,) = self._evaluate([request(self._snapshot, path, arguments, place)])
        if isinstance(value, Refusal):
            raise SpecError(place, value.problem, hint=value.hint)
        return value.encode()

    def _specifications(
        self, value: Any, place: Place, expected: str = "a specification", *, nested: bool = True
    ) -> Iterator[tuple[Any, Place]]:
        """The specifications in `value`: itself or, where `nested`, the items of a list."""
        if isinstance(value, list) and nested:
            for number, item in enumerate(value):
                yield from self._specifications(item, place.item(number), nested=False)
        elif not isinstance(value, dict):
            self._findings.refuse(mismatch(value, expected, place))
        elif extra := sorted(_WRAPPED & value.keys()):
            problem = f"{quoted(extra[0])} outside the one object of {FILE}"
            self._findings.refuse(SpecError(place.field(extra[0]), problem, hint="move it there"))
        else:
            yield value, place


def is_wrapped(document: Any) -> bool:
    """Whether a document is the object that surrounds stages, not a specification."""
    return isinstance(document, dict) and bool(_WRAPPED & document.keys())


def _stage(
    draft: Draft,
    directories: dict[str, bytes],
    branches: dict[str, str],
    absent: Collection[str],
    around: Surroundings,
    images: Images,
    findings: Findings,
) -> Stage:
    node, held = draft.node, findings.guarded
    nothing = Transform(cmd=()), None
    transform, mounts = held(nothing, _transform, node, around, images, findings)
    source = node.get("input")
    workers = node.get("parallelism_spec")
    asked = held(0, _count, workers.get("constant") if workers is not None else None)
    tries = node.get("datum_tries")
    reader = InputReader(draft.name.value, draft.project, directories, around, findings, branches, absent)
    return Stage(
        name=draft.name.value,
        project=draft.project,
        description=node.text("description"),
        transform=transform,
        input=held(None, reader.read, source) if source is not None else None,
        output=draft.output,
        code=mounts,
        params=held((), params, node.nodes("params"), around),
        metrics=held((), metrics, node.nodes("metrics")),
        predictions=held((), predictions, node.nodes("predictions"), around),
        leakage=held((), leakage, node.nodes("leakage"), around),
        plots=held((), plots, node.nodes("plots")),
        parallelism=asked or 1,
        parallel_asked=asked or None,
        executor=held("", executor, node.get("executor")),
        datum_tries=held(3, _count, tries) or 3,
        datum_timeout=seconds(node, "datum_timeout"),
        job_timeout=seconds(node, "job_timeout"),
        every_job=held(False, every_job, node.get("reprocess_spec")),
        requests=held(Resources(), resources, node.get("resource_requests")),
        limits=held(Resources(), resources, node.get("resource_limits")),
        salt=node.text("salt"),
        egress=held("", egress, node.get("egress")),
        where=str(node.place),
    )


def _count(node: Node | None) -> int:
    """A number of things, 0 if absent."""
    if node is None:
        return 0
    if node.value < 0:
        raise SpecError(node.place, "less than 0")
    return int(node.value)


def _transform(
    stage: Node, around: Surroundings, images: Images, findings: Findings
) -> tuple[Transform, tuple[CodeMount, ...] | None]:
    """How the stage runs, and its code: what the stage says itself comes before what its image stands for."""
    held = findings.guarded
    node = stage.require("transform")
    image = node.get("image")
    image = image if image is not None and image.value else None
    cmd = held((), _cmd, node)
    nothing = Node({}, node.place)
    stand_in = images.entry(image) if image is not None else nothing
    own_code, own_dir = stage.get("code"), node.get("working_dir")
    mounted = own_code if own_code is not None else stand_in.get("code")
    directory = own_dir if own_dir is not None and own_dir.value else stand_in.get("working_dir")
    transform = Transform(
        cmd=cmd,
        stdin=node.items("stdin"),
        err_cmd=node.items("err_cmd"),
        err_stdin=node.items("err_stdin"),
        env=held((), _env, node.get("env")),
        accept_return_code=held((), _codes, node.nodes("accept_return_code")),
        working_dir=held(None, working_dir, directory),
        image=image.value if image is not None else None,
        source=held(None, images.source, image, around) if image is not None else None,
        secrets=held((), secrets, node.nodes("secrets")),
        user=node.text("user"),
        datum_batching=flag(node, "datum_batching"),
        debug=flag(node, "debug"),
        memory_volume=flag(node, "memory_volume"),
    )
    return transform, held(None, code, mounted, around) if mounted is not None else None


def _cmd(node: Node) -> tuple[str, ...]:
    cmd = node.get("cmd")
    if cmd is None:
        shell = """name the shell that reads the lines of 'stdin': ["sh"]"""
        hint = shell if node.get("stdin") is not None else "name a program; the entry point of an image is not used"
        raise SpecError(node.place, "'cmd' is missing", hint=hint)
    if not cmd.value or not cmd.value[0].value:
        raise SpecError(cmd.place, "an empty command", hint='write ["python", "train.py"], for instance')
    return node.items("cmd")


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


def _in_order(drafts: list[Draft], stages: dict[str, Stage]) -> tuple[Stage, ...]:
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
