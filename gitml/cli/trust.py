"""`git ml trust`."""

import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gitml.cli.context import Context, open_context
from gitml.cli.options import Json
from gitml.cli.output import paint, safe, show, show_json, talk
from gitml.errors import ExitCode, UserError
from gitml.oid import Oid
from gitml.pipeline.audit import Review, code_diff, reviews
from gitml.pipeline.trust import VARIABLE, Level, Trust
from gitml.provenance.codec import Json as Value
from gitml.provenance.codec import canonical


def trust(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="Only these; by default all of HEAD.")
    ] = None,
    show_: Annotated[
        bool, typer.Option("--show", help="Only show commands and code, and what is new since they were reviewed.")
    ] = False,
    level: Annotated[
        Level | None, typer.Option("--level", help="Which commands hooks may run in this clone from now on.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Trust nothing any more; the level is 'mine' again.")
    ] = False,
    json: Json = False,
) -> int:
    """Let hooks run the commands of HEAD with the code and the lock files that they have now.

    Levels: never; ask: what you named here or ran with 'git ml run'; mine (the default): also what commits bring in
    that are made in this clone, whoever their author is, but not what arrives by pull or merge; signed: also what
    arrives in commits with a good signature; repo: everything, whoever brought it in.
    GITML_TRUST in the environment takes the place of the level. With --show exit code 3 if something is not reviewed.
    """
    if sum((show_, level is not None, forget)) > 1 or ((level is not None or forget) and stages):
        raise UserError("only one thing at a time", hint="git ml trust -h")
    with open_context() as context:
        consent = Trust(context.repo)
        if forget:
            consent.forget()
            talk("gitml: hooks run nothing that was reviewed before; commits made here bring their commands again")
            return ExitCode.OK
        if level is not None:
            return _set_level(consent, level)
        survey, pipeline = context.survey()
        known = [stage.name for stage in pipeline.stages]
        for name in stages or ():
            if name not in known:
                raise UserError(f"there is no stage '{name}'", hint=f"stages: {', '.join(known)}")
        found = [
            each
            for each in reviews(context.repo, context.surveyor, survey, consent)
            if not stages or each.stage in stages
        ]
        if show_:
            return _show(context, survey.commit, found, consent, json=json)
        new = [each for each in found if not consent.lists(each.digest)]
        consent.add((each.digest for each in new), whole=not stages)
    if json:
        show_json(_as_json(found, consent))
    else:
        show(f"reviewed: {safe(', '.join(each.stage for each in new))}" if new else "all of it was reviewed before")
        if consent.level is Level.NEVER:
            talk("note: hooks run nothing at the level 'never'")
        elif new:
            talk("hint: the next commit runs what is stale, or now: git ml run")
    return ExitCode.OK


def _set_level(consent: Trust, level: Level) -> int:
    consent.set_level(level)
    talk(f"gitml: level '{level}'")
    if consent.level is not level:
        talk(f"note: {VARIABLE} is set to '{consent.level}', which goes first")
    return ExitCode.OK


def _show(context: Context, commit: Oid, found: list[Review], consent: Trust, *, json: bool) -> int:
    if json:
        show_json(_as_json(found, consent))
    else:
        show(f"level: {consent.level}")
        if consent.doubt is not None:
            show(paint(consent.doubt.words, "33"))
        for review in found:
            for line in _lines(context, commit, review):
                show(line)
    return ExitCode.OK if all(each.reviewed for each in found) else ExitCode.NOT_TRUSTED


def _lines(context: Context, commit: Oid, review: Review) -> Iterator[str]:
    yield ""
    state = paint("reviewed", "32") if review.reviewed else paint("not reviewed", "33")
    yield f"{paint(safe(review.stage), '1')}  {state}"
    before = review.before
    if before is None:
        for name, value in review.fields.items():
            yield f"  {name}: {_value(value)}"
        for path in review.code:
            yield f"  code: {safe(os.fsdecode(path))}"
        for path in review.environment:
            yield f"  environment: {safe(os.fsdecode(path))}"
        if not review.reviewed:
            yield "  nothing of it was reviewed before: read the code"
        return
    assert review.since is not None
    yield f"  changed since {review.since.hex()[:10]}, which was reviewed:"
    for name in sorted({*before.fields, *review.fields}):
        if before.fields.get(name) != review.fields.get(name):
            yield paint(f"  -{name}: {_value(before.fields.get(name))}", "31")
            yield paint(f"  +{name}: {_value(review.fields.get(name))}", "32")
    for path in sorted(set(review.code) ^ set(before.code)):
        yield f"  code {'added' if path in review.code else 'removed'}: {safe(os.fsdecode(path))}"
    for path in sorted(set(review.environment) ^ set(before.environment)):
        yield f"  environment {'added' if path in review.environment else 'removed'}: {safe(os.fsdecode(path))}"
    for line in code_diff(context.repo, review, commit):
        colour = {"+": "32", "-": "31", "@": "36"}.get(line[:1], "")
        yield paint(f"  {safe(line)}", colour)


def _value(value: Value) -> str:
    return safe(canonical(value).decode()) if value is not None else "(none)"


def _as_json(found: list[Review], consent: Trust) -> dict[str, Any]:
    return {
        "schema": "gitml/trust/1",
        "level": consent.level,
        "doubt": consent.doubt,
        "stages": [
            {
                "name": each.stage,
                "reviewed": consent.has(each.digest),
                "digest": each.digest,
                "command": each.fields,
                "code": [os.fsdecode(path) for path in each.code],
                "environment": [os.fsdecode(path) for path in each.environment],
                "reviewed_at": each.since.hex() if each.since is not None else None,
            }
            for each in found
        ],
    }
