"""Faults of a stylized picture that no error of the perceptual loss shows."""

import torch
import torch.nn.functional as F
from torch import Tensor

_PATCH = 16  # pixels a side, fewer where a picture is narrower
_FLATTEST = 0.1  # part of the patches that count as flat


def weave(stylized: Tensor, photo: Tensor, style_image: Tensor) -> float:
    """Fine texture where the photo is flat, as dots or a mesh: a factor, 1 where it is as fine as the painting's own.

    The mean energy of the finest detail in the patches of `stylized` where the photo is flattest (a tenth of them),
    divided by that in the flattest patches of the style image. The detail is the grey picture less its blurred copy
    (binomial, 3×3); its energy is the mean square. From no paper.

    Args:
        stylized, photo: `(1, 3, H, W)` in [0, 1], both of the same size.
        style_image: `(1, 3, H, W)` in [0, 1], at the size it was trained at.
    """
    energy, flat = _patches(_detail(stylized).square()), _flattest(photo)
    own = _patches(_detail(style_image).square())[_flattest(style_image)].mean()
    return float(energy[flat].mean() / own.clamp_min(1e-6))


def _grey(images: Tensor) -> Tensor:
    return images.float().mean(1, keepdim=True)


def _detail(images: Tensor) -> Tensor:
    taps = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    grey = _grey(images)
    blurred = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="reflect"), torch.outer(taps, taps)[None, None])
    return grey - blurred


def _patches(images: Tensor) -> Tensor:
    """The mean of each patch, in one dimension."""
    return F.avg_pool2d(images, [min(_PATCH, side) for side in images.shape[2:]]).flatten()


def _flattest(images: Tensor) -> Tensor:
    """Which patches vary least."""
    grey = _grey(images)
    variance = _patches(grey.square()) - _patches(grey).square()
    return variance.argsort()[: max(1, round(_FLATTEST * len(variance)))]
