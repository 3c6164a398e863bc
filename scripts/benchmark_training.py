"""What a training step costs: a plain eager step as the peers write it, ours, and what each switch brings.

    python scripts/benchmark_training.py [--size 256] [--batch 4] [--rounds 5] [--photos FOLDER] [--json FILE]

All steps run in one process, in turn, and the medians are compared; memory is measured in a process for each.
Absolute times drift and differ from machine to machine: quote the ratios. The pictures are dead-leaves scenes, the
network is a trained one: the gradient of training, for all but its first steps.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_optimizer import SOAP
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fst.files import write_atomically
from fst.hardware import fast_dtype, keep_large_blocks, peak_memory_mib, pick_device
from fst.images import from_uint8
from fst.inference.style_file import find_style, load_style
from fst.networks.transform import (
    InstanceNorm,
    PicturingConvolution,
    UpsampledConvolution,
    build_transform_network,
)
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss, grid_excess, range_excess, total_variation
from fst.training.synthetic import SceneDataset

CONTENT = {"relu2_2": 1.0}
STYLE = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0}
WEIGHTS = LossWeights(style=15.0, range=50.0, grid=2000.0)

# Each adds one switch to those before it.
PLAIN, CUT, PHASES, CHANNELS_LAST, LOW_PRECISION, KEEP_BLOCKS, COMPILE = range(7)
NAMES = (
    "plain eager, as the peers",
    "+ content pass cut, own Gram",
    "+ convolutions by phases",
    "+ channels last",
    "+ bfloat16",
    "+ memory kept (the default)",
    "+ torch.compile",
)


class PlainLoss:
    """The same loss as the peers write it: both pictures through the whole network, autograd's own Gram."""

    def __init__(self, loss_network: LossNetwork, style_image: Tensor, batch: int) -> None:
        self.loss_network = loss_network
        with torch.no_grad():
            self.style = {
                layer: self._gram(f) for layer, f in self.features(style_image.repeat(batch, 1, 1, 1)).items()
            }

    def features(self, images: Tensor) -> dict[str, Tensor]:
        network, features = self.loss_network, {}
        x = (images - network.get_buffer("_mean")) / network.get_buffer("_std")
        for layer in network.table:
            if layer.kind == "conv":
                weight, bias = (network.get_buffer(f"{layer.name}_{kind}") for kind in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, padding=1)
            else:
                x = F.relu(x, inplace=True) if layer.kind == "relu" else F.max_pool2d(x, 2)
            if layer.name in STYLE:
                features[layer.name] = x
        return features

    def __call__(self, stylized: Tensor, features: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        y, x = features["relu2_2"], targets["relu2_2"]
        content = ((y - x).pow(2).sum((1, 2, 3)) / x.pow(2).sum((1, 2, 3))).mean()
        style = stylized.new_zeros(())
        for layer, gram in self.style.items():
            difference = self._gram(features[layer]) - gram
            style = style + (difference.pow(2).sum((1, 2)) / gram.pow(2).sum((1, 2))).mean() / len(self.style)
        pixels = WEIGHTS.tv * total_variation(stylized) + WEIGHTS.range * range_excess(stylized)
        return WEIGHTS.content * content + WEIGHTS.style * style + pixels + WEIGHTS.grid * grid_excess(stylized)

    @staticmethod
    def _gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return flat.bmm(flat.transpose(1, 2)) / features[0].numel()


def build_network(level: int, fresh: bool = False) -> nn.Module:
    torch.manual_seed(0)
    network = build_transform_network("johnson")
    if not fresh:
        network.load_state_dict(load_style(find_style("starry_night"))[0].state_dict())
    for layer in network.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = level >= CUT
        elif isinstance(layer, UpsampledConvolution | PicturingConvolution):
            layer.plain = level < PHASES
        elif isinstance(layer, InstanceNorm):
            layer.plain = level < CHANNELS_LAST
    return network.to(memory_format=torch.channels_last if level >= CHANNELS_LAST else torch.contiguous_format)


def build_step(
    level: int, device: torch.device, size: int, batch: int, fresh: bool = False
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network, trained or `fresh`, and its step: `(B, 3, size, size)` photos in, the loss out, one update done."""
    network = build_network(level, fresh).to(device)
    layout = torch.channels_last if level >= CHANNELS_LAST else torch.contiguous_format
    dtype = fast_dtype(device) if level >= LOW_PRECISION else torch.float32
    loss_network = LossNetwork("vgg16", [*CONTENT, *STYLE], "random").to(device)
    for name, weight in loss_network.named_buffers():
        setattr(loss_network, name, weight.contiguous(memory_format=layout) if weight.ndim == 4 else weight)
    style = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    if level < CUT:
        plain_loss = PlainLoss(loss_network, style, batch)
    else:
        loss = PerceptualLoss(loss_network, style, CONTENT, STYLE, WEIGHTS).to(device)
        loss_network.use_dtype(dtype)
    if level >= COMPILE:
        network.compile()
        loss_network.compile()
    optimizer = torch.optim.Adam(network.parameters(), 1e-6)  # the weights hardly move: all rounds do the same

    def step(photos: Tensor) -> Tensor:
        keep_large_blocks(level >= KEEP_BLOCKS)
        photos = photos.contiguous(memory_format=layout)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            stylized = network(photos)
            if level < CUT:
                features = plain_loss.features(stylized)
                with torch.no_grad():
                    targets = plain_loss.features(photos)
                value = plain_loss(stylized, features, targets)
            else:
                value = loss(stylized, loss.content_targets(photos))["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return network, step


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the kindest convolution: 3×3, 128 channels, channels last."""
    x = torch.rand(8, 128, 128, 128, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(128, 128, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    times = [_seconds(lambda: F.conv2d(x, weight, padding=1), device) for _ in range(12)]
    return 2 * x.numel() * 128 * 9 / min(times)


def measure_memory(level: int, arguments: argparse.Namespace) -> float:
    """Peak MiB of three steps in a fresh process, less what importing torch takes."""
    options = ["--memory-of", str(level), "--size", str(arguments.size), "--batch", str(arguments.batch)]
    command = [sys.executable, __file__, *options, "--device", arguments.device]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_memory(arguments: argparse.Namespace) -> None:
    device = pick_device(arguments.device)
    before = 0.0 if device.type == "cuda" else peak_memory_mib(device)
    _, step = build_step(arguments.memory_of, device, arguments.size, arguments.batch)
    photos = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device)
    for _ in range(3):
        step(photos)
    print(peak_memory_mib(device) - before)


def measure_loader(photos: str, size: int, batch: int) -> float:
    """Pictures a second that the data module delivers to a step that takes no time."""
    from fst.training.data import PhotoDataModule

    data = PhotoDataModule(photos, size, batch)
    data.setup("fit")
    stream = iter(data.train_dataloader())
    for _ in range(4):
        next(stream)
    count = 100
    start = time.perf_counter()
    for _ in range(count):
        next(stream)
    return count * batch / (time.perf_counter() - start)


def gradient_of(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double()


def measure_update(make_optimizer: Callable[..., torch.optim.Optimizer], device: torch.device) -> float:
    """Seconds of an optimiser's update of the network, mean over one period of its work."""
    network = build_network(KEEP_BLOCKS).to(device)
    optimizer = make_optimizer(network.parameters(), lr=1e-6)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(3):
        optimizer.step()
    return _seconds(lambda: [optimizer.step() for _ in range(10)], device) / 10


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    device = pick_device(arguments.device)
    scenes = SceneDataset(arguments.size, seed=0)
    photos = from_uint8(torch.stack([torch.as_tensor(scenes[i]) for i in range(arguments.batch)])).to(device)
    levels = range(COMPILE + arguments.compile)
    steps, gradients = [], []
    for level in levels:
        network, step = build_step(level, device, arguments.size, arguments.batch)
        step(photos)  # warms up, too
        gradients.append(gradient_of(network))
        steps.append(step)
    fresh = []
    for level in (PLAIN, KEEP_BLOCKS):
        network, step = build_step(level, device, arguments.size, arguments.batch, fresh=True)
        step(photos)
        fresh.append(gradient_of(network))
    times: list[list[float]] = [[] for _ in levels]
    for _ in tqdm(range(arguments.rounds), unit="round"):
        for step, taken in zip(steps, times, strict=True):
            step(photos)  # memory settings change between steps: one to settle
            taken.append(_seconds(partial(step, photos), device))
    with FlopCounterMode(display=False) as counter:
        steps[KEEP_BLOCKS](photos)
    peak = measure_peak(device, fast_dtype(device))
    medians = [statistics.median(taken) for taken in times]
    memory = [measure_memory(level, arguments) for level in tqdm(levels, unit="process")]
    rows = [
        {
            "name": NAMES[level],
            "seconds": medians[level],
            "spread": max(times[level]) / min(times[level]),
            "speedup": medians[0] / medians[level],
            "gradient_cosine": F.cosine_similarity(gradients[0], gradients[level], dim=0).item(),
            "peak_mib": memory[level],
        }
        for level in levels
    ]
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "torch": torch.__version__,
        "size": arguments.size,
        "batch": arguments.batch,
        "speedup": rows[-1]["speedup"],
        "gradient_cosine": rows[-1]["gradient_cosine"],
        "gradient_cosine_fresh": F.cosine_similarity(fresh[0], fresh[1], dim=0).item(),
        "peak_memory_ratio": memory[-1] / memory[0],
        "share_of_peak": counter.get_total_flops() / medians[KEEP_BLOCKS] / peak,
        "peak_gflops": peak / 1e9,
        "adam_seconds": measure_update(torch.optim.Adam, device),
        "soap_seconds": measure_update(SOAP, device),
        "step_gflop": counter.get_total_flops() / 1e9,
        "loader_pictures_per_second": (
            measure_loader(arguments.photos, arguments.size, arguments.batch) if arguments.photos else None
        ),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels; default 256")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step; default 4")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each kind; default 5")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default auto")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--photos", help="a folder, to measure the loader, too")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of is not None:
        report_memory(arguments)
        return
    result = benchmark(arguments)
    print(f"{result['machine']}, torch {result['torch']}: batch {result['batch']} at {result['size']} px")
    print(f"{'step':<28} {'seconds':>8} {'speed-up':>9} {'cosine':>9} {'peak MiB':>9}")
    for row in result["rows"]:
        figures = f"{row['seconds']:8.3f} {row['speedup']:8.2f}× {row['gradient_cosine']:9.6f} {row['peak_mib']:9.0f}"
        print(f"{row['name']:<28} {figures}")
    print(f"cosine of a network before its first step: {result['gradient_cosine_fresh']:.6f}")
    print(
        f"{result['step_gflop']:.0f} GFLOP a step, {result['share_of_peak']:.0%} of {result['peak_gflops']:.0f} GFLOP/s"
    )
    print(f"update by Adam (in the steps above) {result['adam_seconds']:.3f} s, by SOAP {result['soap_seconds']:.3f} s")
    if result["loader_pictures_per_second"]:
        print(f"loader: {result['loader_pictures_per_second']:.0f} pictures a second")
    if arguments.json:
        write_atomically(arguments.json, json.dumps(result, indent=2).encode())


if __name__ == "__main__":
    main()
