"""Layer sets side by side, `fst compare`: each cell of a study is one run of the slow method, all are measured with one
yardstick, the relative errors at every layer of VGG19, and one page shows them."""

import dataclasses
import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fst.config import CHECKPOINTS, LAST, config_error, read_style_image, run_application
from fst.errors import UserError, find_cause
from fst.hardware import pick_device
from fst.images import read_tensor, write_atomically
from fst.networks.vgg import LossNetwork, layer_table
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import resource_folder
from fst.stopping import Interrupted
from fst.study.optimize import optimize
from fst.study.report import write_report

log = logging.getLogger(__name__)

JUDGE = "vgg19"


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: shown, unique in the study.
        layers: a named set of `conf/layers`; or, without one:
        content, style: names of layers, which count alike.
        task, init: as of `fst optimize`.
        style_weight: other than the default's.
        network: the loss network of `content` and `style`.
    """

    name: str
    layers: str | None = None
    content: tuple[str, ...] = ()
    style: tuple[str, ...] = ()
    task: str = "transfer"
    init: str = "content"
    style_weight: float | None = None
    network: str = JUDGE


def cells_of(config: DictConfig) -> list[Cell]:
    """The cells of the study, or one for each of the layer sets in `sets`.

    Raises:
        UserError: the study has none, or one that is not understood.
    """
    study: Any = OmegaConf.to_container(config.study, resolve=True)
    shared = {key: study[key] for key in ("task", "init") if key in study}
    rows = study["cells"] if config.sets is None else [{"name": name, "layers": name} for name in config.sets]
    if not rows:
        raise UserError(f"study {study['name']} has no cells; name layer sets: fst compare layers=johnson,gatys …")
    try:
        sets = ("content", "style")
        cells = [Cell(**(shared | {k: tuple(v) if k in sets else v for k, v in row.items()})) for row in rows]
    except TypeError as error:
        raise UserError(f"study {study['name']}: a cell is not understood ({error})") from error
    if len({cell.name for cell in cells}) < len(cells):
        raise UserError(f"study {study['name']}: two cells have the same name")
    return cells


def cell_config(config: DictConfig, cell: Cell) -> DictConfig:
    """The configuration of `fst optimize` for a cell."""
    overrides = [f"layers={cell.layers}" if cell.layers else f"loss_network={cell.network}", "logger=none"]
    if config.config_dir is not None:
        overrides.append(_search(config.config_dir))
    composed = compose("optimize", overrides)
    with open_dict(composed):
        if cell.layers is None:
            layers = {term: dict.fromkeys(getattr(cell, term), 1.0) for term in ("content", "style")}
            composed.layers = {"name": cell.name, **layers}
        composed.content, composed.style = config.content, config.style
        for key in ("size", "steps", "device", "seed"):
            composed[key] = config[key]
        composed.task, composed.init, composed.name, composed.every = cell.task, cell.init, "picture", 20
        composed.loss_network.weights = config.weights[composed.loss_network.architecture]
        if cell.style_weight is not None:
            composed.loss.weights.style = cell.style_weight
    return composed


def folder_of(cell: Cell, config: DictConfig, root: Path) -> Path:
    """Where a cell's result lies: another configuration has another place, so that nothing stale is found."""
    digest = hashlib.sha256(OmegaConf.to_yaml(config, resolve=False).encode()).hexdigest()[:8]
    return root / "cells" / f"{re.sub(r'[^a-zA-Z0-9.-]+', '_', cell.name)}-{digest}"


def run_cell(config: DictConfig, cell: Cell, root: Path) -> str:
    """Do a cell that is not done yet; a failure is noted for the page and spoils no other."""
    composed = cell_config(config, cell)
    folder = folder_of(cell, composed, root)
    if (folder / "cell.json").exists():
        return f"{cell.name}: done before"
    if (checkpoint := folder / CHECKPOINTS / LAST).exists():
        composed.ckpt_path = str(checkpoint)
    start = time.perf_counter()
    document: dict[str, Any] = {"cell": dataclasses.asdict(cell)}
    try:
        picture = optimize(composed, folder)
        document |= json.loads(picture.with_suffix(".json").read_text())
        document |= {"seconds": time.perf_counter() - start, "picture": picture.name}
        document["yardstick"] = measure(config, read_tensor(picture))
    except Interrupted as stop:
        raise KeyboardInterrupt from stop  # all cells stop; the same command goes on
    except Exception as error:
        reason = str(find_cause(error) or f"{type(error).__name__}: {error}")
        write_atomically(folder / "failed.json", json.dumps(document | {"failed": reason}).encode())
        log.error("%s failed: %s", cell.name, reason)
        return f"{cell.name}: failed"
    write_atomically(folder / "cell.json", json.dumps(document).encode())
    return f"{cell.name}: {document['seconds']:.0f} s"


