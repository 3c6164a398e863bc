"""The cells of a study: their definition, the configuration of each, and where its results lie."""

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from hydra import compose
from hydra.errors import HydraException
from msgspec import Meta
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fst.checkpoints import fingerprint, folder_fingerprint
from fst.errors import UserError
from fst.files import expand_user
from fst.hydra_app import check_config, config_error
from fst.overrides import device_overrides, overrides_of, search_path
from fst.pictures import LEAST_SIDE, require_images
from fst.resources import find_style_image
from fst.schemas import OPTIMIZE, TRAIN, Application, StyleImage
from fst.study.claims import CLAIMS
from fst.style_info import Reduction
from fst.typed import one_of, show
from fst.values import Architecture, Count, Device, Method, Name, Photos, Picture, Seed, Task, Text, Weight, Weights

_LONGEST = 200  # characters of a cell's name in that of its folder: file systems take 255 in all


@dataclass(frozen=True)
class Cell:
    """One picture of a study (conf/study).

    Attributes:
        name: shown on the page; unique in the study.
        role: the name by which the study's claim finds the cell.
        layers: the name of a set in `conf/layers`; `None` if `content` and `style` list the layers.
        content, style: names of layers, each with weight 1.
        method: `slow`, by `fst optimize`, or `fast`, by a network that `fst train` trains for the named set.
        task, init: as in `conf/optimize.yaml`.
        style_weight, reduction: where they differ from the loss's default.
        network: the loss network, where it differs from the set's own.
        gradients: also compare the gradients of separate backward passes with that of a joint one.
    """

    name: Text
    role: Text | None = None
    layers: Text | None = None
    content: tuple[str, ...] = ()
    style: tuple[str, ...] = ()
    method: Method = "slow"
    task: Task = "transfer"
    init: Literal["content", "noise"] | Picture = "content"
    style_weight: Weight | None = None
    reduction: Reduction | None = None
    network: Architecture | None = None
    gradients: bool = False


@dataclass
class Study:
    """conf/study"""

    title: str
    expect: str
    cells: list[Cell]
    claim: Annotated[str, one_of(CLAIMS)] | None = None
    task: Task = "transfer"
    init: Literal["content", "noise"] | Picture = "content"
    steps: Count = 50
    train_steps: Count = 250
    columns: Count = 1


@dataclass
class JudgeWeights:
    vgg16: Weights
    vgg19: Weights


@dataclass
class Compare:
    """conf/compare.yaml"""

    name: Name
    content: Picture
    style: StyleImage
    size: Annotated[int, Meta(ge=2 * LEAST_SIDE, le=16384)]  # fast cells train on crops of half of it
    steps: Count
    train_steps: Count
    photos: Photos | None
    judge: Literal["vgg19", "compact"]
    weights: JudgeWeights
    layer_sets: list[Text] | None
    config_dir: str | None
    device: Device
    seed: Seed
    cell: Annotated[int, Meta(ge=0)] | None
    study: Study


COMPARE = Application("compare", Compare, "fst compare study=recipes content=PHOTO style.image=PAINTING")


Composed = tuple[DictConfig, DictConfig | None]  # of a cell, see `compose_cell`


def cells_of(config: DictConfig) -> list[Cell]:
    """The cells of the study, or one for each of the layer sets in `layer_sets`.

    Raises:
        UserError: the study has no cells, or two of the same name.
    """
    study: Any = OmegaConf.to_container(config.study, resolve=True)
    shared = {key: study[key] for key in ("task", "init") if key in study}
    rows = study["cells"]
    if config.layer_sets is not None:
        rows = [{"name": name, "layers": name} for name in config.layer_sets]
    if not rows:
        raise UserError(f"study {config.name} has no cells; name layer sets: fst compare layers=johnson,gatys …")
    cells = msgspec.convert([shared | row for row in rows], list[Cell])
    names = [cell.name for cell in cells]
    if twice := {show(name) for name in names if names.count(name) > 1}:
        raise UserError(f"study {config.name}: two cells have the same name, {min(twice)} (study.cells, or layers=…)")
    if config.cell is not None and config.cell >= len(cells):
        raise UserError(f"cell={config.cell}: it can be a whole number from 0 to {len(cells) - 1}")
    return cells


