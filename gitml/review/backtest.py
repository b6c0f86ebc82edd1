"""Models of some commits over inputs of others: which paths come from where, and the results side by side.

Code, parameters and specification are those of HEAD, so that all results are of one program and differ only in what
is asked about. A code file that lies within an input comes with the input.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from gitml.errors import UserError
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.refs import RefUpdate, update_refs
from gitml.git.repository import Repository
from gitml.git.state import worktrees
from gitml.git.tracking import attribute_line
from gitml.oid import Oid
from gitml.pipeline.journal import read_metrics
from gitml.pipeline.spec.model import PfsInput, Stage
from gitml.pipeline.survey import Surveyor
from gitml.pipeline.trial import Trial, Trials
from gitml.provenance.codec import printable
from gitml.provenance.record import RECORDS, record_path
from gitml.record import record
from gitml.store.content import SMALL
from gitml.store.pointer import is_pointer, parse_pointer
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, Snapshot, edit_tree

_GLOB = re.compile(r"[*?\[\\]")
TOP = b"backtest"
"""Directory of a results branch; below it one for each stage, input and model."""


@record
class Version:
    """A commit as it was named."""

    name: str
    commit: Oid


@record
class Question:
    """What is asked: a stage, which of its inputs is the model, and the commits to combine."""

    stage: Stage
    model: PfsInput
    models: tuple[Version, ...]
    inputs: tuple[Version, ...]


@record
class OutputFile:
    """A file of an output; `size` is that of its content in bytes."""

    path: bytes
    oid: Oid
    size: int
    is_pointer: bool


@record
class Cell:
    """One combination and what came of it."""

    input: Version
    model: Version
    trial: Trial
    metrics: Mapping[str, float]
    files: tuple[OutputFile, ...]


def question(repo: Repository, stage: Stage, models: Sequence[str], inputs: Sequence[str]) -> Question:
    """What `--model [NAME=]REV` and `--input REV` ask of a stage; raise `UserError`."""
    if not stage.inputs:
        raise UserError(f"stage '{stage.name}' reads nothing")
    names, commits = zip(*(_split(repo, stage, text) for text in models), strict=True)
    given = {name for name in names if name is not None}
    if len(given) > 1:
        raise UserError("all models must be of one input", hint=f"named are: {', '.join(sorted(given))}")
    model = _leaf(stage, given.pop()) if given else _model_of(stage)
    others = [leaf for leaf in stage.inputs if leaf.path != model.path]
    if not others:
        raise UserError(
            f"stage '{stage.name}' reads nothing but '{model.name}'", hint="a backtest needs a model and other inputs"
        )
    for leaf in others:
        if _overlap(leaf.path, model.path):
            raise UserError(
                f"inputs '{leaf.name}' and '{model.name}' lie in one another, so they cannot be of two commits"
            )
    return Question(
        stage, model, _distinct(commits), _distinct([Version(text, _commit(repo, text)) for text in inputs])
    )


def _split(repo: Repository, stage: Stage, text: str) -> tuple[str | None, Version]:
    name, equals, revision = text.partition("=")
    if equals and any(_is_called(leaf, name) for leaf in stage.inputs):
        return name, Version(revision, _commit(repo, revision))
    if equals and repo.try_resolve(f"{text}^{{commit}}") is None:
        known = ", ".join(dict.fromkeys(leaf.name for leaf in stage.inputs))
        raise UserError(f"stage '{stage.name}' has no input '{name}'", hint=f"inputs: {known}")
    return None, Version(text, _commit(repo, text))


def _commit(repo: Repository, text: str) -> Oid:
    return repo.resolve(f"{text}^{{commit}}")


def _is_called(leaf: PfsInput, name: str) -> bool:
    return name in (leaf.name, leaf.upstream, os.fsdecode(leaf.path))


def _leaf(stage: Stage, name: str) -> PfsInput:
    return next(leaf for leaf in stage.inputs if _is_called(leaf, name))


def _model_of(stage: Stage) -> PfsInput:
    """The one input that another stage made."""
    upstream = {leaf.path: leaf for leaf in stage.inputs if leaf.upstream is not None}
    if len(upstream) == 1:
        return next(iter(upstream.values()))
    known = list(dict.fromkeys(leaf.name for leaf in stage.inputs))
    what = "several inputs are" if upstream else "no input is"
    raise UserError(
        f"which input of '{stage.name}' is the model? {what} made by another stage",
        hint=f"--model NAME=REV, where NAME is one of {', '.join(known)}",
    )


def _overlap(one: bytes, two: bytes) -> bool:
    return not one or not two or one == two or one.startswith(two + b"/") or two.startswith(one + b"/")


def _distinct(versions: Sequence[Version]) -> tuple[Version, ...]:
    """One of each commit, by its first name."""
    found: dict[Oid, Version] = {}
    for version in versions:
        found.setdefault(version.commit, version)
    return tuple(found.values())


def backtest(
    odb: GitOdb, surveyor: Surveyor, asked: Question, trials: Trials, progress: Callable[[int, int], None]
) -> list[Cell]:
    """Every combination, inputs first; fewer if it was stopped. Raise `UserError` if a commit lacks an input."""
    others = [leaf for leaf in asked.stage.inputs if leaf.path != asked.model.path and not leaf.is_elsewhere]
    model_entries = {each.commit: _entries(odb, surveyor, each, [asked.model]) for each in asked.models}
    input_entries = {each.commit: _entries(odb, surveyor, each, others) for each in asked.inputs}
    cells: list[Cell] = []
    total = len(asked.inputs) * len(asked.models)
    for given in asked.inputs:
        for model in asked.models:
            if trials.stop.is_set():
                return cells
            progress(len(cells), total)
            snapshot = trials.compose({**input_entries[given.commit], **model_entries[model.commit]})
            trial = trials.run(asked.stage, snapshot)
            if trials.stop.is_set() and trial.output is None:
                return cells
            cells.append(_cell(odb, asked.stage, given, model, trial))
    return cells


def _entries(odb: GitOdb, surveyor: Surveyor, version: Version, leaves: Sequence[PfsInput]) -> dict[bytes, Entry]:
    snapshot = Snapshot(odb, surveyor.tree_of(version.commit))
    found = {}
    for leaf in leaves:
        entry = snapshot.get(leaf.path)
        if entry is None:
            raise UserError(
                f"there is no '{printable(leaf.path)}' in '{version.name}'",
                hint="a commit before its first result has no model; git log -- PATH says which have it",
            )
        found[leaf.path] = entry
    return found


def _cell(odb: GitOdb, stage: Stage, given: Version, model: Version, trial: Trial) -> Cell:
    if trial.output is None:
        return Cell(given, model, trial, {}, ())
    snapshot = Snapshot(odb, trial.output)
    files = []
    for path, entry in snapshot.walk():
        data = odb.read(entry.oid)[1]
        behind = is_pointer(data)
        size = parse_pointer(data).size if behind else len(data)
        files.append(OutputFile(path, entry.oid, size, behind))
    return Cell(given, model, trial, read_metrics(snapshot, b"", stage.metrics), tuple(files))


def as_csv(cells: Sequence[Cell]) -> str:
    """One line for each combination, metrics in columns."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["input", "input_commit", "model", "model_commit", "key", "output", "error", *names])
    for cell in cells:
        output = cell.trial.output.hex() if cell.trial.output is not None else ""
        writer.writerow(
            [cell.input.name, cell.input.commit.hex(), cell.model.name, cell.model.commit.hex(), cell.trial.key or "",
             output, cell.trial.error, *(cell.metrics.get(name, "") for name in names)]
        )  # fmt: skip
    return text.getvalue()


