"""Which two commits a comparison is about.

`A..B` are two commits, `A...B` begins at the merge base of both, `A` alone is compared with the files of the worktree.
Without anything HEAD is compared with what stood before the change that its last result was made from; if that was the
first commit, with that.
"""

import os
from string import hexdigits

from gitml.errors import UserError
from gitml.git.commits import Commit, parse_commit, parse_trailers
from gitml.git.odb import GitOdb
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.provenance.codec import printable
from gitml.provenance.record import RECORDS
from gitml.review.comparison import Side


def sides(repo: Repository, odb: GitOdb, text: str) -> tuple[Side, Side]:
    """The two sides that `text` names; raise `UserError`."""
    if not text:
        if repo.try_resolve("HEAD") is None:
            raise UserError("there is no commit yet", hint="git add . && git commit")
        return sides_of(repo, odb, "HEAD")
    for dots in ("...", ".."):
        left, found, right = text.partition(dots)
        if not found:
            continue
        old, new = (_commit(repo, name or "HEAD") for name in (left, right))
        if dots == "...":
            old = _merge_base(repo, old, new, text)
        return _side(odb, old, left or "HEAD" if dots == ".." else f"merge base of {text}"), _side(
            odb, new, right or "HEAD"
        )
    return _side(odb, _commit(repo, text), text), _worktree(repo, odb)


def sides_of(repo: Repository, odb: GitOdb, name: str) -> tuple[Side, Side]:
    """A commit, and what stood before the change that its last result was made from.

    Without such a result before it, it is compared with the commit that its result was made from, or with itself.
    Raise `UserError` if there is no such commit.
    """
    head = _commit(repo, name)
    new = _side(odb, head, name)
    last = _last_result(repo, odb, head)
    if last is None:
        return new, new
    parents, source, said = last
    if parents:
        return _side(odb, parents[0], f"{said}^"), new
    return (new if source is None else _side(odb, source, said)), new


def _commit(repo: Repository, name: str) -> Oid:
    return repo.resolve(f"{name}^{{commit}}")


def _merge_base(repo: Repository, old: Oid, new: Oid, text: str) -> Oid:
    done = repo.git.run("merge-base", old.hex(), new.hex(), check=False)
    if done.returncode != 0:
        raise UserError(
            f"the two sides of '{text}' have no common commit",
            hint="a shallow clone may lack it (git fetch --unshallow); two dots compare any two commits",
        )
    return Oid.parse(done.stdout.split()[0])


def _side(odb: GitOdb, commit: Oid, name: str, *, worktree: bool = False) -> Side:
    parsed = parse_commit(odb.read(commit)[1])
    named = parse_trailers(parsed.message).get("Gitml-Source", "")
    found = odb.lookup(f"{named}^{{commit}}") if named and set(named) <= set(hexdigits) else None
    source = _subject(parse_commit(found[2])) if found is not None else ""
    return Side(
        name=name, commit=commit, subject=_subject(parsed), when=parsed.committer.time, worktree=worktree, source=source
    )


def _subject(parsed: Commit) -> str:
    return parsed.message.decode("utf-8", "replace").strip().partition("\n")[0]


def _worktree(repo: Repository, odb: GitOdb) -> Side:
    """Tracked files as they are; a commit that no ref names, which git forgets in time."""
    if repo.worktree is None:
        raise UserError("a bare repository has no files to compare with", hint="name both sides: A..B")
    # it writes the objects that a stash would hold, and nothing else
    done = repo.git.run("stash", "create", check=False)
    text = done.stdout.strip()
    if done.returncode != 0:
        said = os.fsdecode(done.stderr).strip().splitlines()
        raise UserError(
            f"the files of the worktree cannot be read: {printable(said[-1]) if said else 'git stash create failed'}",
            hint="commit first, or name both sides: A..B",
        )
    commit = Oid.parse(text) if text else _commit(repo, "HEAD")
    return _side(odb, commit, "worktree", worktree=True)


def _last_result(repo: Repository, odb: GitOdb, head: Oid) -> tuple[tuple[Oid, ...], Oid | None, str] | None:
    """Of the last result: what stood before its source, the source if it is known, a name. None without a result."""
    lines = repo.git.lines(
        "log", "-1", "--format=%H%x00%P%x00%(trailers:key=Gitml-Source,valueonly,separator=%x20)", head.hex(), "--",
        f":(top){RECORDS.decode()}",
    )  # fmt: skip
    if not lines:
        return None
    commit, parents, source = lines[0].split("\0")
    named = repo.try_resolve(f"{source.strip()}^{{commit}}") if source.strip() else None
    if named is not None:
        return parse_commit(odb.read(named)[1]).parents, named, named.hex()[:10]
    return tuple(Oid.parse(each) for each in parents.split()), None, commit[:10]