def compose_cell(config: DictConfig, cell: Cell) -> Composed:
    """The checked configuration of `fst optimize` for a cell, and for a fast cell that of `fst train`.

    A fast cell's picture is measured with the loss in the first.

    Raises:
        UserError: the cell's name, and what `fst optimize` or `fst train` would refuse.
    """
    try:
        if cell.method == "fast" and (cell.layers is None or cell.task != "transfer"):
            raise UserError("a fast one needs `layers: NAME`, a set of conf/layers, and no task")
        if cell.layers is not None and (cell.content or cell.style):
            raise UserError("`layers` names a set; `content` and `style` are for a cell without one")
        slow = _slow_config(config, cell)
        check_config(OPTIMIZE, slow)
        if cell.method == "slow":
            return slow, None
        slow.steps = 0
        training = compose("train", fast_overrides(config, cell, slow.loss_network))
        check_config(TRAIN, training)
        return slow, training
    except (UserError, HydraException, OmegaConfBaseException) as error:
        reason = error if isinstance(error, UserError) else config_error(OPTIMIZE, error)
        raise UserError(f"cell {show(cell.name)}: {reason}") from error


def _slow_config(config: DictConfig, cell: Cell) -> DictConfig:
    compact = "compact" if config.judge == "compact" else None  # then a cell needs no VGG, unless it names one
    groups = {"layers": cell.layers, "loss_network": cell.network or compact}
    composed = compose("optimize", [*overrides_of(groups), "logger=none", *search_path(config.config_dir)])
    with open_dict(composed):
        if cell.layers is None:
            composed.layers = {term: dict.fromkeys(getattr(cell, term), 1.0) for term in ("content", "style")}
        composed.content, composed.style = config.content, config.style
        for key in ("size", "steps", "device", "seed"):
            composed[key] = config[key]
        composed.task, composed.init, composed.name, composed.every = cell.task, cell.init, "picture", 20
        network = composed.loss_network
        network.weights = config.weights.get(network.architecture, network.weights)
        if cell.style_weight is not None:
            composed.loss.weights.style = cell.style_weight
        if cell.reduction is not None:
            composed.loss.reduction = cell.reduction
    return composed


def fast_overrides(config: DictConfig, cell: Cell, network: DictConfig) -> list[str]:
    """The arguments of `fst train` for a fast cell: it trains with the loss of the slow cell with the same layers.

    Args:
        network: the loss network of that slow cell.
    """
    values = {
        "experiment": "study",
        "name": cell.layers,
        "layers": cell.layers,
        "loss_network": network.architecture,
        "loss_network.weights": network.weights,
        "loss_network.pooling": network.pooling,
        "loss.weights.style": cell.style_weight,
        "loss.reduction": cell.reduction,
        "style.image": config.style.image,
        "style.size": config.style.size,
        "data": "folder" if config.photos else None,
        "data.root": config.photos,
        "data.size": config.size // 2,
        "trainer.max_steps": config.train_steps,
        "seed": config.seed,
    }
    return [*overrides_of(values), *device_overrides(config.device), *search_path(config.config_dir)]


def cell_folder(config: DictConfig, cell: Cell, slow: DictConfig, training: DictConfig | None) -> Path:
    """The folder of a cell's picture and numbers. Its name depends on the whole configuration, the files that it names
    and the judge, so that results of others are not taken for this one's."""
    judge = [config.judge, _known(config.weights.get(config.judge)), cell.gradients]
    files = [_known(name) for name in (config.content, cell.init)]
    return _place(config, "cells", cell, judge, files, *_content(config, slow), *_content(config, training))


def style_folder(config: DictConfig, cell: Cell, training: DictConfig) -> Path:
    """The folder in which a fast cell's network is trained; the same for all content images."""
    return _place(config, "styles", cell, *_content(config, training))


def study_folder(config: DictConfig) -> Path:
    return Path("outputs", "compare", config.name)


def _place(config: DictConfig, kind: str, cell: Cell, *decisive: object) -> Path:
    digest = hashlib.sha256(repr(decisive).encode())
    name = re.sub(r"[^a-zA-Z0-9.-]+", "_", cell.name)[:_LONGEST]
    return study_folder(config) / kind / f"{name}-{digest.hexdigest()[:8]}"


def _content(config: DictConfig, composed: DictConfig | None) -> list[str]:
    """The text of a configuration, and what its files hold."""
    if composed is None:
        return []
    known = [_known(composed.loss_network.weights), _known(find_style_image(composed.style.image))]
    if "data" in composed and config.photos is not None:
        known.append(folder_fingerprint(config.photos, require_images(config.photos, "photos=")))
    return [OmegaConf.to_yaml(composed, resolve=False), *known]


def _known(name: str | Path | None) -> str:
    """The fingerprint of a file; "" if it is none."""
    path = expand_user(name or "")
    return _of_file(path, path.stat().st_mtime_ns) if path.is_file() else ""


@functools.cache  # the cells share them
def _of_file(path: Path, _: int) -> str:
    return fingerprint(path)
