"""Specifications of Pachyderm: those of 2.x are listed as they are, those of 1.x are written anew.

What a field means is said by the table of fields; here is only what becomes of those of 1.x.
"""

import json
import posixpath
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gitml.pipeline.foreign.findings import Imported, Kind, Present, Taken
from gitml.pipeline.foreign.standins import stand_in
from gitml.pipeline.spec.documents import parse_documents
from gitml.pipeline.spec.error import Place, SpecError, quoted
from gitml.pipeline.spec.fields import OBJECTS, Disposition
from gitml.pipeline.spec.template import ENDING
from gitml.pipeline.spec.walk import EMPTY, SPELLED, Met, fields_met, refused_for_good

_CODE = "/code"
"""Where a `build` of 1.x is mounted; Pachyderm had it in /pfs/source, which belongs to inputs here."""
_METHODS = {"map": "BLOCK", "reduce": "FILE", "global": "REPO"}
"""Names of `method` in 1.x, and the unit that each stands for."""


def import_pachyderm(
    files: Mapping[str, bytes], present: Present, arguments: Mapping[str, Any] | None = None
) -> Imported:
    """What becomes of specification files, by repository path; of a template its value, with these arguments.

    A file whose specifications gitml reads as they are is listed. From a file with fields of 1.x each specification is
    converted. A specification with what cannot be done here is refused: a listed file stays what it is, and whoever
    reads it leaves that stage out. An error refuses a listed file as a whole. Raise `SpecError` for a file that cannot
    be read.
    """
    result = Imported()
    names = dict(present.stages)
    specs: list[tuple[str, dict[str, Any], Place]] = []
    for file, data in files.items():
        found = list(_specifications(data, file))
        if not found:
            raise SpecError(Place(file), "no specification in it")
        item = {"file": file, "args": dict(arguments)} if arguments and file.endswith(ENDING) else file
        if isinstance(item, str) and item in present.listed:
            result.say(Kind.IGNORED, file, "it is listed in pipeline.json already")
            continue
        old = any(_is_old(each) for spec, place in found for each in fields_met(spec, "stage", place))
        sound = [(spec, place) for spec, place in found if _acceptable(spec, place, names, result)]
        if len(sound) < len(found) and not old and sound:
            for spec, _ in sound:
                del names[stage_name(spec)]
            result.say(Kind.REFUSED, file, "not listed, because of what was refused in it: split it")
            continue
        taken = [(spec, place) for spec, place in sound if not _say_left_out(spec, place, names, old, result)]
        for spec, place in taken:
            canonical = _canonical(spec, "stage")
            if old:
                canonical = _converted(canonical, place, result)
                result.entries.append(canonical)
            result.stages.append(Taken(name=stage_name(spec), source=file, converted=old))
            _say_ignored(spec, place, result)
            specs.append((file, canonical, place))
        if sound and not old:
            result.entries.append(item)
    for _, spec, place in specs:
        _say_missing(spec, place, names, present, result)
    _stand_for_images(specs, present, result)
    return result


def _specifications(data: bytes, file: str) -> Iterator[tuple[dict[str, Any], Place]]:
    for value, place in parse_documents(data, file):
        items = [(item, place.item(n)) for n, item in enumerate(value)] if isinstance(value, list) else [(value, place)]
        for item, at in items:
            if not is_specification(item):
                raise SpecError(at, "not a specification of a pipeline", hint="it has no 'pipeline' with a 'name'")
            yield item, at


def is_specification(value: Any) -> bool:
    """Whether `value` is an object that says what it is called."""
    pipeline = value.get("pipeline") if isinstance(value, dict) else None
    return isinstance(pipeline, dict) and isinstance(pipeline.get("name"), str)


def stage_name(spec: Mapping[str, Any]) -> str:
    """The name of the stage that a specification becomes: with its project before it."""
    return _within(_project(spec["pipeline"]), str(spec["pipeline"]["name"]))


def _project(node: Mapping[str, Any]) -> str:
    """The project that a pipeline or an input names, empty for the default one."""
    project = node.get("project")
    name = project.get("name") if isinstance(project, dict) else project
    return name if isinstance(name, str) and name != "default" else ""


def _within(project: str, name: str) -> str:
    return f"{project}/{name}" if project else name


