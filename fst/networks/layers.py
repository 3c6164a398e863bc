"""The layers of the transform networks: each as it is fast here, beside its plain form where that is another."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016) that stays in channels-last memory.

    `F.instance_norm` silently falls back to channels-first, which makes channels-last networks slower than plain
    ones. Batch normalisation of one picture is the same arithmetic, and its kernel keeps the layout.
    """

    plain = False  # see `plain_form`

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        if self.plain or input.device.type != "cpu":
            return super().forward(input)
        pictures = (
            F.batch_norm(picture, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for picture in input.split(1)
        )
        return torch.cat(list(pictures))


def reflect(images: Tensor, amount: int) -> Tensor:
    """Reflection padding by `amount` pixels a side."""
    # Autocast on the CPU would pad in float32: twice the memory, and slower.
    with torch.autocast(images.device.type, enabled=False):
        return F.pad(images, (amount, amount, amount, amount), mode="reflect")


class ReflectConv(nn.Conv2d):
    """A convolution that keeps the size (before its stride), with reflection: zeros would paint a dark frame."""

    bias: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(reflect(input, self.kernel_size[0] // 2), self.weight, self.bias, self.stride)


class UpsampleConv(ReflectConv):
    """Nearest-neighbour upsampling by two and a 3×3 convolution (Odena et al. 2016), done before the upsampling.

    Over an upsampled picture several of the nine taps meet the same pixel. Added up beforehand they leave a 2×2
    kernel for each of the four pixels that one becomes: the same result with 16 products instead of 36. Reflection
    padding of the upsampled picture is replication before it.
    """

    plain = False

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, input: Tensor) -> Tensor:
        if self.plain:
            return super().forward(F.interpolate(input, scale_factor=2.0))
        height, width = input.shape[-2:]
        kernels = _add_taps(_add_taps(self.weight, 2), 4).flatten(0, 2)
        x = torch.cat([input[:, :, :1], input, input[:, :, -1:]], 2)
        x = torch.cat([x[:, :, :, :1], x, x[:, :, :, -1:]], 3)
        y = F.conv2d(x, kernels, self.bias.repeat(4))
        pixels = y.permute(0, 2, 3, 1).unflatten(3, (2, 2, self.out_channels))  # B, H+1, W+1, column, row, C
        rows = [torch.stack([pixels[:, r : r + height, c : c + width, c, r] for c in (0, 1)], dim=3) for r in (0, 1)]
        return torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _add_taps(weight: Tensor, dim: int) -> Tensor:
    """Three taps along `dim` as two for each of two neighbouring output pixels, which are a new first dimension."""
    first, second, third = weight.unbind(dim)
    even, odd = (first, second + third), (first + second, third)
    return torch.stack([torch.stack(even, dim), torch.stack(odd, dim)])


class OutputConv(ReflectConv):
    """The last convolution, to three channels: too few for the hardware's vectors, so 2×2 pixels are done as one.

    The same result as of a plain convolution with reflection padding, from a kernel of half the side over four
    times the channels; twice as fast in spite of a quarter more products. The picture's sides must be even.
    """

    plain = False

    def forward(self, input: Tensor) -> Tensor:
        if self.plain:
            return super().forward(input)
        x = reflect(input, self.kernel_size[0] // 2).permute(0, 2, 3, 1)
        cells = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)  # B, H/2, W/2, 4 C
        moved = [F.pad(self.weight, (c, 1 - c, r, 1 - r)) for r in (0, 1) for c in (0, 1)]
        kernels = torch.stack(moved, 1).unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 4, 6, 2, 3, 5)
        y = F.conv2d(cells.permute(0, 3, 1, 2), kernels.flatten(2, 4).flatten(0, 1), self.bias.repeat_interleave(4))
        return F.pixel_shuffle(y, 2)


class SubpixelConv(ReflectConv):
    """The last convolution before a pixel-shuffle, under which flat features make a flat picture.

    Free kernels paint a grid of cells there, and a style loss rewards it (the checkerboard of Odena et al. 2016). Here
    the taps of all pixels of a cell add up to the same: each kernel's excess over the cell's mean is taken off. It
    starts as bilinear upsampling of a 1×1 convolution.
    """

    def __init__(self, in_channels: int, factor: int) -> None:
        super().__init__(in_channels, 3 * factor * factor, 3)
        if self.weight.is_meta:
            return  # there are no values, and arithmetic would import torch._dynamo, which takes 5 seconds
        inside = (torch.arange(factor) + 0.5) / factor - 0.5  # of each pixel's centre from its cell's, in cells
        taps = (1 - (inside[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)  # factor, 3
        window = torch.einsum("iy,jx->ijyx", taps, taps).flatten(0, 1)  # factor², 3, 3
        colours = self.weight.detach().unflatten(0, (3, -1))[:, 0].sum((2, 3))  # 3, in_channels
        self.weight.data = torch.einsum("kc,fyx->kfcyx", colours, window).flatten(0, 1)

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as they are applied."""
        sums = self.weight.sum((2, 3), keepdim=True).unflatten(0, (3, -1))
        excess = (sums - sums.mean(1, keepdim=True)).flatten(0, 1)
        bias = self.bias.unflatten(0, (3, -1)).mean(1).repeat_interleave(len(self.bias) // 3)
        return self.weight - excess / self.weight[0, 0].numel(), bias

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(reflect(input, self.kernel_size[0] // 2), *self.kernels())


class Residual(nn.Module):
    """Layers beside the identity, no ReLU after the sum (Johnson et al. 2016, supplement 1)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
