"""The fields that say how a stage runs, and that change no result."""

import math
import re
from urllib.parse import urlsplit

from gitml.pipeline.spec.error import SpecError, did_you_mean, quoted
from gitml.pipeline.spec.model import Resources, Secret
from gitml.pipeline.spec.reading import Node

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([0-9]{1,2})|(m|k|[KMGTPE]i?)?B?)")
_UNIT = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    letter + suffix: float(base**power)
    for power, letter in enumerate("KMGTPE", 1)
    for suffix, base in (("", 1000), ("i", 1024))
}
"""Units of Kubernetes' quantities."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN_VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "PWD", "LD_LIBRARY_PATH", "LD_PRELOAD"})
_TAKEN_PLACES = ("/pfs", "/proc", "/sys", "/dev", "/workspace")
_STORES = {
    "s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azblob": "az", "as": "az", "wasb": "az", "wasbs": "az",
    "file": "file",
}  # fmt: skip
"""Schemes of addresses that Pachyderm knows or we do, and what we call them."""
EXECUTORS = ("local", "dask")
"""Where tasks can be computed."""
_REPROCESS = ("until_success", "every_job")


def seconds(node: Node, name: str) -> float | None:
    """The duration of a field; None if it is absent or zero."""
    found = node.get(name)
    return found.value or None if found is not None else None


def flag(node: Node, name: str) -> bool:
    """The truth value of a field, False if it is absent."""
    found = node.get(name)
    return found is not None and bool(found.value)


def every_job(node: Node | None) -> bool:
    """What a field `reprocess_spec` says; raise `SpecError` for another word."""
    if node is None or not node.value:
        return False
    if node.value not in _REPROCESS:
        raise SpecError(
            node.place,
            f"expected 'until_success' or 'every_job', got {quoted(node.value)}",
            hint=did_you_mean(node.value, _REPROCESS),
        )
    return bool(node.value == "every_job")


def egress(node: Node | None) -> str:
    """The address in a field `egress`, as we write it; empty if there is none. Raise `SpecError`."""
    if node is None:
        return ""
    newer = node.get("object_storage")
    given = [found for found in (node.get("URL"), newer.get("url") if newer is not None else None) if found is not None]
    given = [found for found in given if found.value]
    if not given:
        return ""
    if len(given) > 1:
        raise SpecError(given[1].place, "egress to two places", hint="give 'URL' or 'object_storage'")
    return _address(given[0])


def _address(node: Node) -> str:
    text: str = node.value
    if text.startswith("/"):
        return "file://" + text.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    scheme, colon, rest = text.partition("://")
    known = _STORES.get(scheme)
    if not colon or known is None:
        raise SpecError(
            node.place,
            f"{quoted(text)} is no place for egress",
            hint="write an absolute path, or s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH",
        )
    try:
        parts = urlsplit(f"{known}://{rest}")
    except ValueError as error:
        raise SpecError(node.place, f"cannot read the address {quoted(text)}: {error}") from None
    if parts.password is not None or (parts.username is not None and known != "az"):
        raise SpecError(node.place, "credentials do not belong into a specification", hint="see 'Egress' in running.md")
    where, options = parts.path, f"?{parts.query}" if parts.query else ""
    if scheme in {"as", "wasb", "wasbs"}:
        # Pachyderm: the host is the account, and the path begins with the container; Hadoop: container@account
        container, _, below = where.strip("/").partition("/")
        if parts.username is not None:
            container, below = parts.username, where.strip("/")
        return f"az://{container}/{below}{options}"
    if known != "file" and not parts.netloc:
        raise SpecError(node.place, f"the address {quoted(text)} names no bucket")
    return f"{known}://{parts.netloc}{where}{options}"


def executor(node: Node | None) -> str:
    """What a field `executor` says, empty for nothing; raise `SpecError` for another word."""
    if node is None or not node.value:
        return ""
    if node.value not in EXECUTORS:
        raise SpecError(
            node.place,
            f"expected 'local' or 'dask', got {quoted(node.value)}",
            hint=did_you_mean(node.value, EXECUTORS),
        )
    return str(node.value)


def resources(node: Node | None) -> Resources:
    """What a field `resource_requests` or `resource_limits` says; raise `SpecError`."""
    if node is None:
        return Resources()
    cpu, gpu = node.get("cpu"), node.get("gpu")
    number = gpu.get("number") if gpu is not None else None
    for given in (cpu, number):
        if given is not None and given.value < 0:
            raise SpecError(given.place, "less than 0")
    return Resources(
        cpu=cpu.value or None if cpu is not None else None,
        memory=_bytes(node.get("memory")),
        disk=_bytes(node.get("disk")),
        gpu=number.value or None if number is not None else None,
    )


def _bytes(node: Node | None) -> int | None:
    """A quantity of bytes as Kubernetes writes it; None if absent or zero."""
    if node is None or not node.value:
        return None
    match = _QUANTITY.fullmatch(node.value)
    if match is None:
        raise SpecError(
            node.place, f'expected a size such as "64M", got {quoted(node.value)}', hint="units are k, M, G, Ki, Mi, Gi"
        )
    factor = 10.0 ** int(match[2]) if match[2] else _UNIT[match[3] or ""]
    return math.ceil(float(match[1]) * factor) or None


def secrets(nodes: list[Node]) -> tuple[Secret, ...]:
    """The secrets that a field `secrets` names, in order; raise `SpecError`."""
    return tuple(_secret(node) for node in nodes)


def _secret(node: Node) -> Secret:
    name, variable, key, mount = node.require("name"), node.get("env_var"), node.get("key"), node.get("mount_path")
    for given in (name, key):
        if given is not None and given.value and not _NAME.fullmatch(given.value):
            raise SpecError(
                given.place, f"{quoted(given.value)} cannot name a secret", hint="use letters, digits, '_', '-' and '.'"
            )
    if not name.value or not (node.text("env_var") or node.text("mount_path")):
        raise SpecError(
            node.place, "a secret that goes nowhere", hint="give 'name', and 'mount_path' or 'env_var' with 'key'"
        )
    if variable is not None and variable.value:
        if not _VARIABLE.fullmatch(variable.value) or variable.value in _TAKEN_VARIABLES:
            raise SpecError(variable.place, f"{quoted(variable.value)} cannot be the variable of a secret")
        if not node.text("key"):
            raise SpecError(node.place, "'env_var' without 'key'", hint="'key' says which value of the secret it gets")
    place = ""
    if mount is not None and mount.value:
        place = "/" + "/".join(part for part in mount.value.split("/") if part not in {"", "."})
        taken = any(place == each or place.startswith(each + "/") for each in _TAKEN_PLACES)
        if not mount.value.startswith("/") or place == "/" or ".." in place.split("/") or taken:
            raise SpecError(
                mount.place, f"a secret cannot be mounted at {quoted(mount.value)}", hint='write "/etc/credentials"'
            )
    return Secret(name=name.value, mount_path=place, env_var=node.text("env_var"), key=node.text("key"))
