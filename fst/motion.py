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


def still(height: int, width: int) -> Motion:
    """No motion at all, of one picture: each pixel comes from its own place."""
    rows, columns = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return Motion(torch.stack([columns, rows], -1)[None])


def shift(height: int, width: int, down: float, right: float) -> Motion:
    """All pixels move down and right by so many pixels."""
    return Motion(still(height, width).source - torch.tensor([right, down]))


def turn(height: int, width: int, zoom: float, angle: float) -> Motion:
    """The picture grows by the factor `zoom` and turns clockwise by `angle` (radians) about its centre."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    back = torch.tensor([[cosine, sine], [-sine, cosine]])
    return Motion((still(height, width).source - centre) @ back.T + centre)


def random_motion(count: int, height: int, width: int, generator: torch.Generator, first: int = 0) -> Motion:
    """Motions of `count` pictures for the temporal term: every second one a whole-pixel shift, the others a shift by
    any amount together with a small zoom, rotation and smooth warp.

    Whole-pixel shifts need no interpolation, which would reward blurred paintings.

    Args:
        first: number of the first picture in the training, so that batches of one picture alternate, too.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    sources = []
    for number in range(first, first + count):
        down, right = (_MOST_SHIFT * uniform(2)).tolist()
        if number % 2 == 0:
            sources.append(shift(height, width, round(down), round(right)).source)
            continue
        zoom, angle = uniform(2).tolist()
        warp = F.interpolate(uniform(1, 2, _WARP_POINTS, _WARP_POINTS), (height, width), mode="bicubic")
        turned = turn(height, width, 1 + _MOST_ZOOM * zoom, _MOST_ROTATION * angle).source
        sources.append(turned - torch.tensor([right, down]) + _MOST_WARP * warp.permute(0, 2, 3, 1))
    return Motion(torch.cat(sources))
