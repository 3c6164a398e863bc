"""What several tests need: a video, an exported style."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fst.inference.backends import to_onnx
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
