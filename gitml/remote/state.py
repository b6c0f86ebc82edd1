"""The state of a store: its refs and the packs that hold their objects, as one value with one form as bytes.

Every change is a new value. Hides the form (docs/remote.md) and what is refused in one that others wrote: a store is
only as honest as whoever may write to it.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from gitml.errors import CorruptError, UserError
from gitml.oid import ObjectFormat, Oid
from gitml.provenance.codec import bytes_of, pretty, text_of
from gitml.record import field, record, replace

FORMAT = 1
"""The layout this program reads and writes."""

LARGEST = 1 << 40
"""Bytes of a pack at most: whoever reads one counts its pieces."""

_LAST_EPOCH = 10**9

REMEMBERED = 200
"""Dropped packs in a state that pushes write."""


class Kind(Enum):
    """What a pack holds; packs of different kinds are not joined."""

    CODE = "code"
    DATA = "data"
    """Pushed with nothing but refs below `refs/ml/`: a clone of the code needs none of it."""


@record
class Pack:
    """A pack in the store: `id` is the digest at its end, in hex; `size` in bytes, `objects` their number.

    `epoch` is that of the state it was pushed to, and part of the names of its files.
    """

    id: str
    size: int
    objects: int
    kind: Kind = field(compare=False)
    epoch: int = 0


@record
class Dropped:
    """A pack that is no longer in use, on its way out; `doomed` once files may go.

    `since` in seconds since 1970, by the clock of the sweep that saw it first; 0 until one has.
    """

    id: str
    size: int
    since: int
    doomed: bool = False
    epoch: int = 0


@record
class Ref:
    """The value of a ref; `peeled` is what an annotated tag stands for in the end."""

    oid: Oid
    peeled: Oid | None = None


@record
class State:
    """All refs of a store, the branch that HEAD is (None if there is none yet), its packs."""

    format: ObjectFormat
    head: bytes | None = None
    refs: Mapping[bytes, Ref] = field(default_factory=dict)
    packs: tuple[Pack, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    sweeps: int = 0
    """How often objects may have gone; who counts on what was there before has to look again."""
    epoch: int = 0
    """Rises when packs are doomed. The names of files have it, so that no name is used again that somebody may still be
    about to delete."""
    update: str = ""
    """Random; tells whose write a state is."""

    def tips(self) -> set[Oid]:
        """What the refs name."""
        return {ref.oid for ref in self.refs.values()}

    def placed(self, pack: Pack) -> Pack:
        """A pack under the name that a push to this state gives it; one that is in use keeps its own."""
        return replace(pack, epoch=next((each.epoch for each in self.packs if each.id == pack.id), self.epoch))

    def changed(
        self,
        *,
        refs: Mapping[bytes, Ref | None],
        added: Iterable[Pack],
        removed: Iterable[str],
        now: int,
        head: bytes | None = None,
    ) -> "State":
        """With refs moved (None: deleted), packs added and others dropped. `head` is taken if there is no branch yet.

        A pack that is added is not dropped any longer. Only the latest of those that are dropped are remembered: a
        sweep finds the others by listing, and every push reads and writes this.
        """
        moved = {name: ref for name, ref in {**self.refs, **refs}.items() if ref is not None}
        new = {pack.id: pack for pack in added}
        gone = set(removed) - new.keys()
        packs = {pack.id: pack for pack in self.packs if pack.id not in gone} | new
        used = {(pack.id, pack.epoch) for pack in new.values()}
        dropped = [each for each in self.dropped if (each.id, each.epoch) not in used]
        dropped += [Dropped(pack.id, pack.size, now, epoch=pack.epoch) for pack in self.packs if pack.id in gone]
        forgotten = len(dropped) - REMEMBERED
        dropped = [each for number, each in enumerate(dropped) if each.doomed or number >= forgotten]
        return replace(
            self,
            head=self.head if self.head in moved or head is None else head,
            refs=moved,
            packs=tuple(sorted(packs.values(), key=lambda pack: pack.id)),
            dropped=tuple(dropped),
            update=secrets.token_hex(8),
        )

    def rewritten(self, *, added: Iterable[Pack], removed: Iterable[str], now: int) -> "State":
        """With packs in the place of others that held more: some of their objects are gone."""
        return replace(self.changed(refs={}, added=added, removed=removed, now=now), sweeps=self.sweeps + 1)

    def swept(self, dropped: Iterable[Dropped]) -> "State":
        """With other packs on their way out. Where some of them are doomed now, another epoch begins."""
        after = tuple(dropped)
        return replace(
            self,
            dropped=after,
            sweeps=self.sweeps + 1,
            epoch=_epoch_after(self.epoch, after),
            update=secrets.token_hex(8),
        )


def format_state(state: State) -> bytes:
    """The one form of a state."""
    return pretty(
        {
            "format": FORMAT,
            "object_format": state.format.value,
            "head": None if state.head is None else text_of(state.head),
            "refs": {
                text_of(name): {"oid": ref.oid.hex(), **({"peeled": ref.peeled.hex()} if ref.peeled else {})}
                for name, ref in state.refs.items()
            },
            "packs": [
                {
                    "id": pack.id,
                    "size": pack.size,
                    "objects": pack.objects,
                    "kind": pack.kind.value,
                    **_epoch_of(pack.epoch),
                }
                for pack in state.packs
            ],
            "dropped": [
                {
                    "id": each.id,
                    "size": each.size,
                    "since": each.since,
                    **({"doomed": True} if each.doomed else {}),
                    **_epoch_of(each.epoch),
                }
                for each in state.dropped
            ],
            "sweeps": state.sweeps,
            **_epoch_of(state.epoch),
            "update": state.update,
        }
    )


def parse_state(data: bytes, where: str) -> State:
    """The state in an object called `where`.

    Raise `CorruptError` for what no writer of ours wrote, `UserError` for one of a later format.
    """
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            raise TypeError("not an object")
        if type(document.get("format")) is not int or document["format"] != FORMAT:
            if type(document.get("format")) is int and document["format"] > FORMAT:
                raise UserError(
                    f"'{where}' has format {document['format']}, this gitml reads {FORMAT}",
                    hint="install a newer gitml: pip install --upgrade gitml",
                )
            raise ValueError("no format")
        object_format = ObjectFormat(document["object_format"])
        dropped = tuple(_dropped(value, object_format) for value in document["dropped"])
        return State(
            format=object_format,
            head=None if document["head"] is None else _ref_name(document["head"]),
            refs={_ref_name(name): _ref(value, object_format) for name, value in document["refs"].items()},
            packs=tuple(_pack(value, object_format) for value in document["packs"]),
            dropped=dropped,
            sweeps=_number(document["sweeps"]),
            epoch=_epoch_after(_number(document.get("epoch", 0), _LAST_EPOCH), dropped),
            update=_text(document["update"]),
        )
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CorruptError(
            f"'{where}' is damaged: {detail}", hint="git ml remote fsck says what can still be read"
        ) from None


def _epoch_after(epoch: int, dropped: Iterable[Dropped]) -> int:
    """The epoch behind all in which packs were named that are doomed."""
    return max([epoch, *(each.epoch + 1 for each in dropped if each.doomed)])


def _epoch_of(number: int) -> dict[str, int]:
    """The first epoch is not written: most stores never see another."""
    return {"epoch": number} if number else {}


def is_ref_name(name: bytes) -> bool:
    """Whether git takes a name for a ref (git: check-ref-format), below `refs/`."""
    parts = name.split(b"/")
    return (
        len(parts) > 1
        and parts[0] == b"refs"
        and all(part and not part.startswith(b".") and not part.endswith(b".lock") for part in parts)
        and not name.endswith(b".")
        and b".." not in name
        and b"@{" not in name
        and not any(byte < 0x21 or byte in b"~^:?*[\\\x7f" for byte in name)
    )


def _ref_name(value: Any) -> bytes:
    name = bytes_of(_text(value))
    if not is_ref_name(name):
        raise ValueError(f"{value!r} is no name for a ref")
    return name


def _ref(value: Any, object_format: ObjectFormat) -> Ref:
    peeled = value.get("peeled")
    return Ref(_oid(value["oid"], object_format), None if peeled is None else _oid(peeled, object_format))


def _pack(value: Any, object_format: ObjectFormat) -> Pack:
    return Pack(
        _oid(value["id"], object_format).hex(),
        _number(value["size"], LARGEST),
        _number(value["objects"]),
        Kind(value["kind"]),
        _number(value.get("epoch", 0), _LAST_EPOCH),
    )


def _dropped(value: Any, object_format: ObjectFormat) -> Dropped:
    return Dropped(
        _oid(value["id"], object_format).hex(),
        _number(value["size"], LARGEST),
        _number(value["since"]),
        value.get("doomed") is True,
        _number(value.get("epoch", 0), _LAST_EPOCH),
    )


def _oid(value: Any, object_format: ObjectFormat) -> Oid:
    oid = Oid.parse(_text(value))
    if len(oid) != object_format.size:
        raise ValueError(f"{value!r} is no {object_format.value} name")
    return oid


def _number(value: Any, largest: int = (1 << 63) - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ValueError(f"{value!r} is no number of bytes or objects")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
