"""A store is to a user what a bare repository is: the same commands, once with git's own server and once with a store.

The scenarios are those of git's own tests t5516 (fetch and push), t5543 (atomic), t5616 (partial clones) and t5801
(remote helpers) that are about remotes and not about their server. What git says with `--porcelain`, its exit code, the
refs of both sides and what of a partial clone is here have to be equal.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitml.remote.address import parse_address
from gitml.remote.store import Store
from tests.end_to_end.project import Project
from tests.remote.conftest import NewStore

DATE = "1790000000 +0000"
REFUSED = re.compile(r"\[remote rejected\] \(.*\)|\[rejected\] \((?!fetch first|non-f|already|stale|atomic|needs).*\)")


@pytest.fixture(autouse=True)
def dates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commits on both sides."""
    monkeypatch.setenv("GIT_AUTHOR_DATE", DATE)
    monkeypatch.setenv("GIT_COMMITTER_DATE", DATE)


class Side:
    """A repository with a remote `origin`, in a directory of its own."""

    def __init__(self, top: Path, url: str) -> None:
        self.top = top
        self.url = url
        self.work = Project(top / "work")

    def does(self, line: str) -> tuple[str, int, str]:
        """Run one line in the repository, or in another beside it (`@name: …`); give it with what came of it."""
        found = re.fullmatch(r"(?:@(\w+): )?(.*)", line)
        assert found is not None
        where = self.work if found[1] is None else Project(self.top / found[1])
        command = found[2].replace("URL", self.url).replace("TOP", str(self.top))
        words = shlex.split(command)
        if words[0] not in ("write", "git"):
            words.insert(0, "git")
        if words[0] == "write":
            where.write(words[1], "".join(f"{number} {words[2]}\n" for number in range(200)))
            return line, 0, ""
        done = where.run(*words, check=False)
        return line, done.returncode, self.plain(done.stdout)

    def plain(self, text: str) -> str:
        """Without where this is; and a server's own words for a refusal are its own."""
        text = text.replace(self.url, "URL").replace(str(self.top), "TOP")
        return REFUSED.sub("[no]", text)

    def refs(self, *, quickly: bool = False) -> list[str]:
        """The refs of the remote, and those here; `quickly` reads a store as the helper does, without its process."""
        there = self.listed() if quickly and self.url.startswith("ml::") else self.work.git("ls-remote", self.url)
        here = self.work.git("for-each-ref", "--format=%(objectname) %(refname)")
        return [*there.splitlines(), *here.splitlines()]

    def listed(self) -> str:
        """What `git ls-remote` says of a store."""
        state = Store(parse_address(self.url), self.top / "looked at").read()
        if state is None:
            return ""
        head = None if state.head is None else state.refs.get(state.head)
        lines = [] if head is None else [f"{head.oid}\tHEAD"]
        for name, ref in sorted(state.refs.items()):
            lines.append(f"{ref.oid}\t{os.fsdecode(name)}")
            if ref.peeled is not None:
                lines.append(f"{ref.peeled}\t{os.fsdecode(name)}^{{}}")
        return "\n".join(lines)


class Pair:
    """Both sides."""

    def __init__(self, *sides: Side) -> None:
        self.sides = sides

    def do(self, script: str) -> list[tuple[str, int, str]]:
        """Run lines on both sides, which must say and do the same; give what git's own server came to."""
        done = []
        for line in (line.strip() for line in script.strip().splitlines()):
            if not line or line.startswith("#"):
                continue
            ours, gits = (side.does(line) for side in self.sides)
            assert ours == gits, line
            if "push" in line or "fetch" in line:
                assert self.sides[0].refs(quickly=True) == self.sides[1].refs(), line
            done.append(gits)
        if any("push" in line or "fetch" in line for line, _, _ in done):
            assert self.sides[0].refs() == self.sides[1].refs()
        return done


@pytest.fixture
def pair(tmp_path: Path, new_store: NewStore) -> Iterator[Pair]:
    """Two equal repositories: one has a store as its remote, the other a bare repository."""
    origin = tmp_path / "bare.git"
    here = Project(tmp_path)
    here.git("init", "-q", "--bare", "-b", "main", str(origin))
    for name in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        here.git("-C", str(origin), "config", name, "true")
    sides = []
    for name, url in (("with-store", new_store("file")), ("with-git", f"file://{origin}")):
        side = Side(tmp_path / name, url)
        side.work.path.mkdir(parents=True)
        side.work.git("init", "-q", "-b", "main")
        side.work.git("remote", "add", "origin", url)
        sides.append(side)
    pair = Pair(*sides)
    for number in (1, 2, 3):
        pair.do(f"write dir/{number} some\nwrite file {number}\nadd -A\ncommit -q -m {number}")
    pair.do("branch side HEAD~1\ntag -a -m first v1 HEAD~1\ntag light HEAD~2")
    yield pair
    shutil.rmtree(tmp_path, ignore_errors=True)


