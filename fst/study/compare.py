"""`fst compare`: layer sets side by side on one page. Each cell of a study is one picture; all are measured alike, by
their relative errors at each layer of VGG19, or of the bundled compact network."""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from fst.checkpoints import checkpoint_of
from fst.errors import find_cause
from fst.files import write_atomically
from fst.hardware import pick_device
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.perceptual import LossWeights, PerceptualLoss
from fst.signals import Interrupted
from fst.study import fast
from fst.study.cells import Cell, fast_overrides, style_folder
from fst.study.optimize import optimize
from fst.training.module import build_loss, read_style_image

log = logging.getLogger(__name__)


def run_cell(config: DictConfig, cell: Cell, folder: Path, slow: DictConfig, training: DictConfig | None) -> str:
    """Make and measure the picture of a cell, unless that is done. A failure is stored; other cells go on."""
    if (folder / "cell.json").exists():
        return f"{cell.name}: done before"
    document: dict[str, Any] = {"cell": dataclasses.asdict(cell)}
    try:
        if training is None:
            document |= _slow(slow, folder)
        else:
            document |= _fast(config, cell, slow, style_folder(config, cell, training), folder)
        picture = read_tensor(folder / document["picture"])
        document["errors"] = measure(config, picture)
        if cell.gradients:
            document["gradient_difference"] = gradient_difference(slow, picture)
    except Interrupted as stop:
        raise KeyboardInterrupt from stop  # stops all cells; the same command continues them
    except Exception as error:
        reason = str(find_cause(error) or f"{type(error).__name__}: {error}")
        write_atomically(folder / "failed.json", json.dumps(document | {"failed": reason}).encode())
        log.error("%s failed: %s", cell.name, reason)
        return f"{cell.name}: failed"
    write_atomically(folder / "cell.json", json.dumps(document).encode())
    return f"{cell.name}: {document['seconds']:.0f} s"


def _slow(slow: DictConfig, folder: Path) -> dict[str, Any]:
    if checkpoint := checkpoint_of(folder):
        slow.ckpt_path = str(checkpoint)
    with _clock(folder):
        picture = optimize(slow, folder)
    written = json.loads(picture.with_suffix(".json").read_text())
    return written | {"picture": picture.name, "seconds": _seconds(folder)}


def _fast(config: DictConfig, cell: Cell, slow: DictConfig, trained: Path, folder: Path) -> dict[str, Any]:
    log.info("%s: training, see %s", cell.name, trained)
    with _clock(trained):
        style = fast.train(fast_overrides(config, cell, slow.loss_network), trained, trained / "train.log")
    terms = fast.stylize(style, slow, folder / "picture.png")
    plain = OmegaConf.to_container(slow, resolve=True)
    return {"config": plain, "terms": terms, "picture": "picture.png", "seconds": _seconds(trained)}


@contextmanager
def _clock(folder: Path) -> Iterator[None]:
    """Adds the time spent within it to that of earlier, interrupted runs."""
    before, start = _seconds(folder), time.perf_counter()
    try:
        yield
    finally:
        write_atomically(folder / "seconds.json", json.dumps(before + time.perf_counter() - start).encode())


def _seconds(folder: Path) -> float:
    path = folder / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else 0.0


@torch.no_grad()
def measure(config: DictConfig, picture: torch.Tensor) -> dict[str, dict[str, float]]:
    """Relative content and style errors of a `(1, 3, H, W)` picture at each ReLU of the judge, by layer; no content
    errors if it is not of the content image's size."""
    layers = dict.fromkeys(relu_layers(config.judge), 1.0)
    network = LossNetwork(config.judge, layers, config.weights.get(config.judge, "bundled"))
    device = pick_device(config.device)
    photo = read_tensor(Path(config.content), config.size)
    loss = PerceptualLoss(network, read_style_image(config), layers, layers, LossWeights()).to(device)
    same = photo.shape == picture.shape
    terms = loss(picture.to(device), loss.content_targets((photo if same else picture).to(device)))
    found = {"style": {layer: float(terms[f"style/{layer}"]) for layer in layers}}
    if same:
        found["content"] = {layer: float(terms[f"content/{layer}"]) for layer in layers}
    return found


def gradient_difference(config: DictConfig, picture: torch.Tensor) -> float:
    """Relative difference of the gradients of a joint backward pass and of separate ones, for content and for style:
    `‖joint − separate‖ / ‖joint‖`. In exact arithmetic it would be 0.

    Args:
        config: of `fst optimize`.
        picture: `(1, 3, H, W)`; the gradients are taken there.
    """
    device = pick_device(config.device)
    loss = build_loss(config, read_style_image(config)).to(device)
    targets = loss.content_targets(read_tensor(Path(config.content), config.size).to(device))
    pixels = picture.to(device).requires_grad_()

    def gradient(*names: str) -> torch.Tensor:
        terms = loss(pixels, targets)
        return torch.autograd.grad(sum(getattr(loss.weights, name) * terms[name] for name in names), pixels)[0]

    joint, separate = gradient("content", "style"), gradient("content") + gradient("style")
    return float((joint - separate).norm() / joint.norm())


def read_result(cell: Cell, folder: Path) -> dict[str, Any]:
    """The result of a cell: its numbers, or `failed` with the reason. `folder` is the cell's."""
    path = next((folder / name for name in ("cell.json", "failed.json") if (folder / name).exists()), None)
    document = json.loads(path.read_text()) if path else {"failed": "not done"}
    return document | {"cell": dataclasses.asdict(cell), "folder": str(folder)}
