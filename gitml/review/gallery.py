"""Drawn pictures in a commit of their own, where a forge shows them to whoever may read the repository.

Forges take neither inline SVG nor `data:` addresses in Markdown, and only GitLab takes uploads. So the pictures are
pushed: a commit without parents, on no branch, at `refs/gitml/pictures/NAME` of the remote, which a clone does not
fetch. Its address holds the commit, so a report shows what was drawn for it, whatever is pushed under that name later.
"""

from collections.abc import Callable, Sequence

from gitml.errors import GitmlError, UserError
from gitml.git.commits import Commit, Signature, format_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.remotes import last_line
from gitml.git.repository import Repository
from gitml.review.addresses import addresses, shows_svg
from gitml.store.tree import MODE_FILE, Entry, format_tree

_PICTURES = "refs/gitml/pictures/"
_REMOTE = "origin"
_WHO = (b"gitml", b"gitml@localhost")


def address_in_forge(repo: Repository, name: str, forge: str | None = None) -> Callable[[str, bytes], str]:
    """What gives the address of a pushed picture, by commit and name; raise `UserError` if there can be none.

    `name` is to be the last part of a ref. `forge` as for `picture_changes`.
    """
    if not repo.git.succeeds("check-ref-format", _PICTURES + name):
        raise UserError(f"'{name}' is no name of a ref", hint="--push-plots pull-7")
    remote = repo.config(f"remote.{_REMOTE}.url") or ""
    address_of = addresses(remote, forge)
    if address_of is None:
        raise UserError(
            f"'{_REMOTE}' is on no forge that is known, so nobody would see pictures there",
            hint="--plots DIRECTORY writes them as files",
        )
    if not shows_svg(remote, forge):
        raise UserError(
            "this forge does not show SVG from a repository", hint="leave out --push-plots: the tables say the same"
        )
    return address_of


def push_pictures(repo: Repository, odb: GitOdb, files: Sequence[tuple[str, bytes]], name: str, when: int) -> str:
    """Push files as one commit and give its hex digits; equal files of an equal time are the same commit.

    `when` is in seconds since the epoch. Raise `GitmlError` if the remote does not take it.
    """
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        entries = {path.encode(): Entry(MODE_FILE, pack.write("blob", data)) for path, data in files}
        tree = pack.write("tree", format_tree(sorted(entries.items())))
        who = Signature(*_WHO, max(0, when))
        commit = pack.write("commit", format_commit(Commit(tree, (), who, who, b"gitml: pictures of a report\n")))
        pack.finish()
    done = repo.git.run(
        "push", "--quiet", "--no-verify", "--", _REMOTE, f"+{commit.hex()}:{_PICTURES}{name}",
        check=False, env={"LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode != 0:
        raise GitmlError(
            f"cannot push pictures to '{_REMOTE}': {last_line(done.stderr)}",
            hint="a job may need the right to write, on GitHub: permissions: contents: write",
        )
    return commit.hex()
