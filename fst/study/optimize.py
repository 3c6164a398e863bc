"""`fst optimize`: the slow method (Gatys et al. 2016) as a command, with checkpoints, curves and sample pictures."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from fst.checkpoints import (
    FOLDER,
    LAST,
    find_checkpoint,
    fingerprint,
    flat_settings,
    read_checkpoint,
    refuse_changes,
    save_checkpoint,
)
from fst.errors import UserError
from fst.files import write_atomically
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.images import read_tensor, resize, to_pil, to_tensor
from fst.perceptual import PerceptualLoss
from fst.pictures import resize_longer_side, write_image
from fst.resources import find_style_image
from fst.signals import Interrupted, StopRequest
from fst.study.gatys import Optimization, pyramid, start_picture
from fst.training.curves import Curves, build_loggers, running
from fst.training.module import build_loss, read_style_image

log = logging.getLogger(__name__)

_MAY_DIFFER = ("steps", "every", "name", "device", "logger", "ckpt_path")  # when a run is resumed


def optimize(config: DictConfig, folder: Path) -> Path:
    """Optimise one picture as `config` says; all files are written to `folder`.

    Returns:
        The picture's path.

    Raises:
        UserError: a value of the configuration is not possible.
        RunError: the loss became NaN or infinite.
        Interrupted: by a signal, after the checkpoint was written.
    """
    keep_large_blocks()
    device = pick_device(config.device)
    dtype = fast_dtype(device) if config.precision == "auto" else torch.float32
    content, style_image = _read_pictures(config)
    settings = _settings(config) | {"precision": str(dtype)}
    state: dict[str, Any] = {"level": 0, "curve": []} if config.ckpt_path is None else _read_state(config, settings)
    loss = build_loss(_without_unused_layers(config), style_image).to(device)
    loss.loss_network.use_dtype(dtype)
    curve: list[dict[str, float]] = state["curve"]
    curves = build_loggers(config.logger, folder)
    total = config.steps * config.levels
    bar = tqdm(total=total, initial=len(curve), unit="step", dynamic_ncols=True)
    with running(curves, settings), StopRequest() as request, bar:
        for level, run in _runs(config, loss, content, state):
            while run.iteration < config.steps:
                step = next(run)
                curve.append(step.terms)
                bar.update()
                bar.set_postfix({name: f"{step.terms[name]:.4g}" for name in ("loss", "content", "style")})
                for each in curves:
                    each.log_metrics(step.terms, len(curve))
                last = level == config.levels - 1 and run.iteration == config.steps
                if len(curve) % config.every == 0 or last or request.signal:
                    progress = {"level": level, "curve": curve, "run": run.state_dict(), "settings": settings}
                    save_checkpoint(folder / FOLDER / LAST, progress)
                if len(curve) % config.every == 0 or request.signal:
                    _write_picture(folder / "samples" / f"{len(curve):05}.png", step.picture, curves, len(curve))
                if request.signal:
                    raise Interrupted(request.signal, len(curve))
        path = folder / f"{config.name}.png"
        _write_picture(path, run.pixels.detach(), curves, len(curve))
    terms = {name: float(term) for name, term in run.measure().items()}
    document = {"config": OmegaConf.to_container(config, resolve=True), "terms": terms, "curve": curve}
    write_atomically(path.with_suffix(".json"), json.dumps(document, indent=1).encode())
    return path


def _runs(
    config: DictConfig, loss: PerceptualLoss, content: Tensor, state: dict[str, Any]
) -> Iterator[tuple[int, Optimization]]:
    """Each level's number and optimisation, from coarse to fine, beginning at the checkpoint's `state`.

    A level starts from the picture that the one before has reached when the next is asked for.
    """
    sizes = pyramid((content.shape[2], content.shape[3]), config.levels)
    device = pick_device(config.device)
    picture = start_picture(config.init or ("content" if config.task == "transfer" else "noise"), content, config.seed)
    for level in range(state["level"], config.levels):
        goal, start = (resize(image, sizes[level]).to(device) for image in (content, picture))
        run = Optimization(loss, goal, start, config.algorithm, config.lr)
        if "run" in state:
            run.load_state_dict(state.pop("run"))
        yield level, run
        picture = run.pixels.detach()


def _read_pictures(config: DictConfig) -> tuple[Tensor, Tensor]:
    """Content and style image; a task that needs only one gets it as both."""
    if config.task == "texture":
        style_image = read_style_image(config)
        return to_tensor(resize_longer_side(to_pil(style_image), config.size)), style_image
    content = read_tensor(Path(config.content), config.size)
    return content, content if config.task == "reconstruct" else read_style_image(config)


def _without_unused_layers(config: DictConfig) -> DictConfig:
    """The configuration, without the layers that its task does not need."""
    config = config.copy()
    if config.task == "reconstruct":
        config.layers.style = {}
    elif config.task == "texture":
        config.layers.content = {}
    return config


def _settings(config: DictConfig) -> dict[str, Any]:
    """All settings that decide the picture, by dotted key; a file is represented by its fingerprint."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    files = {key: Path(plain[key]) for key in ("content", "init") if plain[key]}
    files["loss_network.weights"] = Path(config.loss_network.weights)
    if config.task != "reconstruct":
        files["style.image"] = find_style_image(config.style.image)
    known = {key: fingerprint(path) for key, path in files.items() if path.is_file()}
    return flat_settings(plain, _MAY_DIFFER) | known


def _read_state(config: DictConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """The state of the checkpoint to resume from.

    Raises:
        UserError: it cannot be read, or was made with other settings.
    """
    path, state = read_checkpoint(find_checkpoint(config.name, config.ckpt_path))
    if "curve" not in state:
        raise UserError(f"ckpt_path={path}: not a checkpoint of fst optimize")
    if "settings" in state:
        refuse_changes(path, state["settings"], settings, "to change them, start from a picture: init=PICTURE")
    else:
        log.warning("%s: written by an older fst without its settings; assuming that they are the same", path)
    coarser = len(state["curve"]) - state["run"]["iteration"]
    if coarser != state["level"] * config.steps:
        log.warning("%s: its coarser levels had %d iterations in all; they are not done again", path, coarser)
    return state


def _write_picture(path: Path, picture: Tensor, curves: list[Curves], step: int) -> None:
    image = to_pil(picture.cpu())
    write_image(image, path)
    for each in curves:
        each.log_image("picture", np.asarray(image), step)
