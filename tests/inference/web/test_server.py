from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fst.cli import main
from fst.inference.web import server as module
from fst.inference.web.runtime import PACK
from tests.inference.web.conftest import served

SITE = {
    "index.html": b"<p>",
    "app.js": b"1",
    "styles/a b.weights": b"\0",
    "sample.jpg": b"\xff",
    "m.wasm": b"",
    "m.mjs": b"",
}


@pytest.fixture
def page() -> Iterator[HTTPConnection]:
    with served(SITE) as server:
        yield HTTPConnection("127.0.0.1", server.server_port, timeout=10)


def ask(page: HTTPConnection, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    page.request(method, path, headers=headers)
    answer = page.getresponse()
    return answer.status, answer.getheader("Content-Type", ""), answer.read()


def test_the_files_come_with_their_media_types(page: HTTPConnection) -> None:
    assert ask(page, "/") == (200, "text/html", b"<p>")
    assert ask(page, "/?from=mail") == (200, "text/html", b"<p>")
    assert ask(page, "/app.js") == (200, "text/javascript", b"1")
    assert ask(page, "/m.mjs")[:2] == (200, "text/javascript")
    assert ask(page, "/m.wasm")[:2] == (200, "application/wasm")
    assert ask(page, "/sample.jpg") == (200, "image/jpeg", b"\xff")
    assert ask(page, "/styles/a%20b.weights") == (200, "application/octet-stream", b"\0")
    assert ask(page, "/app.js", "HEAD") == (200, "text/javascript", b"")


def test_nothing_else_is_served(page: HTTPConnection) -> None:
    for path in ("/nothing", "/styles", "/../pyproject.toml", "//etc/passwd", "/%2e%2e/a"):
        assert ask(page, path)[0] == 404
    assert ask(page, "/", Host="evil.example")[0] == 403
    assert ask(page, "/", Origin="http://evil.example")[0] == 403
    assert ask(page, "/", "POST")[0] == 501


def test_the_headers_allow_threads_and_no_other_sites(page: HTTPConnection) -> None:
    page.request("GET", "/app.js")
    answer = page.getresponse()
    assert answer.getheader("Cross-Origin-Opener-Policy") == "same-origin"
    assert answer.getheader("Cross-Origin-Embedder-Policy") == "require-corp"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    policy = answer.getheader("Content-Security-Policy", "")
    assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("online", [True, False])
def test_fst_web_serves_the_bundled_styles_until_ctrl_c(
    online: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, object] = {}

    def build(styles: list[Path], runtime: object) -> dict[str, bytes]:
        seen["styles"] = [path.stem for path in styles]
        return SITE

    def look(address: str) -> None:  # returns when the page is there, as a browser in a terminal
        page = HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=10)
        seen["answer"] = ask(page, "/")

    def interrupt(server: object) -> None:
        if "answer" in seen:
            raise KeyboardInterrupt

    monkeypatch.setattr("fst.inference.web.site.build_site", build)
    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr(module, "_is_online", lambda: online)
    monkeypatch.setattr(module.SiteServer, "service_actions", interrupt)
    assert main(["web"]) == 0
    assert seen["answer"] == (200, "text/html", b"<p>")
    assert seen["styles"][0] == "the_scream_realtime"  # type: ignore[index]
    assert {"the_scream_small", "udnie"} <= set(seen["styles"])  # type: ignore[call-overload]
    printed = capsys.readouterr()
    assert printed.out.startswith("http://127.0.0.1:")
    assert printed.out.strip().endswith("/ shows it; Ctrl-C ends it")
    assert (PACK in printed.err) != online
    assert len(printed.err.splitlines()) == (0 if online else 1)