def check_branch(repo: Repository, name: str) -> str:
    """The full name of a branch that results may go to; raise `UserError`."""
    if not repo.git.succeeds("check-ref-format", "--branch", name) or name.startswith("-"):
        raise UserError(f"'{name}' is no name of a branch")
    ref = f"refs/heads/{name}"
    if any(worktree.branch == ref for worktree in worktrees(repo)):
        raise UserError(f"branch '{name}' is checked out", hint="results go to a branch that nobody works on")
    return ref


def commit_results(
    repo: Repository, odb: GitOdb, surveyor: Surveyor, asked: Question, cells: Sequence[Cell], ref: str, head: Oid
) -> Oid:
    """Put results on a branch, new from `head` or on top of what it has; worktree, index and HEAD stay.

    Raise `RefMovedError` if somebody moves it meanwhile.
    """
    tip = repo.try_resolve(f"{ref}^{{commit}}")
    parent = tip if tip is not None else head
    place = TOP + b"/" + record_path(asked.stage.name).removeprefix(RECORDS + b"/").removesuffix(b".json")
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        changes: dict[bytes, Entry | None] = {
            place + b"/results.csv": Entry(MODE_FILE, pack.write("blob", as_csv(cells).encode("utf-8", "replace")))
        }
        lines: list[str] = []
        for cell in cells:
            if cell.trial.output is None or not cell.files:
                continue
            below = f"input-{cell.input.commit.hex()[:12]}/model-{cell.model.commit.hex()[:12]}"
            changes[place + b"/" + below.encode()] = Entry(MODE_TREE, cell.trial.output)
            lines += _attributes(cell, below)
        if lines:
            text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
            changes[place + b"/.gitattributes"] = Entry(MODE_FILE, pack.write("blob", text))
        # what an earlier backtest left there goes as a whole
        tree = edit_tree(pack, pack, surveyor.tree_of(parent), {place: None})
        tree = edit_tree(pack, pack, tree, changes)
        pack.finish()
    if tip is not None and tree == surveyor.tree_of(tip):
        return tip
    message = (
        f"backtest {printable(asked.stage.name)}: {len(asked.models)} models over {len(asked.inputs)} inputs\n\n"
        + "".join(f"model {printable(each.name)} {each.commit.hex()}\n" for each in asked.models)
        + "".join(f"input {printable(each.name)} {each.commit.hex()}\n" for each in asked.inputs)
    )
    done = repo.git.output("commit-tree", tree.hex(), "-p", parent.hex(), "-F", "-", input=message.encode())
    commit = Oid.parse(done.strip())
    update_refs(repo.git, [RefUpdate(ref, commit, tip)], message="backtest")
    return commit


def _attributes(cell: Cell, below: str) -> Iterator[str]:
    """The lines that put what is stored as chunks under gitml here too, where other paths lead to it."""
    behind = [each for each in cell.files if each.is_pointer]
    if behind and all(each.is_pointer or each.size < SMALL for each in cell.files):
        yield attribute_line(f"{below}/**")
        return
    for each in behind:
        yield attribute_line(_GLOB.sub(r"\\\g<0>", f"{below}/{os.fsdecode(each.path)}"))
