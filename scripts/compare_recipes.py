"""Compares training recipes: each is trained on the same photos and scored on the same validation photos.

    python scripts/compare_recipes.py outputs/recipes --style PICTURE --photos FOLDER --val FOLDER [--only NAME …]

All are compared with the baseline: Adam at a constant 1e-3 in batches of 4, for `--pictures` pictures. The others get
a third of them or less, clip the gradient to 1 unless noted, and use a warm-up to the given rate and a cosine down
from it. All use one loss network, layer set, loss and style image. A finished run is not run again, so that a stopped
comparison can be resumed; the table and the curves show all finished runs.
"""

import argparse
import itertools
import json
import re
from pathlib import Path
from statistics import mean

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from fst.errors import run_script
from fst.files import write_atomically
from fst.overrides import overrides_of
from fst.study.fast import train

BASELINE = "Adam constant 1e-3"
UNCLIPPED = ["trainer.gradient_clip_val=null"]
ADAM, SOAP = ["optimizer=adam"], ["optimizer=soap"]
ANOTHER = ["init_from=starry_night"]
BATCH_2 = ["data.batch_size=2", "optimizer.lr_reference_batch_size=null"]  # at the rate of a batch of four


def peak(rate: str) -> list[str]:
    return [f"optimizer.algorithm.lr={rate}"]


# For each recipe, the divisor of the baseline's pictures, and overrides of fst train.
RECIPES: dict[str, tuple[int, list[str]]] = {
    BASELINE: (1, ["optimizer=johnson", *UNCLIPPED]),
    "Adam 1.5e-3, not clipped": (3, [*ADAM, *peak("1.5e-3"), *UNCLIPPED]),
    "Adam 1.5e-3, not clipped, from another style": (3, [*ADAM, *peak("1.5e-3"), *UNCLIPPED, *ANOTHER]),
    "Adam 1.5e-3": (3, [*ADAM, *peak("1.5e-3")]),
    "Adam 3e-3": (3, [*ADAM, *peak("3e-3")]),
    "Adam 3e-3, from another style": (3, [*ADAM, *peak("3e-3"), *ANOTHER]),
    "Adam 1.5e-3, from another style": (3, [*ADAM, *peak("1.5e-3"), *ANOTHER]),
    "Adam 1.5e-3, betas 0.9 and 0.99, from another style": (
        3,
        [*ADAM, *peak("1.5e-3"), "optimizer.algorithm.betas=[0.9,0.99]", *ANOTHER],
    ),
    "Adam 1e-3, from another style": (3, [*ADAM, *peak("1e-3"), *ANOTHER]),
    "Adam 1e-3, batch 2, from another style": (3, [*ADAM, *peak("1e-3"), *BATCH_2, *ANOTHER]),
    "Adam 0.5e-3, batch 2, from another style": (3, [*ADAM, *peak("0.5e-3"), *BATCH_2, *ANOTHER]),
    "SOAP 2e-3, from another style": (3, [*SOAP, *peak("2e-3"), *ANOTHER]),
    "SOAP 1e-3, from another style": (3, [*SOAP, *peak("1e-3"), *ANOTHER]),
    "SOAP 0.5e-3, from another style": (3, [*SOAP, *peak("0.5e-3"), *ANOTHER]),
    "SOAP 1e-3": (3, [*SOAP, *peak("1e-3")]),
    "SOAP 1e-3, a sixth": (6, [*SOAP, *peak("1e-3")]),
    "SOAP 1e-3, an eighth": (8, [*SOAP, *peak("1e-3")]),
    "SOAP 1e-3, from another style, an eighth": (8, [*SOAP, *peak("1e-3"), *ANOTHER]),
}
_POINTS = 10  # validations a run


def pictures_of(recipe: str, budget: int) -> int:
    return budget // RECIPES[recipe][0]


