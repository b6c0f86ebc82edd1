"""A small HTTP proxy before an object store that fails on demand, as networks and services do.

Requests go to the store byte for byte, with the Host header of the client. Faults are given as a list; the first that
matches a request and is not used up happens to it.
"""

import http.client
import random
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

EXPECTED = {
    "500": "the store says 500 and does nothing",
    "503": "the store says 503 and does nothing",
    "409": "the store says 409 to a conditional PUT and does nothing",
    "cut": "the connection ends before the store has seen the request",
    "cut body": "the connection ends in the middle of the answer",
    "lose": "the store does what it is asked, its answer is lost",
    "short": "a range with fewer bytes than asked for, and a Content-Range that says so",
    "short body": "a range with fewer bytes than asked for, and the Content-Range that was asked for",
    "stale": "LIST as it was when it was asked first",
    "hang": "nothing happens for a moment",
}
"""What each fault is."""

_CODES = {"InternalError": 500, "SlowDown": 503, "ConditionalRequestConflict": 409}
_REASONS = {str(status): code for code, status in _CODES.items()}


@dataclass
class Fault:
    """One of `EXPECTED`, for requests of a method (LIST: a GET of a directory) whose path matches.

    It happens to the first `count` of them (None: to all), each with this probability.
    """

    kind: str
    method: str = ""
    path: str = ""
    count: int | None = 1
    probability: float = 1.0
    conditional: bool = False
    """Only to requests with If-Match or If-None-Match."""
    happened: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that came: its method (LIST for a listing), its path, and what happened to it."""

    method: str
    path: str
    fault: str | None


@dataclass
class Proxy:
    """A running proxy: its address, the faults in force, the requests so far."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.Random)
    lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        assert all(fault.kind in EXPECTED for fault in self.faults)

    def choose(self, method: str, path: str, headers: Message) -> str | None:
        """The fault that happens to a request, if any; it is noted."""
        conditional = "if-match" in headers or "if-none-match" in headers
        with self.lock:
            kind = None
            for fault in self.faults:
                if (
                    (fault.method in ("", method))
                    and re.search(fault.path, path)
                    and (fault.count is None or fault.happened < fault.count)
                    and (conditional or not (fault.conditional or fault.kind == "409"))
                    and ("range" in headers or not fault.kind.startswith("short"))
                    and self.chance.random() < fault.probability
                ):
                    fault.happened += 1
                    kind = fault.kind
                    break
            self.seen.append(Seen(method, path, kind))
            return kind


@contextmanager
def faulty(endpoint: str, *faults: Fault, seed: int | None = None) -> Iterator[Proxy]:
    """A proxy before the store at `endpoint`."""
    upstream = urlsplit(endpoint)
    seed = random.randrange(1 << 30) if seed is None else seed
    print("seed of the faults", seed)
    proxy = Proxy("", list(faults), chance=random.Random(seed))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # a connection that nobody uses any more must not keep the server
        timeout = 5
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            listing = self.command == "GET" and "list-type=2" in self.path
            fault = proxy.choose("LIST" if listing else self.command, self.path, self.headers)
            if fault in _REASONS:
                code = _REASONS[fault]
                text = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
                self._answer(_CODES[code], [("Content-Type", "application/xml")], text)
                return
            if fault == "cut":
                self._hang_up()
                return
            if fault == "hang":
                proxy.ended.wait(0.5)
            status, headers, content = self._forward(body)
            if fault == "lose":
                self._hang_up()
                return
            if fault == "stale":
                status, headers, content = proxy.lists.get(self.path, (status, headers, content))
            elif listing:
                proxy.lists.setdefault(self.path, (status, headers, content))
            if fault in ("short", "short body") and status == 206:
                content = content[: len(content) // 2]
                if fault == "short":
                    headers = [(name, _shorter(name, value, len(content))) for name, value in headers]
            self._answer(status, headers, content, cut=fault == "cut body")

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - names that the standard library looks for

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            assert upstream.hostname is not None
            connection = http.client.HTTPConnection(upstream.hostname, upstream.port)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        connection.putheader(name, value)
                connection.endheaders(body)
                with connection.getresponse() as answer:
                    content = answer.read()
                    dropped = {"connection", "transfer-encoding", "keep-alive"}
                    if self.command != "HEAD":
                        dropped.add("content-length")
                    return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() not in dropped], content
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD" and status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.wfile.flush()
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: clients that are killed leave broken connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield proxy
        finally:
            proxy.ended.set()
            server.shutdown()
            thread.join()


def _shorter(name: str, value: str, length: int) -> str:
    """A header as it is for fewer bytes."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", value)
    if name.lower() != "content-range" or found is None:
        return value
    return f"bytes {found[1]}-{int(found[1]) + max(length, 1) - 1}/{found[2]}"
