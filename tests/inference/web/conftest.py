"""The runtime of the page, from npm, and small styles; the browser is in tests/conftest.py."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest
import torch

from fst.inference.web.runtime import VERSION
from fst.inference.web.server import SiteServer
from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import StyleInfo
from tests.conftest import do_without


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


@contextmanager
def served(site: dict[str, bytes], is_local: bool = True) -> Iterator[SiteServer]:
    with SiteServer(site, is_local) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
