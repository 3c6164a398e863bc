"""The cells of a study: what it says of them, their configurations, and where their results lie."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from fst.config import quote
from fst.errors import UserError

METHODS = ("slow", "fast")


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: shown, unique in the study.
        layers: a named set of `conf/layers`; or, without one:
        content, style: names of layers, which count alike.
        method: `slow`, as of `fst optimize`, or `fast`, a network that `fst train` trains for the named set.
        task, init: as of `fst optimize`.
        style_weight, reduction: other than the default's.
        network: the loss network, other than the set's or `fst optimize`'s own.
        gradients: compare those of separate backward passes with that of a joint one, too.
    """

    name: str
    layers: str | None = None
    content: tuple[str, ...] = ()
    style: tuple[str, ...] = ()
    method: str = "slow"
    task: str = "transfer"
    init: str = "content"
    style_weight: float | None = None
    reduction: str | None = None
    network: str | None = None
    gradients: bool = False


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
    for cell in cells:
        if cell.method not in METHODS:
            raise UserError(f"cell {cell.name}: method is '{cell.method}'; it can be {' or '.join(METHODS)}")
        if cell.method == "fast" and (cell.layers is None or cell.task != "transfer"):
            raise UserError(f"cell {cell.name}: a fast one needs `layers: NAME`, a set of conf/layers, and no task")
    return cells


def slow_config(config: DictConfig, cell: Cell) -> DictConfig:
    """The configuration of `fst optimize` for a cell; of a fast one, whose loss its picture is measured by."""
    groups = {"layers": cell.layers, "loss_network": cell.network}
    overrides = [f"{group}={choice}" for group, choice in groups.items() if choice is not None]
    composed = compose("optimize", [*overrides, "logger=none", *_search(config)])
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
        if cell.reduction is not None:
            composed.loss.reduction = cell.reduction
        if cell.method == "fast":
            composed.steps = 0
    return composed


def fast_overrides(config: DictConfig, cell: Cell) -> list[str]:
    """What to tell `fst train` for a fast cell, so that it trains with the loss that its slow peer has."""
    peer = slow_config(config, cell)
    device, _, number = config.device.partition(":")
    return [
        f"name={cell.layers}",
        f"layers={cell.layers}",
        f"loss_network={peer.loss_network.architecture}",
        f"loss_network.weights={quote(peer.loss_network.weights)}",
        f"loss.weights.style={peer.loss.weights.style}",
        f"loss.reduction={peer.loss.reduction}",
        f"style.image={quote(config.style.image)}",
        f"style.size={config.style.size}",
        *(["data=synthetic"] if config.photos is None else [f"data.root={quote(config.photos)}"]),
        f"data.size={config.size // 2}",  # crops of half the size take a quarter of the time
        f"trainer.max_steps={config.train_steps}",
        f"trainer.accelerator={device}",
        *([f"trainer.devices=[{number}]"] if number else []),
        "checkpoint_every=25",
        f"seed={config.seed}",
        *_search(config),
    ]


def cell_folder(config: DictConfig, cell: Cell) -> Path:
    """Where a cell's picture and numbers lie: another configuration has another place, so that nothing stale is found.

    Raises:
        HydraException, OmegaConfBaseException: the cell cannot be composed.
    """
    training = compose("train", fast_overrides(config, cell)) if cell.method == "fast" else OmegaConf.create()
    return _place(config, "cells", cell, slow_config(config, cell), training)


def style_folder(config: DictConfig, cell: Cell) -> Path:
    """Where a fast cell's network is trained: one for all photos that it is shown."""
    return _place(config, "styles", cell, compose("train", fast_overrides(config, cell)))


def study_folder(config: DictConfig) -> Path:
    return Path("outputs", "compare", config.study.name)


def _place(config: DictConfig, kind: str, cell: Cell, *configs: DictConfig) -> Path:
    digest = hashlib.sha256("".join(OmegaConf.to_yaml(part, resolve=False) for part in configs).encode())
    return study_folder(config) / kind / f"{re.sub(r'[^a-zA-Z0-9.-]+', '_', cell.name)}-{digest.hexdigest()[:8]}"


def search_path(config_dir: str) -> str:
    """Hydra's search path with the user's own configurations in front of fst's."""
    return f"hydra.searchpath=['file://{config_dir}']"


def _search(config: DictConfig) -> list[str]:
    return [] if config.config_dir is None else [search_path(config.config_dir)]
