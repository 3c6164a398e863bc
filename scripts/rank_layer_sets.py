"""Which layer set suits most paintings? Compares sets over several style weights.

    python scripts/rank_layer_sets.py johnson gatys mine --paintings a.jpg b.jpg --overrides photos=PHOTOS size=128

Each set is tried with each style weight, by the slow method and the criteria of `fst search`, in a search for each
painting (`outputs/rank/PAINTING`, with a page; the same command goes on with it, also with more sets). The pictures of
one set form a curve of style and content distance. Printed for each set and painting: how much less style distance it
has than the first set at the same content distance, the same for each block of layers and for the colours, and how much
less content distance at the same style distance; means over the points of the first set's curve that the other curve
reaches. Sets of your own: --overrides config_dir=FOLDER
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from fst.errors import UserError, run_script
from fst.hydra_app import configure
from fst.overrides import quote
from fst.study.search import search
from fst.study.search_config import SEARCH
from fst.study.space import named_candidates

Distances = dict[str, float]  # by what is compared, see `distances`
Curves = dict[str, list[Distances]]  # of each set the distances at each style weight


def curves_of(painting: str, options: argparse.Namespace) -> Curves:
    """The curves for one painting, without what failed.

    Raises:
        UserError: the loss network lacks a layer of a set.
    """
    overrides = [f"style.image={quote(painting)}", f"first=[{','.join(options.sets)}]", *options.overrides]
    config = configure(SEARCH, overrides)
    sets = {candidate.name: candidate for candidate in named_candidates(config)}
    if missing := [name for name in options.sets if name not in sets]:
        raise UserError(f"{missing[0]}: {config.loss_network.architecture} lacks a layer of it; leave it out")
    folder = options.folder / Path(painting).stem
    numbers = folder / f"{config.name}.json"
    before = trials_of(numbers) if numbers.is_file() else {}
    first = [
        replace(candidate, name=f"{name} {weight:g}", style_weight=weight)
        for name, candidate in sets.items()
        for weight in options.style_weights
    ]
    config.first = [candidate.name for candidate in first]
    config.trials = len(before.keys() | set(config.first))
    search(config, folder, first)
    tried = trials_of(numbers)
    return {name: [point for w in options.style_weights if (point := tried.get(f"{name} {w:g}"))] for name in sets}


def trials_of(numbers: Path) -> dict[str, Distances | None]:
    """What a search wrote, by the name of the candidate: `None` where a trial failed; without stopped trials."""
    trials = [trial for trial in json.loads(numbers.read_text())["trials"] if trial["scores"] or trial["failed"]]
    return {t["candidate"]["name"]: distances(t["scores"]) if t["scores"] else None for t in trials}


def distances(scores: dict[str, Any]) -> Distances:
    """Style: of all layers, of each block of them, and of the colours; then content; see `fst.study.criteria`."""
    layers = scores["style_layers"]
    blocks = sorted({layer[4] for layer in layers})
    means = {f"block {n}": fmean(value for layer, value in layers.items() if layer[4] == n) for n in blocks}
    return {"style": scores["style"], **means, "colors": scores["color"], "content": scores["content"]}


def change(one: np.ndarray, other: np.ndarray) -> float:
    """How much lower (negative) or higher `other` is where both curves are equal in the second column: the geometric
    mean over the points of `one` that `other` reaches, as a part of them; NaN if it reaches none.

    Args:
        one, other: curves, `(points, 2)`, above 0.

    >>> one = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> change(one, np.array([[1.0, 1.0], [0.5, 2.0]]))
    -0.5
    """
    if not len(other):
        return float("nan")
    one, other = np.log(one), np.log(other[other[:, 1].argsort()])
    there = np.interp(one[:, 1], other[:, 1], other[:, 0], left=np.nan, right=np.nan)
    reached = (there - one[:, 0])[~np.isnan(there)]
    return float(np.expm1(reached.mean())) if len(reached) else float("nan")


def show(name: str, reference: str, curves: dict[str, Curves]) -> str:
    """A table: the changes of a set's distances for each painting, and the means of those that are known."""
    lines = [f"{name} against {reference}: {', '.join(curves)}, mean"]
    points = (point for of in curves.values() for point in [*of[reference], *of[name]])
    for what in next(points, ("style", "content")):
        columns = what, "style" if what == "content" else "content"
        pairs = ([_curve(of[key], columns) for key in (reference, name)] for of in curves.values())
        changes = [change(one, other) for one, other in pairs]
        known = [value for value in changes if not np.isnan(value)]
        values = [*changes, fmean(known) if known else np.nan]
        lines.append(f"  {what} {' '.join(f'{value:+.1%}' for value in values)}".replace("+nan%", "—"))
    return "\n".join(lines)


def _curve(points: list[Distances], columns: tuple[str, str]) -> np.ndarray:
    return np.array([[point[column] for column in columns] for point in points]).reshape(-1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="layer sets; the others are compared with the first")
    parser.add_argument("--paintings", nargs="+", required=True, help="style images")
    parser.add_argument("--style-weights", nargs="+", type=float, default=[5, 12, 30, 75], help="default 5 12 30 75")
    parser.add_argument("--folder", type=Path, default=Path("outputs/rank"), help="default outputs/rank")
    parser.add_argument("--overrides", nargs="+", default=[], help="of fst search: photos=PHOTOS size=128")
    options = parser.parse_args()
    curves = {Path(painting).stem: curves_of(painting, options) for painting in options.paintings}
    for name in options.sets[1:]:
        print(show(name, options.sets[0], curves))


if __name__ == "__main__":
    run_script(main)
