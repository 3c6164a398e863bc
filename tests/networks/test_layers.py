import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fst.networks.layers import InstanceNorm, OutputConv, UpsampleConv


def test_instance_norm_is_torchs_in_both_memory_layouts() -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 8, 14, 9) * 5 + 2
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = norm(x.contiguous(memory_format=layout))
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        assert y.is_contiguous(memory_format=layout)


def _assert_same_convolution(ours: nn.Conv2d, plain: nn.Module, side: tuple[int, int]) -> None:
    """Outputs and all gradients, of two modules with the same parameters."""
    ours, plain = ours.double(), plain.double()
    for target, source in zip(plain.parameters(), ours.parameters(), strict=True):
        target.data = source.data
    images = [torch.rand(2, ours.in_channels, *side).double().requires_grad_() for _ in range(2)]
    images[1].data = images[0].data
    outputs = [module(x) for module, x in zip((ours, plain), images, strict=True)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("side", [(4, 4), (5, 9), (1, 3)])
def test_convolution_before_upsampling_is_the_one_after_it(side: tuple[int, int]) -> None:
    plain = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    _assert_same_convolution(UpsampleConv(3, 4), plain, side)


@pytest.mark.parametrize("side", [(6, 6), (8, 14)])
def test_picturing_convolution_is_a_plain_one(side: tuple[int, int]) -> None:
    plain = nn.Conv2d(5, 3, 9, padding=4, padding_mode="reflect")
    _assert_same_convolution(OutputConv(5, 3, 9), plain, side)


def test_channels_last_stays_so() -> None:
    """A layout that flips half-way through costs more than it gains."""
    x = torch.rand(2, 8, 6, 10).contiguous(memory_format=torch.channels_last)
    assert UpsampleConv(8, 4)(x).is_contiguous(memory_format=torch.channels_last)
