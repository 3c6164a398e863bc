"""Pictures in, stylized pictures out."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import ceil, inf
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, overload

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor, nn

from fst.errors import RunError, UserError
from fst.hardware import fast_dtype, free_cuda_memory, free_memory, give_back_blocks, pick_device, used_memory
from fst.images import from_uint8, keep_colors, resize, to_uint8
from fst.inference.backends import memory_errors, open_backend
from fst.inference.bands import memory_need, stylize_in_bands
from fst.inference.look import Look, check_shares
from fst.inference.stages import AHEAD, map_in, stylizing_threads
from fst.pictures import flatten_alpha, read_image, resize_longer_side, scaled_size, to_mask, to_srgb
from fst.style_info import find_style

Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)
_ROWS = 512  # rows at a time in pixelwise work
# Bytes for each pixel, measured upper estimates: of a PIL image; of a file while it is decoded and converted; of a
# picture while it is stylized, with all copies but the networks' outputs; of the copies made after the network.
_STORED, _READ, _STYLIZED, _FINISHED = 4, 12, 20, 10
_SAMPLE = 8  # every eighth row and column of a tensor is checked


class Stylizer:
    """A trained style, ready to be called.

    >>> stylizer = Stylizer("starry_night")                                # doctest: +SKIP
    >>> stylizer(Image.open("photo.jpg")).save("stylized.png")             # doctest: +SKIP

    Args:
        style: a name that `fst styles` lists, or a style file's path; or several with their shares, as
            `{"starry_night": 0.3, "udnie": 0.7}`: their outputs are blended.
        device: `auto`, or a torch device name.
        size: longer side in pixels to stylize at; `None` keeps the picture's own. Smaller gives broader strokes.
        strength: from 0 (the picture as it is) to 1 (the stylized picture).
        keep_colors: take only the luminance from the style.
        stroke: breadth of the brush strokes: the picture is stylized at 1/`stroke` of its size and scaled back.
        memory: the most that this process may take of the host's memory, in GiB; `None` takes what is free. A
            picture that needs more, or more than a CUDA device has free, is stylized in bands: the same result, slower.
        backend: what runs the network: `torch`, `compile`, `openvino` or `onnxruntime`, see `open_backend`.
            Bands always use `torch`.
        network: the class of a style's network, if that is not one of fst's; nothing that a file names is imported.

    Raises:
        UserError: no such style, device or backend, a damaged file, an argument out of range.
    """

    def __init__(
        self,
        style: str | Path | Mapping[str, float],
        device: str = "auto",
        size: int | None = None,
        strength: float = 1.0,
        keep_colors: bool = False,
        stroke: float = 1.0,
        memory: float | None = None,
        backend: str = "torch",
        network: Callable[..., nn.Module] | None = None,
    ) -> None:
        Look(size, strength, keep_colors, stroke)  # refuses what is out of range
        if memory is not None and not 0 < memory < inf:
            raise UserError(f"memory is {memory}; it is in GiB, above 0")
        shares = style if isinstance(style, Mapping) else {str(style): 1.0}
        self._shares = check_shares(shares)
        self.device = pick_device(device)
        self.backends = [open_backend(backend, find_style(name), self.device, network) for name in shares]
        self.infos = [opened.info for opened in self.backends]
        self.networks = [opened.network for opened in self.backends]
        self.size, self.strength, self.keep_colors, self.stroke = size, strength, keep_colors, stroke
        self._memory_needs = [memory_need(network) for network in self.networks]
        self._memory_limit = None if memory is None else round(memory * 2**30)
        self._dtype = fast_dtype(self.device)
        self._lock = Lock()  # held while a picture takes most of the memory

    @property
    def at_once(self) -> int:
        """How many threads should call this object at the same time, which is safe; they share PyTorch's threads."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        return min(2, threads) if all(backend.name == "torch" for backend in self.backends) else 1

    @property
    def name(self) -> str:
        """The style's name, or those of a blend joined by `+`."""
        return "+".join(info.name for info in self.infos)

    def check_size(self, width: int, height: int, is_read: bool = False) -> None:
        """Refuse a picture that is too large for the memory, before it is decoded and scaled.

        Args:
            is_read: whether it is in memory already.

        Raises:
            RunError: says how much memory is needed.
        """
        new_width, new_height = scaled_size(width, height, self.size)
        net_width, net_height = self._stroked(new_width), self._stroked(new_height)  # what the networks get
        needed = new_width * new_height * _STYLIZED + max(need.in_bands(net_width) for need in self._memory_needs)
        needed += net_width * net_height * 3 * len(self.networks)
        if (new_width, new_height) != (width, height):
            needed += (width + new_width) * height * _STORED  # PIL does the scaling along the rows first
        if self.stroke != 1:
            needed += (net_width * _STYLIZED + new_width * _STORED) * net_height
        read = width * height * (_STORED if is_read else _READ)
        self._require_memory(needed - read if is_read else max(needed, read), new_width, new_height)

    @overload
    def __call__(self, image: Picture, mask: Image.Image | None = None) -> Picture: ...
    @overload  # a string is a sequence of strings, too
    def __call__(  # type: ignore[overload-overlap]
        self, image: str | Path, mask: Image.Image | None = None
    ) -> Image.Image: ...
    @overload
    def __call__(self, image: Sequence[Picture | str | Path], mask: Image.Image | None = None) -> list[Any]: ...
    def __call__(self, image: Any, mask: Image.Image | None = None) -> Any:
        """Stylize one picture, or several.

        Args:
            image: a PIL image of any mode, turned upright by its EXIF orientation; a uint8 `(H, W, 3)` array, or
                `(B, H, W, 3)` for several of one size; a `(B, 3, H, W)` float tensor in [0, 1], always stylized in one
                piece, whatever memory that takes; a path; or a list of these, whose files are read meanwhile.
            mask: white where the picture is to be stylized, black where not or transparent, grey for a
                mixture; of any mode and size.

        Returns:
            The same kind, a PIL image for a path. One with transparency keeps it; a tensor stays on its device.

        Raises:
            ImageError: a path that cannot be read.
            UserError: not one of these, values outside [0, 1], or fewer than 16 pixels a side (divided by `stroke`).
            RunError: too large for the memory.
        """
        if mask is not None and not isinstance(mask, Image.Image):
            raise UserError(f"a mask must be a PIL image, this is a {type(mask).__name__}; Image.open(PATH) opens one")
        if isinstance(image, str | Path):
            image = read_image(Path(image))
        if isinstance(image, Image.Image):
            return self._stylize_pil(image, mask)
        if isinstance(image, list | tuple):
            return self._stylize_several(image, mask)
        if isinstance(image, np.ndarray):
            if image.ndim == 4 and len(image):
                return np.stack(self._stylize_several(list(image), mask))
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise UserError(
                    f"an array must be uint8 (H, W, 3) or (B, H, W, 3), this is {image.dtype} {image.shape}"
                )
            return self._stylize_array(image, mask)
        if isinstance(image, Tensor):
            if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point() or not image.numel():
                raise UserError(f"a tensor must be float (B, 3, H, W), this is {image.dtype} {tuple(image.shape)}")
            least, most = torch.stack(image.detach()[..., ::_SAMPLE, ::_SAMPLE].aminmax()).tolist()
            if not (least > -0.5 and most < 1.5):  # resizing can overshoot [0, 1], by less than this
                raise UserError(f"a tensor's values go from 0 to 1, these from {least:.3g} to {most:.3g}")
            stylized = self._stylize_tensor(image.to(self.device, torch.float32), mask)
            return stylized.to(image.device, image.dtype, copy=True)  # autograd refuses tensors of inference mode
        raise UserError(
            f"cannot stylize a {type(image).__name__}; give a path, a PIL image, a uint8 array or a float tensor"
        )

    def _stylize_several(self, pictures: Sequence[Any], mask: Image.Image | None) -> list[Any]:
        """One by one, `at_once` at a time: on two CPU cores faster than together in one call of the network."""
        with ThreadPoolExecutor(1, "decode") as decoder, stylizing_threads(self.at_once) as painters:
            opened = map_in(decoder, lambda p: read_image(Path(p)) if isinstance(p, str | Path) else p, pictures, AHEAD)
            return list(map_in(painters, lambda picture: self(picture, mask), opened, self.at_once))

    @torch.inference_mode()
    def _stylize_array(self, array: np.ndarray, mask: Image.Image | None) -> np.ndarray:
        if self.stroke != 1 or self.size not in (None, max(array.shape)):  # PIL does the scaling
            return np.asarray(self._stylize_pil(Image.fromarray(array), mask))
        content = torch.from_numpy(np.require(array, requirements=["C", "W"]))[None]
        return self._finish_pixels(self._stylize_pixels(content), content, mask)[0].numpy()

    @torch.inference_mode()
    def _stylize_pil(self, image: Image.Image, mask: Image.Image | None) -> Image.Image:
        self.check_size(*image.size, is_read=not isinstance(image, ImageFile.ImageFile))
        image = resize_longer_side(to_srgb(image), self.size)
        flat = flatten_alpha(image)
        content = _pixels(flat)
        if self.stroke == 1:
            pixels = self._stylize_pixels(content)
        else:
            pixels = self._stylize_pixels(_pixels(resize_longer_side(flat, self._stroked(max(image.size)))))
            pixels = _pixels(Image.fromarray(pixels[0].numpy()).resize(image.size, Image.Resampling.LANCZOS))
        if image.mode == "RGBA":
            content = _pixels(image)  # without the white that `flat` has below transparent places
        stylized = Image.fromarray(self._finish_pixels(pixels, content, mask)[0].numpy())
        if image.mode == "RGBA":
            stylized.putalpha(image.getchannel("A"))
        return stylized

    @torch.inference_mode()
    def _stylize_tensor(self, images: Tensor, mask: Image.Image | None) -> Tensor:
        height, width = images.shape[-2:]
        if self.size is not None:
            width, height = scaled_size(width, height, self.size)
            images = resize(images, (height, width))
        if self.stroke == 1:
            stylized = self._blend(images)
        else:
            net_width, net_height = scaled_size(width, height, self._stroked(max(width, height)))
            stylized = resize(self._blend(resize(images, (net_height, net_width))), (height, width))
        if mask is None:
            return self._finish(stylized, images)
        white = from_uint8(_pixels(to_mask(mask).resize((width, height))))
        return self._finish(stylized, images, white.to(self.device))

    def _stroked(self, side: int) -> int:
        """A side of the picture as the networks get it: smaller for broader strokes."""
        return max(1, round(side / self.stroke))

    def _stylize_pixels(self, pixels: Tensor) -> Tensor:
        """Stylize uint8 `(1, H, W, 3)` on the CPU, in one piece if the memory suffices, else in bands."""
        height, width = pixels.shape[1:3]
        needed = max(need.at_once(height, width) for need in self._memory_needs)
        finishing = height * width * _FINISHED
        memory = self._free_memory(needed + finishing) - finishing
        device_memory = free_cuda_memory(self.device) if self.device.type == "cuda" else memory
        if needed <= device_memory:
            # The memory suffices for one picture. If it does not for two, threads take turns.
            with nullcontext() if 2 * needed <= device_memory else self._lock, memory_errors(width, height):
                content = pixels.to(self.device)
                if len(self.backends) == 1:
                    return self.backends[0](content).cpu()
                return to_uint8(self._blend(from_uint8(content))).cpu()
        self._require_memory(max(need.in_bands(width) for need in self._memory_needs) + finishing, width, height)
        with self._lock, memory_errors(width, height):
            stylized = [stylize_in_bands(net, pixels, self._dtype, memory, device_memory) for net in self.networks]
        return stylized[0] if len(stylized) == 1 else _by_rows(self._mix, *stylized)

    def _free_memory(self, wanted: int) -> int:
        """Free bytes of the host's memory. If they are less than `wanted`, freed blocks are given back first."""

        def free() -> int:
            limit = inf if self._memory_limit is None else self._memory_limit - used_memory()
            return int(min(free_memory(), limit))

        if (amount := free()) < wanted:
            give_back_blocks()
            amount = free()
        return amount

    def _require_memory(self, needed: int, width: int, height: int) -> None:
        if needed <= self._free_memory(needed):
            return
        there = f"{free_memory() / 2**30:.1f} are free"
        if self._memory_limit is not None and needed > self._memory_limit - used_memory():
            needed += used_memory()
            there = f"memory is {self._memory_limit / 2**30:g}"
        amount = ceil(1.02 * needed / 2**30 * 10) / 10
        raise RunError(
            f"not enough memory for {width}×{height} pixels: {amount:.1f} GiB are needed, {there}; "
            "a smaller size needs less"
        )

    def _blend(self, content: Tensor) -> Tensor:
        """`(B, 3, H, W)` floats through all networks, mixed."""
        content = content.float()
        return self._mix(*(backend(content) for backend in self.backends))

    def _mix(self, *stylized: Tensor) -> Tensor:
        if len(stylized) == 1:
            return stylized[0]
        return sum(share * picture for share, picture in zip(self._shares, stylized, strict=True))  # type: ignore[return-value]

    def _finish_pixels(self, pixels: Tensor, content: Tensor, mask: Image.Image | None) -> Tensor:
        """Apply mask, strength and colours; all pictures are uint8 `(1, H, W, 3)`."""
        if mask is not None:
            height, width = content.shape[1:3]
            return _by_rows(self._finish, pixels, content, _pixels(to_mask(mask).resize((width, height))))
        if self.strength != 1 or self.keep_colors:
            return _by_rows(self._finish, pixels, content)
        return pixels

    def _finish(self, stylized: Tensor, content: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.keep_colors:
            stylized = keep_colors(stylized, content)
        share = torch.as_tensor(self.strength).to(content) * (1 if mask is None else mask)
        return torch.lerp(content, stylized, share)


def _pixels(image: Image.Image) -> Tensor:
    """An "RGB" or "L" picture as uint8 `(1, H, W, 3)`, in parts: NumPy would hold a second copy of the whole."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        pixels[top : top + _ROWS] = np.asarray(rows if rows.mode == "RGB" else rows.convert("RGB"))
    return torch.from_numpy(pixels)[None]


def _by_rows(function: Callable[..., Tensor], *pixels: Tensor) -> Tensor:
    """Apply a pixelwise function of float pictures to uint8 ones, in parts: floats take four times the memory."""
    result = torch.empty_like(pixels[0])
    for top in range(0, result.shape[1], _ROWS):
        rows = slice(top, top + _ROWS)
        result[:, rows] = to_uint8(function(*(from_uint8(picture[:, rows]) for picture in pixels)))
    return result
