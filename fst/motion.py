"""Known motions of a picture: which pixel comes from where, so that a painting can be compared with the moved one."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Of a training pair: a few pixels more than a calm camera moves between two frames. Chosen, not measured.
_MOST_SHIFT = 12.0  # pixels
_MOST_ZOOM = 0.03
_MOST_ROTATION = math.radians(1.5)
_MOST_WARP = 2.0  # pixels, of a smooth displacement that has its own direction everywhere
_WARP_POINTS = 4  # control points of that displacement, a side


@dataclass(frozen=True)
class Motion:
    """Moves pictures: each pixel takes its value from another place.

    Attributes:
        source: `(B, H, W, 2)`, column and row in pixels of the place that each pixel takes its value from.
    """

    source: Tensor

    def to(self, device: torch.device) -> "Motion":
        return Motion(self.source.to(device))

    def __call__(self, pictures: Tensor) -> Tensor:
        """`(B, C, H, W)` moved, in float32. Between pixels bicubic; whole-pixel shifts are exact but for rounding.

        What comes from outside the picture is its mirror image.
        """
        height, width = pictures.shape[-2:]
        grid = 2 * self.source / self.source.new_tensor([width - 1, height - 1]) - 1
        return F.grid_sample(pictures.float(), grid, "bicubic", "reflection", align_corners=True)

    def visible(self, margin: float = 0.0) -> Tensor:
        """`(B, 1, H, W)`, true where the value comes from inside the picture, `margin` pixels from its border."""
        height, width = self.source.shape[1:3]
        column, row = self.source.unbind(-1)
        inside = (column >= margin) & (column <= width - 1 - margin) & (row >= margin) & (row <= height - 1 - margin)
        return inside.unsqueeze(1)


def still(height: int, width: int, device: torch.device | None = None) -> Motion:
    """No motion at all, of one picture: each pixel comes from its own place."""
    rows, columns = torch.arange(height, device=device).float(), torch.arange(width, device=device).float()
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    return Motion(torch.stack([columns, rows], -1)[None])


def shift(height: int, width: int, down: float, right: float) -> Motion:
    """All pixels move down and right by so many pixels."""
    return Motion(still(height, width).source - torch.tensor([right, down]))


def turn(height: int, width: int, zoom: float | Tensor, angle: float | Tensor) -> Motion:
    """The picture grows by the factor `zoom` and turns clockwise by `angle` (radians) about its centre.

    Tensors `(B,)` of both give B motions, on their device.
    """
    zoom, angle = (torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in (zoom, angle))
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=zoom.device)
    right, down = (still(height, width, zoom.device).source - centre).unbind(-1)
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    # Not a matrix product, which some GPUs round to a tenth of a pixel.
    return Motion(torch.stack([cosine * right + sine * down, cosine * down - sine * right], -1) + centre)


def random_motion(
    count: int, height: int, width: int, generator: torch.Generator, first: int = 0, device: torch.device | None = None
) -> Motion:
    """Motions of `count` pictures for the temporal term: every second one a whole-pixel shift, the others a shift by
    any amount together with a small zoom, rotation and smooth warp.

    Whole-pixel shifts need no interpolation, which would reward blurred paintings.

    Args:
        generator: of the CPU, so that all devices get the same motions.
        first: number of the first picture in the training, so that batches of one picture alternate, too.
        device: of the motions.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(count, *shape, generator=generator) - 1

    shifts, turns, warps = _MOST_SHIFT * uniform(2), uniform(2), _MOST_WARP * uniform(2, _WARP_POINTS, _WARP_POINTS)
    whole = torch.arange(first, first + count) % 2 == 0
    shifts[whole] = shifts[whole].round()
    turns[whole], warps[whole] = 0, 0
    shifts, turns, warps = (numbers.to(device) for numbers in (shifts, turns, warps))
    turned = turn(height, width, 1 + _MOST_ZOOM * turns[:, 0], _MOST_ROTATION * turns[:, 1]).source
    warp = F.interpolate(warps, (height, width), mode="bicubic").permute(0, 2, 3, 1)
    return Motion(turned - shifts[:, None, None] + warp)
