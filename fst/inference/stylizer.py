"""Pictures in, stylized pictures out."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fst.errors import RunError, UserError
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.images import flatten_alpha, keep_colors, resize_longer_side, to_pil, to_tensor
from fst.inference.style_file import find_style, load_style

Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)


class Stylizer:
    """A trained style, ready to be called.

    >>> stylizer = Stylizer("starry_night")                                # doctest: +SKIP
    >>> stylizer(Image.open("photo.jpg")).save("painted.png")              # doctest: +SKIP

    Args:
        style: a name that `fst styles` lists, or a style file's path.
        device: `auto`, or a torch device name.
        size: longer side in pixels to stylize at; `None` keeps the picture's own. Smaller gives broader strokes.
        strength: blend of the picture (0) and its stylized self (1).
        keep_colors: take only the luminance from the style.

    Raises:
        UserError: no such style or device, a damaged file, an argument out of range.
    """

    def __init__(
        self,
        style: str | Path,
        device: str = "auto",
        size: int | None = None,
        strength: float = 1.0,
        keep_colors: bool = False,
    ) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"strength is {strength}; it goes from 0 (the picture) to 1 (the style)")
        if size is not None and size < 1:
            raise UserError(f"size is {size}; it is the longer side in pixels")
        keep_large_blocks()
        self.device = pick_device(device)
        network, self.info = load_style(find_style(style))
        self.network = network.to(self.device)
        self.size, self.strength, self.keep_colors = size, strength, keep_colors
        self._dtype = fast_dtype(self.device)

    def __call__(self, image: Picture) -> Picture:
        """Stylize one picture, or a batch of one size.

        Args:
            image: a PIL image, a uint8 `(H, W, 3)` array, or a `(B, 3, H, W)` float tensor in [0, 1].

        Returns:
            The same kind. A PIL image with transparency keeps it; a tensor stays on its device.

        Raises:
            UserError: not one of these, or less than 16 pixels a side.
            RunError: too large for the memory.
        """
        if isinstance(image, Image.Image):
            return self._stylize_pil(image)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise UserError(f"an array must be uint8 (H, W, 3), this is {image.dtype} {image.shape}")
            return np.asarray(self._stylize_pil(Image.fromarray(image)))
        if isinstance(image, Tensor):
            if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
                raise UserError(f"a tensor must be float (B, 3, H, W), this is {image.dtype} {tuple(image.shape)}")
            return self._stylize(self._resize(image.to(self.device))).to(image.device, image.dtype)
        raise UserError(f"cannot stylize a {type(image).__name__}; give a PIL image, a uint8 array or a float tensor")

    def _stylize_pil(self, image: Image.Image) -> Image.Image:
        image = resize_longer_side(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"), self.size)
        stylized = to_pil(self._stylize(to_tensor(flatten_alpha(image)).to(self.device)))
        if image.mode == "RGBA":
            stylized.putalpha(image.getchannel("A"))
        return stylized

    def _resize(self, images: Tensor) -> Tensor:
        if self.size is None:
            return images
        height, width = (max(1, round(s * self.size / max(images.shape[-2:]))) for s in images.shape[-2:])
        return F.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp(0, 1)

    @torch.inference_mode()
    def _stylize(self, content: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        content = content.to(torch.float32, memory_format=torch.channels_last)
        try:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                stylized = self.network(content)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "memory" in str(error):
                raise RunError(f"not enough memory for {width}×{height} pixels; try a smaller size") from error
            raise
        if self.keep_colors:
            stylized = keep_colors(stylized, content)
        return torch.lerp(content, stylized, self.strength)
