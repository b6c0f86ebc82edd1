"""Secrets of this clone, and what a task gets of them.

They lie outside of everything that is committed, pushed or hashed: `<ml>/secrets/<name>/<key>`, a file each, readable
by the user alone. A specification holds their names only.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitml.errors import UserError
from gitml.pipeline.spec.model import Stage
from gitml.record import field, record

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""What a secret and its keys may be called."""
_SHORTEST = 4
_SHORTEST_FOUND = 8
_PIECE = 1 << 20
_STARS = b"***"


class MissingSecretError(UserError):
    """A stage names a secret that this clone does not have."""

    def __init__(self, name: str, key: str | None) -> None:
        super().__init__(
            f"secret '{name}' is not set in this clone" if key is None else f"secret '{name}' has no key '{key}' here",
            hint=f"git ml secret set {name} {key or 'KEY'}",
        )


@record
class Granted:
    """What the tasks of one stage get. Values are in `variables` and `values`, so do not show one whole."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    directories: Mapping[str, Path] = field(default_factory=dict)
    """Absolute place inside, and the directory that is seen there, read-only."""
    values: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """Each value with its name."""

    def hidden(self) -> list[bytes]:
        """What logs must not show: values, and the lines of those that have several."""
        found = {value.strip(b"\r\n") for _, value in self.values}
        found |= {line.strip() for value in found if b"\n" in value for line in value.splitlines()}
        return sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True)

    def leaked(self, directory: Path) -> tuple[str, str] | None:
        """A file below `directory` that holds a value, with the name of that secret; None if none does.

        Values of fewer than eight bytes are not looked for: they stand in data by chance.
        """
        wanted = [(name, value.strip(b"\r\n")) for name, value in self.values]
        wanted = [(name, value) for name, value in wanted if len(value) >= _SHORTEST_FOUND]
        if not wanted:
            return None
        for top, _, files in os.walk(directory):
            for file in files:
                path = Path(top, file)
                with contextlib.suppress(OSError):
                    name = None if path.is_symlink() else _holds(path, wanted)
                    if name is not None:
                        return str(path.relative_to(directory)), name
        return None


class SecretStore:
    """The secrets below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def set(self, name: str, key: str, value: bytes) -> None:
        """Keep `value`; the former one is gone. Raise `UserError` for a name that cannot be one."""
        for text in (name, key):
            if not NAME.fullmatch(text):
                raise UserError(f"'{text}' cannot name a secret", hint="use letters, digits, '_', '-' and '.'")
        place = self._directory / name
        for each in (self._directory, place):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        temporary = self._directory / f".{secrets.token_hex(8)}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(value)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(place / key)
        finally:
            temporary.unlink(missing_ok=True)

    def names(self) -> dict[str, list[str]]:
        """The keys of each secret, sorted; never values."""
        try:
            found = sorted(path for path in self._directory.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
        except FileNotFoundError:
            return {}
        return {path.name: sorted(each for each in os.listdir(path) if NAME.fullmatch(each)) for path in found}

    def remove(self, name: str, key: str | None) -> None:
        """Forget one key of a secret, or all; raise `MissingSecretError`."""
        known = self.names().get(name)
        if known is None or (key is not None and key not in known):
            raise MissingSecretError(name, key)
        if key is None or known == [key]:
            shutil.rmtree(self._directory / name)
        else:
            (self._directory / name / key).unlink()

    def grant(self, stage: Stage) -> Granted:
        """What the tasks of `stage` get; raise `MissingSecretError` if something that it names is not here."""
        known = self.names() if stage.transform.secrets else {}
        variables: dict[str, str] = {}
        directories: dict[str, Path] = {}
        values: dict[str, bytes] = {}
        for secret in stage.transform.secrets:
            keys = known.get(secret.name, [])
            if not keys:
                raise MissingSecretError(secret.name, secret.key or None)
            if secret.env_var:
                if secret.key not in keys:
                    raise MissingSecretError(secret.name, secret.key)
                value = self._read(secret.name, secret.key)
                if b"\0" in value:
                    raise UserError(
                        f"secret '{secret.name}' has a NUL in '{secret.key}', which no variable can hold",
                        hint="use 'mount_path'",
                    )
                variables[secret.env_var] = os.fsdecode(value)
                values[f"{secret.name}/{secret.key}"] = value
            if secret.mount_path:
                directories[secret.mount_path] = self._directory / secret.name
                values |= {f"{secret.name}/{key}": self._read(secret.name, key) for key in keys}
        return Granted(variables, directories, tuple(values.items()))

    def _read(self, name: str, key: str) -> bytes:
        return (self._directory / name / key).read_bytes()


class Mask:
    """Text with every value replaced, also where a value comes in several pieces."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._pattern = re.compile(b"|".join(map(re.escape, values))) if values else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """`data` with what was held back before; what may be the begin of a value is held back."""
        if self._pattern is None:
            return data
        text = self._held + data
        ended = 0
        shown: list[bytes] = []
        for match in self._pattern.finditer(text):
            shown += [text[ended : match.start()], _STARS]
            ended = match.end()
        rest = text[ended:]
        keep = max((_overlap(rest, value) for value in self._values), default=0)
        self._held = rest[len(rest) - keep :]
        return b"".join([*shown, rest[: len(rest) - keep]])

    def end(self) -> bytes:
        """What is still held back."""
        rest, self._held = self._held, b""
        return rest


def _overlap(text: bytes, value: bytes) -> int:
    """How many bytes at the end of `text` may be the begin of `value`."""
    for length in range(min(len(text), len(value) - 1), 0, -1):
        if text.endswith(value[:length]):
            return length
    return 0


def _holds(path: Path, wanted: Iterable[tuple[str, bytes]]) -> str | None:
    wanted = list(wanted)
    overlap = max(len(value) for _, value in wanted) - 1
    with path.open("rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            window = before + piece
            for name, value in wanted:
                if value in window:
                    return name
            before = window[len(window) - min(overlap, len(window)) :]
    return None
