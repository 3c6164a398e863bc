"""The report of a study: one self-contained HTML page, the numbers as JSON, and the same for TensorBoard."""

import base64
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from fst.files import expand_user, write_atomically
from fst.images import read_tensor
from fst.networks.vgg_layers import relu_layers
from fst.pictures import encode_image, read_image
from fst.resources import find_style_image
from fst.study.claims import Result, Results, verdict

_RANGE = (0.003, 3.0)  # relative errors from the darkest to the lightest colour of the heat map


def write_report(config: DictConfig, results: Results, folder: Path) -> Path:
    """Write `NAME.html`, `NAME.json` and the folder `tensorboard` of a study.

    Args:
        results: of the cells, as `fst.study.compare.read_result` returns them.

    Returns:
        The page's path.
    """
    name = config.name
    document = {"study": name, "verdict": verdict(config.study.get("claim"), results), "cells": results}
    write_atomically(folder / f"{name}.json", json.dumps(document, indent=1).encode())
    write_events(results, folder / "tensorboard")
    page = template("report.html").render(
        title=config.study.title,
        expect=config.study.expect,
        verdict=document["verdict"],
        columns=config.study.get("columns", 0),
        sources=[
            ("content image", inline(config.content)),
            ("style image", inline(find_style_image(config.style.image))),
        ],
        cells=[show(result) for result in results],
        size=config.size,
        steps=config.steps,
        train_steps=config.train_steps,
        judge="the compact network" if config.judge == "compact" else config.judge.upper(),
        compact=config.judge == "compact",
        layers=len(relu_layers(config.judge)),
    )
    write_atomically(folder / f"{name}.html", page.encode())
    return folder / f"{name}.html"


def write_events(results: Results, folder: Path) -> None:
    """A TensorBoard run for each cell: its picture, objective and seconds, and its relative errors as curves over the
    layers of the judge, from step 1 (relu1_1) on."""
    shutil.rmtree(folder, ignore_errors=True)
    for result in results:
        if "failed" in result:
            continue
        with SummaryWriter(str(folder / Path(result["folder"]).name)) as writer:
            writer.add_image("picture", read_tensor(Path(result["folder"], result["picture"]))[0])
            writer.add_scalar("objective", result["terms"]["loss"])
            writer.add_scalar("seconds", result["seconds"])
            for term, errors in result["errors"].items():
                for depth, error in enumerate(errors.values(), 1):
                    writer.add_scalar(f"error over depth/{term}", error, depth)


def show(result: Result) -> dict[str, Any]:
    """A cell's values for the template."""
    cell = result["cell"]
    said = {"name": cell["name"], "failed": result.get("failed"), "fast": cell["method"] == "fast", "heat": {}}
    if said["failed"]:
        return said
    layers = result["config"]["layers"]
    used = {"reconstruct": ("content",), "texture": ("style",)}.get(cell["task"], ("content", "style"))
    return said | {
        "picture": inline(Path(result["folder"], result["picture"])),
        "sets": {term: ", ".join(layer for layer, weight in layers[term].items() if weight) for term in used},
        "network": result["config"]["loss_network"]["architecture"].upper(),
        "done": f"{'trained' if said['fast'] else 'optimised'} in {result['seconds']:.0f} s",
        "objective": result["terms"]["loss"],
        "heat": {
            term: {
                "mean": sum(errors.values()) / len(errors),
                "bars": [(layer, error, colour(error)) for layer, error in errors.items()],
            }
            for term, errors in result["errors"].items()
        },
    }


def template(name: str) -> Template:
    """A page of this folder, to be rendered."""
    loader = PackageLoader("fst.study", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def inline(path: str | Path) -> str:
    """A picture file as a data URL."""
    path = expand_user(path)
    if kind := {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}.get(path.suffix.lower()):
        content = path.read_bytes()
    else:  # browsers do not show every kind, such as TIFF
        encode_image(read_image(path), buffer := io.BytesIO(), ".png")
        kind, content = "png", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def colour(error: float, smallest: float = _RANGE[0], largest: float = _RANGE[1]) -> str:
    """A CSS colour for an error: dark blue for small ones, green, then yellow for large ones (log scale)."""
    low, high = math.log(max(smallest, 1e-9)), math.log(max(largest, smallest * 1.001, 2e-9))
    share = min(1.0, max(0.0, (math.log(max(error, 1e-9)) - low) / (high - low)))
    return f"hsl({250 - 195 * share:.0f} 55% {22 + 53 * share:.0f}%)"
