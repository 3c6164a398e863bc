"""Stylizing pictures that do not fit into memory: one layer after the other, each in bands of rows.

Instance normalisation needs the mean and variance of a whole layer. Tiles stylized one by one would each have their
own, and their seams would show. Here a layer's output is kept as a whole, in memory or on disk, and is written and read
in bands. Its statistics are summed up while it is written, and applied when the next layer reads it. Nothing is
computed twice, and the result is that of the whole picture.
"""

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator
from math import ceil, prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fst.errors import RunError
from fst.images import from_uint8, to_uint8
from fst.networks.layers import InstanceNorm, OutputConv, Residual, UpsampleConv
from fst.networks.own import OwnNetwork
from fst.networks.transform import TransformNetwork

_LOCAL = (nn.Conv2d, nn.PixelUnshuffle, nn.PixelShuffle)  # layers that read neighbouring pixels
_OUTPUT_SHARE = 1 / 5  # of the memory, for one layer's output: three are kept at a time
_BAND_SHARE = 1 / 64  # of the memory, for a band of input: a convolution needs many times as much beside it
_LEAST = 64 << 20  # bytes


def stylize_in_bands(
    network: TransformNetwork, picture: Tensor, dtype: torch.dtype, memory: int, device_memory: int | None = None
) -> Tensor:
    """Stylize a picture within a limit of memory.

    Args:
        network: in eval mode; computed on its device.
        picture: uint8 `(1, H, W, 3)` on the CPU.
        dtype: computed in, and kept between layers.
        memory: bytes of the host's memory that may be taken in addition to what is in use.
        device_memory: the same of the device's own memory; `None` if it has none.

    Returns:
        uint8 `(1, H, W, 3)`.

    Raises:
        RunError: no room for temporary files, or a network of the user's own, whose layers are not known.
    """
    if isinstance(network, OwnNetwork):
        size = f"{picture.shape[2]}×{picture.shape[1]}"
        raise RunError(f"not enough memory for {size} pixels in one piece, as your own network needs them; try --size")
    for layer in (network.layers[0], network.layers[-1]):
        if not isinstance(layer, _LOCAL):
            raise TypeError(f"{type(layer).__name__} as the first or last layer is not known to work in bands of rows")
    left, _, above, _ = network.margins(*picture.shape[1:3])
    layers = sum(isinstance(module, _LOCAL) for module in network.modules())
    with torch.inference_mode(), tqdm(total=layers, unit="layer", leave=False, disable=None) as progress:
        bands = memory if device_memory is None else min(memory, device_memory)
        runner = _LayerRunner(next(network.parameters()).device, dtype, memory, bands, progress)
        precise, last = network.float32_layers(), len(network.layers) - 1
        dtypes = [torch.float32 if number in precise else dtype for number in range(last + 1)]
        rows: Any = _Picture(picture, network)
        for layer, layer_dtype in zip(network.layers[:last], dtypes, strict=False):
            rows = runner.apply(layer, rows, layer_dtype)
        stylized = torch.empty_like(picture)
        for top, band in runner.bands(network.layers[last], rows, dtypes[last]):
            # The network's margins are cut off: `above` rows at the top, `left` columns, and what is too much behind.
            skipped = max(0, above - top)
            target = stylized[:, max(0, top - above) : max(0, top - above + band.shape[2])]
            pixels = to_uint8(band.float() / 2 + 0.5)
            target.copy_(pixels[:, skipped : skipped + target.shape[1], left : left + target.shape[2]])
    return stylized


class MemoryNeed(NamedTuple):
    """Upper estimates of the bytes a network takes, measured on a CPU for several networks and sizes of picture.

    Attributes:
        per_pixel: of the picture, when it is stylized at once.
        per_column: of the picture, when it is stylized in the narrowest bands.
    """

    per_pixel: float
    per_column: float

    def at_once(self, height: int, width: int) -> int:
        return round(height * width * self.per_pixel)

    def in_bands(self, width: int) -> int:
        return max(_LEAST, round(width * self.per_column))


def memory_need(network: TransformNetwork) -> MemoryNeed:
    """What a network takes, from the sizes of its layers' outputs."""
    channels, scale = 3.0, 1.0  # scale: rows of a layer's output for each row of the picture
    per_pixel, per_column = 3.0, 0.0  # values
    for layer in network.modules():
        if isinstance(layer, _LOCAL):
            step, gives, reach = _geometry(layer)
            channels = layer.out_channels if isinstance(layer, nn.Conv2d) else channels * (step / gives) ** 2
            scale *= gives / step
            per_pixel = max(per_pixel, channels * scale**2)
            per_column = max(per_column, (2 * reach + 4) * channels * scale)
    return MemoryNeed(80 + 20 * per_pixel, 10 * torch.float32.itemsize * per_column)


class _Picture:
    """A picture as the input of its network's first layer: in [-1, 1], with the network's margins."""

    def __init__(self, picture: Tensor, network: TransformNetwork) -> None:
        self._picture = picture
        height, width = picture.shape[1:3]
        self._left, self._right, self._above, below = network.margins(height, width)
        self.height, self.width = self._above + height + below, self._left + width + self._right
        self.channels = 3

    def read(self, top: int, bottom: int, device: torch.device) -> Tensor:
        """Rows from `top` to `bottom` as `(1, 3, h, W)`, those outside the picture by reflection."""
        last = self._picture.shape[1] - 1
        rows = (torch.arange(top, bottom) - self._above).abs()  # reflected at the first row
        rows = last - (rows - last).abs()  # and at the last
        pixels = from_uint8(self._picture[:, rows].to(device))
        return F.pad(2 * pixels - 1, (self._left, self._right, 0, 0), mode="reflect")


