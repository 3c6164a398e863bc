"""The web page in Chromium: broken models, and runtimes that cannot be loaded."""

import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fst.inference.web.folder import write_site
from fst.inference.web.runtime import read_runtime
from fst.inference.web.server import SiteServer
from fst.inference.web.site import build_site
from tests.inference.web.conftest import served
from tests.inference.web.pages import REALTIME, Page, decibels, paint


def test_a_broken_model_is_said_and_another_can_be_chosen(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path
) -> None:
    wrong = np.frombuffer(site["styles/tiny.weights"], np.float16).copy()
    wrong[::7] *= -1
    broken = site | {"styles/cells.onnx": b"no model", "styles/tiny.weights": wrong.tobytes()}
    with served(broken) as server:
        page = visit(server.address)
        page.open(photo)
        before = page.painted()
        page.choose("cells")
        assert page.wait_said() == "Cells could not be loaded; choose another style."
        page.choose("tiny")
        page.wait("document.querySelector('#message').textContent.includes('Tiny is not painted as by PyTorch')")
        page.choose(REALTIME)
        assert decibels(page.painted(), before) > 60
        assert not page.tab.is_visible("#message")


def test_a_first_model_that_is_broken_leaves_the_others(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path, cells_file: Path
) -> None:
    with served(site | {f"styles/{REALTIME}.weights": b"short"}) as server:
        page = visit(server.address)
        assert page.wait_said() == "The Scream could not be loaded; choose another style."
        page.open(photo)
        page.choose("cells")
        assert decibels(page.painted(), paint(photo, cells_file)) > 40
        assert not page.tab.is_visible("#message")


def test_a_site_whose_models_are_all_wrong_says_so(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    wrong = {name: bytes(len(data)) for name, data in site.items() if name.endswith(".check")}
    assert len(wrong) == 3
    with served(site | wrong) as server:
        page = visit(server.address)
        assert page.wait_said() == "No backend of this browser paints as PyTorch does."
        assert page.text("status") == "", "no longer loading"


def test_a_browser_that_gives_noise_for_pixels_is_named(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    noise = b"""
        const get = OffscreenCanvasRenderingContext2D.prototype.getImageData;
        OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...area) {
            const image = get.apply(this, area);
            crypto.getRandomValues(image.data);
            return image;
        };
    """  # as Firefox does where it resists fingerprinting
    with served(site | {"worker.js": site["worker.js"] + noise}) as server:
        page = visit(server.address)
        assert page.wait_said().startswith("This browser hides pixels from pages; let this page read")
        assert page.text("status") == "", "no longer loading"


def test_a_site_without_models_does_not_blame_the_browser(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    with served({name: data for name, data in site.items() if not name.endswith(".onnx")}) as server:
        said = visit(server.address).wait_said()
        assert said.startswith("No style could be loaded. ")
        assert "styles/tiny.onnx: 404" in said


def test_without_javascript_the_page_says_what_it_needs(visit: Callable[..., Page], server: SiteServer) -> None:
    page = visit(server.address, java_script_enabled=False)
    assert page.tab.is_visible("noscript p")
    assert page.tab.title() == "fst – photos, videos and the camera as paintings"
    assert not page.tab.is_visible("#status")
    assert not page.tab.is_visible("#controls")


def test_any_web_server_will_do_and_the_page_says_what_it_lacks(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path, tmp_path: Path
) -> None:
    write_site(site, tmp_path / "site")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_port}/")
        page.open(photo)
        assert decibels(page.painted(), paint(photo, f"bundled:{REALTIME}")) > 40
        assert "WebAssembly, one thread" in page.text("backend")
        assert "Threads are off" in page.text("backend")
        server.shutdown()


class Cdn(http.server.BaseHTTPRequestHandler):
    """Stands in for the CDN: another origin, which allows every site to read its files."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        name = self.path.removeprefix("/dist/")
        self.send_response(200)
        self.send_header("Content-Type", "application/wasm" if name.endswith(".wasm") else "text/javascript")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(self.files[name])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("cdn", ["right", "tampered", "away"])
def test_the_runtime_of_the_cdn_is_used_only_with_the_right_hash(
    visit: Callable[..., Page],
    runtime: Path,
    cells_file: Path,
    photo: Path,
    cdn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = b" " if cdn == "tampered" else b""
    monkeypatch.setattr(Cdn, "files", {name: data + more for name, data in read_runtime(runtime).items()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cdn) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, args=(0.05,), daemon=True).start()
        port = elsewhere.server_port if cdn != "away" else 9  # where nothing listens
        for module in ("runtime", "site"):
            monkeypatch.setattr(f"fst.inference.web.{module}.CDN", f"http://127.0.0.1:{port}/dist/")
        with served(build_site([cells_file]), is_local=False) as server:
            page = visit(server.address)
            page.open(photo)
            if cdn == "right":
                assert decibels(page.painted(), paint(photo, cells_file)) > 40
                assert "threads" in page.text("backend")
                assert page.errors == []
            else:
                said = page.wait_said()
                assert said.startswith(f"The runtime could not be loaded from 127.0.0.1:{port}; without a connection,")
                assert "npm pack onnxruntime-web@" in said
        elsewhere.shutdown()
