"""Which layer set suits most paintings? Compares sets over several style weights.

    python scripts/rank_layer_sets.py johnson gatys mine --paintings a.jpg b.jpg --overrides photos=PHOTOS size=128

Each set is tried with each style weight, by the slow method and the criteria of `fst search`, in a search for each
painting (`outputs/rank/PAINTING`, with a page; the same command goes on with it, also with more sets). The pictures of
one set form a curve of style and content distance. Printed for each set: how much less style distance it has than the
first set at the same content distance, and less content distance at the same style distance, both as means over the
points of the first set's curve that the other curve reaches. Sets of your own: --overrides config_dir=FOLDER
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from fst.errors import UserError, run_script
from fst.hydra_app import configure
from fst.overrides import quote
from fst.study.search import search
from fst.study.search_config import SEARCH
from fst.study.space import named_candidates
from fst.study.trials import OBJECTIVES

Curves = dict[str, list[list[float]]]  # of each set the style and content distance at each style weight


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


def trials_of(numbers: Path) -> dict[str, list[float] | None]:
    """The scores that a search wrote, by the name of the candidate: `None` where a trial failed; no stopped trials."""
    trials = [trial for trial in json.loads(numbers.read_text())["trials"] if trial["scores"] or trial["failed"]]
    return {t["candidate"]["name"]: t["scores"] and [t["scores"][key] for key in OBJECTIVES] for t in trials}


def change(one: np.ndarray, other: np.ndarray, axis: int) -> float:
    """How much lower (negative) or higher `other` is along an axis where both are equal along the other axis: the
    geometric mean over the points of `one` that `other` reaches, as a part of them; NaN if it reaches none.

    Args:
        one, other: curves, `(points, 2)`, above 0.

    >>> one = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> change(one, np.array([[1.0, 1.0], [0.5, 2.0]]), 0)
    -0.5
    """
    if not len(other):
        return float("nan")
    one, other = np.log(one), np.log(other[other[:, 1 - axis].argsort()])
    there = np.interp(one[:, 1 - axis], other[:, 1 - axis], other[:, axis], left=np.nan, right=np.nan)
    reached = (there - one[:, axis])[~np.isnan(there)]
    return float(np.expm1(reached.mean())) if len(reached) else float("nan")


def show(name: str, reference: str, curves: dict[str, Curves]) -> str:
    """A line: a set's changes of style and of content for each painting, and the means of those that are known."""
    pairs = ([np.array(of[key]).reshape(-1, 2) for key in (reference, name)] for of in curves.values())
    changes = np.array([[change(one, other, axis) for axis in (0, 1)] for one, other in pairs])
    known = [column[~np.isnan(column)] for column in changes.T]
    means = [column.mean() if len(column) else np.nan for column in known]
    rows = [*zip(curves, changes, strict=True), ("mean", means)]
    parts = (f"{painting} {style:+.1%} {content:+.1%}" for painting, (style, content) in rows)
    return f"{name}: {', '.join(parts)}".replace("+nan%", "—")


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
