"""The site, served to this machine's browsers from memory."""

import mimetypes
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from fst.inference.loopback import HEARTBEAT, LoopbackPage, LoopbackServer, open_browser
from fst.inference.web.runtime import CDN, PACK
from fst.inference.web.site import content_policy

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
_PATIENCE = 3.0  # seconds to wait for the CDN


class SitePage(LoopbackPage):
    """One request: GET or HEAD of a file of the site; `/` is its page."""

    server: "SiteServer"

    def do_GET(self) -> None:  # noqa: N802 (http.server's)
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        if self.is_foreign():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif name not in self.server.site:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.headers_of_site = self.server.headers
            self.reply(_media_type(name), self.server.site[name])

    do_HEAD = do_GET  # noqa: N815


class SiteServer(LoopbackServer):
    """Serves the files of a site.

    Args:
        site: its files, by their path in it.
        is_local: whether the runtime is one of them.
    """

    def __init__(self, site: Mapping[str, bytes], is_local: bool) -> None:
        super().__init__(SitePage)
        self.site = site
        self.headers = {
            "Content-Security-Policy": f"{content_policy(is_local)}; frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",  # with the next one: lets the page use threads
            "Cross-Origin-Embedder-Policy": "require-corp",
        }


def _media_type(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def serve_site(site: Mapping[str, bytes], is_local: bool) -> None:
    """Serve a site until Ctrl-C, and open it in a browser if there is one.

    Args:
        is_local: whether the runtime is a part of the site. If it is not and its CDN cannot be reached, a line on
            stderr says what to do.
    """
    if not is_local and not _is_online():
        host = urlsplit(CDN).hostname
        advice = f"to do without it: {PACK}, then fst web --runtime FILE"
        print(f"the page needs {host}, which cannot be reached; {advice}", file=sys.stderr)
    with SiteServer(site, is_local) as server:
        print(f"{server.address} shows it; Ctrl-C ends it", flush=True)
        open_browser(server.address)
        server.serve_forever(HEARTBEAT)


def _is_online() -> bool:
    try:
        socket.create_connection((urlsplit(CDN).hostname or "", 443), _PATIENCE).close()
    except OSError:
        return False
    return True
