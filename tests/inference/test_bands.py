import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fst.errors import RunError
from fst.hardware import fast_dtype
from fst.images import from_uint8, to_uint8
from fst.inference import bands
from fst.inference.bands import memory_need, stylize_in_bands
from fst.networks.layers import InstanceNorm, OutputConv, ReflectConv, Residual
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.resources import resource_folder
from fst.style_file import load_style
from tests.conftest import make_picture

SMALL, LARGE = 1 << 20, 1 << 30  # bytes: most layers go to disk, all stay in memory


def pixels(width: int, height: int) -> Tensor:
    return torch.from_numpy(np.array(make_picture(width, height)))[None]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.float() - b.float()).square().mean().clamp(min=1e-9)))


@torch.inference_mode()
def stylize_whole(network: TransformNetwork, picture: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return to_uint8(network(from_uint8(picture)))


@pytest.fixture(scope="module")
def bundled() -> TransformNetwork:
    return load_style(resource_folder("checkpoints") / "starry_night.safetensors")[0]


@pytest.mark.parametrize("memory", [SMALL, LARGE])
@pytest.mark.parametrize("size", [(97, 61), (16, 300), (130, 18)])
def test_it_is_the_whole_picture(bundled: TransformNetwork, size: tuple[int, int], memory: int) -> None:
    picture = pixels(*size)
    in_bands = stylize_in_bands(bundled, picture, torch.float32, memory)
    assert psnr(in_bands, stylize_whole(bundled, picture, torch.float32)) > 70
    fast = fast_dtype(torch.device("cpu"))
    assert psnr(stylize_in_bands(bundled, picture, fast, memory), stylize_whole(bundled, picture, fast)) > 45


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("johnson", {"width": 4, "blocks": 2, "norm": "batch"}),
        ("johnson", {"width": 4, "blocks": 1}),
        ("unshuffle", {"factor": 4, "width": 16, "blocks": 2}),
        ("unshuffle", {"factor": 2, "width": 4, "body": 8, "blocks": 1, "norm": "batch"}),
    ],
)
def test_every_network(architecture: str, arguments: dict[str, int | str]) -> None:
    torch.manual_seed(0)
    network = build_transform_network(architecture, **arguments).eval()
    picture = pixels(61, 90)
    for memory in (SMALL // 4, LARGE):
        painted = stylize_in_bands(network, picture, torch.float32, memory)
        assert psnr(painted, stylize_whole(network, picture, torch.float32)) > 70


@pytest.mark.parametrize("memory", [SMALL // 4, LARGE])
@pytest.mark.parametrize(
    "layers",
    [
        [Residual(ReflectConv(4, 4, 3)), InstanceNorm(4)],
        [Residual(InstanceNorm(4), nn.ReLU(), ReflectConv(4, 4, 3))],
        [nn.ReLU(), Residual(InstanceNorm(4), nn.ReLU())],
        [nn.ReLU(), InstanceNorm(4)],
    ],
    ids=["norm after a block", "norm at the start of a block", "no convolution in a block", "norm after a ReLU"],
)
def test_layers_in_any_order(layers: list[nn.Module], memory: int) -> None:
    torch.manual_seed(0)
    layers = [ReflectConv(3, 4, 3), *layers, OutputConv(4, 3, 9)]
    network = TransformNetwork(nn.Sequential(*layers), multiple=2).eval()
    picture = pixels(61, 90)
    painted = stylize_in_bands(network, picture, torch.float32, memory)
    assert psnr(painted, stylize_whole(network, picture, torch.float32)) > 70


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([ReflectConv(3, 3, 3), nn.Sigmoid()], "Sigmoid"),
        ([Residual(ReflectConv(3, 3, 3)), OutputConv(3, 3, 9)], "Residual"),
        ([nn.ReLU(), OutputConv(3, 3, 9)], "ReLU"),
    ],
)
def test_layers_that_begin_or_end_no_bands_are_named(layers: list[nn.Module], named: str) -> None:
    network = TransformNetwork(nn.Sequential(*layers), multiple=2).eval()
    with pytest.raises(TypeError, match=f"{named} as the first or last layer is not known to work in bands"):
        stylize_in_bands(network, pixels(61, 90), torch.float32, LARGE)


def test_sums_in_float64_are_not_asked_of_a_gpu() -> None:
    class OnApple(Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            if function is Tensor.double:
                raise TypeError("there is no float64")  # as PyTorch for Apple's GPUs
            result = super().__torch_function__(function, types, arguments, options or {})
            return result.as_subclass(Tensor) if function is Tensor.cpu else result

    values = torch.rand(1, 2, 3, 4)
    rows = bands._Rows(3, 4, 2, torch.float32, in_memory=True)
    rows.write(0, values.as_subclass(OnApple))
    assert rows._sum == pytest.approx(values.sum((0, 2, 3)))


def test_a_full_disk_is_one_clear_line(bundled: TransformNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(RunError, match="TMPDIR"):
        stylize_in_bands(bundled, pixels(97, 61), torch.float32, SMALL)


def test_the_bands_are_the_devices_and_what_is_kept_the_hosts(
    bundled: TransformNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    convert = bands.from_uint8
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: pytest.fail("not enough of the host's memory"))
    monkeypatch.setattr(bands, "from_uint8", lambda rows: sizes.append(rows.shape[1]) or convert(rows))
    stylize_in_bands(bundled, pixels(97, 61), torch.float32, LARGE, SMALL)
    assert max(sizes) < 61
    sizes.clear()
    stylize_in_bands(bundled, pixels(97, 61), torch.float32, LARGE, LARGE)
    assert max(sizes) >= 61


def test_wide_pictures_need_more_even_in_bands(bundled: TransformNetwork) -> None:
    narrow, wide = (memory_need(bundled).in_bands(width) for width in (1000, 30_000))
    assert narrow == 64 << 20
    assert 390 < wide / 2**20 < 800  # 390 MiB were measured


def test_more_channels_at_full_size_need_more_memory() -> None:
    johnson, half = (build_transform_network("johnson", width=width) for width in (32, 16))
    light = build_transform_network("unshuffle")
    needs = [memory_need(network).at_once(720, 1280) for network in (johnson, half, light)]
    assert needs == sorted(needs, reverse=True)
    assert needs[0] == 720 * 1280 * (80 + 20 * 32)