def refused(done: list[tuple[str, int, str]]) -> list[str]:
    """The lines that git's own server did not do."""
    return [line for line, code, _ in done if code]


def test_what_refspecs_mean(pair: Pair) -> None:
    """t5516: wildcards, matching, names that are short, ambiguous, of tags, of nothing; what settings add to them."""
    done = pair.do(
        """
        push --porcelain origin main
        push --porcelain origin refs/heads/*:refs/remotes/theirs/*
        -c url.URL.insteadOf=short: push --porcelain short: main:refs/heads/instead
        -c url.URL.pushInsteadOf=/no/where push --porcelain /no/where main:refs/heads/push-instead
        -c remote.other.url=/no/where -c remote.other.pushurl=URL push --porcelain other main:refs/heads/push-url
        push --porcelain origin side:refs/heads/side
        switch -q side
        write file more
        commit -q -a -m more
        push --porcelain origin :
        commit -q --amend -m other
        push --porcelain origin :
        push --porcelain origin side:
        push --porcelain origin +:
        # names
        push --porcelain origin main:main
        push --porcelain origin main:refs/remotes/origin/main
        push --porcelain origin side:origin/main
        push --porcelain origin side~1:new
        push --porcelain origin v1:of-tag
        push --porcelain origin side:refs/tags/side
        push --porcelain origin main:side
        push --porcelain origin nothing
        push --porcelain origin nothing:refs/heads/x
        push --porcelain origin HEAD
        push --porcelain origin @:refs/heads/at
        push --porcelain origin HEAD:head
        push --porcelain origin HEAD:refs/onelevel/x
        push --porcelain origin :refs/heads/none
        push --porcelain origin --delete
        push --porcelain origin --delete a:b
        push --porcelain origin --delete ''
        push --porcelain origin --delete instead push-instead
        push --porcelain origin --delete refs/heads/at refs/tags/of-tag
        # settings
        -c remote.origin.push=refs/heads/main:refs/heads/set push --porcelain origin
        -c remote.origin.push=refs/heads/*:refs/heads/sets/* push --porcelain origin main
        -c remote.origin.push=HEAD push --porcelain origin
        -c push.default=nothing push --porcelain origin
        -c push.default=current push --porcelain origin
        -c push.default=upstream push --porcelain origin
        -c remote.pushDefault=origin -c push.default=matching push --porcelain
        -c branch.side.pushRemote=origin -c push.default=current push --porcelain
        -c push.followTags=true push --porcelain origin main
        push --porcelain --set-upstream origin side:up
        push --porcelain --prune origin refs/heads/*:refs/heads/sets/*
        push --porcelain --dry-run origin main:dry
        push --porcelain --dry-run origin side~2:side
        push --porcelain --no-verify --quiet origin main:quiet
        push --porcelain --tags origin
        push --porcelain --all origin
        push --porcelain --mirror --dry-run origin
        """
    )
    assert len(refused(done)) > 8


def test_what_may_move(pair: Pair) -> None:
    """t5516: forward only, tags not at all, on both ways; what was refused leaves the refs here alone."""
    done = pair.do(
        """
        push --porcelain origin main side v1 light
        clone -q URL TOP/other
        @other: tag -f v1 HEAD
        @other: tag -f -a -m mine light HEAD
        @other: push --porcelain origin v1
        @other: push --porcelain origin light
        @other: push --porcelain --force origin light
        fetch -q origin tag light
        fetch -q origin refs/tags/light:refs/tags/light
        fetch -q --force origin refs/tags/light:refs/tags/light
        write file theirs
        commit -q -a -m theirs
        push --porcelain origin main
        @other: write file ours
        @other: commit -q -a -m ours
        @other: push --porcelain origin main
        @other: push --porcelain --force-with-lease origin main
        @other: push --porcelain --force-with-lease=main:v1 origin main
        @other: fetch -q
        @other: push --porcelain origin main
        @other: push --porcelain --force-with-lease --force-if-includes origin main
        @other: push --porcelain --force-with-lease=main origin main side
        @other: push --porcelain --force-with-lease=new: origin HEAD:new
        @other: push --porcelain --force-with-lease=new: origin HEAD~1:new
        push --porcelain origin HEAD^{tree}:refs/heads/tree
        push --porcelain origin HEAD:file:refs/heads/blob
        push --porcelain origin HEAD^{tree}:refs/other/tree
        push --porcelain origin HEAD:refs/other/tree
        fetch -q origin main:main
        fetch -q origin side:refs/heads/came
        fetch -q origin main:refs/heads/came
        fetch -q origin side:refs/heads/came
        fetch -q --prune origin
        @other: push --porcelain origin :side :new
        fetch -q origin
        fetch -q --prune origin
        fetch -q origin nothing
        fetch -q origin v1^{commit}
        fetch -q --atomic origin main:refs/heads/one side:refs/heads/two
        """
    )
    assert len(refused(done)) > 8


