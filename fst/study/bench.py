"""`fst bench`: the speed of each network with each backend, compared with a plain eager network in the same run."""

import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from fst.hardware import fast_dtype, keep_large_blocks, peak_memory_mib, pick_device
from fst.images import from_uint8, psnr, to_uint8
from fst.inference.backends import open_backend
from fst.inference.runtimes import EXTRAS, installed_backends
from fst.networks.transform import build_transform_network, plain_form
from fst.pictures import read_image, resize_longer_side
from fst.resources import find_style_image, resource_folder
from fst.study.bench_check import check_bench, model_names
from fst.style_file import load_style, save_style
from fst.style_info import StyleFileError, StyleInfo, find_style, list_styles, read_info

PLAIN = "plain eager fp32"  # as other implementations run `johnson`; all ratios are to it
PLAIN_NETWORK = "johnson"
_MOMENT = 0.3  # seconds of calls in each round


@dataclass(frozen=True)
class Row:
    """One network through one backend at one size.

    Attributes:
        median_ms: of the rounds; `spread` is the slowest divided by the fastest.
        ratio: how many times as fast as the plain eager network `johnson` at this size.
        psnr: to this network in float32, in dB, both in 8 bits; infinite if equal.
        peak_mib: peak memory of a process that does only this.
    """

    network: str
    backend: str
    size: str
    median_ms: float
    spread: float
    fps: float
    ratio: float
    psnr: float
    peak_mib: float


@dataclass(frozen=True)
class _Case:
    network: str
    style: Path
    backend: str
    width: int
    height: int
    device: str

    def open(self) -> Callable[[], Tensor]:
        """The function to be timed. It stylizes a uint8 picture on the device, as is done with frames of a video."""
        device = pick_device(self.device)
        picture = _test_picture(self.width, self.height).to(device)
        if self.backend == PLAIN:
            network = plain_form(load_style(self.style)[0]).to(device)
            network.to(memory_format=torch.contiguous_format)
            return lambda: to_uint8(network(from_uint8(picture).contiguous()))
        stylize = open_backend(self.backend, self.style, device)
        return lambda: stylize(picture)

    def seconds(self, call: Callable[[], Tensor]) -> float:
        """Median time of one call, over as many calls as fit into `_MOMENT`."""
        keep_large_blocks(self.backend != PLAIN)  # other implementations do not do this
        device = pick_device(self.device)

        def seconds_of_one() -> float:
            start = time.perf_counter()
            call()
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            return time.perf_counter() - start

        times: list[float] = []
        with torch.inference_mode():
            seconds_of_one()  # fills the caches again
            while sum(times) < _MOMENT:
                times.append(seconds_of_one())
        return statistics.median(times)


def bench(
    networks: Sequence[str] | None,
    backends: Sequence[str] | None,
    sizes: Sequence[tuple[int, int]],
    rounds: int,
    device: str = "auto",
) -> dict[str, Any]:
    """Time all combinations in turn, `rounds` times, and measure the memory of each in a process of its own.

    Args:
        networks: of `conf/model`, or styles; `None` is all of the former.
        backends: `None` is all that are installed and run on the device, without `compile`.
        sizes: width and height in pixels.

    Returns:
        `machine` and `rows`, a dict for each `Row`.

    Raises:
        UserError: no such network, backend or device.
    """
    check_bench(networks, backends, rounds)
    place = pick_device(device)
    machine = _machine(place)
    known = [name for name in installed_backends() if place.type == "cpu" or name not in EXTRAS]
    backends = backends or [name for name in known if name != "compile"]  # which takes a minute for each size
    with tempfile.TemporaryDirectory() as folder:
        styles = {name: _style_of(name, Path(folder)) for name in networks or model_names()}
        plain = styles.get(PLAIN_NETWORK) or _style_of(PLAIN_NETWORK, Path(folder))
        rows: list[Row] = []
        steps = len(sizes) * (1 + len(styles) * len(backends))
        with tqdm(total=steps * (rounds + 1), unit="picture", leave=False) as progress:
            for width, height in sizes:
                cases = [_Case(PLAIN_NETWORK, plain, PLAIN, width, height, device)]
                for name, style in styles.items():
                    cases += [_Case(name, style, backend, width, height, device) for backend in backends]
                rows += _measure(cases, rounds, progress)
    return {"machine": machine, "rows": [asdict(row) for row in rows]}


def _measure(cases: list[_Case], rounds: int, progress: tqdm) -> list[Row]:
    """Measure all cases of one size: peak memory, PSNR, then the times, in turn in each round."""
    memory = []
    for case in cases:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            memory.append(process.submit(_peak_memory, case).result())
        progress.update()
    calls = [case.open() for case in cases]
    references = {case.style: _reference(case) for case in cases}
    similarity = [
        psnr(from_uint8(call().cpu()), from_uint8(references[case.style]))
        for case, call in zip(cases, calls, strict=True)
    ]
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, call, taken in zip(cases, calls, times, strict=True):
            taken.append(case.seconds(call))
            progress.update()
    unit = statistics.median(times[0])
    rows = []
    for case, taken, similar, peak in zip(cases, times, similarity, memory, strict=True):
        median = statistics.median(taken)
        spread, size = max(taken) / min(taken), f"{case.width}x{case.height}"
        rows.append(
            Row(case.network, case.backend, size, 1000 * median, spread, 1 / median, unit / median, similar, peak)
        )
    return rows


def _peak_memory(case: _Case) -> float:
    case.seconds(case.open())
    return peak_memory_mib(pick_device(case.device))


@torch.inference_mode()
def _reference(case: _Case) -> Tensor:
    network, _ = load_style(case.style)
    return to_uint8(network(from_uint8(_test_picture(case.width, case.height))))


def _test_picture(width: int, height: int) -> Tensor:
    picture = resize_longer_side(read_image(find_style_image("woodcut_sea")), max(width, height))
    return torch.from_numpy(np.array(picture.convert("RGB").resize((width, height))))[None]


def _style_of(name: str, folder: Path) -> Path:
    """A style file with that network; a trained one if there is any, because the PSNR of random weights says little."""
    if name not in model_names():
        return find_style(name)
    arguments = yaml.safe_load((resource_folder("conf") / "model" / f"{name}.yaml").read_text())
    architecture = arguments.pop("architecture")
    for style in list_styles().values():
        try:
            info = read_info(style)
        except StyleFileError:
            continue
        if (info.architecture, dict(info.arguments)) == (architecture, arguments):
            return style
    torch.manual_seed(0)
    network = build_transform_network(architecture, **arguments)
    save_style(folder / f"{name}.safetensors", network, StyleInfo(name, architecture, arguments))
    return folder / f"{name}.safetensors"


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {cores}, {str(fast_dtype(device)).removeprefix('torch.')}, torch {torch.__version__}"


def format_rows(rows: Iterable[dict[str, Any]]) -> str:
    """A table in plain text."""
    head = f"{'size':>10}  {'network':<14} {'backend':<18} {'ratio':>7} {'ms':>9} {'spread':>6} {'fps':>7}"
    lines = [f"{head} {'PSNR':>6} {'MiB':>6}"]
    for row in rows:
        name = f"{row['size']:>10}  {row['network']:<14} {row['backend']:<18}"
        speed = f"{row['ratio']:6.2f}× {row['median_ms']:9.1f} {row['spread']:6.2f} {row['fps']:7.1f}"
        lines.append(f"{name} {speed} {row['psnr']:6.1f} {row['peak_mib']:6.0f}")
    return "\n".join(lines)