def _is_old(met: Met) -> bool:
    return met.field is not None and met.field.disposition is Disposition.REMOVED


def _acceptable(spec: dict[str, Any], place: Place, names: dict[str, str], result: Imported) -> bool:
    """Whether a specification can be read; what stands against it is noted, and its name taken if it can."""
    name, refused = stage_name(spec), False
    for met in fields_met(spec, "stage", place):
        if met.field is None:
            result.say(Kind.REFUSED, met.place, "unknown field")
            refused = True
    if name in names:
        result.say(Kind.REFUSED, place, f"there is a stage called {quoted(name)} already")
        refused = True
    if not refused:
        names[name] = name
    return not refused


def _say_left_out(spec: dict[str, Any], place: Place, names: dict[str, str], converted: bool, result: Imported) -> bool:
    """Whether there will be no stage of this specification, and if so why; a converted one leaves no name behind."""
    refused = refused_for_good(spec, place)
    for met in refused:
        assert met.field is not None
        result.say(Kind.REFUSED, met.place, met.field.about + (f": {met.field.hint}" if met.field.hint else ""))
    if refused and converted:
        del names[stage_name(spec)]
    elif refused:
        name = quoted(stage_name(spec))
        result.say(Kind.REFUSED, place, f"stage {name} is left out, what is committed in {name} is read as data")
    return bool(refused)


def _say_ignored(spec: dict[str, Any], place: Place, result: Imported) -> None:
    for met in fields_met(spec, "stage", place):
        if met.field is not None and met.field.disposition is Disposition.IGNORED:
            result.say(Kind.IGNORED, met.place, met.field.about)


def _canonical(value: Any, name: str | None) -> Any:
    """`value` with the names of fields in snake_case, without what is empty."""
    if isinstance(value, list):
        return [_canonical(item, name) for item in value]
    if not isinstance(value, dict) or name is None:
        return value
    made = {}
    for key, inner in value.items():
        known = SPELLED[name].get(key)
        if known is None or inner in EMPTY:
            continue
        field = OBJECTS[name][known]
        made[known] = _canonical(inner, "pfs" if known == "atom" else field.object)
    return made


def _converted(spec: dict[str, Any], place: Place, result: Imported) -> dict[str, Any]:
    """A specification of 1.x with fields of 2.x only."""
    made = dict(spec)
    for key, rule in _RULES.items():
        if key in made:
            rule(made, made.pop(key), place.field(key), result)
    transform = dict(made.get("transform", {}))
    if transform.pop("overwrite", None) is not None:
        result.say(Kind.IGNORED, place.field("transform").field("overwrite"), "the output holds current results only")
    build = transform.pop("build", None)
    if isinstance(build, dict):
        made["code"] = {_CODE: _built(transform, build, place.field("transform"), result)}
    if transform:
        made["transform"] = transform
    if "/pfs/prev" in json.dumps(transform):
        result.say(Kind.TODO, place.field("transform"), "there is no /pfs/prev: each datum is computed from its inputs")
    if "parallelism_spec" in made:
        made["parallelism_spec"] = _parallelism(made["parallelism_spec"], place.field("parallelism_spec"), result)
    if "input" in made:
        made["input"] = _input(made["input"], place.field("input"), result)
    return {key: made[key] for key in OBJECTS["stage"] if key in made}


def _built(transform: dict[str, Any], build: Mapping[str, Any], place: Place, result: Imported) -> str:
    """The directory that a `build` names; the command is made one that finds it where code is mounted."""
    for key in ("cmd", "stdin", "err_cmd", "err_stdin"):
        if key in transform:
            transform[key] = [str(line).replace("/pfs/source", _CODE) for line in transform[key]]
    if "cmd" not in transform:
        python = build.get("language") == "python"
        transform["cmd"] = ["python3", f"{_CODE}/main.py"] if python else ["sh", f"{_CODE}/run.sh"]
    transform.setdefault("working_dir", _CODE)
    transform.pop("image", None)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place.file), str(build.get("path") or ".")))
    what = (
        f"written as 'code': {quoted(path)} at {quoted(_CODE)}; the command is {quoted(shlex.join(transform['cmd']))}"
    )
    result.say(Kind.MAPPED, place.field("build"), what)
    result.say(Kind.TODO, place.field("build"), "nothing is installed or built: the packages must be on this machine")
    return path


