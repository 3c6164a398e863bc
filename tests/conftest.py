"""Pictures and style files made on the spot, and real weights and photos where there are any."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: the workers share the cores

import absl.logging
import numpy as np
import pytest
import torch
from PIL import Image

from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import StyleInfo

# When Hydra closes all log handlers, TensorBoard's (absl) closes its stream:
# pytest's capture, which stood in place of stderr when it was made.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = [
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"),
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),
]
# Overrides with which any configuration trains within a second; without style.image and data.root.
TINY = (
    *("style.size=48", "data.size=32", "data.batch_size=2", "data.workers=0", "data.val_count=1"),
    *("loss_network.weights=random", "model.width=4", "model.blocks=1", "init_from=null"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_steps=2", "trainer.log_every_n_steps=1"),
    *("val_every=100", "checkpoint_every=100"),
)
REAL_FILES = Path(os.environ.get("FST_REAL_FILES", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REAL_FILES.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=f"no real weights and photos at {REAL_FILES} (FST_REAL_FILES)"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In place of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FST_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_files() -> Path:
    return REAL_FILES


def make_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some texture: compresses, and no two rows or columns are alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + grain).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nested folder of twelve JPEGs of several sizes."""
    root = tmp_path_factory.mktemp("photos")
    (root / "nested").mkdir()
    for number in range(12):
        picture = make_picture(60 + 7 * number, 90 - 3 * number, seed=number)
        picture.save(root / ("nested" if number % 3 else ".") / f"{number:02d}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("styles") / "painting.png"
    make_picture(70, 50, seed=99).save(path)
    return path


@pytest.fixture(scope="session")
def style_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained style."""
    path = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    torch.manual_seed(0)
    arguments = {"width": 4, "blocks": 1, "norm": "instance"}
    network = build_transform_network("johnson", **arguments)
    save_style(path, network, StyleInfo(name="tiny", architecture="johnson", arguments=arguments))
    return path


def do_without(what: str) -> NoReturn:
    """Skip a test of a web page; with FST_BROWSER_TESTS=required, as in continuous integration, it fails instead."""
    if os.environ.get("FST_BROWSER_TESTS") == "required":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium with a camera, a microphone and a graphics processor that are simulated."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        do_without("the extra `browser` is not installed")
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, _BROWSERS)), None)
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        except Error as error:
            do_without(f"no browser can be started: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()
