"""Pictures larger than the memory: the network layer by layer, every layer in bands of rows.

Instance normalisation needs the mean and variance of a whole layer; tiles would each have their own, and the seams
would show. Here a layer's output is kept band by band, in memory or on disk, its statistics are added up on the way,
and the next layer normalises what it reads. Nothing is computed twice, and the result is that of the whole picture.
"""

import tempfile
from collections.abc import Callable, Iterator
from math import ceil, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fst.errors import RunError
from fst.images import from_uint8, to_uint8
from fst.networks.layers import InstanceNorm, OutputConv, Residual, UpsampleConv
from fst.networks.transform import TransformNetwork

_LOCAL = (nn.Conv2d, nn.PixelUnshuffle, nn.PixelShuffle)  # see several pixels, but not all
_ROWS_SHARE = 1 / 5  # of the memory, for a layer's output: three are kept at a time
_LEAST = 64 << 20  # bytes
_BAND_SHARE = 1 / 64  # of the memory, for a band of input: a convolution needs many times as much beside it


def paint_in_bands(
    network: TransformNetwork, picture: Tensor, dtype: torch.dtype, memory: int, device_memory: int | None = None
) -> Tensor:
    """What `network` makes of a picture, within a ceiling of memory.

    Args:
        network: in eval mode; its device does the work.
        picture: uint8 `(1, H, W, 3)` on the CPU.
        dtype: of the work and of what is kept between layers.
        memory: bytes of the host's memory that may be used beyond what is in use now.
        device_memory: of the device's; `None` where that is the host's.

    Returns:
        The same kind.

    Raises:
        RunError: no room for temporary files.
    """
    left, _, above, _ = network.margins(*picture.shape[1:3])
    layers = sum(isinstance(module, _LOCAL) for module in network.modules())
    with torch.inference_mode(), tqdm(total=layers, unit="layer", leave=False, disable=None) as progress:
        bands = memory if device_memory is None else min(memory, device_memory)
        painter = _Painter(next(network.parameters()).device, dtype, memory, bands, progress)
        precise, last = network.float32_layers(), len(network.layers) - 1
        dtypes = [torch.float32 if number in precise else dtype for number in range(last + 1)]
        rows: Any = _Picture(picture, network)
        for layer, layer_dtype in zip(network.layers[:last], dtypes, strict=False):
            rows = painter.apply(layer, rows, layer_dtype)
        painted = torch.empty_like(picture)
        for top, band in painter.bands(network.layers[last], rows, dtypes[last]):
            skipped = max(0, above - top)
            seen = painted[:, max(0, top - above) : max(0, top - above + band.shape[2])]
            whole = to_uint8(band.float() / 2 + 0.5)
            seen.copy_(whole[:, skipped : skipped + seen.shape[1], left : left + seen.shape[2]])
    return painted


def memory_needed(network: TransformNetwork, height: int, width: int) -> int:
    """An estimate of the bytes that a picture needs when done at once: from above, for all of our networks."""
    widest = max(3.0, *(channels * scale**2 for _, channels, scale in _outputs(network)))  # values a pixel of it
    return round(height * width * (80 + 20 * widest))  # measured at several sizes and widths, on a CPU


def least_memory(network: TransformNetwork, width: int) -> int:
    """An estimate of the bytes that a picture needs in bands, be they as narrow as can be: from above."""
    rows = (_geometry(layer)[2] * 2 + 4 for layer, _, _ in _outputs(network))
    row = (channels * scale for _, channels, scale in _outputs(network))
    floats = max(high * values for high, values in zip(rows, row, strict=True))
    return max(_LEAST, round(10 * torch.float32.itemsize * floats * width))  # measured, as above


def _outputs(network: TransformNetwork) -> Iterator[tuple[nn.Module, float, float]]:
    """The layers that see several pixels, each with its output's channels, and its rows for a row of the picture."""
    channels, scale = 3.0, 1.0
    for layer in network.modules():
        if isinstance(layer, _LOCAL):
            step, gives, _ = _geometry(layer)
            channels = layer.out_channels if isinstance(layer, nn.Conv2d) else channels * (step / gives) ** 2
            scale *= gives / step
            yield layer, channels, scale


class _Picture:
    """The rows of a picture as its network wants them: in [-1, 1], with its margins."""

    def __init__(self, picture: Tensor, network: TransformNetwork) -> None:
        self._picture = picture
        height, width = picture.shape[1:3]
        self._left, self._right, self._above, below = network.margins(height, width)
        self.height, self.width = self._above + height + below, self._left + width + self._right
        self.channels = 3

    def read(self, top: int, bottom: int, device: torch.device) -> Tensor:
        last = self._picture.shape[1] - 1
        wanted = (torch.arange(top, bottom) - self._above).abs()  # before the first row they come back …
        wanted = last - (wanted - last).abs()  # … and beyond the last
        pixels = from_uint8(self._picture[:, wanted].to(device))
        return F.pad(2 * pixels - 1, (self._left, self._right, 0, 0), mode="reflect")


