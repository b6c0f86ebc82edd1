"""Which directories of the repository hold the code that a container image brought, guessed from the commands.

A command of Pachyderm names files of its image, `/code/train.py`. Where the repository has a file of that name, its
directory most likely is what was copied into the image.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gitml.record import field, record

UNKNOWN = "TODO"
"""Stands in `images` where a person has to write a path. It is no path, so nothing runs until then."""

_PATH = re.compile(r"(?<![\w/.$:}*-])/(?:[\w.+-]+/)*[\w.+-]+")
_WORD = re.compile(r"(?<![\w/.$-])(?:\./)?[\w+-][\w./+-]*\.(?:py|sh|R|r|jl|js|rb|pl|jar|lua|php)(?![\w/])")
_PART = re.compile(r"[A-Za-z0-9]+")
_OF_THE_MACHINE = frozenset({"pfs", "bin", "sbin", "usr", "lib", "lib64", "tmp", "dev", "etc", "proc", "sys", "var"})
_DEFAULT = "/code"


@record(frozen=False)
class StandIn:
    """What stands for an image."""

    code: dict[str, str] = field(default_factory=dict)
    """Mount point to path of the repository."""
    working_dir: str | None = None
    unknown: list[str] = field(default_factory=list)
    """Places of the image that are in the commands, and of which no file of the repository has the name."""

    def as_entry(self) -> dict[str, Any]:
        """The entry of `images`; what is unknown stands as `UNKNOWN`."""
        code = dict(sorted(self.code.items())) | dict.fromkeys(self.unknown, UNKNOWN)
        return ({"code": code} if code else {}) | ({"working_dir": self.working_dir} if self.working_dir else {})


def stand_in(transforms: Iterable[Mapping[str, Any]], near: str, files: frozenset[str], image: str = "") -> StandIn:
    """What stands for the image of these transforms.

    `near` is the file of the specification: of files with the same name the one closest to it is meant, and of those
    as close the one whose directories have most words of the name of the image. If that leaves several there is no
    answer.
    """
    result = StandIn()
    for transform in transforms:
        base = str(transform.get("working_dir") or "")
        secrets = list(_secrets(transform))
        for path in _named(transform):
            if _covered(path, secrets):
                continue
            place = posixpath.normpath(posixpath.join(base or _DEFAULT, path))
            source = _source(place if path.startswith("/") or base else path, near, files, image)
            if source is None:
                if path.startswith("/") and not _covered(place, result.code):
                    result.unknown.append(place)
                continue
            if not path.startswith("/") and not base:
                result.working_dir = _DEFAULT
            _mount(result, place, source)
    unknown: list[str] = []
    for path in sorted({each for each in result.unknown if not _covered(each, result.code)}):
        if not _covered(path, unknown):
            unknown.append(path)
    result.unknown = unknown
    return result


def _secrets(transform: Mapping[str, Any]) -> Iterator[str]:
    """Where secrets are: no place of the image, whatever commands do there."""
    found = transform.get("secrets")
    for secret in found if isinstance(found, list) else ():
        place = (secret.get("mount_path") or secret.get("mountPath")) if isinstance(secret, dict) else None
        if isinstance(place, str) and place.strip("/"):
            yield "/" + place.strip("/")


def _named(transform: Mapping[str, Any]) -> Iterator[str]:
    """The paths in the commands that are neither of the machine nor data."""
    for key in ("cmd", "stdin", "err_cmd", "err_stdin"):
        lines = transform.get(key)
        for line in lines if isinstance(lines, list) else ():
            text = str(line)
            for match in _PATH.finditer(text):
                if match[0].split("/")[1] not in _OF_THE_MACHINE and "/bin/" not in match[0]:
                    yield match[0]
            for match in _WORD.finditer(text):
                if not match[0].startswith("pfs/"):
                    yield match[0].removeprefix("./")


def _source(path: str, near: str, files: frozenset[str], image: str) -> str | None:
    """The file of the repository that `path` of an image most likely is, None if none or several could be."""
    wanted = [part for part in path.split("/") if part]
    home = near.split("/")[:-1]
    ranked: dict[tuple[int, int], list[str]] = {}
    named = 0
    for file in files:
        parts = file.split("/")
        same = _common(reversed(parts), reversed(wanted))
        if same:
            named += 1
            ranked.setdefault((same, _common(parts[:-1], home)), []).append(file)
    if not ranked:
        return None
    (same, close), best = max(ranked.items())
    if named > 1 and same == 1 and close < len(home):
        return None  # a common name somewhere else, `train.py` of another project
    called = set(_PART.findall(image))
    likeness = {file: len(called.intersection(_PART.findall(posixpath.dirname(file)))) for file in best}
    most = max(likeness.values())
    best = [file for file in best if likeness[file] == most]
    return best[0] if len(best) == 1 else None


def _common(left: Iterable[str], right: Iterable[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _mount(result: StandIn, place: str, source: str) -> None:
    """Mount the directory of `source`, so that what lies beside it comes along; at the top of either only the file."""
    target, directory = place, source
    while posixpath.basename(target) == posixpath.basename(directory) and posixpath.dirname(directory):
        above = posixpath.dirname(target)
        if above == "/":
            break
        target, directory = above, posixpath.dirname(directory)
    if not _covered(target, result.code):
        for inner in [each for each in result.code if each.startswith(target + "/")]:
            del result.code[inner]
        result.code[target] = directory


def _covered(place: str, code: Iterable[str]) -> bool:
    return any(place == target or place.startswith(target + "/") for target in code)
