"""Real git servers, started and stopped by the tests: a path, git daemon, ssh and smart HTTP, all on loopback."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo.loopback import free_port, process

KINDS = ("file", "daemon", "ssh", "http")


@contextmanager
def serve(kind: str, top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the repositories below `top`; give the URL that stands for it. Skips where the server is not installed."""
    start = {"file": _file, "daemon": _daemon, "ssh": _ssh, "http": _http}[kind]
    with start(top, monkeypatch) as url:
        yield url


@contextmanager
def _file(top: Path, _: pytest.MonkeyPatch) -> Iterator[str]:
    yield f"file://{top}"


@contextmanager
def _daemon(top: Path, _: pytest.MonkeyPatch) -> Iterator[str]:
    port = free_port()
    command = ["git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", "--listen=127.0.0.1",
               f"--port={port}", f"--base-path={top}", str(top)]  # fmt: skip
    with process(command, port):
        yield f"git://127.0.0.1:{port}"


@contextmanager
def _ssh(top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
    if sshd is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("sshd is not installed")
    own = top / "ssh"
    own.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / name)], check=True)
    shutil.copy(own / "user.pub", own / "authorized")
    port = free_port()
    (own / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {own}/host\nAuthorizedKeysFile {own}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges; Debian's service makes it
    monkeypatch.setenv(
        "GIT_SSH_COMMAND",
        f"ssh -F none -i '{own}/user' -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        # the keys that even quantum computers cannot guess cost a fifth of a second a connection
        " -o KexAlgorithms=curve25519-sha256 -o LogLevel=ERROR",
    )
    with process([sshd, "-D", "-e", "-f", str(own / "sshd_config")], port):
        yield f"ssh://127.0.0.1:{port}{top}"


@contextmanager
def _http(top: Path, _: pytest.MonkeyPatch) -> Iterator[str]:
    backend = Path(subprocess.run(["git", "--exec-path"], capture_output=True, check=True, text=True).stdout.strip())
    backend /= "git-http-backend"
    if not backend.exists():
        pytest.skip("git http-backend is not installed")
    lighttpd = shutil.which("lighttpd") or shutil.which("lighttpd", path="/usr/sbin:/sbin")
    if lighttpd is None:
        with _standard_library_http(top, backend) as url:
            yield url
        return
    port = free_port()
    configuration = top / "lighttpd.conf"
    configuration.write_text(
        'server.modules = ("mod_setenv", "mod_cgi", "mod_alias")\n'
        f'server.document-root = "{top}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        f'server.errorlog = "{top}/lighttpd.log"\nserver.upload-dirs = ("{top}")\n'
        f'alias.url = ("/git" => "{backend}")\n'
        '$HTTP["url"] =~ "^/git" {\n  cgi.assign = ("" => "")\n  setenv.set-environment = (\n'
        f'    "GIT_PROJECT_ROOT" => "{top}", "GIT_HTTP_EXPORT_ALL" => "", "REMOTE_USER" => "ada",\n'
        f'    "HOME" => "{os.environ["HOME"]}", "PATH" => "{os.environ["PATH"]}")\n}}\n'
    )
    with process([lighttpd, "-D", "-f", str(configuration)], port):
        yield f"http://127.0.0.1:{port}/git"


@contextmanager
def _standard_library_http(top: Path, backend: Path) -> Iterator[str]:
    """The real git http-backend behind a small server, where no other is installed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(top), "GIT_HTTP_EXPORT_ALL": "", "REMOTE_USER": "ada", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            body = b"".join(self._body())
            answer = subprocess.run(
                [str(backend)], input=body, env={**environment, "CONTENT_LENGTH": str(len(body))},
                stdout=subprocess.PIPE, check=False,
            ).stdout  # fmt: skip
            head, _, content = answer.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the name that the standard library looks for

        def _body(self) -> Iterator[bytes]:
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                yield self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