class _Rows:
    """A layer's output, in memory or in a temporary file, with what is still to be done to each of its pixels."""

    def __init__(self, height: int, width: int, channels: int, dtype: torch.dtype, in_memory: bool) -> None:
        self.height, self.width, self.channels, self._dtype = height, width, channels, dtype
        self._memory = torch.empty(height, width, channels, dtype=dtype) if in_memory else None
        self._file = None if in_memory else tempfile.TemporaryFile()  # noqa: SIM115 (gone with this object)
        self._sum = self._sum_of_squares = torch.zeros(channels, dtype=torch.float64)
        self.pending: list[Callable[[Tensor], Tensor]] = []

    def write(self, top: int, rows: Tensor) -> None:
        """`(1, C, h, W)` at row `top`."""
        variance, mean = (moment.double().cpu() for moment in torch.var_mean(rows.float(), (0, 2, 3), correction=0))
        self._sum = self._sum + mean * (rows.shape[2] * self.width)
        self._sum_of_squares = self._sum_of_squares + (variance + mean.square()) * (rows.shape[2] * self.width)
        pixels = rows[0].permute(1, 2, 0).to("cpu", self._dtype).contiguous()
        if self._memory is not None:
            self._memory[top : top + len(pixels)] = pixels
            return
        assert self._file is not None
        try:
            self._file.seek(top * self._row_bytes)
            self._file.write(pixels.view(torch.uint8).numpy().data)
            self._file.flush()
        except OSError as error:
            folder = tempfile.gettempdir()
            raise RunError(f"{folder}: {error.strerror}; TMPDIR names another folder for temporary files") from error

    def read(self, top: int, bottom: int, device: torch.device) -> Tensor:
        """Rows from `top` to `bottom` as `(1, C, h, W)`, with all that was pending done."""
        if self._memory is not None:
            pixels = self._memory[top:bottom]
        else:
            assert self._file is not None
            self._file.seek(top * self._row_bytes)
            data = bytearray(self._file.read((bottom - top) * self._row_bytes))
            pixels = torch.frombuffer(data, dtype=self._dtype).view(bottom - top, self.width, self.channels)
        rows = pixels.to(device).permute(2, 0, 1)[None]
        for apply in self.pending:
            rows = apply(rows)
        return rows

    def normalise(self, norm: InstanceNorm) -> None:
        """Instance normalisation, with the statistics of all rows."""
        mean = self._sum / (self.height * self.width)
        variance = self._sum_of_squares / (self.height * self.width) - mean.square()
        mean, variance = mean.to(norm.weight), variance.to(norm.weight)
        self.pending.append(lambda rows: F.batch_norm(rows, mean, variance, norm.weight, norm.bias, eps=norm.eps))

    @property
    def _row_bytes(self) -> int:
        return self.width * self.channels * self._dtype.itemsize


class _Painter:
    """Applies layers to rows. What is kept between layers is in `dtype`, as far as `memory` bytes go in memory."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, memory: int, bands_memory: int, progress: tqdm
    ) -> None:
        self._device, self._dtype, self._progress = device, dtype, progress
        self._memory, self._bands_memory = memory, bands_memory

    def apply(self, layer: nn.Module, source: Any, dtype: torch.dtype) -> _Rows:
        """A layer of any kind, worked out in `dtype`; one that sees a pixel at a time waits until `source` is read."""
        if isinstance(layer, _LOCAL):
            return self._apply_local(layer, source, dtype)
        if isinstance(layer, Residual):
            inner = source
            for module in layer.body:
                inner = self.apply(module, inner, dtype)
            return self._add(source, inner)
        if isinstance(layer, InstanceNorm):
            source.normalise(layer)
        else:
            source.pending.append(F.relu if isinstance(layer, nn.ReLU) else layer)
        return source

    def bands(self, layer: nn.Module, source: Any, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """The layer's output in bands, each with its first row's number."""
        step, gives, reach = _geometry(layer)
        halo = ceil(reach / step) * step  # its own padding at a band's edge is wrong, and is cut off again
        for top, bottom in self._bands_of(source, step):
            above, below = min(halo, top), min(halo, source.height - bottom)
            band = source.read(top - above, bottom + below, self._device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
                output = layer(band if dtype != torch.float32 else band.float())
            yield top * gives // step, output.narrow(2, above * gives // step, (bottom - top) * gives // step)
        self._progress.update()

    def _apply_local(self, layer: nn.Module, source: Any, dtype: torch.dtype) -> _Rows:
        step, gives, _ = _geometry(layer)
        result: _Rows | None = None
        for top, band in self.bands(layer, source, dtype):
            if result is None:
                shape = (source.height // step * gives, band.shape[3], band.shape[1])
                size = prod(shape) * self._dtype.itemsize
                result = _Rows(*shape, self._dtype, in_memory=size <= _ROWS_SHARE * self._memory)
            result.write(top, band)
        assert result is not None
        return result

    def _add(self, source: _Rows, inner: _Rows) -> _Rows:
        """Their sum, in the place of `source`."""
        for top, bottom in self._bands_of(source, 1):
            band = source.read(top, bottom, self._device) + inner.read(top, bottom, self._device)
            source.write(top, band)
        source.pending.clear()
        return source

    def _bands_of(self, source: Any, step: int) -> list[tuple[int, int]]:
        row = source.width * source.channels * torch.float32.itemsize
        unit = 2 * step  # OutputConv wants even numbers of rows
        rows = max(1, int(_BAND_SHARE * self._bands_memory / row) // unit) * unit
        return [(top, min(top + rows, source.height)) for top in range(0, source.height, rows)]


def _geometry(layer: nn.Module) -> tuple[int, int, int]:
    """How many rows of input make one step, how many rows of output that gives, and how many it sees beyond."""
    if isinstance(layer, nn.PixelUnshuffle):
        return layer.downscale_factor, 1, 0
    if isinstance(layer, nn.PixelShuffle):
        return 1, layer.upscale_factor, 0
    assert isinstance(layer, nn.Conv2d)
    reach = layer.kernel_size[0] // 2
    if isinstance(layer, UpsampleConv):
        return 1, 2, reach
    return (2, 2, reach) if isinstance(layer, OutputConv) else (layer.stride[0], 1, reach)
