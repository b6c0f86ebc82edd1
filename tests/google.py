"""Google's storage protocol before a server that speaks Amazon's: what differs between the two is translated.

Google's XML protocol is Amazon's but for conditions: an object has a generation, a number that a write may require with
`x-goog-if-generation-match` (0: there must be no such object). Here the generation of an object is its ETag read as a
number, so whether a condition holds is decided by the server behind, in one step.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ANONYMOUS = json.dumps({"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})
"""A service account (`GOOGLE_SERVICE_ACCOUNT_KEY`) with which nobody is asked for tokens."""

_KNOWN = "AWS4-HMAC-SHA256 Credential=google/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"
"""What moto takes from anybody whose name it has not been told to check."""

_CONDITION = "x-goog-if-generation-match"
_LEFT_OUT = ("x-goog-", "authorization", "connection", "if-match", "if-none-match")
_DROPPED = ("connection", "transfer-encoding", "keep-alive", "content-length")


@contextmanager
def serve_google(endpoint: str) -> Iterator[str]:
    """Google's protocol before Amazon's at `endpoint`; gives its endpoint."""
    behind = urlsplit(endpoint)
    assert behind.hostname is not None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() == _CONDITION:
                        connection.putheader(*_condition_of(value))
                    elif not name.lower().startswith(_LEFT_OUT):
                        connection.putheader(name, value)
                connection.putheader("Authorization", _KNOWN)
                connection.endheaders(body)
                with connection.getresponse() as answer:
                    content = answer.read()
                    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _DROPPED]
                    self._answer(answer.status, headers, content, answer.getheader("Content-Length", "0"))
            finally:
                connection.close()

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - names that the standard library looks for

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: str) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
                if name.lower() == "etag":
                    self.send_header("x-goog-generation", _generation_of(value))
            if status != 204:
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: clients that are killed leave broken connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _generation_of(etag: str) -> str:
    """An ETag as a number; that of an object of several parts ends in a dash and how many."""
    digest, _, parts = etag.strip('"').partition("-")
    return str(int(digest, 16) << 16 | int(parts or "0"))


def _condition_of(generation: str) -> tuple[str, str]:
    """A condition on a generation as Amazon's server reads it."""
    if generation == "0":
        return "If-None-Match", "*"
    digest, parts = divmod(int(generation), 1 << 16)
    return "If-Match", f'"{digest:032x}{f"-{parts}" if parts else ""}"'
