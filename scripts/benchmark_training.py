"""Times the training step: a plain eager one as in other implementations, then with one change after another.

    python scripts/benchmark_training.py [--network johnson] [--size 256] [--batch 4] [--rounds 5] [--json FILE]
        [--photos FOLDER] [--style PICTURE] [--loss-network vgg19 FILE]

All kinds of step run in turn in one process, and their medians are compared; memory is measured in a process for each.
Quote the ratios: absolute times drift and depend on the machine. Time and memory are measured with random VGG16
weights, which do not change them. Gradients are compared with trained loss-network weights, a real style image and a
trained network, as in all but the first steps of a training. Without --photos, drawn scenes are used.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_optimizer import SOAP
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fst.errors import run_script
from fst.files import write_atomically
from fst.hardware import fast_dtype, keep_large_blocks, peak_memory_mib, pick_device
from fst.images import from_uint8, read_tensor
from fst.networks.layers import InstanceNorm, OutputConv, UpsampleConv
from fst.networks.transform import build_transform_network
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss, grid_excess, range_excess, total_variation
from fst.resources import find_style_image, resource_folder
from fst.style_file import load_style
from fst.style_info import STYLE_SUFFIX
from fst.training.data.synthetic import SceneDataset

CONTENT = {"relu2_2": 1.0}
STYLE = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0}
STYLE_SIZE = 512  # pixels, as in conf/train.yaml: the size that the trained networks' gradients are small at
WEIGHTS = LossWeights(style=15.0, range=50.0, grid=2000.0)
TRAINED = {"johnson": "the_scream", "small": "the_scream_small", "realtime": "the_scream_realtime"}  # by conf/model

# Each adds one change to those before it.
PLAIN, CUT, PHASES, CHANNELS_LAST, LOW_PRECISION, KEEP_BLOCKS, COMPILE = range(7)
NAMES = (
    "plain eager, as elsewhere",
    "+ content pass cut, own Gram",
    "+ convolutions by phases",
    "+ channels last",
    "+ bfloat16",
    "+ memory kept (the default)",
    "+ torch.compile",
)


class PlainLoss:
    """The same loss as other implementations write it: both pictures through the whole network, autograd's own Gram."""

    def __init__(self, loss_network: LossNetwork, style_image: Tensor) -> None:
        self.loss_network = loss_network
        with torch.no_grad():
            self.style = {layer: self._gram(f) for layer, f in self.features(style_image).items()}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        network, features = self.loss_network, {}
        x = (images - network.get_buffer("_mean")) / network.get_buffer("_std")
        for layer in network.table:
            if layer.kind == "conv":
                weight, bias = (network.get_parameter(f"{layer.name}_{kind}") for kind in ("weight", "bias"))
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


def build_network(level: int, name: str, fresh: bool = False) -> nn.Module:
    trained, info = load_style(resource_folder("checkpoints") / f"{TRAINED[name]}{STYLE_SUFFIX}")
    torch.manual_seed(0)
    network = build_transform_network(info.architecture, **info.arguments)
    if not fresh:
        network.load_state_dict(trained.state_dict())
    for layer in network.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = level >= CUT
        elif isinstance(layer, UpsampleConv | OutputConv):
            layer.plain = level < PHASES
        elif isinstance(layer, InstanceNorm):
            layer.plain = level < CHANNELS_LAST
    return network.to(memory_format=torch.channels_last if level >= CHANNELS_LAST else torch.contiguous_format)


