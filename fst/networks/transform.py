"""The image transform networks, which stylize a picture in one forward pass."""

import copy

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fst.errors import UserError
from fst.images import from_uint8, to_uint8
from fst.networks.layers import (
    InstanceNorm,
    OutputConv,
    ReflectConv,
    Residual,
    SubpixelConv,
    UpsampleConv,
    reflect,
)
from fst.pictures import LEAST_SIDE

_BORDER = 8  # pixels added on each side and cut off again, see `TransformNetwork.margins`


NORMS = {"instance": InstanceNorm, "batch": nn.BatchNorm2d}


class TransformNetwork(nn.Module):
    """A sequence of layers that stylizes pictures in [0, 1] and keeps their size.

    In training mode the output may leave [0, 1], which a term of the loss penalises; in eval mode it is clamped.

    Args:
        layers: from pictures in [-1, 1] to the same.
        multiple: sides of the layers' input must be multiples of this, because of their strides.
    """

    def __init__(self, layers: nn.Sequential, multiple: int) -> None:
        super().__init__()
        self.layers = layers
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in [0, 1], H and W at least 16, to stylized pictures of the same size."""
        stylized = self.unclamped(images)
        return stylized if self.training else stylized.clamp(0, 1)

    def unclamped(self, images: Tensor) -> Tensor:
        """The output before clamping, in both modes; the loss is computed from it."""
        height, width = images.shape[-2:]
        refuse_small(height, width)
        left, _, top, _ = margins = self.margins(height, width)
        x = 2 * F.pad(images, margins, mode="reflect") - 1
        precise = self.float32_layers()
        for number, layer in enumerate(self.layers):
            if number in precise:
                with torch.autocast(images.device.type, enabled=False):
                    x = layer(x.float())
            else:
                x = layer(x)
        return x.float()[..., top : top + height, left : left + width] / 2 + 0.5

    def float32_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that stay in float32 under autocast: the convolutions that read or write pixels.

        bfloat16 has 8 significant bits, to which it would round the picture and its gradient.
        """
        return 0, len(self.layers) - 1

    def margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels that reflection adds on the left, right, top and bottom, to be cut off again.

        The strides need sides of certain multiples. Besides, trained networks draw a frame two or three pixels wide,
        because the loss network pads with zeros; 8 more pixels on each side, cut off again, remove it (measured). With
        16, a line that imitates the edge of a painting goes, too, but five bundled styles are less steady in video than
        their tests allow.
        """
        border = 0 if self.training else _BORDER
        right, bottom = (border + -(side + 2 * border) % self.multiple for side in (width, height))
        return border, right, border, bottom

    def forward_pixels(self, pixels: Tensor) -> Tensor:
        """Stylize `(B, H, W, 3)` uint8 and return the same kind; for inference."""
        return to_uint8(self(from_uint8(pixels)))


def refuse_small(height: int, width: int) -> None:
    """Raises a `UserError` for pictures too small for a transform network."""
    if min(height, width) < LEAST_SIDE:
        raise UserError(f"a {width}×{height} picture is too small to stylize: at least {LEAST_SIDE}×{LEAST_SIDE}")


def plain_form(network: TransformNetwork) -> TransformNetwork:
    """A copy whose layers are all in their plain form, see `fst.networks.layers`: the same function, for export and
    for comparison."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if hasattr(layer, "plain"):
            layer.plain = True  # type: ignore[assignment]
    return network


def _stage(convolution: nn.Conv2d, norm: type[nn.Module]) -> tuple[nn.Module, ...]:
    return convolution, norm(convolution.out_channels), nn.ReLU(inplace=True)


def _block(channels: int, norm: type[nn.Module]) -> Residual:
    return Residual(
        *_stage(ReflectConv(channels, channels, 3), norm), ReflectConv(channels, channels, 3), norm(channels)
    )


def _norm(name: str) -> type[nn.Module]:
    if name not in NORMS:
        raise UserError(f"model.norm is '{name}'; it can be {' or '.join(NORMS)}")
    return NORMS[name]


class JohnsonNetwork(TransformNetwork):
    """The image transform network of Johnson et al. 2016 (supplement, table 1).

    Departures from the paper, all common since: instance instead of batch normalisation (Ulyanov et al. 2016),
    nearest-neighbour upsampling + convolution instead of fractionally strided convolution (Odena et al. 2016, no
    checkerboard), reflection padding at every layer, and a linear output instead of a scaled tanh, which has no
    gradient where it saturates.

    >>> network = JohnsonNetwork().eval()
    >>> network(torch.rand(1, 3, 61, 90)).shape
    torch.Size([1, 3, 61, 90])

    Args:
        width: channels of the first convolution; the body has four times as many. The paper's is 32.
        blocks: residual blocks. The paper's is 5.
        norm: `instance` or `batch`.
    """

    def __init__(self, width: int = 32, blocks: int = 5, norm: str = "instance") -> None:
        normalise = _norm(norm)
        layers = nn.Sequential(
            *_stage(ReflectConv(3, width, 9), normalise),
            *_stage(ReflectConv(width, 2 * width, 3, stride=2), normalise),
            *_stage(ReflectConv(2 * width, 4 * width, 3, stride=2), normalise),
            *(_block(4 * width, normalise) for _ in range(blocks)),
            *_stage(UpsampleConv(4 * width, 2 * width), normalise),
            *_stage(UpsampleConv(2 * width, width), normalise),
            OutputConv(width, 3, 9),
        )
        super().__init__(layers, multiple=4)


