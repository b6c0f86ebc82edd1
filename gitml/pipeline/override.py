"""A parameter with another value: text changed in one place, and a commit for it that is on no branch."""

import json
from collections.abc import Sequence
from typing import Any

from gitml.errors import UserError
from gitml.git.commits import format_commit
from gitml.git.odb import GitOdb
from gitml.git.pack import PackWriter
from gitml.git.publish import result_commit
from gitml.git.repository import Repository
from gitml.oid import Oid
from gitml.pipeline.params import parse_text
from gitml.pipeline.places import spot_of, spots
from gitml.provenance.codec import bytes_of, printable
from gitml.record import record
from gitml.store.tree import Entry, Snapshot, edit_tree


@record
class Override:
    """`FILE:KEY=VALUE`."""

    file: bytes
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Override":
        """Read what was typed; raise `UserError`."""
        place, equals, value = text.partition("=")
        file, colon, key = place.partition(":")
        if not (equals and colon and file and key):
            raise UserError(f"'{printable(text)}' is not FILE:KEY=VALUE", hint="-S params.yaml:train.alpha=0.5")
        return cls(bytes_of(file), key, value)


def with_value(path: bytes, data: bytes, key: str, text: str) -> bytes:
    """A parameter file with another value at a dotted key; all else of its text stays.

    The value is read as the format reads it, and as text if it cannot be. Raise `UserError` if the key is not there, or
    its value cannot be replaced in place.
    """
    name = printable(path)
    document = parse_text(path, data)
    spot = spot_of(spots(path, data), key)
    if spot is None:
        raise UserError(f"there is no '{printable(key)}' in '{name}'", hint="-S changes a value that is there")
    source = data.decode("utf-8")
    for written in (text, json.dumps(text, ensure_ascii=False)):
        if spot.end < 0:
            break
        changed = (source[: spot.start] + written + source[spot.end :]).encode()
        try:
            found = parse_text(path, changed)
        except UserError:
            continue
        if _same_but_for(document, found, key):
            return changed
    raise UserError(
        f"'{printable(key)}' in '{name}' cannot be changed in place",
        hint="name a single value below it, or edit the file",
    )


def _same_but_for(before: Any, after: Any, key: str) -> bool:
    """Whether two documents are equal but for what stands at `key`, which both have."""
    if isinstance(before, list):
        before, after = ({str(n): each for n, each in enumerate(side)} for side in (before, after))
    if not (isinstance(before, dict) and isinstance(after, dict) and list(before) == list(after)):
        return False
    head = next((each for each in before if str(each) == key), None)
    rest = ""
    if head is None:
        heads = [each for each in before if key.startswith(f"{each}.")]
        if not heads:
            return False
        head = max(heads, key=lambda each: len(str(each)))
        rest = key[len(str(head)) + 1 :]
    others = all(before[each] == after[each] for each in before if each != head)
    return others and (not rest or _same_but_for(before[head], after[head], rest))


def commit_with(repo: Repository, odb: GitOdb, tip: Oid, tree: Oid, overrides: Sequence[Override]) -> Oid:
    """A commit on `tip` with these values, the same for the same ones. Raise `UserError` as `with_value` does."""
    snapshot = Snapshot(odb, tree)
    files: dict[bytes, tuple[Entry, bytes]] = {}
    for each in overrides:
        entry = snapshot.get(each.file)
        if entry is None or not entry.is_file:
            raise UserError(
                f"there is no file '{printable(each.file)}' in HEAD", hint="-S FILE:KEY=VALUE, from the top"
            )
        data = files[each.file][1] if each.file in files else snapshot.read(each.file)
        files[each.file] = entry, with_value(each.file, data, each.key, each.value)
    said = ", ".join(f"{printable(each.file)}:{each.key}={each.value}" for each in overrides)
    with PackWriter(repo.objects_dir, odb.format, reader=odb) as pack:
        changes: dict[bytes, Entry | None] = {
            path: Entry(entry.mode, pack.write("blob", data)) for path, (entry, data) in files.items()
        }
        changed = edit_tree(pack, pack, tree, changes)
        commit = pack.write("commit", format_commit(result_commit(odb, tip, changed, f"try {said}\n".encode())))
        pack.finish()
    return commit
