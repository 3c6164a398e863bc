import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fst.errors import UserError
from fst.images import to_tensor
from fst.study.steadiness import flow_between, read_clip, steadiness, video_steadiness
from tests.conftest import make_picture


@pytest.fixture
def photo() -> Tensor:
    return to_tensor(make_picture(120, 96))


def constant(picture: Tensor) -> Tensor:
    return torch.full_like(picture, 0.5)


def unchanged(picture: Tensor) -> Tensor:
    return picture


class Jitter:
    """Paints each picture a little brighter or darker than the one before."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, picture: Tensor) -> Tensor:
        self.count += 1
        return picture + 0.04 * (self.count % 2)


def grid(picture: Tensor) -> Tensor:
    """Adds a pattern that stays where it is while the scene moves."""
    pattern = torch.zeros_like(picture)
    pattern[..., ::5] = 0.2
    return picture + pattern


def test_a_constant_network_is_steady_and_has_no_contrast(photo: Tensor) -> None:
    assert all(error < 1e-3 for error in steadiness(constant, [photo]).values())


def test_a_network_that_changes_nothing_follows_the_motion(photo: Tensor) -> None:
    measured = steadiness(unchanged, [photo])
    assert measured["motion"] == 0
    assert measured["subpixel"] < 2  # interpolation
    assert measured["noise"] == measured["drift"] == pytest.approx(1)
    assert measured["contrast"] == pytest.approx(255 * float(photo.std()))


def test_a_network_that_jitters_is_found(photo: Tensor) -> None:
    measured = steadiness(Jitter(), [photo])
    assert measured["motion"] == pytest.approx(255 * 0.04, rel=1e-3)


def test_a_pattern_that_stays_in_place_is_found(photo: Tensor) -> None:
    assert steadiness(grid, [photo])["motion"] > 20


def test_a_black_photo_does_not_drift() -> None:
    measured = steadiness(unchanged, [torch.zeros(1, 3, 64, 64)])
    assert (measured["drift"], measured["motion"], measured["contrast"]) == (0, 0, 0)


def test_a_photo_too_small_to_slide_over_is_one_line() -> None:
    with pytest.raises(UserError, match="30×30 picture is too small"):
        steadiness(unchanged, [torch.rand(1, 3, 30, 30)])


@pytest.fixture
def clip() -> list[Tensor]:
    """A scene that moves by 2 pixels to the right and 1 down a frame."""
    pytest.importorskip("cv2")
    scene = to_tensor(make_picture(220, 180).resize((440, 360), Image.Resampling.BICUBIC))
    return [scene[..., 40 - t : 240 - t, 60 - 2 * t : 300 - 2 * t] for t in range(4)]


def test_the_flow_finds_a_shift(clip: list[Tensor]) -> None:
    motion, visible = flow_between(clip[0], clip[1])
    column, row = motion.source[0, 100, 120].tolist()
    assert (column, row) == (pytest.approx(118, abs=0.3), pytest.approx(99, abs=0.3))
    assert visible.float().mean() > 0.9


def test_warp_errors_tell_a_steady_network_from_one_that_jitters(clip: list[Tensor]) -> None:
    steady, jittering, fixed = (video_steadiness(network, clip) for network in (unchanged, Jitter(), grid))
    assert steady["warp"] == steady["input_warp"] < 4
    assert jittering["warp"] == pytest.approx(math.hypot(255 * 0.04, steady["warp"]), rel=0.1)
    assert fixed["warp"] > 5 * steady["warp"]
    with pytest.raises(UserError, match="two frames"):
        video_steadiness(unchanged, clip[:1])


def test_no_warp_is_measured_over_a_cut(clip: list[Tensor]) -> None:
    other = torch.rand(clip[0].shape, generator=torch.Generator().manual_seed(0))
    assert video_steadiness(unchanged, [*clip, other]) == video_steadiness(unchanged, clip)
    with pytest.raises(UserError, match="two frames of one scene"):
        video_steadiness(unchanged, [clip[0], other])


def test_a_folder_of_frames_is_a_clip(tmp_path: Path) -> None:
    for number in range(23):
        Image.fromarray(np.full((20, 40, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    frames = list(read_clip(tmp_path, size=20))
    assert len(frames) == 20
    assert frames[3].shape == (1, 3, 10, 20)
    assert round(255 * float(frames[3].mean())) == 3


def test_a_damaged_frame_of_a_folder_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        Image.fromarray(np.full((20, 40, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    assert [round(255 * float(frame.mean())) for frame in read_clip(tmp_path, size=20)] == [0, 2]
    assert "left out: " in caplog.text
    assert "1.png" in caplog.text
