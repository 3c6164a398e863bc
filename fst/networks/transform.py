"""The image transform networks: a picture in, a stylized picture of the same size out, in one forward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fst.errors import UserError

LEAST_SIDE = 16  # pixels; below it the reflection paddings no longer fit


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016) that stays in channels-last memory.

    `F.instance_norm` silently falls back to channels-first, which makes channels-last networks slower than plain
    ones. Batch normalisation of one picture is the same arithmetic, and its kernel keeps the layout.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        pictures = (
            F.batch_norm(picture, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for picture in input.split(1)
        )
        return torch.cat(list(pictures))


NORMS = {"instance": InstanceNorm, "batch": nn.BatchNorm2d}


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    # Reflection padding: zeros would paint a dark frame.
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, padding_mode="reflect")


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity, no ReLU after the sum (Johnson et al. 2016, supplement 1)."""

    def __init__(self, channels: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels, 3),
            norm(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, 3),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class JohnsonNetwork(nn.Module):
    """The image transform network of Johnson et al. 2016 (supplement, table 1).

    Departures from the paper, all common since: instance instead of batch normalisation (Ulyanov et al. 2016),
    nearest-neighbour upsampling + convolution instead of fractionally strided convolution (Odena et al. 2016, no
    checkerboard), reflection padding at every layer, and a linear output instead of a scaled tanh, whose saturated
    spots no gradient reaches.

    In training mode the output may leave [0, 1], and the loss pulls it back; in eval mode it is clamped.

    >>> network = JohnsonNetwork().eval()
    >>> network(torch.rand(1, 3, 61, 90)).shape
    torch.Size([1, 3, 61, 90])

    Args:
        width: channels of the first convolution; the body has four times as many. The paper's is 32.
        blocks: residual blocks. The paper's is 5.
        norm: `instance` or `batch`.
        upsampling: `nearest`, or `bilinear`, which is nearest smoothed by [1 2 1] and leaves less of a grid.
    """

    def __init__(self, width: int = 32, blocks: int = 5, norm: str = "instance", upsampling: str = "nearest") -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"model.norm is '{norm}'; it can be {' or '.join(NORMS)}")
        if upsampling not in ("nearest", "bilinear"):
            raise UserError(f"model.upsampling is '{upsampling}'; it can be nearest or bilinear")
        normalise = NORMS[norm]

        def stage(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            return [_convolution(in_channels, out_channels, kernel, stride), normalise(out_channels), nn.ReLU(True)]

        self.layers = nn.Sequential(
            *stage(3, width, 9),
            *stage(width, 2 * width, 3, stride=2),
            *stage(2 * width, 4 * width, 3, stride=2),
            *(ResidualBlock(4 * width, normalise) for _ in range(blocks)),
            nn.Upsample(scale_factor=2, mode=upsampling),
            *stage(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2, mode=upsampling),
            *stage(2 * width, width, 3),
            _convolution(width, 3, 9),
        )

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in [0, 1], any H and W from 16 up, to stylized pictures of exactly the same size."""
        height, width = images.shape[-2:]
        if min(height, width) < LEAST_SIDE:
            raise UserError(f"a {width}×{height} picture is too small to stylize: at least {LEAST_SIDE}×{LEAST_SIDE}")
        # The two strides need multiples of four; what reflection adds is cut off again.
        x = F.pad(images, (0, -width % 4, 0, -height % 4), mode="reflect")
        y = self.layers(2 * x - 1)[..., :height, :width].float() / 2 + 0.5
        return y if self.training else y.clamp(0, 1)


ARCHITECTURES: dict[str, type[nn.Module]] = {"johnson": JohnsonNetwork}


def build_transform_network(architecture: str, **arguments: int | str) -> nn.Module:
    """The transform network of that name; `arguments` as its class takes them.

    Raises:
        UserError: no such architecture, or an argument it does not take.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(f"no transform network '{architecture}'; there are {', '.join(ARCHITECTURES)}")
    try:
        network = ARCHITECTURES[architecture](**arguments)
    except TypeError as error:
        raise UserError(f"transform network '{architecture}': {error}") from error
    return network.to(memory_format=torch.channels_last)
