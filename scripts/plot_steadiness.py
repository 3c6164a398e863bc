"""Steadiness against style error of trained styles, as a plot, from what `fst evaluate` measured:

fst evaluate w0 w50 w200 --photos FOLDER --style-images FOLDER --iterations 0 --steadiness -o out
python scripts/plot_steadiness.py out/evaluation.json --plot steadiness.png

Each point has the style's weight of the temporal term beside it, as its style file gives it.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from fst.errors import run_script
from fst.study.evaluate import CONTENT_LAYER, STYLE_LAYERS
from fst.style_info import find_style, read_info


class Point(NamedTuple):
    name: str
    weight: float  # of the temporal term
    style: float
    content: float
    motion: float  # grey levels of 255
    noise: float


def points(evaluations: Path) -> list[Point]:
    """Of all styles in the file, by weight."""
    found = []
    for row in json.loads(evaluations.read_text()):
        if not (steadiness := row["steadiness"]):
            continue
        weights = read_info(find_style(row["name"])).loss.get("weights", {})
        errors = mean(row["style"][layer] for layer in STYLE_LAYERS), row["content"][CONTENT_LAYER]
        found.append(
            Point(row["name"], weights.get("temporal", 0.0), *errors, steadiness["motion"], steadiness["noise"])
        )
    return sorted(found, key=lambda point: point.weight)


def plot(found: list[Point], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, key, label in zip(
        panels, ("motion", "noise"), ("motion (grey levels of 255)", "amplification of noise"), strict=True
    ):
        axes.plot([point.style for point in found], [getattr(point, key) for point in found], "o-", alpha=0.6)
        for point in found:
            place = point.style, getattr(point, key)
            axes.annotate(f"{point.weight:g}", place, (5, 5), textcoords="offset points", fontsize=9)
        axes.set(xlabel="style error", ylabel=label)
        axes.margins(0.15)
        axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, help="evaluation.json of `fst evaluate … --steadiness`")
    parser.add_argument("--plot", type=Path, help="where the plot goes")
    arguments = parser.parse_args()
    found = points(arguments.evaluations)
    print("| weight | style error | content error | motion | noise |\n|---|---|---|---|---|")
    for point in found:
        print(
            f"| {point.weight:g} | {point.style:.3f} | {point.content:.2f} | {point.motion:.1f} | {point.noise:.2f} |"
        )
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    run_script(main)
