"""Object stores, started and stopped by the tests on loopback: a directory, moto's S3, `rclone serve s3`, Azurite.

moto minds conditional writes; rclone ignores them, and answers ranges with status 200. Azurite is Microsoft's own
emulator of Azure. For Google there is none that speaks what is used here: a translator stands before moto
(tests.google).
"""

import base64
import hashlib
import hmac
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from demo.loopback import free_port, make_bucket, moto, process
from tests.google import ANONYMOUS

__all__ = [
    "CREDENTIALS", "KEY", "KINDS", "SECRET", "address", "make_bucket", "make_container", "serve_azurite", "serve_moto",
    "serve_rclone",
]  # fmt: skip

KINDS = ("file", "moto", "rclone", "azure", "google")
KEY, SECRET = "accesskey1", "secretkey1"

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has (its documentation names it)."""

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
    "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
    "GOOGLE_SERVICE_ACCOUNT_KEY": ANONYMOUS,
}
"""What the environment says to whoever uses these stores."""


@contextmanager
def serve_moto() -> Iterator[str]:
    """Moto's S3 server; gives its endpoint."""
    pytest.importorskip("moto")
    with moto() as endpoint:
        yield endpoint


@contextmanager
def serve_rclone(top: Path) -> Iterator[str]:
    """`rclone serve s3` on a directory; gives its endpoint."""
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if rclone is None:
        pytest.skip("rclone is not installed")
    port = free_port()
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
               "--config", str(top / "no.conf"), str(top)]  # fmt: skip
    with process(command, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def serve_azurite() -> Iterator[str]:
    """Azurite, which keeps everything in memory; gives the endpoint of its account. `make test` installs it."""
    place = Path(sys.prefix) / "azurite" / "node_modules" / ".bin"
    azurite = shutil.which("azurite-blob", path=str(place)) or shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("azurite is not installed")
    port = free_port()
    command = [azurite, "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent",
               "--blobHost", "127.0.0.1", "--blobPort", str(port)]  # fmt: skip
    with process(command, port):
        yield f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"


def make_container(endpoint: str, name: str) -> None:
    """Make a container of Azure, with a request that is signed as its documentation wants it."""
    date, version = formatdate(usegmt=True), "2021-12-02"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    signed += f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}",
    }
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request):
        pass


def address(endpoint: str, bucket: str, prefix: str, options: str = "") -> str:
    """The address of a store there, for git; `options` begin with `&`."""
    return f"ml::s3://{bucket}/{prefix}?endpoint={endpoint}&region=us-east-1{options}"
