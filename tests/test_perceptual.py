"""The loss against a few lines of NumPy, and against the peers' own arithmetic."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from fst.errors import UserError
from fst.networks.vgg import LossNetwork
from fst.perceptual import (
    CONVENTIONS,
    LossWeights,
    PerceptualLoss,
    content_term,
    gram_matrix,
    grid_excess,
    range_excess,
    style_term,
    temporal_term,
    total_variation,
)
from fst.resources import resource_folder

LAYERS = {"relu1_2": 1.0, "relu2_2": 1.0}


def make_loss(**changes: object) -> PerceptualLoss:
    arguments = {
        "loss_network": LossNetwork("vgg16", ["relu1_2", "relu2_2"], "random"),
        "style_image": torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(5)),
        "content_layers": {"relu2_2": 1.0},
        "style_layers": LAYERS,
        "weights": LossWeights(content=1.0, style=2.0, tv=3.0, range=4.0, grid=5.0),
    }
    return PerceptualLoss(**arguments | changes)


def test_gram_of_a_known_tensor() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]])
    # F Fᵀ = [[30, -2], [-2, 2]], C·H·W = 8
    assert torch.equal(gram_matrix(features), torch.tensor([[[3.75, -0.25], [-0.25, 0.25]]]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gram_gradient_is_autograds(layout: torch.memory_format) -> None:
    features = torch.randn(2, 5, 4, 6).contiguous(memory_format=layout).requires_grad_()
    target = torch.randn(2, 5, 5)  # not symmetric
    flat = features.flatten(2)
    plain = flat @ flat.transpose(1, 2) / (5 * 4 * 6)
    gram = gram_matrix(features)
    torch.testing.assert_close(gram, plain)
    gradients = [torch.autograd.grad((g - target).pow(3).sum(), features)[0] for g in (gram, plain)]
    torch.testing.assert_close(*gradients)


def test_gram_of_bfloat16_features_is_summed_in_float32() -> None:
    # Sums of ones in bfloat16 stop growing at 256.
    features = torch.ones(1, 2, 64, 64, dtype=torch.bfloat16, requires_grad=True)
    gram = gram_matrix(features)
    assert gram.dtype == torch.float32
    assert torch.equal(gram, torch.full((1, 2, 2), 0.5))
    gram.sum().backward()
    assert features.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions_against_numpy(convention: str) -> None:
    rng = np.random.default_rng(0)
    y, x, s = (rng.normal(size=(b, 5, 6, 7)) for b in (2, 2, 1))
    contents, styles = [], []
    for picture, target in zip(y, x, strict=True):
        f, p, a = (t.reshape(5, 42) for t in (picture, target, s[0]))
        g, h = f @ f.T, a @ a.T  # Gatys' Gram matrices, not divided
        if convention == "relative":
            contents.append(((f - p) ** 2).sum() / (p**2).sum())
            styles.append(((g - h) ** 2).sum() / (h**2).sum())
        elif convention == "johnson":
            contents.append(((f - p) ** 2).mean())
            styles.append((((g - h) / (5 * 42)) ** 2).sum())
        else:
            contents.append(((f - p) ** 2).sum() / 2)
            styles.append(((g - h) ** 2).sum() / (4 * 5**2 * 42**2))
    y, x, s = (torch.from_numpy(t).float() for t in (y, x, s))
    assert content_term(y, x, convention).item() == pytest.approx(np.mean(contents), rel=1e-5)
    term = style_term(gram_matrix(y), gram_matrix(s), convention)
    assert term.item() == pytest.approx(np.mean(styles), rel=1e-5)


def test_total_variation_and_range_of_known_pictures() -> None:
    images = torch.zeros(1, 3, 2, 2)
    images[..., 0, 0] = 2.0
    # one of two vertical and one of two horizontal differences is 2: means 2 + 2
    assert total_variation(images).item() == 4.0
    # one of four pixels exceeds 1 by 1
    assert range_excess(images).item() == 0.25
    assert range_excess(torch.rand(1, 3, 8, 8)).item() == 0.0


def test_a_grid_in_place_counts_and_photos_shading_and_other_periods_do_not() -> None:
    photo = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0)) * 0.2
    photo = photo + torch.linspace(0, 0.5, 80)
    for direction in (0, 1):
        position = torch.arange(64 if direction == 0 else 80)
        for period, factor in ((4, 2), (8, 1.5)):
            grid = 0.02 * (position % period == 0).float()
            assert grid_excess(photo + (grid[:, None] if direction == 0 else grid)) > factor * grid_excess(photo)
        five = 0.02 * (position % 5 == 0).float()
        assert grid_excess(photo + (five[:, None] if direction == 0 else five)) < 1.2 * grid_excess(photo)
    # 0.02 at every fourth row: row differences are -0.02 and +0.02 in two of four places, mean 0
    only = (0.02 * (torch.arange(65) % 4 == 0).float())[:, None].expand(1, 3, 65, 64)
    assert grid_excess(only).item() == pytest.approx(0.02**2 / 2)
    low = only[..., :17, :8].mT  # its seven row differences are fewer than a cell has
    assert grid_excess(low).item() == pytest.approx(0.02**2 / 2)


def test_five_lines_in_a_loop_of_ones_own() -> None:
    """As `conf/README.md` shows them."""
    style_image, network = torch.rand(1, 3, 40, 48), torch.nn.Conv2d(3, 3, 1)
    loader = [torch.rand(2, 3, 32, 32)]

    content, style = {"relu2_2": 1.0}, {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0}
    loss = PerceptualLoss(LossNetwork("compact", {*content, *style}, "bundled"), style_image, content, style)
    for photos in loader:  # (B, 3, H, W) in [0, 1]
        terms = loss(network(photos), loss.content_targets(photos))
        terms["loss"].backward()

    assert network.weight.grad.abs().min() > 0


def test_the_default_weights_are_those_of_training() -> None:
    conf = OmegaConf.load(resource_folder("conf") / "loss" / "relative.yaml")
    loss = PerceptualLoss(make_loss().loss_network, torch.rand(1, 3, 40, 48), {"relu2_2": 1.0}, LAYERS)
    assert loss.weights._asdict() == conf.weights
    assert loss.convention == conf.convention


def test_wrong_targets_are_one_clear_line() -> None:
    loss = make_loss()
    stylized = torch.rand(2, 3, 32, 32)
    for targets, line in {
        "photos": (torch.rand(2, 3, 32, 32), r"must be what content_targets\(PICTURES\) of the same"),
        "other layers": ({"relu1_2": torch.rand(2, 64, 32, 32)}, r"must be what content_targets\(PICTURES\)"),
        "size": (loss.content_targets(torch.rand(2, 3, 32, 40)), r"at relu2_2 they are \(2, 128, 16, 20\)"),
        "batch": (loss.content_targets(torch.rand(3, 3, 32, 32)), r"and \(2, 128, 16, 16\) is needed"),
    }.values():
        with pytest.raises(UserError, match=line):
            loss(stylized, targets)
    assert loss(stylized, loss.content_targets(stylized[:1]))["content"] > 0, "one photo for all"


def test_terms_add_up_and_are_named_by_layer() -> None:
    loss = make_loss()
    content = torch.rand(2, 3, 32, 32)
    stylized = torch.rand(2, 3, 32, 32) * 1.5
    terms = loss(stylized, loss.content_targets(content))
    assert list(terms) == [
        "loss",
        "content",
        "style",
        "tv",
        "range",
        "grid",
        "content/relu2_2",
        "style/relu1_2",
        "style/relu2_2",
    ]
    assert terms["style"].item() == pytest.approx((terms["style/relu1_2"] + terms["style/relu2_2"]).item() / 2)
    parts = terms["content"] + 2 * terms["style"] + 3 * terms["tv"] + 4 * terms["range"] + 5 * terms["grid"]
    assert terms["loss"].item() == pytest.approx(parts.item())
    assert all(term.dtype == torch.float32 and term.ndim == 0 for term in terms.values())


def test_the_coarse_style_term_is_the_style_term_at_half_the_size() -> None:
    content, stylized, style_image = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(1, 3, 40, 48)
    plain = make_loss(style_image=F.avg_pool2d(style_image, 2))
    expected = plain(F.avg_pool2d(stylized, 2), plain.content_targets(F.avg_pool2d(content, 2)))
    coarse = make_loss(style_image=style_image, weights=LossWeights(style=2.0, coarse_style=3.0))
    terms = coarse(stylized, coarse.content_targets(content))
    for name in ("style", "style/relu1_2", "style/relu2_2"):
        assert terms[f"coarse_{name}"].item() == pytest.approx(expected[name].item())
    parts = terms["content"] + 2 * terms["style"] + 3 * terms["coarse_style"]
    assert terms["loss"].item() == pytest.approx(parts.item())


def test_layer_weights_and_reductions() -> None:
    content, stylized = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    weighted = {"relu1_2": 3.0, "relu2_2": 1.0}
    for reduction, divisor in (("mean", 4.0), ("sum", 1.0)):
        loss = make_loss(style_layers=weighted, reduction=reduction)
        terms = loss(stylized, loss.content_targets(content))
        expected = (3 * terms["style/relu1_2"] + terms["style/relu2_2"]) / divisor
        assert terms["style"].item() == pytest.approx(expected.item())
    assert list(make_loss(style_layers={"relu1_2": 0.0, "relu2_2": 1.0}).style_layers) == ["relu2_2"]


def test_the_style_picture_itself_has_no_style_error_and_a_photo_no_content_error() -> None:
    style = torch.rand(1, 3, 48, 40)
    loss = make_loss(style_image=style)
    terms = loss(style, loss.content_targets(style))
    assert terms["style"].item() < 1e-10
    assert terms["content"].item() == 0.0


def test_relative_terms_do_not_depend_on_the_loss_networks_scale() -> None:
    content, stylized = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    plain, scaled = make_loss(), make_loss()
    network = LossNetwork("vgg16", LAYERS, "random")
    network.conv1_1_weight *= 7.0  # random weights have no bias, so all features scale
    scaled = make_loss(loss_network=network)
    first, second = (loss(stylized, loss.content_targets(content)) for loss in (plain, scaled))
    for name in ("content", "style"):
        assert first[name].item() == pytest.approx(second[name].item(), rel=1e-4)


def test_johnson_with_the_right_layer_weights_is_pytorch_examples_loss() -> None:
    """Their Gram loss is a mean over C² entries, the paper's a sum: layer weights of 1/C² turn one into the other."""
    network = LossNetwork("vgg16", LAYERS, "random")
    style, content, stylized = torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    loss = PerceptualLoss(
        network,
        style,
        {"relu2_2": 1.0},
        {"relu1_2": 1 / 64**2, "relu2_2": 1 / 128**2},
        LossWeights(content=1e5, style=1e10),
        "johnson",
        "sum",
    )

    def gram(y: torch.Tensor) -> torch.Tensor:
        b, c, h, w = y.shape
        return y.view(b, c, h * w).bmm(y.view(b, c, h * w).transpose(1, 2)) / (c * h * w)

    of_y, of_x, of_s = (
        {k: v.contiguous() for k, v in network(t).items()} for t in (stylized, content, style.expand(2, -1, -1, -1))
    )
    expected = 1e5 * F.mse_loss(of_y["relu2_2"], of_x["relu2_2"])
    expected += 1e10 * sum(F.mse_loss(gram(of_y[layer]), gram(of_s[layer])) for layer in LAYERS)
    assert loss(stylized, loss.content_targets(content))["loss"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gradient_of_the_terms(convention: str) -> None:
    """Against finite differences, in float64 on the pure functions' own arithmetic."""
    generator = torch.Generator().manual_seed(0)
    loss = make_loss(convention=convention)
    content = torch.rand(1, 3, 12, 12, generator=generator)
    stylized = (torch.rand(1, 3, 12, 12, generator=generator) * 1.4 - 0.2).requires_grad_()
    targets = loss.content_targets(content)
    (gradient,) = torch.autograd.grad(loss(stylized, targets)["loss"], stylized)
    direction = gradient / gradient.norm()
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (loss(stylized + sign * step * direction, targets)["loss"] for sign in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx(gradient.norm().item(), rel=0.03)


def test_style_targets_are_buffers_that_move_but_are_not_saved() -> None:
    loss = make_loss()
    assert {name for name, _ in loss.named_buffers(recurse=False)} == {"_style_relu1_2", "_style_relu2_2"}
    assert not loss.state_dict()
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_the_arithmetic_stays_in_float32_under_autocast() -> None:
    features = torch.full((1, 4, 64, 64), 1.001).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        gram = gram_matrix(features)
        term = content_term(features, features + 1)
    assert gram.dtype == term.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"convention": "huber"}, "loss.convention is 'huber'"),
        ({"reduction": "max"}, "loss.reduction is 'max'"),
        ({"style_layers": {"relu1_2": -1.0}}, "negative"),
        ({"weights": LossWeights(style=-1.0)}, "negative"),
    ],
)
def test_mistakes_are_one_clear_line(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**changes)


def test_the_temporal_term_counts_visible_pixels_only() -> None:
    one, other = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    other[..., 0, 0], other[..., 1, 1] = 0.5, 9.0
    visible = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    visible[..., 1, 1] = False
    variance = 0.25 / 15 - (0.5 / 15) ** 2
    assert temporal_term(one, other, visible).item() == pytest.approx(0.25 / 15 / variance)
    assert temporal_term(other, one, visible).item() == pytest.approx(0.25 / 15 / 1e-3)  # a flat picture
    assert temporal_term(one, one, visible).item() == 0
    assert temporal_term(one, other, torch.zeros_like(visible)).item() == 0


def test_paler_pictures_do_not_lower_the_temporal_term() -> None:
    one, other = torch.rand(2, 3, 8, 9), torch.rand(2, 3, 8, 9)
    visible = torch.rand(2, 1, 8, 9) > 0.2
    term = temporal_term(one, other, visible)
    assert temporal_term(0.3 * one + 0.3, 0.3 * other + 0.3, visible).item() == pytest.approx(term.item(), rel=1e-4)
