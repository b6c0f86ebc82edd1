"""What is not here because a remote promised to keep it: git's partial clone, for data only.

A remote entry of its own, `<remote>.ml`, is the promisor; a pack beside whose index stands a file `.promisor` came from
it, and git takes everything that trees in such a pack name for promised (git: Documentation/technical/partial-clone).
"""

from collections.abc import Iterable

from gitml.git.data import DataLog
from gitml.git.pack import PackIndex
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.store.tree import parse_tree


class Promises:
    """Which objects may be absent here. Reads refs and promisor packs once."""

    def __init__(self, repo: Repository, log: DataLog) -> None:
        self._remote_manifests: set[Oid] = set()
        self._named: set[Oid] = set()
        if not has_promisor(repo):
            return
        self._remote_manifests = {oid for _, oid in log.additions(log.refs().remote.values())}
        self._named = _named_by_promisor_packs(repo)

    def cover(self, manifest: Oid, missing: Iterable[Oid]) -> bool:
        """Whether a remote has the content of `manifest`, or promised each of `missing`."""
        return manifest in self._remote_manifests or all(oid in self._named for oid in missing)


def has_promisor(repo: Repository) -> bool:
    """Whether some remote has promised to keep objects for this repository."""
    found = repo.git.run("config", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$", check=False).stdout
    return any(line.endswith(b" true") for line in found.splitlines())


def _named_by_promisor_packs(repo: Repository) -> set[Oid]:
    inside: list[Oid] = []
    for mark in sorted((repo.objects_dir / "pack").glob("*.promisor")):
        index = mark.with_suffix(".idx")
        if index.exists():
            inside += [oid for oid, _, _ in PackIndex(index, repo.format).entries()]
    if not inside:
        return set()
    listing = b"".join(oid.hex().encode() + b"\n" for oid in inside)
    kinds = repo.git.output("cat-file", "--batch-check", input=listing).splitlines()
    trees = [line.split()[0] for line in kinds if line.split()[1:2] == [b"tree"]]
    named = set(inside)
    if not trees:
        return named
    content = repo.git.output("cat-file", "--batch", input=b"\n".join(trees) + b"\n")
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        size = int(content[at:end].split()[2])
        named.update(entry.oid for _, entry in parse_tree(content[end + 1 : end + 1 + size], repo.format.size))
        at = end + 1 + size + 1
    return named
