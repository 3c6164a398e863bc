import pytest
import torch
from torch import nn

from fst.networks.transform import JohnsonNetwork
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss
from fst.training.module import StyleTransferModule


def test_validation_measures_how_far_the_output_leaves_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    network = JohnsonNetwork(width=4, blocks=1)
    nn.init.zeros_(network.layers[-1].weight)
    nn.init.constant_(network.layers[-1].bias, 3.0)  # paints 3 / 2 + 0.5 = 2 everywhere: 1 too much
    layers = {"relu1_1": 1.0}
    loss = PerceptualLoss(
        LossNetwork("vgg16", layers, "random"), torch.rand(1, 3, 32, 32), layers, layers, LossWeights(range=50.0)
    )
    module = StyleTransferModule(network, loss, torch.optim.Adam).eval()
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(module, "log_dict", lambda terms, **_: logged.update(terms))
    with torch.no_grad():
        shown = module.validation_step(torch.full((1, 32, 32, 3), 128, dtype=torch.uint8), 0)
    assert logged["val/range"].item() == pytest.approx(1.0)
    assert logged["val/loss"] >= 50 * logged["val/range"]
    assert shown["stylized"].max() == 1  # the sample strip shows pictures
