"""gitml's own fields: `code`, `params`, `metrics`, and the table `images`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from gitml.pipeline.spec.error import Findings, Place, SpecError, did_you_mean, printable, quoted
from gitml.pipeline.spec.model import CodeMount, ImageSource, Metric, ParamRef
from gitml.pipeline.spec.paths import Outputs, entry_at, relative, repository_path
from gitml.pipeline.spec.reading import Node, mismatch, read_object
from gitml.record import record
from gitml.store.tree import Snapshot

NUMBER_FILES = (".json", ".yaml", ".yml", ".toml")
"""Endings of the files from which single values can be taken."""
_TAKEN = ("/pfs", "/proc", "/sys", "/dev")
_SYSTEM = frozenset(
    "bin boot etc home lib lib32 lib64 media mnt opt root run sbin srv tmp usr var".split()  # noqa: SIM905 - as ls says
)
"""Directories below the root that machines have: never hidden as wholes."""
_GOALS = ("max", "min")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@record
class Surroundings:
    """What the paths of a stage are checked against."""

    snapshot: Snapshot
    outputs: Outputs
    own: str
    """The file of the pipeline itself."""


def working_dir(node: Node | None) -> str | None:
    """The value of a field `working_dir`, None if absent; raise `SpecError` for one that leaves the workspace."""
    if node is None or not node.value:
        return None
    text = str(node.value)
    if ".." in text.split("/"):
        raise SpecError(node.place, f"{quoted(text)} leaves the workspace", hint="write it without '..'")
    return text.rstrip("/") or "/" if text.startswith("/") else relative(text, node.place, "the workspace") or None


def code(node: Node, around: Surroundings) -> tuple[CodeMount, ...]:
    """The mounts that a field `code` names, in order; raise `SpecError`."""
    pairs: list[tuple[str | None, Node]] = []
    for item in [node] if isinstance(node.value, dict) else node.value:
        if isinstance(item.value, dict):
            pairs += [(target, source) for target, source in sorted(item.value.items()) if source.value is not None]
        else:
            pairs.append((None, item))
    mounts: dict[str, CodeMount] = {}
    for target, source in pairs:
        path = repository_path(source.value, source.place)
        _check_source(path, source.place, around)
        if target is not None and target.startswith("/") and not target.strip("/"):
            found = list(_over_root(path, source.place, around.snapshot))
        else:
            at = _target(target, source.place) if target is not None else path.decode()
            found = [CodeMount(source=path, target=at)]
        for mount in found:
            if mount.target in mounts:
                raise SpecError(source.place, f"two paths are mounted at {quoted(mount.target or '.')}")
            mounts[mount.target] = mount
    return tuple(mounts.values())


def _over_root(path: bytes, place: Place, snapshot: Snapshot) -> Iterator[CodeMount]:
    """The mounts that lay a directory over the root directory: what machines have there stays, but for equal files."""
    entry_at(snapshot, path, place, expected="a directory")
    waiting = [(path, "")]
    while waiting:
        directory, at = waiting.pop()
        for name, entry in snapshot.list(directory).items():
            source = directory + b"/" + name if directory else name
            target = f"{at}/{name.decode('utf-8', 'surrogateescape')}"
            if entry.is_tree and target.split("/")[1] in _SYSTEM:
                waiting.append((source, target))
            elif entry.is_tree or entry.is_file:
                yield CodeMount(source=source, target=_target(target, place))


def _target(text: str, place: Place) -> str:
    if not text.startswith("/"):
        target = relative(text, place, "the workspace")
        if target.split("/")[0] == "pfs":
            raise SpecError(place, "code cannot be mounted at 'pfs', where inputs and outputs lie")
        return target
    target = "/" + relative(text.lstrip("/"), place, "'/'")
    if target == "/" or any(target == taken or target.startswith(taken + "/") for taken in _TAKEN):
        raise SpecError(place, f"code cannot be mounted at {quoted(target)}", hint="choose a directory such as '/code'")
    return target


def _check_source(path: bytes, place: Place, around: Surroundings, expected: str = "either") -> None:
    """Raise `SpecError` unless the file is the user's: one in an output would be read without being an input.

    A directory may hold outputs; these are left out of the code (`gitml.pipeline.code`).
    """
    owner = around.outputs.above(path)
    if owner is not None:
        raise SpecError(
            place, f"{quoted(path)} lies in the output of stage {quoted(owner)}", hint="read it as an input"
        )
    if path:
        entry_at(around.snapshot, path, place, expected=expected)


def params(nodes: list[Node], around: Surroundings) -> tuple[ParamRef, ...]:
    """The parameters that a field `params` names, in order; raise `SpecError`."""
    found: dict[ParamRef, None] = {}
    for node in nodes:
        text, colon, key = node.value.rpartition(":") if ":" in node.value else (node.value, "", "")
        if colon and not all(key.split(".")):
            raise SpecError(node.place, f"{quoted(node.value)} names no key", hint='write "params.yaml:train.alpha"')
        path = repository_path(text, node.place)
        if not path:
            raise SpecError(node.place, f"{quoted(node.value)} names no file")
        if not text.lower().endswith(NUMBER_FILES):
            raise SpecError(
                node.place,
                f"{quoted(text)} is not a file of parameters",
                hint=f"name a file that ends in {_one_of(NUMBER_FILES)}, or list this one in 'code'",
            )
        _check_source(path, node.place, around, "a file")
        ref = ParamRef(path=path, key=key if colon else None)
        if ref in found:
            raise SpecError(node.place, f"{quoted(node.value)} is named twice")
        found[ref] = None
    return tuple(found)


def metrics(nodes: list[Node]) -> tuple[Metric, ...]:
    """The metrics that a field `metrics` names, in order; raise `SpecError`."""
    found: dict[tuple[str, str | None], Metric] = {}
    for node in nodes:
        metric = _metric(node) if isinstance(node.value, dict) else Metric(path=_result(node))
        if (metric.path, metric.name) in found:
            raise SpecError(node.place, f"{quoted(metric.path)} is named twice", hint="tell them apart by 'name'")
        found[metric.path, metric.name] = metric
    return tuple(found.values())


def _result(node: Node) -> str:
    path = relative(node.value, node.place, "the output directory")
    if not path.lower().endswith(NUMBER_FILES):
        raise SpecError(
            node.place,
            f"{quoted(node.value)} is not a file of numbers",
            hint=f"name a file that ends in {_one_of(NUMBER_FILES)}",
        )
    return path


def _metric(node: Node) -> Metric:
    path = _result(node.require("path"))
    name = node.text("name") or None
    judged = [field for field in ("goal", "tolerance", "noise", "gate") if node.get(field) is not None]
    if judged and name is None:
        raise SpecError(node.place, f"{quoted(judged[0])} without 'name'", hint="'name' says which number is judged")
    goal, tolerance, gate = node.get("goal"), node.get("tolerance"), node.get("gate")
    if goal is not None and goal.value not in _GOALS:
        raise SpecError(goal.place, f"expected 'max' or 'min', got {quoted(goal.value)}")
    if tolerance is not None and tolerance.value < 0:
        raise SpecError(tolerance.place, "less than 0")
    noise = node.get("noise")
    if noise is not None and noise.value in ("", name):
        raise SpecError(noise.place, f"{quoted(noise.value)} is no other number of the file")
    return Metric(
        path=path,
        name=name,
        goal=goal.value if goal is not None else None,
        tolerance=tolerance.value if tolerance is not None else 0.0,
        noise=noise.value if noise is not None else None,
        gate=_gate(gate) if gate is not None else (None, None),
    )


def _gate(node: Node) -> tuple[float | None, float | None]:
    least, greatest = node.get("min"), node.get("max")
    if least is None and greatest is None:
        raise SpecError(node.place, "neither 'min' nor 'max' is given")
    if least is not None and greatest is not None and least.value > greatest.value:
        raise SpecError(node.place, "'min' is greater than 'max', so nothing would pass")
    return (least.value if least is not None else None, greatest.value if greatest is not None else None)


def _one_of(endings: tuple[str, ...]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]}"


class Images:
    """What stands for container images on this machine: the table `images`."""

    def __init__(self, value: object, place: Place, findings: Findings) -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise mismatch(value, "an object from image to what stands for it", place)
        self._entries: Mapping[str, Node] = {
            name: findings.guarded(
                Node({}, place.field(name)), read_object, entry, place.field(name), "image", findings
            )
            for name, entry in value.items()
        }

    def places(self) -> Iterator[bytes]:
        """The paths of the repository that stand for images, as far as they can be read."""
        for entry in self._entries.values():
            mounts = entry.get("code")
            for item in () if mounts is None else [mounts] if isinstance(mounts.value, dict) else mounts.value:
                for source in item.value.values() if isinstance(item.value, dict) else [item]:
                    with suppress(SpecError):
                        yield repository_path(str(source.value), source.place)

    def entry(self, image: Node) -> Node:
        """What `images` says of the image that a stage names, an empty object if nothing."""
        found = self._entries.get(image.value)
        return found if found is not None else Node({}, image.place)

    def source(self, image: Node, around: Surroundings) -> ImageSource | None:
        """Where the files of an image come from, None if the host stands for it; raise `SpecError`."""
        entry = self._entries.get(image.value)
        if entry is None:
            close = did_you_mean(image.value, self._entries)
            if close is not None:  # rather than fetch what somebody else has put under a name with a slip in it
                hint = f'{close} If not, say {{"{printable(image.value)}": {{"container": true}}}} in "images"'
                raise SpecError(image.place, f"nothing stands for the image {quoted(image.value)}", hint=hint)
            return ImageSource(digest=_named_digest(image.value))
        archive, digest = entry.get("archive"), _digest(entry.get("digest"))
        container = entry.get("container")
        if container is not None and container.value and archive is not None:
            raise SpecError(container.place, "'archive' and 'container' exclude each other")
        if archive is not None:
            return _archive(archive, digest, around)
        if container is not None and container.value:
            return ImageSource(digest=digest or _named_digest(image.value))
        if digest is not None:
            hint = "say \"container\": true, or name an 'archive'"
            raise SpecError(entry.place, "'digest' without an image", hint=hint)
        return None


def _archive(node: Node, digest: str | None, around: Surroundings) -> ImageSource:
    text = str(node.value)
    if text.startswith("/"):
        if ".." in text.split("/"):
            raise SpecError(node.place, f"{quoted(text)} has '..' in it", hint="write the path without it")
        return ImageSource(file=text, digest=digest)
    path = repository_path(text, node.place)
    if not path:
        raise SpecError(node.place, f"{quoted(text)} names no archive", hint="name a tar file, or an OCI image layout")
    _check_source(path, node.place, around)
    entry = entry_at(around.snapshot, path, node.place, expected="either")
    return ImageSource(path=path, content=f"{entry.mode:06o} {entry.oid}", digest=digest)


def _digest(node: Node | None) -> str | None:
    if node is None or not node.value:
        return None
    if not _DIGEST.fullmatch(node.value):
        raise SpecError(node.place, f"{quoted(node.value)} is no digest", hint="write 'sha256:' and 64 hex digits")
    return str(node.value)


def _named_digest(image: str) -> str | None:
    """The digest in a name such as `python@sha256:…`."""
    digest = image.rpartition("@")[2]
    return digest if _DIGEST.fullmatch(digest) else None
