"""What is known of a stage by itself: what it is called, where its results go, and whether it can run here at all.

Names and directories of all stages are settled before anything is resolved against them.
"""

import re
from collections.abc import Sequence
from typing import Any

from gitml.pipeline.spec.error import Findings, Place, SpecError, quoted
from gitml.pipeline.spec.fields import LONGEST_NAME, STAGE_NAME
from gitml.pipeline.spec.inputs import branch_name, project_name
from gitml.pipeline.spec.model import LeftOut
from gitml.pipeline.spec.paths import inside, kind_name, repository_path
from gitml.pipeline.spec.reading import Node, merged, read_object
from gitml.pipeline.spec.walk import SPELLED, Met, refused_for_good
from gitml.record import record, replace
from gitml.store.tree import Snapshot

_NAME = re.compile(STAGE_NAME)
_BESIDE = b"-results"
"""What the output of a stage is called after its name, if specifications or code lie where the name says."""
_IDENTITY = frozenset({"pipeline", "output", "output_branch"})
"""The fields that say what a stage is called and where its results are."""


@record
class Draft:
    """A stage whose name and output are known, and nothing else yet."""

    node: Node
    name: Node
    """With the project before it."""
    project: str
    output: bytes
    output_place: Place
    branch: str
    """What inputs call the branch of the results; empty: `master`."""
    sound: bool
    """Whether all its fields could be read."""
    left_out: LeftOut | None = None
    """Set if it cannot run here."""
    where: Place | None = None
    """Of the first field that it cannot run for."""


def read_drafts(
    found: Sequence[tuple[Any, Place]], own: str, common: Node | None, kept: Sequence[bytes], findings: Findings
) -> list[Draft]:
    """What is known of each specification; `own` is the file of the pipeline itself, `common` what `defaults` say.

    In the file itself a field that is refused is a problem. Other files are as they were written for Pachyderm: there
    the rest of them must not wait for a stage that needs more of it than there is here.
    """
    drafts: list[Draft] = []
    for value, place in found:
        refused = refused_for_good(value, place) if place.file != own else ()
        if refused:
            absent = findings.guarded(None, _left_out, value, place, refused, common, kept)
            drafts += [absent] if absent is not None else []
            continue
        before = len(findings.problems)
        node = findings.guarded(None, read_object, value, place, "stage", findings)
        if node is None:
            continue
        sound = len(findings.problems) == before
        try:
            drafts.append(_draft(merged(common, node) if common is not None else node, sound, kept, findings))
        except SpecError as error:
            if sound:
                findings.refuse(error)
    return drafts


def _draft(node: Node, sound: bool, kept: Sequence[bytes], findings: Findings) -> Draft:
    """What is known of a stage by itself. Its results stay clear of `kept`, unless it says where they go."""
    pipeline = node.require("pipeline")
    name, project = pipeline.require("name"), pipeline.get("project")
    within = project_name(project.get("name")) if project is not None else ""
    name = Node(f"{within}/{name.value}", name.place) if within else name
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
    there = next((each for each in kept if each and inside(each, path)), None)
    if output is None and there is not None:  # elsewhere a pipeline may be called as the directory that it is kept in
        elsewhere = path + _BESIDE
        where = f"results of stage {quoted(name.value)} are in {quoted(elsewhere)}"
        findings.remark(f"{where}, since {quoted(there)} is none of them", place)
        path = elsewhere
    return Draft(node, name, within, path, place, branch_name(node.get("output_branch")), sound)


def _left_out(value: Any, place: Place, refused: Sequence[Met], common: Node | None, kept: Sequence[bytes]) -> Draft:
    """What is known of a specification that cannot run here because of its fields `refused`; no other is looked at."""
    named = {key: inner for key, inner in value.items() if SPELLED["stage"].get(key) in _IDENTITY}
    node = read_object(named, place, "stage", Findings())
    draft = _draft(merged(common, node) if common is not None else node, True, kept, Findings())
    fields = [Place("", met.place.steps[len(place.steps) :]).path for met in refused]
    why = [f"{quoted(path)} is {met.field.about}" for path, met in zip(fields, refused, strict=True) if met.field]
    what = [met.field.hint for met in refused if met.field is not None and met.field.hint]
    absent = LeftOut(
        name=draft.name.value, output=draft.output, why="; ".join(dict.fromkeys(why)), hint="; ".join(what)
    )
    return replace(draft, left_out=absent, where=refused[0].place)


def apart(drafts: list[Draft], findings: Findings) -> list[Draft]:
    """The drafts without those that take the name of another one, or write to its directory or into it."""
    names: dict[str, Draft] = {}
    for draft in drafts:
        other = names.setdefault(draft.name.value, draft)
        if other is not draft:
            problem, hint = f"a second stage called {quoted(draft.name.value)}", f"the first: {other.name.place}"
            findings.refuse(SpecError(draft.name.place, problem, hint=hint))
    earlier: dict[bytes, Draft] = {}
    for draft in sorted(names.values(), key=lambda one: one.output + b"/"):
        parts = draft.output.split(b"/")
        above = (b"/".join(parts[:length]) for length in range(1, len(parts) + 1))
        taken = next((path for path in above if path in earlier), None)
        if taken is None:
            earlier[draft.output] = draft
            continue
        relation = "is also" if taken == draft.output else f"lies inside {quoted(taken)},"
        problem = f"the output {quoted(draft.output)} {relation} the output of stage"
        findings.refuse(
            SpecError(
                draft.output_place,
                f"{problem} {quoted(earlier[taken].name.value)}",
                hint="give each stage an 'output' of its own",
            )
        )
    return [draft for draft in drafts if earlier.get(draft.output) is draft]


def check_output(draft: Draft, files: list[bytes], snapshot: Snapshot) -> None:
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
                draft.output_place,
                f"the output {quoted(draft.output)} holds the specification {quoted(file)}",
                hint="move the file to another directory, or give the stage another 'output'",
            )
