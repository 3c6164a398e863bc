"""The layers of the transform networks. Some have a plain form and a faster one with the same result.

The fast forms are for PyTorch; `fst.networks.transform.plain_form` gives a network without them, for export and for
comparison.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016) that keeps channels-last memory.

    `F.instance_norm` converts to channels-first without a warning, and so makes channels-last networks slower than
    plain ones. Batch normalisation of a single picture is the same arithmetic and keeps the layout.
    """

    plain = False  # set by `plain_form`

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
    """Reflection padding by `amount` pixels on each side."""
    # Autocast on the CPU would pad in float32, which takes twice the memory and more time.
    with torch.autocast(images.device.type, enabled=False):
        return F.pad(images, (amount, amount, amount, amount), mode="reflect")


def _channels_last(images: Tensor) -> Tensor:
    """`(B, C, H, W)` as `(B, H, W, C)`. A rearrangement that begins here has a channels-last gradient."""
    return images.permute(0, 2, 3, 1)


class ReflectConv(nn.Conv2d):
    """A convolution with reflection padding, which keeps the size before its stride; zeros would darken the border."""

    bias: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(reflect(input, self.kernel_size[0] // 2), self.weight, self.bias, self.stride)


class UpsampleConv(ReflectConv):
    """Nearest-neighbour upsampling by two, then a 3×3 convolution (Odena et al. 2016).

    The fast form convolves before it upsamples. After upsampling, each window of 3×3 pixels covers only 2×2 different
    values, so the weights that multiply the same value are added up first. That leaves one 2×2 kernel for each of the
    2×2 output pixels of an input pixel: 16 products in place of 36. Reflection padding of the upsampled picture equals
    replication padding of the small one.
    """

    plain = False

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, input: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, out, 2 H, 2 W)`."""
        if self.plain:
            return super().forward(F.interpolate(input, scale_factor=2.0))
        height, width = input.shape[-2:]
        x = torch.cat([input[:, :, :1], input, input[:, :, -1:]], 2)
        x = torch.cat([x[:, :, :, :1], x, x[:, :, :, -1:]], 3)  # B, in, H+2, W+2
        kernels = _merge_weights(_merge_weights(self.weight, 2), 4).flatten(0, 2)  # 2 columns · 2 rows · out, in, 2, 2
        y = F.conv2d(x, kernels, self.bias.repeat(4))  # B, 2 columns · 2 rows · out, H+1, W+1
        # Output pixel (2 i + r, 2 j + s) is the result of kernel (r, s) at position (i + r, j + s).
        y = rearrange(_channels_last(y), "b h w (s r c) -> r s b h w c", r=2, s=2)
        rows = [torch.stack([y[r, s, :, r : r + height, s : s + width] for s in (0, 1)], dim=3) for r in (0, 1)]
        return rearrange(torch.stack(rows, dim=2), "b h r w s c -> b c (h r) (w s)")


def _merge_weights(weight: Tensor, dim: int) -> Tensor:
    """Three taps along `dim` as two taps for each of two neighbouring output pixels, in a new first dimension."""
    first, second, third = weight.unbind(dim)
    even, odd = (first, second + third), (first + second, third)
    return torch.stack([torch.stack(even, dim), torch.stack(odd, dim)])


class OutputConv(ReflectConv):
    """The last convolution, to a picture's three channels.

    A CPU computes many output channels at a time, and three leave most of it idle. The fast form treats each cell of
    2×2 pixels as one position with four times the channels: the k×k kernel becomes a (k+1)/2 × (k+1)/2 kernel with 12
    output channels. With a 9×9 kernel it needs 23% more products and takes half the time. The sides must be even.
    """

    plain = False

    def forward(self, input: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, 3, H, W)`."""
        if self.plain:
            return super().forward(input)
        x = reflect(input, self.kernel_size[0] // 2)
        cells = rearrange(_channels_last(x), "b (h r) (w s) c -> b h w (r s c)", r=2, s=2).permute(0, 3, 1, 2)
        # For each pixel (r, s) of a cell the kernel is moved by r rows and s columns, and then cut into cells itself.
        moved = [F.pad(self.weight, (s, 1 - s, r, 1 - r)) for r in (0, 1) for s in (0, 1)]  # each out, in, k+1, k+1
        kernels = rearrange(moved, "pixel out c (h r) (w s) -> (out pixel) (r s c) h w", r=2, s=2)
        return F.pixel_shuffle(F.conv2d(cells, kernels, self.bias.repeat_interleave(4)), 2)


class SubpixelConv(ReflectConv):
    """The last convolution before a pixel-shuffle (Shi et al. 2016): a constant input gives one colour.

    Without a constraint such kernels learn a grid of cells, because a style loss rewards it (the checkerboard of Odena
    et al. 2016). Here the weights of every pixel of a cell add up to the same sum: what a kernel has more than the mean
    of its cell is subtracted. At the start the layer is a 1×1 convolution and bilinear upsampling.
    """

    def __init__(self, in_channels: int, factor: int) -> None:
        super().__init__(in_channels, 3 * factor * factor, 3)
        if self.weight.is_meta:
            return  # no values to set; and arithmetic on meta tensors imports torch._dynamo, which takes 5 seconds
        offsets = (torch.arange(factor) + 0.5) / factor - 0.5  # of each pixel's centre from that of its cell, in cells
        taps = (1 - (offsets[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)  # factor, 3
        window = torch.einsum("iy,jx->ijyx", taps, taps).flatten(0, 1)  # factor², 3, 3
        colours = self.weight.detach().unflatten(0, (3, -1))[:, 0].sum((2, 3))  # 3, in_channels
        self.weight.data = torch.einsum("kc,fyx->kfcyx", colours, window).flatten(0, 1)

    def kernels(self) -> tuple[Tensor, Tensor]:
        """The weight `(3 · factor², in, 3, 3)` and the bias that are applied."""
        sums = self.weight.sum((2, 3), keepdim=True).unflatten(0, (3, -1))  # 3, factor², in, 1, 1
        excess = (sums - sums.mean(1, keepdim=True)).flatten(0, 1)
        bias = self.bias.unflatten(0, (3, -1)).mean(1).repeat_interleave(len(self.bias) // 3)
        return self.weight - excess / self.weight[0, 0].numel(), bias

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(reflect(input, self.kernel_size[0] // 2), *self.kernels())


class Residual(nn.Module):
    """The input plus the output of `layers`, without a ReLU after the sum (Johnson et al. 2016, supplement 1)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