def build_step(
    level: int,
    arguments: argparse.Namespace,
    loss_network: tuple[str, str] = ("vgg16", "random"),
    fresh: bool = False,
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network, trained or `fresh`, and its step: `(B, 3, size, size)` photos in, the loss out, one update done.

    `loss_network` is an architecture and its weights.
    """
    device = pick_device(arguments.device)
    network = build_network(level, arguments.network, fresh).to(device)
    layout = torch.channels_last if level >= CHANNELS_LAST else torch.contiguous_format
    dtype = fast_dtype(device) if level >= LOW_PRECISION else torch.float32
    vgg = LossNetwork(loss_network[0], [*CONTENT, *STYLE], loss_network[1]).to(device)
    vgg.to(memory_format=layout)
    style = read_tensor(find_style_image(arguments.style), STYLE_SIZE).to(device)
    if level < CUT:
        plain_loss = PlainLoss(vgg, style)
    else:
        loss = PerceptualLoss(vgg, style, CONTENT, STYLE, WEIGHTS).to(device)
        vgg.use_dtype(dtype)
    if level >= COMPILE:
        network.compile()
        vgg.compile()
    optimizer = torch.optim.Adam(network.parameters(), 1e-6)  # tiny, so that all rounds have nearly the same weights

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
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a convolution that suits the hardware: 3×3, 128 channels, channels last."""
    x = torch.rand(8, 128, 128, 128, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(128, 128, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    times = [_seconds(lambda: F.conv2d(x, weight, padding=1), device) for _ in range(12)]
    return 2 * x.numel() * 128 * 9 / min(times)


def measure_memory(level: int, arguments: argparse.Namespace) -> float:
    """Peak MiB of three steps in a fresh process, without what it used before them."""
    options = ["--memory-of", str(level), "--size", str(arguments.size), "--batch", str(arguments.batch)]
    options += ["--network", arguments.network, "--style", arguments.style, "--device", arguments.device]
    command = [sys.executable, __file__, *options]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_memory(arguments: argparse.Namespace) -> None:
    device = pick_device(arguments.device)
    before = 0.0 if device.type == "cuda" else peak_memory_mib(device)
    _, step = build_step(arguments.memory_of, arguments)
    photos = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device)
    for _ in range(3):
        step(photos)
    print(peak_memory_mib(device) - before)


def open_photos(arguments: argparse.Namespace) -> Iterator[Tensor]:
    """Batches of uint8 `(B, H, W, 3)`: training crops from the folder of photos, or else drawn scenes, one batch."""
    if arguments.photos is None:
        scenes = SceneDataset(arguments.size, seed=0)
        return iter([torch.stack([scenes[i] for i in range(arguments.batch)])])
    from fst.training.data.folder import PhotoDataModule

    data = PhotoDataModule(arguments.photos, arguments.size, arguments.batch)
    data.setup("fit")
    return iter(data.train_dataloader())


def measure_loader(stream: Iterator[Tensor], batch: int) -> float:
    """Pictures per second that the data module delivers."""
    for _ in range(4):
        next(stream)
    count = 100
    start = time.perf_counter()
    for _ in range(count):
        next(stream)
    return count * batch / (time.perf_counter() - start)


def measure_cosine(
    arguments: argparse.Namespace, photos: Tensor, levels: Iterable[int], fresh: bool = False
) -> list[float]:
    """Cosine of each level's gradient to that of the plain float32 step."""
    gradients = []
    for level in (PLAIN, *levels):
        network, step = build_step(level, arguments, tuple(arguments.loss_network), fresh)
        step(photos)
        grads = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
        gradients.append(torch.cat(grads).double())
    return [F.cosine_similarity(gradients[0], gradient, dim=0).item() for gradient in gradients[1:]]


def measure_update(make_optimizer: Callable[..., torch.optim.Optimizer], name: str, device: torch.device) -> float:
    """Seconds of an optimiser's update of the network, mean over one period of its work."""
    network = build_network(KEEP_BLOCKS, name).to(device)
    optimizer = make_optimizer(network.parameters(), lr=1e-6)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(3):
        optimizer.step()
    return _seconds(lambda: [optimizer.step() for _ in range(10)], device) / 10


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    device = pick_device(arguments.device)
    stream = open_photos(arguments)
    photos = from_uint8(next(stream)).to(device)
    levels = range(COMPILE + arguments.compile)
    cosines = measure_cosine(arguments, photos, levels)
    steps = [build_step(level, arguments)[1] for level in levels]
    for step in steps:
        step(photos)  # warms up
    times: list[list[float]] = [[] for _ in levels]
    for _ in tqdm(range(arguments.rounds), unit="round"):
        for step, taken in zip(steps, times, strict=True):
            step(photos)  # unmeasured: the memory settings have just changed
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
            "gradient_cosine": cosines[level],
            "peak_mib": memory[level],
        }
        for level in levels
    ]
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "torch": torch.__version__,
        "network": arguments.network,
        "gradients_by": f"{' '.join(arguments.loss_network)}, {arguments.style}, {arguments.photos or 'scenes'}",
        "size": arguments.size,
        "batch": arguments.batch,
        "speedup": rows[-1]["speedup"],
        "gradient_cosine": rows[-1]["gradient_cosine"],
        "gradient_cosine_fresh": measure_cosine(arguments, photos, [KEEP_BLOCKS], fresh=True)[0],
        "peak_memory_ratio": memory[-1] / memory[0],
        "share_of_peak": counter.get_total_flops() / medians[KEEP_BLOCKS] / peak,
        "peak_gflops": peak / 1e9,
        "adam_seconds": measure_update(torch.optim.Adam, arguments.network, device),
        "soap_seconds": measure_update(SOAP, arguments.network, device),
        "step_gflop": counter.get_total_flops() / 1e9,
        "loader_pictures_per_second": measure_loader(stream, arguments.batch) if arguments.photos else None,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="johnson", choices=TRAINED, help="of conf/model; default johnson")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels; default 256")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step; default 4")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each kind; default 5")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default auto")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--photos", help="a folder: their gradients, and the loader is measured, too")
    parser.add_argument("--style", default="stained_glass", help="bundled picture or file; default stained_glass")
    parser.add_argument(
        "--loss-network",
        nargs=2,
        default=["compact", "bundled"],
        metavar=("NAME", "WEIGHTS"),
        help="of the gradients: vgg16, vgg19 or compact, and imagenet, bundled or a file; default compact bundled",
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of is not None:
        report_memory(arguments)
        return
    result = benchmark(arguments)
    print(f"{result['machine']}, torch {result['torch']}: batch {result['batch']} at {result['size']} px")
    print(f"network {result['network']}, cosines by {result['gradients_by']}")
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
    run_script(main)
