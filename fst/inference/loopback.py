"""A web server that only this machine's browsers can use, on a free port of the loopback address."""

import sys
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEARTBEAT = 0.2  # seconds after which a waiting thread checks whether it should end
_CONNECTIONS = 64
_HEADERS = {  # of every page: other sites cannot use it, and nothing is cached
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def open_browser(address: str) -> None:
    """Open a page in the browser, if there is one, without waiting: a browser in a terminal returns when it ends."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


class LoopbackPage(BaseHTTPRequestHandler):
    """One request. A subclass has `do_GET`, and so on, which answer by `reply` if `is_foreign` is false."""

    timeout = 10.0  # seconds without a byte, after which a connection is closed
    headers_of_site: dict[str, str]

    def is_foreign(self) -> bool:
        """Whether the request comes from another site's page, which must not see what is served, nor change anything.

        The Host header is checked too: a site can give its own host name this machine's address (DNS rebinding).
        """
        assert isinstance(self.server, LoopbackServer)
        hosts = [f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")]
        origin = self.headers.get("Origin")
        return self.headers.get("Host") not in hosts or origin not in (None, *(f"http://{host}" for host in hosts))

    def reply(self, kind: str, body: bytes) -> None:
        """Answer with a body of a media type; to HEAD without it."""
        self.start(kind, {"Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self, kind: str, headers: dict[str, str]) -> None:
        """Send the status and the headers of an answer."""
        self.send_response(HTTPStatus.OK)
        for name, value in ({"Content-Type": kind} | _HEADERS | self.headers_of_site | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    """A thread for each of at most 64 connections."""

    daemon_threads = True
    request_queue_size = _CONNECTIONS  # a browser may open more than the 5 of http.server

    def __init__(self, page: type[LoopbackPage]) -> None:
        super().__init__(("127.0.0.1", 0), page)
        self._free = threading.Semaphore(_CONNECTIONS)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # an OSError is a browser that closed its connection
            super().handle_error(request, client_address)