def test_all_or_nothing(pair: Pair) -> None:
    """t5543."""
    done = pair.do(
        """
        push --porcelain --atomic origin main
        push --porcelain --atomic origin main side v1
        write file two
        commit -q -a -m two
        push --porcelain --atomic --mirror origin
        switch -q side
        write file forward
        commit -q -a -m forward
        switch -q main
        commit -q --amend -m changed
        push --porcelain --atomic origin main side
        push --porcelain --atomic --dry-run origin main side
        push --porcelain --atomic origin main:refs/heads/new side:main
        push --porcelain origin main side
        push --porcelain --atomic --force origin main side
        tag -f -a -m moved v1 main
        push --porcelain --atomic origin main:refs/heads/newer v1
        push --porcelain --atomic origin main:refs/heads/newer +v1
        push --porcelain --atomic origin main:refs/heads/newest :refs/heads/newer
        push --porcelain --atomic --force-with-lease=main:side origin main~1:main side:refs/heads/none
        update-ref -d refs/heads/side
        push --porcelain --atomic --mirror origin
        """
    )
    assert len(refused(done)) >= 5


def test_what_history_comes(pair: Pair) -> None:
    """Depths, single branches, tags that follow, exact objects."""
    pair.do(
        """
        push -q origin main side v1 light
        clone -q URL TOP/all
        clone -q --depth 1 URL TOP/one
        @one: log --format=%H
        @one: for-each-ref
        @one: fetch -q --depth 2
        @one: log --format=%H
        @one: fetch -q --deepen 1
        @one: log --format=%H
        @one: fetch -q --unshallow
        @one: rev-parse --is-shallow-repository
        @one: log --format=%H
        @one: fetch -q --tags
        @one: for-each-ref
        @one: fsck --strict
        clone -q --single-branch --branch side --no-tags URL TOP/side
        @side: for-each-ref
        @side: fetch -q origin main
        @side: for-each-ref
        @side: log --format=%H FETCH_HEAD
        clone -q --bare --branch v1 URL TOP/bare
        @bare: for-each-ref
        clone -q --mirror URL TOP/mirror
        @mirror: for-each-ref
        write file later
        commit -q -a -m later
        tag -a -m later v2
        tag -a -m nowhere v3 v1^{tree}
        push -q origin main v2 v3
        @all: fetch -q
        @all: for-each-ref
        @mirror: fetch -q --prune
        @mirror: for-each-ref
        init -q TOP/empty
        @empty: fetch -q URL v1
        @empty: log --format=%H FETCH_HEAD
        @empty: for-each-ref
        @empty: fetch -q URL HEAD
        @empty: rev-parse FETCH_HEAD
        @empty: -c remote.by.url=URL -c remote.by.fetch=refs/heads/*:refs/heads/by/* fetch -q by
        @empty: for-each-ref
        ls-remote --symref origin
        ls-remote --exit-code origin nothing
        ls-remote --refs --tags --sort=-refname origin
        """
    )


MISSING = "rev-list --objects --all --missing=print"


@pytest.mark.parametrize("filters", ["blob:none", "tree:0"])
def test_what_partial_clones_have(pair: Pair, filters: str) -> None:
    """t5616: what is not here, and that it comes when it is needed; repacking leaves both as they are."""
    pair.do(
        f"""
        push -q origin main side v1 light
        clone -q --no-checkout --filter={filters} URL TOP/part
        @part: {MISSING}
        @part: config remote.origin.promisor
        @part: config remote.origin.partialCloneFilter
        @part: cat-file -p HEAD:dir/1
        @part: {MISSING}
        @part: checkout -q main
        @part: diff HEAD~2 --stat
        @part: blame -s HEAD -- file
        @part: status --porcelain
        write dir/4 four
        write file four
        add -A
        commit -q -m four
        tag -a -m four v4
        push -q origin main v4
        @part: fetch -q origin
        @part: {MISSING}
        @part: for-each-ref
        @part: log -p --format=%H origin/main -- dir/4
        @part: merge -q --ff-only origin/main
        @part: repack -a -d -q
        @part: gc -q --prune=now
        @part: {MISSING}
        @part: fsck
        @part: write file five
        @part: commit -q -a -m five
        @part: push -q origin main
        fetch -q origin
        log --format=%H origin/main
        write dir/6 six
        add -A
        commit -q -m six
        push -q origin main:six
        @part: fetch -q --no-filter origin six
        @part: rev-list --objects --missing=print FETCH_HEAD
        @part: fetch -q --refetch --no-filter origin
        @part: rev-list --objects --missing=print origin/main
        clone -q --bare --depth 2 --filter=tree:0 URL TOP/shallow
        @shallow: fetch -q --refetch --filter=blob:none URL main
        @shallow: rev-list --objects --missing=print HEAD
        """
    )
