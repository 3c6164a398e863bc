"""The page of a study: one self-contained HTML file, its numbers as JSON beside it."""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import DictConfig

from fst.images import write_atomically
from fst.resources import find_style_image

Results = Sequence[Mapping[str, Any]]
_RANGE = (0.003, 3.0)  # relative errors from the darkest to the lightest colour of the heat map


def write_report(config: DictConfig, results: Results, folder: Path) -> Path:
    """Write `NAME.html` and `NAME.json` of a study.

    Args:
        results: of the cells, as `fst.study.compare.read_result` finds them.
    """
    environment = Environment(
        loader=PackageLoader("fst.study", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    name = config.study.name
    document = {"study": name, "verdict": verdict(name, results), "cells": results}
    write_atomically(folder / f"{name}.json", json.dumps(document, indent=1).encode())
    page = environment.get_template("report.html").render(
        title=config.study.title,
        expect=config.study.expect,
        verdict=document["verdict"],
        columns=config.study.get("columns", 0),
        sources=[("photo", inline(config.content)), ("painting", inline(find_style_image(config.style.image)))],
        cells=[show(result) for result in results],
        size=config.size,
        steps=config.steps,
    )
    write_atomically(folder / f"{name}.html", page.encode())
    return folder / f"{name}.html"


def show(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a cell."""
    cell = result["cell"]
    if "failed" in result:
        return {"name": cell["name"], "failed": result["failed"]}
    layers = result["config"]["layers"]
    return {
        "name": cell["name"],
        "failed": None,
        "picture": inline(Path(result["folder"], result["picture"])),
        "sets": {term: ", ".join(layers[term]) for term in ("content", "style") if layers[term]},
        "network": result["config"]["loss_network"]["architecture"],
        "seconds": result["seconds"],
        "objective": result["terms"]["loss"],
        "heat": {
            term: [(layer, error, colour(error)) for layer, error in errors.items()]
            for term, errors in result["yardstick"].items()
        },
    }


def inline(path: str | Path) -> str:
    """A picture file as a data URL."""
    path = Path(path).expanduser()
    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def colour(error: float) -> str:
    """Dark blue for small errors, over green, to yellow for large ones, on a logarithmic scale."""
    low, high = (math.log(bound) for bound in _RANGE)
    share = min(1.0, max(0.0, (math.log(max(error, 1e-9)) - low) / (high - low)))
    return f"hsl({250 - 195 * share:.0f} 55% {22 + 53 * share:.0f}%)"


def verdict(study: str, results: Results) -> str:
    """Whether the source's claim holds in these numbers, in one sentence; empty for a list of one's own."""
    done = [result for result in results if "failed" not in result]
    if study not in _VERDICTS or not done:
        return ""
    if len(done) < len(results):
        return f"Only {len(done)} of {len(results)} cells are done: no verdict."
    return _VERDICTS[study](done)


def _mean(result: Mapping[str, Any], term: str) -> float:
    errors = list(result["yardstick"][term].values())
    return sum(errors) / len(errors)


def _reconstruction(done: Results) -> str:
    errors = [result["yardstick"]["content"]["relu1_1"] for result in done]
    rises = sum(later > earlier for earlier, later in pairwise(errors))
    shown = ", ".join(f"{result['cell']['name']} {error:.3f}" for result, error in zip(done, errors, strict=True))
    return f"The error at relu1_1, nearest to the pixels, rises in {rises} of {len(done) - 1} steps downwards: {shown}."


def _texture(done: Results) -> str:
    growing = [result for result in done if result["cell"]["name"].startswith(("conv1_1", "to "))]
    errors = [_mean(result, "style") for result in growing]
    falls = sum(later < earlier for earlier, later in pairwise(errors))
    shown = ", ".join(f"{result['cell']['name']} {error:.3f}" for result, error in zip(growing, errors, strict=True))
    return (
        f"The mean style error over all layers falls in {falls} of {len(errors) - 1} steps as the set grows: {shown}."
    )


def _ratio(done: Results) -> str:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for result in done:
        rows.setdefault(result["cell"]["name"].split(" × ")[0], []).append(result)
    pairs = [pair for row in rows.values() for pair in pairwise(row)]
    style = sum(_mean(b, "style") < _mean(a, "style") for a, b in pairs)
    content = sum(_mean(b, "content") > _mean(a, "content") for a, b in pairs)
    return (
        f"With more style weight the style error falls in {style} and the content error rises in {content} of "
        f"{len(pairs)} steps."
    )


def _init(done: Results) -> str:
    pairs = list(zip(done[::2], done[1::2], strict=True))
    lower = sum(photo["terms"]["loss"] < noise["terms"]["loss"] for photo, noise in pairs)
    shown = ", ".join(
        f"{photo['terms']['loss']:.3f} against {noise['terms']['loss']:.3f} ({photo['cell']['name'].split()[-1]})"
        for photo, noise in pairs
    )
    return f"From the photo the objective is lower in {lower} of {len(pairs)} style weights: {shown}."


def _recipes(done: Results) -> str:
    errors = {result["cell"]["name"]: _mean(result, "style") for result in done}
    five, sixteen = errors["Gatys et al."], errors["Novak & Nikulin"]
    holds = "holds" if sixteen < five else "does not hold"
    best = min(errors, key=lambda name: errors[name])
    return (
        f"The claim {holds}: mean style error over all layers {sixteen:.3f} with all 16 convolutions, {five:.3f} with "
        f"the five. The lowest of all has {best}, {errors[best]:.3f}."
    )


_VERDICTS: dict[str, Callable[[Results], str]] = {
    "reconstruction": _reconstruction,
    "texture": _texture,
    "ratio": _ratio,
    "init": _init,
    "recipes": _recipes,
}
