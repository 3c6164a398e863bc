"""Pictures as tensors: converting, resizing, comparing; `fst.pictures` reads and writes the files.

Between modules a picture is a `(B, 3, H, W)` float tensor, RGB in [0, 1]; `PIL.Image` and uint8 exist only
where pictures are read and written.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fst.files import expand_user
from fst.pictures import flatten_alpha, read_image, resize_longer_side


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, 3, H, W)` in [0, 1] at another height and width, by antialiased bicubic interpolation."""
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """An "RGB" picture as a `(1, 3, H, W)` float tensor in [0, 1], channels last in memory."""
    return from_uint8(torch.from_numpy(np.array(image, dtype=np.uint8))[None])


def read_tensor(path: Path, size: int | None = None) -> Tensor:
    """A picture file over white as a `(1, 3, H, W)` float tensor in [0, 1].

    Args:
        size: of the longer side in pixels; `None` keeps the picture's own.

    Raises:
        ImageError: it cannot be read.
    """
    return to_tensor(resize_longer_side(flatten_alpha(read_image(expand_user(path))), size))


def from_uint8(pixels: Tensor) -> Tensor:
    """`(B, H, W, 3)` uint8 to `(B, 3, H, W)` float in [0, 1]; channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """`(B, 3, H, W)` float to `(B, H, W, 3)` uint8, rounded and clamped; the inverse of `from_uint8`."""
    pixels = images.detach().float().mul(255).round_().clamp_(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_pil(images: Tensor) -> Image.Image:
    """A `(1, 3, H, W)` tensor in [0, 1] as a picture."""
    return Image.fromarray(to_uint8(images)[0].cpu().numpy())


def psnr(images: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]; infinite if both are equal."""
    return float(-10 * (images - reference).square().mean().log10())  # torchmetrics has it, but takes 8 s to import


def contact_sheet(rows: Iterable[Iterable[Tensor]]) -> Image.Image:
    """Pictures `(1, 3, H, W)` in rows on white, each scaled to the height of the first of its row."""
    gap = 8  # pixels
    strips = []
    for row in rows:
        pictures = [to_pil(picture) for picture in row]
        height = pictures[0].height
        pictures = [p.resize((max(1, round(p.width * height / p.height)), height)) for p in pictures]
        strip = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, height), "white")
        left = 0
        for picture in pictures:
            strip.paste(picture, (left, 0))
            left += picture.width + gap
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height + gap for s in strips) - gap), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + gap
    return sheet


def keep_colors(stylized: Tensor, content: Tensor) -> Tensor:
    """The luminance of `stylized` with the colours of `content`, both `(B, 3, H, W)` in [0, 1].

    Gatys et al. 2016, "Preserving color in neural artistic style transfer", section 3.2 (luminance-only transfer),
    with the luma of ITU-R BT.601: adding a luma difference to all three channels leaves chroma as it is.
    """
    weights = stylized.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma_difference = ((stylized - content) * weights).sum(1, keepdim=True)
    return (content + luma_difference).clamp(0, 1)
