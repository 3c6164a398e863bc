import sys
from pathlib import Path

import pytest
import torch

from fst.networks.vgg import LossNetwork
from fst.perceptual import gram_matrix
from scripts import judge_loss_network as script


def test_distances_are_zero_to_itself_and_grow(painting: Path) -> None:
    network = LossNetwork("compact", ["relu1_2", "relu2_1"], "random")
    photo = torch.rand(1, 3, 32, 32)
    near, far = ((photo + amount * torch.randn_like(photo)).clamp(0, 1) for amount in (0.02, 0.2))
    grams = {painting: {layer: gram_matrix(features) for layer, features in network(photo).items()}}
    found = script.distances(network, photo, [photo, near, far], grams)
    assert sorted(found) == ["content/relu1_2", "content/relu2_1", "style/relu1_2", "style/relu2_1"]
    for values in found.values():
        assert values[0] == 0
        assert values == sorted(values)


def test_every_layer_gets_its_row(
    photos: Path, painting: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    weights = ["--network", "random", "--judge", "random"]
    pictures = ["--photos", str(photos), "--style-images", str(painting.parent), "--styles", str(style_file)]
    monkeypatch.setattr(sys, "argv", ["judge", *weights, *pictures, "--count", "2", "--size", "32"])
    script.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| relu")]
    assert len(rows) == 12
    for _, content, style in rows:
        assert -1 <= float(content) <= 1
        assert -1 <= float(style.rstrip(" |")) <= 1