def _input(node: Any, place: Place, result: Imported) -> Any:
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for key, inner in node.items():
        at = place.field(key)
        if key == "atom" and isinstance(inner, dict):
            made["pfs"] = _without(inner, "from_commit", at, "what was processed once is not processed again", result)
            result.say(Kind.MAPPED, at, "written as 'pfs'")
        elif key == "pfs" and isinstance(inner, dict):
            made["pfs"] = _without(inner, "from_commit", at, "what was processed once is not processed again", result)
        elif key == "git" and isinstance(inner, dict):
            name = str(inner.get("name") or str(inner.get("url", "")).rstrip("/").rpartition("/")[2]).removesuffix(
                ".git"
            )
            made["pfs"] = {"repo": name, "glob": "/"}
            result.say(
                Kind.MAPPED, at, f"written as 'pfs': the files of {quoted(str(inner.get('url', '')))} in {quoted(name)}"
            )
        elif isinstance(inner, list):
            made[key] = [_input(item, at.item(n), result) for n, item in enumerate(inner)]
        else:
            made[key] = inner
    return made


def _without(node: dict[str, Any], key: str, place: Place, why: str, result: Imported) -> dict[str, Any]:
    if key in node:
        result.say(Kind.IGNORED, place.field(key), why)
    return {name: value for name, value in node.items() if name != key}


def _parallelism(node: Any, place: Place, result: Imported) -> Any:
    if not isinstance(node, dict):
        return node
    constant = node.get("constant", 0)
    if not constant and node.get("coefficient"):
        constant = 1
        result.say(Kind.MAPPED, place.field("coefficient"), "there are no nodes to count: 'constant' 1")
    elif "strategy" in node:
        result.say(Kind.MAPPED, place.field("strategy"), f"'constant' {constant or 1} says it")
    return {"constant": constant or 1}


# --- what becomes of the fields of a specification of 1.x ---

_Rule = Callable[[dict[str, Any], Any, Place, Imported], None]