@torch.no_grad()
def measure(config: DictConfig, picture: torch.Tensor) -> dict[str, dict[str, float]]:
    """Relative content and style error of a picture at every ReLU of VGG19; content only where the sizes agree."""
    layers = {layer.name: 1.0 for layer in layer_table(JUDGE) if layer.kind == "relu"}
    network = LossNetwork(JUDGE, layers, config.weights[JUDGE])
    device = pick_device(config.device)
    photo = read_tensor(Path(config.content), config.size)
    loss = PerceptualLoss(network, read_style_image(config), layers, layers, LossWeights()).to(device)
    same = photo.shape == picture.shape
    terms = loss(picture.to(device), loss.content_targets((photo if same else picture).to(device)))
    found = {"style": {layer: float(terms[f"style/{layer}"]) for layer in layers}}
    if same:
        found["content"] = {layer: float(terms[f"content/{layer}"]) for layer in layers}
    return found


def read_result(cell: Cell, folder: Path) -> dict[str, Any]:
    """What is known of a cell: its document, its failure's, or that it was not done."""
    path = next((folder / name for name in ("cell.json", "failed.json") if (folder / name).exists()), None)
    document = json.loads(path.read_text()) if path else {"cell": dataclasses.asdict(cell), "failed": "not done"}
    return document | {"folder": str(folder)}


def _search(config_dir: str) -> str:
    return f"hydra.searchpath=['file://{config_dir}']"


def _keep_config_dir(arguments: list[str]) -> list[str]:
    """Hydra's `--config-dir FOLDER` as overrides, for the configurations that are composed within this one."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        flag, _, folder = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            folder = str(Path(folder or next(rest, "")).resolve())
            kept += [f"config_dir='{folder}'", _search(folder)]
        else:
            kept.append(argument)
    return kept


def _root(config: DictConfig) -> Path:
    return Path("outputs", "compare", config.study.name)


def _plan(overrides: list[str]) -> tuple[DictConfig, dict[Cell, Path]]:
    """The study and where each cell's result will lie; every configuration is composed, so that mistakes come first."""
    try:
        with initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
            config = compose("compare", overrides)
            return config, {
                cell: folder_of(cell, cell_config(config, cell), _root(config)) for cell in cells_of(config)
            }
    except (HydraException, OmegaConfBaseException) as error:
        raise find_cause(error) or config_error("compare", error) from error


def main(arguments: list[str]) -> None:
    """`fst compare`.

    Raises:
        UserError: something in the configuration cannot be.
    """
    # `layers=` is a group of one choice elsewhere; here it is a list.
    listed = [re.sub(r"^layers=\[?(.*?)\]?$", r"sets=[\1]", argument) for argument in arguments]
    own = listed != arguments and not any(argument.startswith("study=") for argument in arguments)
    arguments = [*(["study=mine"] if own else []), *_keep_config_dir(listed)]

    def job(config: DictConfig, _: Path) -> str:
        return run_cell(config, cells_of(config)[config.cell], _root(config))

    if any(argument in ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i") for argument in arguments):
        run_application("compare", arguments, job)
        return
    config, folders = _plan([a for a in arguments if not a.startswith(("-", "hydra")) or "searchpath" in a])
    numbers = ",".join(str(number) for number in range(len(folders)))
    run_application("compare", ["--multirun", f"cell={numbers}", *arguments], job)
    results = [read_result(cell, folder) for cell, folder in folders.items()]
    page = write_report(config, results, _root(config))
    failed = sum("failed" in result for result in results)
    print(f"{len(results) - failed} of {len(results)} cells done: {page}")
