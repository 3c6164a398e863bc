from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fst.errors import UserError
from fst.images import from_uint8, to_uint8
from fst.networks.transform import NORMS, JohnsonNetwork, UnshuffleNetwork, build_transform_network, plain_form
from fst.values import Norm


def test_the_configuration_names_all_norms() -> None:
    assert get_args(Norm) == tuple(NORMS)


def test_parameters_at_full_width() -> None:
    # Counted by hand from the table of the paper's supplement, biases and affine norms included.
    network = build_transform_network("johnson")
    assert sum(p.numel() for p in network.parameters()) == 1_679_235


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("size", [(16, 16), (17, 19), (30, 45), (61, 90), (64, 33), (127, 18)])
def test_output_has_the_inputs_size(size: tuple[int, int], norm: str) -> None:
    images = torch.rand(2, 3, *size)
    light = (UnshuffleNetwork(factor, width=4, body=8, blocks=1, norm=norm) for factor in (4, 3, 1))
    for network in (JohnsonNetwork(4, 1, norm), *light):
        output = network.eval()(images)
        assert output.shape == images.shape
        assert output.min() >= 0
        assert output.max() <= 1


def test_cells_do_not_show_before_training() -> None:
    """Pixel-shuffled, the first output is what bilinear upsampling makes of one value a cell."""
    torch.manual_seed(0)
    head, shuffle = UnshuffleNetwork(factor=4, width=16, blocks=1).layers[-2:]
    features = torch.rand(1, 16, 6, 7)
    painted = shuffle(head(features))
    weight, bias = head.kernels()
    window = weight.unflatten(0, (3, 16)).sum((3, 4), keepdim=True).mean(1)  # all pixels' taps as one 1×1 kernel
    expected = F.interpolate(F.conv2d(features, window, bias[::16]), scale_factor=4, mode="bilinear")
    torch.testing.assert_close(painted[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])  # reflected differently outside


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_cells_do_not_show_in_flat_areas_whatever_was_learned(factor: int) -> None:
    torch.manual_seed(0)
    head, shuffle = UnshuffleNetwork(factor, width=16, blocks=1).layers[-2:]
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    painted = shuffle(head(torch.rand(2, 16, 1, 1).expand(2, 16, 5, 6)))
    torch.testing.assert_close(painted, painted[..., :1, :1].expand_as(painted), rtol=1e-4, atol=1e-4)
    assert shuffle(head(torch.rand(1, 16, 5, 6))).std() > 0.1


@pytest.mark.parametrize("factor", [0, 5])
def test_cells_too_large_for_the_smallest_picture_are_refused(factor: int) -> None:
    with pytest.raises(UserError, match=f"model.factor is {factor}"):
        build_transform_network("unshuffle", factor=factor)


def test_odd_sizes_are_cut_not_skewed() -> None:
    """The common part of a picture and of its extension by reflection is painted alike."""
    torch.manual_seed(0)
    network = JohnsonNetwork(width=4, blocks=1)
    images = torch.rand(1, 3, 61, 90)
    extended = F.pad(images, (0, 2, 0, 3), mode="reflect")
    with torch.no_grad():
        assert torch.equal(network(images), network(extended)[..., :61, :90])


def test_a_frame_of_eight_pixels_is_painted_and_cut_off() -> None:
    torch.manual_seed(0)
    network = JohnsonNetwork(width=4, blocks=1)
    images = torch.rand(1, 3, 60, 84)
    with torch.no_grad():
        painted = network(F.pad(images, (8, 8, 8, 8), mode="reflect"))  # in training mode: as it is
        assert torch.equal(network.eval()(images), painted[..., 8:-8, 8:-8].clamp(0, 1))


def test_too_small_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="a 15×40 picture is too small to stylize: at least 16×16"):
        JohnsonNetwork(width=4, blocks=1)(torch.rand(1, 3, 40, 15))


def test_the_output_is_linear_in_training_and_clamped_in_use() -> None:
    torch.manual_seed(0)
    network = JohnsonNetwork(width=4, blocks=1)
    nn.init.constant_(network.layers[-1].bias, 9.0)  # far outside [0, 1]
    images = torch.rand(1, 3, 32, 32)
    raw = network.train()(images)
    assert raw.min() > 1
    raw.sum().backward()
    assert network.layers[-1].weight.grad.abs().sum() > 0  # gradients reach what a saturating output would have killed
    assert network.eval()(images).max() == 1


@pytest.mark.parametrize("name", ["johnson", "unshuffle"])
def test_convolutions_that_read_or_write_pixels_train_in_float32(name: str) -> None:
    network = build_transform_network(name, width=16, blocks=1).train()
    found: list[torch.dtype] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: found.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        painted = network(torch.rand(1, 3, 32, 32))
    first, *body, last = found
    assert first == last == painted.dtype == torch.float32
    assert set(body) == {torch.bfloat16}


@pytest.mark.parametrize("arguments", [{"architecture": "johnson", "blocks": 1}, {"architecture": "unshuffle"}])
def test_the_plain_form_gives_the_same(arguments: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build_transform_network(**arguments, width=4).eval()
    images = torch.rand(2, 3, 61, 90)
    fast = network(images)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("not plain")

    monkeypatch.setattr("fst.networks.layers._merge_weights", refused)
    monkeypatch.setattr(F, "batch_norm", refused)
    if arguments["architecture"] == "johnson":  # the other shuffles by design
        monkeypatch.setattr(F, "pixel_shuffle", refused)
    torch.testing.assert_close(plain_form(network)(images), fast, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="not plain"):
        network(images)  # it was not changed


def test_the_plain_form_sets_each_layer_with_that_attribute() -> None:
    class NewLayer(nn.Identity):
        plain = False

    network = JohnsonNetwork(width=4, blocks=1)
    network.layers.append(NewLayer())
    last, changed = (form.layers[-1] for form in (network, plain_form(network)))
    assert (last.plain, changed.plain) == (False, True)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    network = JohnsonNetwork(width=4, blocks=1).eval()
    images = torch.rand(3, 3, 32, 32)
    together = network(images)
    for index, picture in enumerate(images.split(1)):
        torch.testing.assert_close(network(picture)[0], together[index], rtol=1e-4, atol=1e-5)


def test_a_flat_picture_stays_flat() -> None:
    """Zero variance must not blow rounding up to blobs, nor the paddings leave a frame."""
    torch.manual_seed(0)
    network = JohnsonNetwork(width=8, blocks=2)
    for value in (0.0, 0.5, 1.0):
        output = network(torch.full((1, 3, 96, 64), value))
        assert output.std(dim=(2, 3)).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "unet"}, "no transform network 'unet'"),
        ({"architecture": "johnson", "depth": 3}, "depth"),
        ({"architecture": "johnson", "norm": "layer"}, "instance or batch"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_transform_network(**arguments)


@pytest.mark.parametrize("size", [(48, 64), (61, 90), (17, 16)])
@pytest.mark.parametrize("name", ["johnson", "unshuffle"])
def test_bytes_go_through_as_floats_do(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = build_transform_network(name, width=16, blocks=1).eval()
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected, painted = to_uint8(network(from_uint8(pixels))), network.forward_pixels(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network.forward_pixels(pixels)
    assert painted.shape == pixels.shape
    assert painted.dtype == torch.uint8
    assert (painted.int() - expected.int()).abs().max() <= 1  # a half may be rounded either way
    assert (rough.float() - expected.float()).abs().mean() < 1.5
