"""Speed against error of trained styles, as a table and a plot, from what the two commands measured:

fst evaluate STYLE … --photos FOLDER --style-images FOLDER --iterations 0 -o out
fst bench --networks STYLE,… --backends torch --sizes 1280x720 --json bench.json
python scripts/plot_networks.py out/evaluation.json bench.json --plot networks.png
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from fst.errors import run_script
from fst.networks.transform import plain_form
from fst.study.bench import PLAIN
from fst.study.evaluate import CONTENT_LAYER, STYLE_LAYERS
from fst.style_file import load_style
from fst.style_info import find_style, read_info

_SIDE = 128  # pixels, to count on


class Point(NamedTuple):
    name: str
    backend: str
    parameters: int
    gflop: float  # a frame
    milliseconds: float
    ratio: float  # to the plain eager Johnson network of the same run
    style: float
    content: float


def points(evaluations: Path, bench: Path) -> list[Point]:
    """Of all styles and backends that were measured both ways; slowest first."""
    errors = {row["name"]: row for row in json.loads(evaluations.read_text())}
    found = []
    for row in json.loads(bench.read_text())["rows"]:
        if row["backend"] == PLAIN:
            continue
        path = find_style(row["network"])
        name = read_info(path).name
        if name not in errors:
            continue
        width, height = map(int, row["size"].split("x"))
        parameters, flop = cost(path)
        style = mean(errors[name]["style"][layer] for layer in STYLE_LAYERS)
        content = errors[name]["content"][CONTENT_LAYER]
        gflop = flop * width * height / 1e9
        found.append(
            Point(name, row["backend"], parameters, gflop, row["median_ms"], row["ratio"], style, content),
        )
    return sorted(found, key=lambda point: -point.milliseconds)


def cost(style: Path) -> tuple[int, float]:
    """Parameters, and floating-point operations a pixel (a product and its sum are two)."""
    network = plain_form(load_style(style)[0]).train()  # no margins in training mode
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, _SIDE, _SIDE))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() / _SIDE**2


def plot(found: list[Point], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for axes, error in ((left, "style"), (right, "content")):
        for point in found:
            axes.scatter(point.milliseconds, getattr(point, error), color="C0")
            axes.annotate(
                point.name, (point.milliseconds, getattr(point, error)), (4, 4), textcoords="offset points", fontsize=8
            )
        axes.axvline(1000 / 30, color="0.7", linestyle=":")
        axes.set(xscale="log", xlabel="milliseconds a frame (dotted: 30 a second)", ylabel=f"{error} error by VGG19")
        axes.margins(0.3, 0)
        axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, help="evaluation.json of `fst evaluate`")
    parser.add_argument("bench", type=Path, help="JSON of `fst bench`, one size")
    parser.add_argument("--plot", type=Path, help="where the plot goes")
    arguments = parser.parse_args()
    found = points(arguments.evaluations, arguments.bench)
    print("| network | backend | parameters | GFLOP a frame | ms | as fast as plain johnson | style | content |")
    print("|---|---|---|---|---|---|---|---|")
    for point in found:
        print(
            f"| {point.name} | {point.backend} | {point.parameters:,} | {point.gflop:.1f} | {point.milliseconds:.1f} "
            f"| {point.ratio:.1f}× | {point.style:.3f} | {point.content:.2f} |"
        )
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    run_script(main)
