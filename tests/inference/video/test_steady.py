from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fst.errors import UserError
from fst.inference.video import types
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.steady import Steadier, optical_flow
from fst.inference.video.types import VideoOptions
from tests.conftest import make_picture

pytest.importorskip("cv2")
SCENE = np.asarray(make_picture(220, 180).resize((440, 360), Image.Resampling.BICUBIC))


def frame(number: int) -> np.ndarray:
    """The scene moves right by 2 pixels and down by 1 a frame."""
    return SCENE[40 - number : 240 - number, 60 - 2 * number : 300 - 2 * number]


def jitter(picture: np.ndarray, number: int) -> np.ndarray:
    return (picture // 2 + 40 * (number % 2)).astype(np.uint8)


def test_the_flow_of_a_shift_and_what_was_outside() -> None:
    flow = optical_flow(frame(0), frame(1))
    assert flow.source[100, 120] == pytest.approx((118, 99), abs=0.3)
    assert flow.visible[20:-20, 20:-20].mean() > 0.95
    assert not flow.visible[:, 0].any()


def test_flicker_is_halved_and_follows_the_motion() -> None:
    steadier = Steadier()
    shown = [steadier(frame(number), jitter(frame(number), number)).astype(float) for number in range(4)]
    assert np.array_equal(shown[0], jitter(frame(0), 0))
    change = shown[3][30:-30, 30:-30] - shown[2][29:-31, 28:-32]  # where it was a frame before
    assert 8 < np.abs(change).mean() < 25  # 40 without
    still = Steadier()
    for _ in range(3):
        same = still(frame(0), frame(0))
    assert np.abs(same.astype(int) - frame(0)).max() <= 1


def test_a_cut_is_painted_anew() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 240, 3), np.uint8)
    steadier = Steadier()
    steadier(noise, noise)
    other = np.ascontiguousarray(frame(0))
    assert np.array_equal(steadier(other, 255 - other), 255 - other)


def test_stylized_frames_of_another_size_are_blended_at_their_own() -> None:
    steadier = Steadier()
    for number in range(2):
        shown = steadier(frame(number), np.full((100, 120, 3), 100 * number, np.uint8))
    assert shown.shape == (100, 120, 3)
    assert abs(int(shown[50, 60, 0]) - 50) <= 1


@pytest.mark.parametrize("shape", [(16, 2000, 3), (2000, 16, 3)])
def test_the_flow_of_a_long_narrow_frame_is_found(shape: tuple[int, int, int]) -> None:
    picture = np.asarray(Image.fromarray(frame(0)).resize(shape[1::-1]))
    steadier = Steadier()
    for _ in range(2):
        shown = steadier(picture, picture)
    assert shown.shape == shape
    assert np.abs(shown.astype(int) - picture).max() <= 1


def test_a_video_is_steadied_frame_by_frame(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"in{number}.png")
        Image.fromarray(frame(number)).save(paths[-1])
    calls = iter(range(3))

    def flicker(picture: np.ndarray) -> np.ndarray:
        return jitter(picture, next(calls))

    target = tmp_path / "out%d.png"
    assert stylize_video(paths, {target: flicker}, VideoOptions(steady=True)).frames == 3
    first, second = (np.asarray(Image.open(tmp_path / f"out{number}.png")).astype(int) for number in (1, 2))
    moved = second[30:-30, 30:-30] - first[29:-31, 28:-32]
    assert 10 < moved.mean() < 30  # 40 without


def test_without_opencv_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(types.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"optical flow needs OpenCV: pip install 'fast-style-transfer\[flow\]'"):
        VideoOptions(steady=True)
