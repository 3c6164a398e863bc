"""The runtime of the page, from npm, small styles, and the page of a site; the browser is in tests/conftest.py."""

import io
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from PIL import Image

from fst.inference.web.runtime import VERSION, read_runtime
from fst.inference.web.server import SiteServer
from fst.inference.web.site import build_site
from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import StyleInfo, find_style
from tests.conftest import do_without, make_picture
from tests.inference.web.pages import HEIGHT, REALTIME, WIDTH, Page


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The npm package of the pinned version, downloaded once and kept in the user's cache folder."""
    kept = Path(platformdirs.user_cache_dir("fst-tests", appauthor=False), f"onnxruntime-web-{VERSION}.tgz")
    if not kept.is_file():
        if not (npm := shutil.which("npm")):
            do_without("npm is not installed")
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", folder]
            if subprocess.run(command, capture_output=True, timeout=300).returncode:
                do_without("npm cannot download onnxruntime-web")
            kept.parent.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(f".{os.getpid()}")
            shutil.move(next(Path(folder).glob("*.tgz")), beside)
            beside.replace(kept)  # other workers may do the same
    return kept


@pytest.fixture(scope="session")
def cells_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained style whose network works on cells of 4 × 4 pixels."""
    path = tmp_path_factory.mktemp("trained") / "cells.safetensors"
    torch.manual_seed(1)
    arguments = {"factor": 4, "width": 16, "body": 16, "blocks": 1, "norm": "instance"}
    network = build_transform_network("unshuffle", **arguments)
    save_style(path, network, StyleInfo(name="cells", architecture="unshuffle", arguments=arguments))
    return path


@pytest.fixture(scope="session")
def site(runtime: Path, cells_file: Path, style_file: Path) -> dict[str, bytes]:
    return build_site([find_style(f"bundled:{REALTIME}"), cells_file, style_file], read_runtime(runtime))


@pytest.fixture(scope="module")  # a test of the server itself ends all that run beside it
def server(site: dict[str, bytes]) -> Iterator[SiteServer]:
    with served(site) as server:
        yield server


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Page]]:
    contexts = []

    def visit(address: str, prepare: Callable[[Any], None] = lambda tab: None, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = Page(context.new_page(), [])
        page.tab.on("pageerror", lambda error: page.errors.append(str(error)))
        page.tab.on("console", lambda line: page.errors.append(line.text) if "Security Policy" in line.text else None)
        prepare(page.tab)
        page.tab.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Callable[..., Page], server: SiteServer) -> Iterator[Page]:
    """The page after the sample has been painted."""
    page = visit(server.address)
    page.wait_painted(*Image.open(io.BytesIO(server.site["sample.jpg"])).size)
    yield page
    assert page.errors == []


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    make_picture(WIDTH, HEIGHT, seed=4).save(path)
    return path


@contextmanager
def served(site: dict[str, bytes], is_local: bool = True) -> Iterator[SiteServer]:
    with SiteServer(site, is_local) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
