"""What `ml::` addresses mean, with their options.

    s3://bucket/path   gs://bucket/path   az://container/path   file:///path   /path

Options stand in the query (`?region=eu-west-1&single_writer=true`) or in the configuration of the remote
(`remote.<name>.mlRegion`); the query wins. Credentials never stand in an address.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import parse_qsl, unquote, urlsplit

from gitml.errors import UserError
from gitml.record import field, record

SCHEMES = ("s3", "gs", "az", "file")

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SECRET = ("secret", "access_key", "token", "account_key", "sas", "password", "service_account_key", "credential")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")
_HINT = "write ml::s3://BUCKET/PATH, ml::gs://BUCKET/PATH, ml::az://CONTAINER/PATH or ml::file:///PATH"


class AddressError(UserError):
    """An address or one of its options is wrong."""


@record
class Address:
    """Where a store is: `bucket` is empty for files; `path` has no slash at its ends, for files it is absolute."""

    scheme: str
    bucket: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address without options, for messages."""
        return f"{self.scheme}://{self.bucket}{'' if self.scheme == 'file' or not self.path else '/'}{self.path}"

    @property
    def id(self) -> str:
        """A name for what is kept here about this store; another endpoint is another store."""
        return sha256("\0".join([self.url, self.options.get("endpoint", "")]).encode("utf-8", "replace")).hexdigest()[
            :20
        ]

    def flag(self, name: str) -> bool:
        """An option that is true or false, by default false; raise `AddressError` for anything else."""
        value = self.options.get(name, "false").lower()
        if value not in _BOOLEANS:
            raise AddressError(f"'{name}' is true or false, not '{value}'")
        return _BOOLEANS[value]


def parse_address(text: str, settings: Mapping[str, str] | None = None) -> Address:
    """The address git gives a remote helper, `text` (with or without `ml::`), with `settings` of the remote.

    Raise `AddressError`.
    """
    text = text.removeprefix("ml::")
    if text.startswith("/"):
        return Address("file", "", _absolute(text), dict(settings or {}))
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise AddressError(f"cannot read the address '{text}': {error}", hint=_HINT) from None
    if parts.scheme not in SCHEMES:
        raise AddressError(f"'{text}' is no address of a store", hint=_HINT)
    if parts.username is not None or parts.password is not None:
        raise AddressError("credentials do not belong in an address", hint="see 'Credentials' in docs/remote.md")
    if parts.fragment:
        raise AddressError(f"'#' in the address '{text}' has no meaning", hint="write %23 for a '#' in a path")
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise AddressError(f"'{parts.query}' is not a list of options", hint="write ?name=value&name=value") from None
    for name in options:
        if any(word in name.lower() for word in _SECRET):
            raise AddressError(
                f"'{name}' does not belong in an address, which git shows and keeps",
                hint="see 'Credentials' in docs/remote.md",
            )
    options = {**(settings or {}), **options}
    endpoint = options.get("endpoint")
    if endpoint is not None and not _is_web_address(endpoint):
        raise AddressError(f"the endpoint '{endpoint}' is no address", hint="write https://HOST[:PORT]")
    path = unquote(parts.path)
    if "\0" in path:
        raise AddressError("an address has no NUL")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise AddressError(
                f"'{text}' names another machine", hint=f"for a path on this one: ml::file:///{parts.netloc}{path}"
            )
        return Address("file", "", _absolute(path), options)
    if not parts.netloc:
        raise AddressError(f"the address '{text}' names no bucket", hint=_HINT)
    if not _BUCKET.fullmatch(parts.netloc):
        raise AddressError(f"'{parts.netloc}' is no name of a bucket", hint=_HINT)
    segments = [segment for segment in path.split("/") if segment]
    if any(segment in (".", "..") for segment in segments):
        raise AddressError(f"the address '{text}' has '.' or '..' in its path")
    return Address(parts.scheme, parts.netloc, "/".join(segments), options)


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise AddressError(f"'{path}' is no absolute path", hint=_HINT)
    return path if path == "/" else path.rstrip("/")
