"""The pieces of the distillation that have a right answer; what it makes is judged by the real VGG19 (marker real)."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fst.networks.vgg import LossNetwork
from scripts import distill_loss_network as script


def test_a_convolution_is_found_again() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.rand(2, 5, 20, 30), torch.randn(4, 5, 3, 3), torch.randn(4)
    found, offset = script.fit_convolution(x, F.conv2d(x, weight, bias, padding=1))
    assert torch.allclose(found, weight, atol=0.02)
    assert torch.allclose(offset, bias, atol=0.05)


def test_leading_channels_leave_out_what_others_explain() -> None:
    torch.manual_seed(0)
    basis = torch.randn(3, 200)
    features = torch.stack([basis[0], 2 * basis[0], basis[1], basis[0] + basis[1], 0.1 * basis[2], 5 * basis[2]])
    chosen = script.leading_channels(features @ features.T, 3)
    assert torch.linalg.matrix_rank(features[chosen]) == 3


def test_noise_is_a_picture_of_its_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        return script.random_noise(torch.Generator().manual_seed(seed))

    assert draw(0).shape == (3, script.SIZE, script.SIZE)
    assert 0 <= draw(0).min() < draw(0).max() <= 1
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_a_distillation_resumes_and_writes_a_loss_network(
    photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SIZE": 32, "BATCH": 4, "POOLED": 2, "POOL": 4}.items():
        monkeypatch.setattr(script, name, value)
    out = tmp_path / "compact.safetensors"
    folders = ["--photos", str(photos), "--val", str(painting.parent), "--style-images", str(painting.parent)]
    command = [
        "distill",
        str(out),
        "--teacher",
        "random",
        *folders,
        "--prune-on",
        "4",
        "--workers",
        "0",
        "--every",
        "1",
    ]
    for steps in ("1", "2"):
        monkeypatch.setattr(sys, "argv", [*command, "--steps", steps])
        script.main()
    assert torch.load(out.with_suffix(".pt"), weights_only=True)["step"] == 2

    def fail_half_way(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(sys, "argv", [*command, "--steps", "3"])
    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(OSError, match="no space left"):
        script.main()
    assert torch.load(out.with_suffix(".pt"), weights_only=True)["step"] == 2, "the state before is kept"
    network = LossNetwork("compact", ["relu4_4"], str(out))
    assert network(torch.rand(1, 3, 32, 32))["relu4_4"].shape == (1, 192, 4, 4)
    assert out.stat().st_size < 4e6
