"""Networks of pytorch/examples, as that project saves them: their outputs are those of the originals."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fst.cli import main
from fst.images import psnr
from fst.inference.stylizer import Stylizer
from fst.style_info import read_info
from tests.mistakes import run

WIDTH, BLOCKS = 4, 2


def convolution(read: int, give: int, size: int, stride: int = 1) -> nn.ModuleDict:
    return nn.ModuleDict({"conv2d": nn.Conv2d(read, give, size, stride)})


class Original(nn.Module):
    """That project's network, with its names of modules and its arithmetic, but small."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, WIDTH, 2 * WIDTH, 4 * WIDTH]
        for number, (read, give) in enumerate(pairwise(sizes), 1):
            self.add_module(f"conv{number}", convolution(read, give, 9 if number == 1 else 3, min(number, 2)))
            self.add_module(f"in{number}", nn.InstanceNorm2d(give, affine=True))
        for number in range(1, BLOCKS + 1):
            parts = {f"conv{i}": convolution(sizes[-1], sizes[-1], 3) for i in (1, 2)}
            norms = {f"in{i}": nn.InstanceNorm2d(sizes[-1], affine=True) for i in (1, 2)}
            self.add_module(f"res{number}", nn.ModuleDict(parts | norms))
        for number, (read, give) in enumerate([(4 * WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH), (WIDTH, 3)], 1):
            self.add_module(f"deconv{number}", convolution(read, give, 9 if number == 3 else 3))
        self.in4, self.in5 = nn.InstanceNorm2d(2 * WIDTH, affine=True), nn.InstanceNorm2d(WIDTH, affine=True)

    def conv(self, name: str, x: Tensor) -> Tensor:
        layer = self.get_submodule(f"{name}.conv2d")
        return layer(F.pad(x, (layer.kernel_size[0] // 2,) * 4, mode="reflect"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(x)

    def forward(self, x: Tensor) -> Tensor:
        for number in (1, 2, 3):
            x = self.norm(f"in{number}", self.conv(f"conv{number}", x)).relu()
        for name in (f"res{number}" for number in range(1, BLOCKS + 1)):
            y = self.norm(f"{name}.in1", self.conv(f"{name}.conv1", x)).relu()
            x = self.norm(f"{name}.in2", self.conv(f"{name}.conv2", y)) + x
        for number in (1, 2):
            x = self.conv(f"deconv{number}", F.interpolate(x, scale_factor=2, mode="nearest"))
            x = self.norm(f"in{number + 3}", x).relu()
        return self.conv("deconv3", x)


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Original:
    """Also in `mosaic.pth`, with what older versions of torch saved."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = Original().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "in" in name.split(".")[-2]:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
        network.deconv3["conv2d"].weight.mul_(60)
        network.deconv3["conv2d"].bias.fill_(120)
    old = {"in1.running_mean": torch.zeros(WIDTH), "res1.in1.num_batches_tracked": torch.tensor(3)}
    torch.save(network.state_dict() | old, "mosaic.pth", _use_new_zipfile_serialization=False)
    return network


@torch.no_grad()
def test_the_output_is_the_originals(original: Original, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "mosaic.pth", "--name", "mosaic"]) == 0
    path = Path("outputs/mosaic/imported/mosaic.safetensors")
    assert capsys.readouterr().out == f"{path}\nuse it:  fst stylize PHOTO -s mosaic\n"
    assert dict(read_info(path).arguments) == {"width": WIDTH, "blocks": BLOCKS}
    stylizer = Stylizer("mosaic", "cpu")
    for size in ((48, 64), (100, 36)):
        photo = F.interpolate(torch.rand(1, 3, 9, 9), size, mode="bicubic").clamp(0, 1)
        expected = (original(255 * photo) / 255).clamp(0, 1)
        assert expected.std() > 0.1, "the comparison means something"
        assert psnr(stylizer(photo), expected) > 40
    assert stylizer(torch.rand(1, 3, 37, 51)).shape == (1, 3, 37, 51), "any size"
    assert main(["styles"]) == 0
    assert "as mosaic; pytorch_examples (width 4, blocks 2)  outputs" in capsys.readouterr().out


def test_what_is_printed_can_be_pasted(original: Original, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "mosaic.pth", "--name", "my style"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "outputs/my style/imported/my style.safetensors",
        "use it:  fst stylize PHOTO -s 'my style'",
    ]


class Code:
    def __reduce__(self) -> tuple:
        return Path("executed").touch, ()


def test_other_files_are_one_line(original: Original) -> None:
    weights = original.state_dict()
    first = "conv1.conv2d.weight"
    torch.save(Code(), "code.pth")
    torch.save({"state": [1, 2]}, "plain.pth")
    torch.save({"features.0.weight": weights[first]}, "vgg.pth")
    torch.save(weights | {"attention.weight": torch.zeros(1)}, "more.pth")
    torch.save({key: value for key, value in weights.items() if "deconv2" not in key}, "fewer.pth")
    torch.save({key: value for key, value in weights.items() if not key.startswith("res")}, "flat.pth")
    torch.save(weights | {"in5.bias": torch.zeros(9)}, "odd.pth")
    torch.save(weights | {"in5.bias": torch.full((WIDTH,), float("nan"))}, "nan.pth")
    Path("text.pth").write_text("no weights")
    Path("there.safetensors").touch()
    for command, named in {
        "code.pth --name a": "code.pth: cannot be read as the weights of a network",
        "text.pth --name a": "text.pth: cannot be read",
        "plain.pth --name a": "not the weights of a network",
        "vgg.pth --name a": "it has no conv1.conv2d.weight",
        "more.pth --name a": "it has attention.weight, too",
        "fewer.pth --name a": "deconv2.conv2d.weight is missing",
        "flat.pth --name a": "it has no res1.conv1.conv2d.weight",
        "odd.pth --name a": "in5.bias is (9,), not (4,)",
        "nan.pth --name a": "NaN or infinity",
        "missing.pth --name a": "missing.pth: no such file",
        "mosaic.pth": "--name",
        "mosaic.pth --name a/b": "cannot be a file's name",
        "mosaic.pth --name a.jpg": "name='a.jpg' means something else after -s",
        "mosaic.pth --name a.safetensors": "means something else after -s",
        "mosaic.pth --name .a": "means something else after -s",
        "mosaic.pth --name=-a": "means something else after -s",
        "mosaic.pth --name all": "means something else after -s",
        "mosaic.pth --name bundled:a": "means something else after -s",
        "mosaic.pth --name a -o a.pth": "-o a.pth: a style is a .safetensors file",
        "mosaic.pth --name a -o there.safetensors": "exists; --force overwrites it",
        ". --name a": ". is a folder",
    }.items():
        outcome = run(f"import {command}")
        assert outcome.faults() == []
        assert named in outcome.err
    assert not Path("executed").exists()
