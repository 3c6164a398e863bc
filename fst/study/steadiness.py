"""How steady a style is in video: by how much its pictures change where the scene does not.

All errors are root mean squares in grey levels, 0 to 255, of the stylized picture. A blurred or pale network is steady,
too: read them beside the style error and the contrast.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean

import torch
from PIL import Image
from torch import Tensor

from fst.errors import UserError
from fst.images import to_tensor, to_uint8
from fst.inference.video.reader import VideoReader
from fst.inference.video.steady import CUT, optical_flow
from fst.inference.video.types import require_opencv
from fst.motion import Motion, shift, turn
from fst.pictures import by_number, read_all, require_images, resize_longer_side

Stylize = Callable[[Tensor], Tensor]  # (1, 3, H, W) in [0, 1] to the same

_STEPS = ((1, 0), (0, 2), (3, 1), (-1, 4), (-2, -3), (1, -4))  # pixels down and right between frames: 1 to 5 pixels
_SUBPIXEL = ((0.5, 0.0), (0.25, 0.75), (1.5, -0.5))  # pixels down and right
_TURNS = ((1.01, 0.0), (1.0, math.radians(0.5)))  # zoom and rotation
_MARGIN = 8  # pixels: nearer to the border a network sees its own padding
_NOISE = 2 / 255  # standard deviation of a camera sensor's noise
_MOST_FRAMES = 20  # of a clip
_DRIFT = 1.01  # brightness of one frame against another, as automatic exposure makes it


def steadiness(stylize: Stylize, photos: Sequence[Tensor]) -> dict[str, float]:
    """Errors under exactly known motions and disturbances, each the mean over photos `(1, 3, H, W)` in [0, 1].

    - `motion`: a window slides over the photo by whole pixels, so that nothing is interpolated; the error is taken
      between consecutive stylized frames, over what both show.
    - `subpixel`: the same for pans by parts of a pixel, zoom and rotation. Half of the motion is applied to the one
      photo, the other half backwards to the other, and both paintings are moved back: both are interpolated alike.
    - `noise`: RMSE(G(x+n) − G(x)) / RMSE(n) for Gaussian noise of 2/255, a factor.
    - `drift`: RMSE(G(1.01 x) − G(x)) / RMSE(0.01 x), a factor.
    - `contrast`: standard deviation of the stylized pictures.
    """
    measured = [_of_photo(stylize, photo) for photo in photos]
    return {name: mean(row[name] for row in measured) for name in measured[0]}


def _of_photo(stylize: Stylize, photo: Tensor) -> dict[str, float]:
    plain = stylize(photo)
    noise = _NOISE * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)).to(photo)
    noisy, brighter = (photo + noise).clamp(0, 1), (photo * _DRIFT).clamp(0, 1)
    return {
        "motion": mean(_sliding_errors(stylize, photo)),
        "subpixel": mean(_subpixel_errors(stylize, photo)),
        "noise": _rmse(stylize(noisy), plain) / _rmse(noisy, photo),
        "drift": _rmse(stylize(brighter), plain) / (_rmse(brighter, photo) or 1.0),  # a black photo stays black
        "contrast": 255 * float(plain.std()),
    }


def _sliding_errors(stylize: Stylize, photo: Tensor) -> Iterator[float]:
    """The errors between consecutive stylized windows of the photo."""
    downs, rights = zip((0, 0), *_STEPS, strict=True)
    tops, lefts = (list(itertools.accumulate(steps)) for steps in (downs, rights))
    height, width = (side - (max(ps) - min(ps)) for side, ps in zip(photo.shape[-2:], (tops, lefts), strict=True))
    if min(height, width) < 4 * _MARGIN:
        size = f"{photo.shape[-1]}×{photo.shape[-2]}"
        raise UserError(f"a {size} picture is too small to measure steadiness on; take a larger size")
    before: Tensor | None = None
    for top, left, down, right in zip(tops, lefts, downs, rights, strict=True):
        top, left = top - min(tops), left - min(lefts)
        painted = _inside(stylize(photo[..., top : top + height, left : left + width]))
        if before is not None:
            yield _rmse(_overlap(before, down, right), _overlap(painted, -down, -right))
        before = painted


def _overlap(pictures: Tensor, down: int, right: int) -> Tensor:
    """The part of a window that is still seen after the window has moved down and right by so many pixels."""
    height, width = pictures.shape[-2:]
    return pictures[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def _subpixel_errors(stylize: Stylize, photo: Tensor) -> Iterator[float]:
    height, width = photo.shape[-2:]
    motions = [(shift(height, width, y / 2, x / 2), shift(height, width, -y / 2, -x / 2)) for y, x in _SUBPIXEL]
    motions += [
        (turn(height, width, math.sqrt(z), a / 2), turn(height, width, 1 / math.sqrt(z), -a / 2)) for z, a in _TURNS
    ]
    for there, back in motions:
        there, back = there.to(photo.device), back.to(photo.device)
        one, other = stylize(there(photo).clamp(0, 1)), stylize(back(photo).clamp(0, 1))
        both = (there.visible(_MARGIN) & back.visible(_MARGIN)).expand(-1, 3, -1, -1)
        yield _rmse(back(one)[both], there(other)[both])


def read_clip(path: Path, size: int) -> Iterator[Tensor]:
    """The first 20 frames of a video file or a folder of frames, `(1, 3, H, W)` each, the longer side `size` pixels.

    Damaged frames of a folder are left out; a warning names each.

    Raises:
        UserError: it cannot be read.
    """
    if path.is_dir():
        frames = sorted(require_images(path, "--video "), key=by_number)
        yield from _first(read_all(frames), size)
        return
    with closing(VideoReader(path)) as reader:
        yield from _first((Image.fromarray(frame.picture) for frame in reader if frame.picture is not None), size)


def _first(pictures: Iterable[Image.Image], size: int) -> Iterator[Tensor]:
    for picture in itertools.islice(pictures, _MOST_FRAMES):
        yield to_tensor(resize_longer_side(picture, size))


def video_steadiness(stylize: Stylize, frames: Iterable[Tensor]) -> dict[str, float]:
    """Warp errors of a clip, means over its pairs of consecutive frames `(1, 3, H, W)` in [0, 1].

    The optical flow is that of the input (DIS, Kroeger et al. 2016). Pixels where the flow forwards and backwards
    disagree are hidden in one of the frames, and left out (Sundaram et al. 2010, eq. 5, as in Ruder et al. 2016); so
    are pairs on both sides of a cut, as in `fst.inference.video.steady`.

    - `warp`: RMSE of a stylized frame and the one before it, moved by the flow, over the visible pixels.
    - `input_warp`: the same for the frames as they are: what the flow and the light leave, the least one can expect.
    - `contrast`: standard deviation of the stylized frames.

    Raises:
        UserError: OpenCV is not installed, or the clip has no pair of frames.
    """
    require_opencv()
    rows, before = [], None
    for frame in frames:
        painted = stylize(frame)
        if before is not None:
            motion, visible = flow_between(before[0], frame)
            if visible.float().mean() > CUT:
                both = visible.expand(-1, 3, -1, -1)
                rows.append(
                    {
                        "warp": _rmse(motion(before[1])[both], painted[both]),
                        "input_warp": _rmse(motion(before[0])[both], frame[both]),
                        "contrast": 255 * float(painted.std()),
                    }
                )
        before = frame, painted
    if not rows:
        raise UserError("warp errors need a clip with two frames of one scene, one after the other")
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def flow_between(before: Tensor, frame: Tensor) -> tuple[Motion, Tensor]:
    """The motion that turns the frame before, `(1, 3, H, W)` in [0, 1], into this one, and where it can be trusted:
    `(1, 1, H, W)`, true for pixels that both frames show."""
    flow = optical_flow(*(to_uint8(picture)[0].cpu().numpy() for picture in (before, frame)))
    source, visible = (torch.from_numpy(part)[None].to(frame.device) for part in flow)
    return Motion(source), visible[:, None]


def _inside(pictures: Tensor) -> Tensor:
    return pictures[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _rmse(one: Tensor, other: Tensor) -> float:
    """In grey levels of 0 to 255."""
    return 255 * math.sqrt(float((one.float() - other.float()).square().mean()))
