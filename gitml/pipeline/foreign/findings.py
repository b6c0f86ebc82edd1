"""What an import says about what it read: the stages it made, and what became of everything else."""

import posixpath
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any

from gitml.record import field, record


class Kind(StrEnum):
    """What became of something that was read."""

    MAPPED = "mapped"
    """It is written in another way now."""
    IGNORED = "ignored"
    """It means nothing here, or is left out, and the stage does the same without it."""
    REFUSED = "refused"
    """It cannot be done here; what it belongs to was not taken over."""
    TODO = "todo"
    """A person has to add or check something before the stage runs."""


@record
class Finding:
    """One thing that was read, where it stands, and what became of it."""

    kind: Kind
    where: str
    """File and JSON path, or the name of an image or stage."""
    what: str


@record(kw_only=True)
class Taken:
    """A stage that was taken over."""

    name: str
    source: str
    """The file that it comes from."""
    converted: bool
    """Whether its specification is a new one; otherwise the file itself is listed."""


@record(frozen=False)
class Imported:
    """What is to be added to `pipeline.json`, and what there is to say about it."""

    entries: list[str | dict[str, Any]] = field(default_factory=list)
    """Items for `stages`: paths of files, templates with arguments, and specifications."""
    images: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: list[Taken] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def say(self, kind: Kind, where: object, what: str) -> None:
        """Note what became of something; what was said before is not said again."""
        finding = Finding(kind, str(where), what)
        if finding not in self.findings:
            self.findings.append(finding)

    @property
    def refused(self) -> bool:
        """Whether something was not taken over."""
        return any(each.kind is Kind.REFUSED for each in self.findings)

    @property
    def unfinished(self) -> bool:
        """Whether a person has to add or check something."""
        return any(each.kind is Kind.TODO for each in self.findings)


@record(slots=False, kw_only=True)
class Present:
    """What is there already: the files of the repository and the pipeline that gets more stages."""

    files: frozenset[str]
    """Paths of the repository, with `/`; files that git ignores are not among them."""
    stages: Mapping[str, str] = field(default_factory=dict)
    """Names of stages to their output directories."""
    listed: frozenset[str] = frozenset()
    """Paths that `stages` lists."""
    images: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        """Whether there is a file of this path, or one below it."""
        path = path.strip("/")
        return not path or path in self.files or path in self._directories

    @cached_property
    def _directories(self) -> frozenset[str]:
        found: set[str] = set()
        for file in self.files:
            above = posixpath.dirname(file)
            while above and above not in found:
                found.add(above)
                above = posixpath.dirname(above)
        return frozenset(found)
