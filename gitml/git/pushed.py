"""What a push brings: the refs that git names to pre-push, and which commits behind them are new to the remote.

What branches of the remote were seen is a hint only: where it alone decides, the remote is asked.
"""

from collections.abc import Iterable

from gitml.git.refs import list_refs
from gitml.git.remotes import list_refs_at
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.record import record


@record
class PushedRef:
    """One line that git gives to pre-push: what moves where; `local` is None for a deletion, `remote` for a new ref."""

    local_name: str
    local: Oid | None
    remote_name: str
    remote: Oid | None


def parse_pushed(text: str) -> list[PushedRef]:
    """The lines that git gives to pre-push."""

    def oid(field: str) -> Oid | None:
        return Oid.parse(field) if field.strip("0") else None

    fields = (line.split(" ") for line in text.splitlines())
    return [PushedRef(each[0], oid(each[1]), each[2], oid(each[3])) for each in fields if len(each) == 4]


def new_commits(
    repo: Repository, address: str, remote: str | None, pushed: Iterable[PushedRef], everything: bool
) -> list[Oid]:
    """The commits that the pushed refs reach and the remote at `address` lacks, as far as is known, oldest first.

    `remote` is its name, None if it has none; with `everything` the remote counts as empty. Raise `FetchError` if what
    is known does not decide it, and the remote cannot be asked.
    """
    pushed = [each for each in pushed if not each.local_name.startswith("refs/ml/")]
    tips = _commits(repo, [each.local for each in pushed if each.local is not None])
    known = [] if everything else _commits(repo, [each.remote for each in pushed if each.remote is not None])
    if not tips:
        return []
    tracked = [] if everything or remote is None else _tracked(repo, remote)
    if tracked and _is_decisive(repo, tips, known, tracked):
        # a branch may be gone there, and its data with it
        tracked = _commits(repo, list_refs_at(repo, address, "refs/heads/*", "refs/tags/*").values())
    return _beyond(repo, tips, [*known, *tracked])


def _tracked(repo: Repository, remote: str) -> list[Oid]:
    """The commits that branches of a remote had when they were last seen."""
    return _commits(repo, list_refs(repo.git, f"refs/remotes/{remote}").values())


def _is_decisive(repo: Repository, tips: list[Oid], known: list[Oid], tracked: list[Oid]) -> bool:
    """Whether commits count as being on the remote only because branches were seen there once."""
    listed = _walk(repo, tips, [*known, *tracked], "--boundary").splitlines()
    border = [Oid.parse(line[1:]) for line in listed if line.startswith(b"-")]
    new = {Oid.parse(line) for line in listed if not line.startswith(b"-")}
    return bool(_walk(repo, [*border, *(tip for tip in tips if tip not in new)], known, "--max-count=1"))


def _beyond(repo: Repository, tips: Iterable[Oid], excluded: Iterable[Oid]) -> list[Oid]:
    return list(map(Oid.parse, _walk(repo, tips, excluded, "--reverse", "--topo-order").splitlines()))


def _walk(repo: Repository, tips: Iterable[Oid], excluded: Iterable[Oid], *options: str) -> bytes:
    """The commits that `tips` reach and `excluded` do not."""
    revisions = [oid.hex() for oid in tips] + [f"^{oid}" for oid in excluded]
    listed = "".join(f"{revision}\n" for revision in revisions).encode()
    return repo.git.output("rev-list", *options, "--stdin", input=listed) if revisions else b""


def _commits(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """The commits that objects are or that tags name; without those that are not here and those that are none."""
    listed = b"".join(oid.hex().encode() + b"^{commit}\n" for oid in oids)
    if not listed:
        return []
    answer = repo.git.output("cat-file", "--batch-check=%(objectname) %(objecttype)", input=listed)
    return [Oid.parse(line.split()[0]) for line in answer.splitlines() if line.endswith(b" commit")]