class PytorchExamplesNetwork(JohnsonNetwork):
    """The same layers as pytorch/examples applies them: without a border, so with the frame that it hides.

    For styles that `fst import` made of its networks: their outputs are those of the originals.
    """

    def margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        return 0, -width % self.multiple, 0, -height % self.multiple


class UnshuffleNetwork(TransformNetwork):
    """A light network. Convolutions at full resolution take most of the time of Johnson's; this one has none.

    Pixel-unshuffle (the inverse of Shi et al. 2016) turns each cell of `factor` × `factor` pixels into one position.
    The residual blocks work at half that resolution, beside a skip connection that keeps the detail.

    >>> network = UnshuffleNetwork(factor=4, width=16, body=16, blocks=1).eval()
    >>> network(torch.rand(1, 3, 61, 90)).shape
    torch.Size([1, 3, 61, 90])

    Args:
        factor: pixels a side of a cell, 1 to 4.
        width: channels of a cell; multiples of 16 are fastest.
        body: channels of the residual blocks.
        blocks: residual blocks.
        norm: `instance` or `batch`.
    """

    def __init__(
        self, factor: int = 4, width: int = 16, body: int = 32, blocks: int = 5, norm: str = "instance"
    ) -> None:
        if not 1 <= factor <= 4:
            raise UserError(f"model.factor is {factor}; a cell has 1 to 4 pixels a side")
        normalise = _norm(norm)
        pixels = 3 * factor * factor
        layers = nn.Sequential(
            nn.PixelUnshuffle(factor),
            *_stage(ReflectConv(pixels, width, 3), normalise),
            Residual(
                *_stage(ReflectConv(width, body, 3, stride=2), normalise),
                *(_block(body, normalise) for _ in range(blocks)),
                *_stage(UpsampleConv(body, width), normalise),
            ),
            SubpixelConv(width, factor),
            nn.PixelShuffle(factor),
        )
        super().__init__(layers, multiple=2 * factor)
        self._factor = factor

    def float32_layers(self) -> tuple[int, ...]:
        """None in eval mode, as in `forward_pixels`: faster, with a PSNR of 53 dB to float32."""
        return (1, len(self.layers) - 2) if self.training else ()

    def forward_pixels(self, pixels: Tensor) -> Tensor:
        """The same as in any network, without a float picture: converting one would take as long as the network."""
        height, width = pixels.shape[1:3]
        refuse_small(height, width)
        left, right, top, bottom = self.margins(height, width)
        pixels = _reflect_bytes(_reflect_bytes(pixels, 1, top, bottom), 2, left, right)
        _, first, *body, head, _ = self.layers
        assert isinstance(first, ReflectConv)
        assert isinstance(head, SubpixelConv)
        # A cell is f×f pixels: (r, s) of one is row r, column s. Pixel-shuffle counts channels as (c r s), a picture in
        # memory as (r s c), so the kernels' channels are put into that order.
        f = self._factor
        cells = rearrange(pixels, "b (h r) (w s) c -> b h w (r s c)", r=f, s=f)
        kind = pixels.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else first.weight.dtype
        x = cells.to(dtype).permute(0, 3, 1, 2)  # B, 3 f², H/f, W/f in channels-last memory
        # The first kernel also scales bytes to [-1, 1]: 2 x / 255 - 1.
        weight = rearrange(first.weight, "o (c r s) h w -> o (r s c) h w", r=f, s=f)
        x = F.conv2d(reflect(x, 1), weight * (2 / 255), first.bias - first.weight.sum((1, 2, 3)))
        for layer in body:
            x = layer(x)
        # The last one also scales [-1, 1] to bytes: 255 (y / 2 + 0.5).
        weight, bias = (rearrange(part, "(c r s) ... -> (r s c) ...", r=f, s=f) for part in head.kernels())
        y = F.conv2d(reflect(x, 1), weight * 127.5, bias * 127.5 + 127.5).round_().clamp_(0, 255)
        y = rearrange(y, "b (r s c) h w -> b h r w s c", r=f, s=f)
        stylized = torch.empty(y.shape, dtype=torch.uint8, device=y.device).copy_(y)  # converts and reorders at once
        stylized = rearrange(stylized, "b h r w s c -> b (h r) (w s) c")
        return stylized[:, top : top + height, left : left + width]


def _reflect_bytes(pixels: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Reflection padding along one dimension of any number format; `F.pad` has none for uint8."""
    first = pixels.narrow(dim, 1, before).flip(dim)
    last = pixels.narrow(dim, pixels.shape[dim] - 1 - after, after).flip(dim)
    return torch.cat([first, pixels, last], dim)


TRANSFORM_NETWORKS: dict[str, type[TransformNetwork]] = {
    "johnson": JohnsonNetwork,
    "pytorch_examples": PytorchExamplesNetwork,
    "unshuffle": UnshuffleNetwork,
}


def build_transform_network(architecture: str, **arguments: float | str) -> TransformNetwork:
    """Build a transform network by the name of its architecture.

    Args:
        arguments: of the architecture's class.

    Raises:
        UserError: no such architecture, or an argument it does not take.
    """
    if architecture not in TRANSFORM_NETWORKS:
        raise UserError(f"no transform network '{architecture}'; there are {', '.join(TRANSFORM_NETWORKS)}")
    try:
        network = TRANSFORM_NETWORKS[architecture](**arguments)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"transform network '{architecture}': {error}") from error
    return network.to(memory_format=torch.channels_last)