class _Rows:
    """A layer's output, in memory or in a temporary file.

    `pending` are the pixelwise layers after it (normalisation, ReLU). They are applied each time it is read.
    """

    def __init__(self, height: int, width: int, channels: int, dtype: torch.dtype, in_memory: bool) -> None:
        self.height, self.width, self.channels, self._dtype = height, width, channels, dtype
        self._memory = torch.empty(height, width, channels, dtype=dtype) if in_memory else None
        self._file = None if in_memory else tempfile.TemporaryFile()  # noqa: SIM115 (deleted with this object)
        self._clear_statistics()
        self.pending: list[Callable[[Tensor], Tensor]] = []

    def _clear_statistics(self) -> None:
        self._sum = self._sum_of_squares = torch.zeros(self.channels, dtype=torch.float64)

    def branch(self) -> "_Rows":
        """The same rows, with pending layers of their own: those that are added to them do not change this object."""
        other = copy.copy(self)
        other.pending = [*self.pending]
        return other

    def add(self, inner: "_Rows", bands: Iterable[tuple[int, int]], device: torch.device) -> None:
        """Add the rows of another output, band by band."""
        self._clear_statistics()
        for top, bottom in bands:
            self.write(top, self.read(top, bottom, device) + inner.read(top, bottom, device))
        self.pending.clear()

    def write(self, top: int, rows: Tensor) -> None:
        """`(1, C, h, W)` at row `top`."""
        self._measure(rows)
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
        """Rows from `top` to `bottom` as `(1, C, h, W)`, after the pending layers."""
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

    def _measure(self, rows: Tensor) -> None:
        moments = torch.var_mean(rows.float(), (0, 2, 3), correction=0)
        variance, mean = (moment.cpu().double() for moment in moments)  # in this order: Apple's GPUs have no float64
        self._sum = self._sum + mean * (rows.shape[2] * self.width)
        self._sum_of_squares = self._sum_of_squares + (variance + mean.square()) * (rows.shape[2] * self.width)

    def normalise(self, norm: InstanceNorm, bands: Iterable[tuple[int, int]], device: torch.device) -> None:
        """Add instance normalisation, with the statistics of all rows, to the pending layers."""
        if self.pending:  # the statistics are those of the rows before these layers
            self._clear_statistics()
            for top, bottom in bands:
                self._measure(self.read(top, bottom, device))
        mean = self._sum / (self.height * self.width)
        variance = self._sum_of_squares / (self.height * self.width) - mean.square()
        mean, variance = mean.to(norm.weight), variance.to(norm.weight)
        self.pending.append(lambda rows: F.batch_norm(rows, mean, variance, norm.weight, norm.bias, eps=norm.eps))

    @property
    def _row_bytes(self) -> int:
        return self.width * self.channels * self._dtype.itemsize


class _LayerRunner:
    """Applies layers in bands. Outputs are kept in `dtype`, in memory as long as they are small beside `memory`."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, memory: int, bands_memory: int, progress: tqdm
    ) -> None:
        self._device, self._dtype, self._progress = device, dtype, progress
        self._memory, self._bands_memory = memory, bands_memory

    def apply(self, layer: nn.Module, source: Any, dtype: torch.dtype) -> _Rows:
        """Apply a layer of any kind, computed in `dtype`; a pixelwise one becomes pending."""
        if isinstance(layer, _LOCAL):
            return self._apply_local(layer, source, dtype)
        if isinstance(layer, Residual):
            inner = source.branch()
            for module in layer.body:
                inner = self.apply(module, inner, dtype)
            source.add(inner, self._bands_of(source, 1), self._device)
            return source
        if isinstance(layer, InstanceNorm):
            source.normalise(layer, self._bands_of(source, 1), self._device)
        elif isinstance(layer, nn.ReLU):
            source.pending.append(F.relu)  # not in place: the rows may be read again
        elif isinstance(layer, nn.BatchNorm2d):
            source.pending.append(layer)
        else:
            raise TypeError(f"{type(layer).__name__} is not known to work in bands of rows")
        return source

    def bands(self, layer: nn.Module, source: Any, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """The layer's output in bands `(1, C, h, W)`, each with the number of its first row."""
        step, gives, reach = _geometry(layer)
        # Each band is read with more rows around it: the layer's padding at a band's edge is wrong, and cut off again.
        halo = ceil(reach / step) * step
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
                result = _Rows(*shape, self._dtype, in_memory=size <= _OUTPUT_SHARE * self._memory)
            result.write(top, band)
        assert result is not None
        return result

    def _bands_of(self, source: Any, step: int) -> list[tuple[int, int]]:
        """First and last row of each band; all but the last band have a multiple of `2 step` rows."""
        row = source.width * source.channels * torch.float32.itemsize
        unit = 2 * step  # OutputConv needs an even number of rows
        rows = max(1, int(_BAND_SHARE * self._bands_memory / row) // unit) * unit
        return [(top, min(top + rows, source.height)) for top in range(0, source.height, rows)]


def _geometry(layer: nn.Module) -> tuple[int, int, int]:
    """A layer turns `step` input rows into `gives` output rows and reads `reach` rows around them: all three."""
    if isinstance(layer, nn.PixelUnshuffle):
        return layer.downscale_factor, 1, 0
    if isinstance(layer, nn.PixelShuffle):
        return 1, layer.upscale_factor, 0
    assert isinstance(layer, nn.Conv2d)
    reach = layer.kernel_size[0] // 2
    if isinstance(layer, UpsampleConv):
        return 1, 2, reach
    return (2, 2, reach) if isinstance(layer, OutputConv) else (layer.stride[0], 1, reach)
