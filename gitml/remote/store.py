"""One store as git needs it: its state, the indexes of its packs, and the one write that changes it.

What is kept of a store in a repository (`ml/stores/<id>/`) is a cache: it can go at any time.
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gitml.errors import CorruptError, UserError
from gitml.oid import ObjectFormat
from gitml.protocol.remote_helper import NOTHING_THERE
from gitml.remote.address import Address
from gitml.remote.bucket import Bucket, StoreError, UnconditionalError, Version
from gitml.remote.packs import StoredIndex, check_index, index_key
from gitml.remote.services import open_bucket
from gitml.remote.state import Pack, State, format_state, parse_state

STATE = "refs.json"
"""The object that changes."""

PARALLEL = 4
"""Transfers at a time; of 16 MiB each at most."""

_DAY = 24 * 3600


class Store:
    """A store at an address, with a directory for what is kept of it here."""

    def __init__(self, address: Address, place: Path, *, bucket: Bucket | None = None) -> None:
        self.address = address
        self.bucket = open_bucket(address) if bucket is None else bucket
        self.place = place / address.id
        self._version: Version | None = None

    def read(self) -> State | None:
        """The state as it is now, None if there is no repository yet; raise `StoreError` or `CorruptError`."""
        found = self.bucket.read_versioned(STATE)
        self._version = None if found is None else found[1]
        return None if found is None else parse_state(found[0], f"{self.address.url}/{STATE}")

    def write(self, new: State) -> bool:
        """Put a state in the place of the one that was read last; False if that is another by now.

        Raise `StoreError`, after which nobody knows; and `UnconditionalError`.
        """
        try:
            if self.bucket.exchange(STATE, format_state(new), self._version):
                return True
        except StoreError:
            # perhaps only the answer was lost
            now = self.read()
            if now is None or now.update != new.update:
                raise
            return True
        # perhaps it was ours, repeated by the client library because its answer was lost
        now = self.read()
        return now is not None and now.update == new.update

    def require_conditions(self) -> None:
        """Raise `UnconditionalError` for a store in which two pushes at once could lose one of them.

        It is tried once; what came of it is kept for a day.
        """
        if self.address.flag("single_writer"):
            return
        noted = self.place / "minds-conditions"
        with suppress(FileNotFoundError):
            if time.time() - noted.stat().st_mtime < _DAY:
                return
        if not self.bucket.minds_conditions():
            raise UnconditionalError(
                f"'{self.address.url}' ignores conditional writes (If-Match): of two pushes at once one would be lost",
                hint="use another store; or, if nobody else ever pushes there, add ?single_writer=true to the address "
                "(git config remote.NAME.mlSingleWriter true)",
            )
        self.place.mkdir(parents=True, exist_ok=True)
        noted.touch()

    def indexes(self, packs: Iterable[Pack], object_format: ObjectFormat) -> list[StoredIndex]:
        """The indexes of packs; those that are not here are fetched. Raise `StoreError` or `CorruptError`."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - 10 ms that reading the refs need not pay

        wanted = list(packs)
        with ThreadPoolExecutor(2 * PARALLEL) as threads:
            return list(threads.map(lambda pack: self._index(pack, object_format), wanted))

    def kept_index(self, pack: Pack, object_format: ObjectFormat) -> StoredIndex | None:
        """The index of a pack if it is kept here."""
        with suppress(FileNotFoundError, CorruptError):  # a cache: what is wrong with it is no news
            return StoredIndex(self.place / "indexes" / f"{pack.id}.index", pack, object_format)
        return None

    def keep_index(self, pack: Pack, data: bytes) -> Path:
        """Keep the index of a pack here."""
        place = self.place / "indexes"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{pack.id}.index"
        new = place / f".{pack.id}.{os.getpid()}.{os.urandom(4).hex()}"
        new.write_bytes(data)
        new.rename(path)
        return path

    def forget_indexes(self, packs: Iterable[Pack]) -> None:
        """Remove the indexes of packs that are kept here; they are fetched again when they are needed."""
        for pack in packs:
            (self.place / "indexes" / f"{pack.id}.index").unlink(missing_ok=True)

    def forget(self, packs: Sequence[Pack]) -> None:
        """Remove what is kept of packs that are no longer among `packs`, unless it is young."""
        used = {pack.id for pack in packs}
        for path in [*self.place.glob("indexes/*"), *self.place.glob("partial/*"), *self.place.glob("outgoing/*")]:
            with suppress(FileNotFoundError):
                if path.name.partition(".")[0] not in used and time.time() - path.stat().st_mtime > _DAY:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()

    def _index(self, pack: Pack, object_format: ObjectFormat) -> StoredIndex:
        kept = self.kept_index(pack, object_format)
        if kept is not None:
            return kept
        data = self.bucket.read(index_key(pack))
        if data is None:
            raise StoreError(
                f"cannot read pack {pack.id} of '{self.address.url}'", "its index is not there",
                hint="list again: git fetch; if that does not help: git ml remote fsck",
            )  # fmt: skip
        check_index(data, pack, object_format)
        return StoredIndex(self.keep_index(pack, data), pack, object_format)


def require_state(state: State | None, address: Address) -> State:
    """The state; raise `UserError` if there is no repository."""
    if state is None:
        raise UserError(f"{NOTHING_THERE} '{address.url}'", hint="the first git push makes one")
    return state
