"""Real object stores, started and stopped by the tests on loopback: a directory, moto's S3, `rclone serve s3`.

moto minds conditional writes; rclone ignores them, and answers ranges with status 200.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.loopback import free_port, make_bucket, moto, process

__all__ = ["KEY", "KINDS", "SECRET", "address", "make_bucket", "serve_moto", "serve_rclone"]

KINDS = ("file", "moto", "rclone")
KEY, SECRET = "accesskey1", "secretkey1"


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


def address(endpoint: str, bucket: str, prefix: str, options: str = "") -> str:
    """The address of a store there, for git; `options` begin with `&`."""
    return f"ml::s3://{bucket}/{prefix}?endpoint={endpoint}&region=us-east-1{options}"
