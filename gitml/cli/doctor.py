"""`git ml doctor`."""

import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress

import gitml
from gitml import install as library
from gitml.cli.output import count, paint, safe, show
from gitml.errors import ExitCode, GitmlError, UserError
from gitml.git.inventory import TrackedFile, not_at, tracked_files
from gitml.git.odb import GitOdb
from gitml.git.refs import list_refs
from gitml.git.remotes import FetchError, fetching_remotes
from gitml.git.repository import Repository
from gitml.install.chain import hooks_dir
from gitml.oid import Oid
from gitml.pipeline.cache import RunCache
from gitml.pipeline.images import choose_engine
from gitml.pipeline.lease import Lease
from gitml.pipeline.sandbox import sandbox_of
from gitml.pipeline.spec import Pipeline
from gitml.pipeline.survey import Surveyor
from gitml.reading.advice import MOST_FILES, advise
from gitml.reading.view import View

Finding = tuple[str, str, str]
"""('ok', 'note' or 'wrong'; what; what to do about it)."""

_MOST_ADVICE = 20
_MARKS = {"ok": ("✓", "32"), "note": ("·", "33"), "wrong": ("!", "31")}


def doctor() -> int:
    """Check this machine and this clone: versions, hooks, sandbox, data, runs. Exit code 1 if something is wrong."""
    wrong = False
    for level, text, remedy in _findings():
        mark, colour = _MARKS[level]
        show(f"{paint(mark, colour)} {safe(text)}")
        if remedy:
            show(f"    {safe(remedy)}")
        wrong |= level == "wrong"
    return ExitCode.DIFFERENT if wrong else ExitCode.OK


def _findings() -> Iterator[Finding]:
    yield "ok", f"gitml {gitml.__version__}, Python {platform.python_version()} at {sys.executable}", ""
    repo = Repository.discover()
    yield _git_version(repo)
    yield _sandbox(repo)
    yield from _set_up(repo)
    with GitOdb(repo.git, repo.format) as odb:
        yield from _data(repo, odb)
        yield from _pipeline(repo, odb)
    yield from _runner(Lease(repo))


def _git_version(repo: Repository) -> Finding:
    text = repo.git.line("version").removeprefix("git version ")
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < (2, 30):
        return "wrong", f"git {text} is too old", "gitml needs git 2.30 or newer"
    return "ok", f"git {text}, at {shutil.which('git')}", ""


def _sandbox(repo: Repository) -> Finding:
    try:
        sandbox = sandbox_of(repo)
    except UserError as error:  # the one that is set does not work here
        return "wrong", error.message, error.hint or ""
    if sandbox.notice is None:
        return "ok", "bubblewrap works: tasks see a real /pfs and nothing undeclared", ""
    return "note", sandbox.notice, "on Debian: apt install bubblewrap" if shutil.which("bwrap") is None else ""


def _set_up(repo: Repository) -> Iterator[Finding]:
    if not repo.has_filter:
        yield "wrong", "this clone is not set up: large files stay pointers, nothing runs by itself", "git ml install"
        return
    configured = repo.config("filter.ml.process") or ""
    if not configured.startswith(library.command_line()):
        yield "note", f"the filter starts another gitml: {configured}", "git ml install makes it this one"
    present = library.installed_hooks(repo)
    absent = [name for name in library.HOOKS if name not in present]
    where = hooks_dir(repo)
    if absent:
        yield "wrong", f"hooks missing in {where}: {', '.join(absent)}", "git ml install"
    else:
        yield "ok", f"filter and hooks are in place ({where})", ""
    for name, links in library.chains(repo).items():
        if links not in ([], ["gitml"]):
            yield "ok", f"{name}: {' → '.join(links)}", ""


def _data(repo: Repository, odb: GitOdb) -> Iterator[Finding]:
    head = repo.try_resolve("HEAD")
    if head is None:
        yield "note", "there is no commit yet", ""
        return
    files = tracked_files(repo, odb, head)
    for file in files:
        if file.malformed:
            yield "wrong", f"'{file.path}': {file.malformed}", f"restore it: git checkout REV -- '{file.path}'"
    missing = [file.path for file in files if not file.here and not file.malformed]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        yield (
            "wrong",
            f"content of {len(missing)} of {len(files)} files is not here: {shown}",
            _remedy(repo, [file for file in files if not file.here]),
        )
    else:
        yield "ok", f"{count(len(files), 'file')} stored as chunks, all content is here", ""
    yield from _formats(repo, head, [(file.path, file.size) for file in files if file.here and not file.malformed])
    staged = list_refs(repo.git, "refs/ml/staged/")
    if staged:
        yield "note", f"{count(len(staged), 'session')} of added, not yet committed data kept", ""


def _formats(repo: Repository, head: Oid, files: list[tuple[str, int]]) -> Iterator[Finding]:
    """Advice where a format keeps versions of a file from sharing chunks."""
    with View.open(repo.worktree or repo.git_dir, head.hex(), fetch=False) as view:
        found = list(advise(view, files))
    for advice in found[:_MOST_ADVICE]:
        yield "note", f"'{advice.path}': {advice.what}", advice.remedy
    if len(found) > _MOST_ADVICE:
        yield "note", f"{len(found) - _MOST_ADVICE} more files are like these", ""
    if len(files) > MOST_FILES:
        yield "ok", f"formats: the {MOST_FILES} largest of {len(files)} files were looked at", ""


def _remedy(repo: Repository, files: list[TrackedFile]) -> str:
    """What brings content here; asks the remotes."""
    for remote in fetching_remotes(repo):
        with suppress(FetchError):
            lacking = not_at(repo, remote, files)
            if not lacking:
                return f"{remote} has it; git ml pull"
            shown = ", ".join(sorted(lacking)[:5]) + (", …" if len(lacking) > 5 else "")
            return f"{remote} got commits without their data ({shown}); whoever committed them: git ml push {remote}"
    return "no remote can be asked; git ml pull, once one can"


def _pipeline(repo: Repository, odb: GitOdb) -> Iterator[Finding]:
    head = repo.try_resolve("HEAD")
    if head is None:
        return
    try:
        survey = Surveyor(repo, odb, RunCache(repo, odb)).survey(head)
    except GitmlError as error:
        yield "wrong", error.message, error.hint or ""
        return
    if survey.pipeline is None:
        yield "note", "there is no pipeline.json in HEAD", "docs/pipeline.md, or: git ml init --template classification"
        return
    yield "ok", f"pipeline.json: {count(len(survey.pipeline.stages), 'stage')}", ""
    for notice in survey.pipeline.notices:
        yield "note", notice, ""
    yield from _engines(repo, survey.pipeline)


def _engines(repo: Repository, pipeline: Pipeline) -> Iterator[Finding]:
    """Which container engine there is for each image that wants one."""
    sources = {stage.transform.image: stage.transform.source for stage in pipeline.stages}
    for image, source in sources.items():
        if image is None or source is None or source.path is not None or source.file is not None:
            continue
        try:
            engine = choose_engine(repo.config("ml.container") or "auto", image)
            yield "ok", f"{engine.name} runs the image '{image}'", ""
        except UserError as error:
            yield "note", error.message, error.hint or ""


def _runner(lease: Lease) -> Iterator[Finding]:
    state = lease.read_state()
    if state is None:
        return
    if lease.is_held():
        yield "ok", f"a runner is at work (process {state.pid})", "git ml wait"
    elif lease.is_lost(state):
        yield "wrong", f"the runner of run {state.run} is gone without a word", "git ml resume goes on where it stopped"
    elif state.status == "error":
        yield "wrong", f"the last run ended with an error: {state.message}", "git ml run"