def _inputs(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:
    """`inputs` of 1.0 to 1.3, with a `method`, or of 1.4, with a `glob`."""
    made = []
    for number, item in enumerate(value if isinstance(value, list) else []):
        at = place.item(number)
        repo = item.get("repo") if isinstance(item, dict) else None
        name = repo.get("name") if isinstance(repo, dict) else None
        if not isinstance(name, str):
            raise SpecError(at, "it names no repository", hint='it should hold {"repo": {"name": ...}}')
        pfs: dict[str, Any] = {"repo": name}
        pfs |= {key: item[key] for key in ("name", "branch", "lazy") if item.get(key)}
        pfs["glob"] = item.get("glob") or _glob(item.get("method"), at.field("method"), result)
        made.append({"pfs": pfs})
    if made:
        spec["input"] = made[0] if len(made) == 1 else {"cross": made}
        result.say(Kind.MAPPED, place, f"written as 'input.{'pfs' if len(made) == 1 else 'cross'}'")


def _glob(method: Any, place: Place, result: Imported) -> str:
    if isinstance(method, str):
        unit = _METHODS.get(method.lower(), method.upper())
    else:
        unit = str(method.get("partition", "BLOCK")).upper() if isinstance(method, dict) else "BLOCK"
    glob = "/" if unit == "REPO" else "/*"
    if unit == "BLOCK":
        result.say(Kind.TODO, place, 'a datum is a whole file now, glob "/*": split large files, or the work is not')
    else:
        result.say(Kind.MAPPED, place, f'glob "{glob}" says it')
    return glob


def _parallelism_number(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:
    number = int(value) if str(value).isdigit() else 1
    spec.setdefault("parallelism_spec", {"constant": number or 1})
    result.say(Kind.MAPPED, place, f"'parallelism_spec.constant' {number or 1}")


def _renamed(new: str) -> _Rule:
    def rule(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:
        spec.setdefault(new, value)
        result.say(Kind.MAPPED, place, f"written as '{new}'")

    return rule


def _autoscaling(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:  # noqa: ARG001
    result.say(Kind.IGNORED, place, "there are no pods to scale")


def _no_skip(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:  # noqa: ARG001
    spec.setdefault("reprocess_spec", "every_job")
    result.say(Kind.MAPPED, place, "'reprocess_spec' is 'every_job'")


def _resources(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:
    if not isinstance(value, dict):
        raise SpecError(place, "expected an object")
    asked = {key: value[key] for key in ("cpu", "memory", "disk") if value.get(key)}
    if asked:
        spec.setdefault("resource_requests", asked)
    gpu = value.get("gpu")
    if gpu:
        spec.setdefault("resource_limits", {"gpu": gpu if isinstance(gpu, dict) else {"number": gpu}})
    result.say(Kind.MAPPED, place, "written as 'resource_requests'" + (" and 'resource_limits'" if gpu else ""))


def _output(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:
    """`output` of 1.0 to 1.3 is an address; here it is a directory."""
    if isinstance(value, dict):
        spec.setdefault("egress", value)
        result.say(Kind.MAPPED, place, "written as 'egress'")
    else:
        spec["output"] = value


def _dropped(why: str) -> _Rule:
    def rule(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:  # noqa: ARG001
        result.say(Kind.IGNORED, place, why)

    return rule


def _incremental(spec: dict[str, Any], value: Any, place: Place, result: Imported) -> None:  # noqa: ARG001
    result.say(
        Kind.TODO, place, "/pfs/out is empty at the start of each datum: the command must not add to what was there"
    )


_RULES: Mapping[str, _Rule] = {
    "inputs": _inputs,
    "output": _output,
    "parallelism": _parallelism_number,
    "chunk_spec": _renamed("datum_set_spec"),
    "standby": _autoscaling,
    "scale_down_threshold": _autoscaling,
    "no_skip": _no_skip,
    "resource_spec": _resources,
    "incremental": _incremental,
    "enable_stats": _dropped("times and sizes are always kept"),
    "batch": _dropped("finished datums are always reused"),
    "cache_size": _dropped("there is no cache to size"),
    "max_queue_size": _dropped("there is no queue of downloads"),
    "hashtree_spec": _dropped("there are no hashtrees"),
    "gc_policy": _dropped("no memory of a worker is to be collected"),
    "no_archive": _dropped("pipelines are not archived"),
}


# --- what a person has to see to ---


def _leaves(node: Any, place: Place) -> Iterator[tuple[dict[str, Any], Place]]:
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from _leaves(item, place.item(number))
    elif isinstance(node, dict):
        for key, inner in node.items():
            if key == "pfs" and isinstance(inner, dict):
                yield inner, place.field(key)
            else:
                yield from _leaves(inner, place.field(key))


def _say_missing(
    spec: dict[str, Any], place: Place, names: Mapping[str, str], present: Present, result: Imported
) -> None:
    for pfs, at in _leaves(spec.get("input"), place.field("input")):
        repo = pfs.get("repo")
        elsewhere = pfs.get("commit") or pfs.get("branch") not in {None, "", "master"}
        if not isinstance(repo, str) or elsewhere:
            continue
        path = _within(_project(pfs if "project" in pfs else spec["pipeline"]), repo)
        if not any(each in names or present.has(each) for each in (path, repo)):  # a run looks at both as well
            what = f"no stage and no path {quoted(path)}: commit the files of that repository there"
            result.say(Kind.TODO, at.field("repo"), what)


def _stand_for_images(specs: list[tuple[str, dict[str, Any], Place]], present: Present, result: Imported) -> None:
    """Entries of `images`, and what is to be checked in them."""
    transforms: dict[str, list[Mapping[str, Any]]] = {}
    near: dict[str, str] = {}
    for file, spec, _ in specs:
        transform = spec.get("transform")
        image = transform.get("image") if isinstance(transform, dict) else None
        if isinstance(transform, dict) and isinstance(image, str) and image not in present.images:
            transforms.setdefault(image, []).append(transform)
            near.setdefault(image, file)
    for image, used in transforms.items():
        found = stand_in(used, near[image], present.files, image)
        result.images[image] = found.as_entry()
        where = f"images: {image}"
        for path in found.unknown:
            result.say(Kind.TODO, where, f"say what of this repository is at {quoted(path)}")
        if found.code:
            pairs = ", ".join(f"{quoted(source)} at {quoted(target)}" for target, source in sorted(found.code.items()))
            result.say(Kind.TODO, where, f"guessed from the commands: {pairs}; check it")
        elif not found.unknown:
            result.say(Kind.TODO, where, "the programs of this machine stand for it: check that they are there")
