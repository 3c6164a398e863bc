"""What several tests need: a video, an exported style, a stylizer, and a second style."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fst.inference.backends import to_onnx
from fst.inference.stylizer import Stylizer
from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import StyleInfo
from tests.clips import gray, make_video

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # no reports from tests either


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "clip.mp4", [gray(number) for number in range(20)], tone=True)


@pytest.fixture
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """Neither a thread nor a temporary file."""
    before = threading.enumerate()
    yield
    assert [t for t in threading.enumerate() if t not in before and not t.daemon] == []  # tqdm keeps a daemon
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


@pytest.fixture(scope="session")
def tiny_onnx(style_file: Path) -> bytes:
    """That style, exported."""
    pytest.importorskip("onnxscript")
    return to_onnx(style_file)


@pytest.fixture
def stylizer(style_file: Path) -> Stylizer:
    return Stylizer(style_file, device="cpu")


@pytest.fixture
def another_style(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    arguments: dict[str, int | str] = {"factor": 4, "width": 4, "blocks": 1, "norm": "instance"}
    path = tmp_path / "another.safetensors"
    network = build_transform_network("unshuffle", **arguments)
    save_style(path, network, StyleInfo(name="another", architecture="unshuffle", arguments=arguments))
    return path