def run(recipe: str, seed: int, arguments: argparse.Namespace) -> None:
    folder = run_folder(recipe, seed, arguments)
    overrides = RECIPES[recipe][1]
    batch = next((int(o.split("=")[1]) for o in overrides if o.startswith("data.batch_size=")), 4)
    steps = pictures_of(recipe, arguments.pictures) // batch
    shared = {
        "name": "recipe",
        "seed": seed,
        "style.image": arguments.style,
        "style.size": 2 * arguments.size,
        "data.size": arguments.size,
        "data.root": arguments.photos,
        "data.val_root": arguments.val,
        "data.val_count": 24,
        "data.workers": 0,
        "trainer.max_steps": steps,
        "val_every": steps // _POINTS,
        "checkpoint_every": steps // _POINTS,
    }
    train([*overrides_of(shared), *overrides, *arguments.overrides], folder, folder / "train.log")


def run_folder(recipe: str, seed: int, arguments: argparse.Namespace) -> Path:
    name = re.sub(r"[^\w.-]+", "_", recipe)
    return results_of(arguments) / f"{name}_seed{seed}"


def results_of(arguments: argparse.Namespace) -> Path:
    return arguments.folder / f"{Path(arguments.style).stem}_{arguments.size}px_{arguments.pictures}"


def curve_of(folder: Path) -> list[tuple[int, float]]:
    """(step, validation loss) of a finished run; empty if it is not finished."""
    if not list(folder.glob("*.safetensors")):
        return []
    curve: dict[int, float] = {}
    for events in sorted(folder.rglob("events.out*")):
        accumulator = EventAccumulator(str(events)).Reload()
        if "val/loss" in accumulator.Tags()["scalars"]:
            curve |= {event.step: event.value for event in accumulator.Scalars("val/loss")}
    return sorted(curve.items())


def report(arguments: argparse.Namespace) -> None:
    """The table, on screen and as JSON, best first, and the curves as a plot."""
    rows: list[tuple[float, str]] = []
    curves = {}
    for recipe in RECIPES:
        runs = [curve_of(run_folder(recipe, seed, arguments)) for seed in arguments.seeds]
        if runs := [curve for curve in runs if curve]:
            pictures = pictures_of(recipe, arguments.pictures)
            losses = [curve[-1][1] for curve in runs]
            shown = ", ".join(f"{loss:.3f}" for loss in losses)
            rows.append((mean(losses), f"| {recipe} | {pictures:,} | {shown} | {mean(losses):.3f} |"))
            curves[recipe] = [[(step * pictures / run[-1][0], loss) for step, loss in run] for run in runs]
    print("| recipe | pictures | validation loss, each seed | mean |\n|---|---|---|---|")
    print("\n".join(line for _, line in sorted(rows)))
    write_atomically(results_of(arguments).with_suffix(".json"), json.dumps(curves).encode())
    plot(curves, results_of(arguments).with_suffix(".png"))


def plot(curves: dict[str, list[list[tuple[float, float]]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, (recipe, runs) in enumerate(curves.items()):
        for number, run in enumerate(runs):
            color = "k" if recipe == BASELINE else f"C{index % 10}"
            axes.plot(*zip(*run, strict=True), color=color, label=None if number else recipe)
    axes.set(yscale="log", xlabel="pictures", ylabel="validation loss", title=path.stem)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs, table and curves go")
    parser.add_argument("--style", required=True, help="the style image")
    parser.add_argument("--photos", required=True, help="folder of training photos")
    parser.add_argument("--val", required=True, help="folder of validation photos")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels; default 256")
    parser.add_argument("--pictures", type=int, default=8000, help="the baseline's; default 8000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="default 0 1")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME", help="recipes")
    parser.add_argument("--overrides", nargs="+", default=[], help="of fst train, for all runs")
    arguments = parser.parse_args()
    for seed, recipe in tqdm(list(itertools.product(arguments.seeds, arguments.only)), unit="run"):
        run(recipe, seed, arguments)
    report(arguments)


if __name__ == "__main__":
    run_script(main)
