"""The slow method (Gatys et al. 2016): the picture itself is optimised against the perceptual loss. `fst optimize`."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from msgspec import Meta
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
from fst.config import build_loss, read_style_image
from fst.errors import RunError, UserError
from fst.files import write_atomically
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.hydra_app import run_application
from fst.images import read_image, read_tensor, resize_longer_side, to_pil, to_tensor, write_image
from fst.networks.transform import LEAST_SIDE
from fst.perceptual import PerceptualLoss
from fst.resources import find_style_image
from fst.schemas import Application, Layers, Loss, Network, NoLogger, StyleImage, Tensorboard, check_loss
from fst.stopping import Interrupted, StopRequest
from fst.training.curves import Curves
from fst.typed import one_of
from fst.values import Count, Device, Name, Picture, Rate, Seed, Side, Task, Text

log = logging.getLogger(__name__)

_FREE = ("steps", "every", "name", "device", "logger", "ckpt_path")  # may change when a run goes on
ALGORITHMS = ("lbfgs", "adam")
PRECISIONS = ("float32", "auto")


@dataclass
class Optimize:
    """conf/optimize.yaml"""

    task: Task
    content: Picture
    size: Side
    style: StyleImage
    init: Literal["content", "noise"] | Picture | None
    algorithm: Annotated[str, one_of(ALGORITHMS)]
    lr: Rate
    steps: Count
    levels: Annotated[int, Meta(ge=1, le=10)]
    name: Name
    seed: Seed
    device: Device
    precision: Annotated[str, one_of(PRECISIONS)]
    every: Count
    ckpt_path: Text | None
    loss_network: Network
    layers: Layers
    loss: Loss
    logger: Tensorboard | NoLogger

    @staticmethod
    def unused(config: DictConfig) -> frozenset[str]:
        """Keys that the task does not need."""
        return frozenset({"reconstruct": ["style.image"], "texture": ["content"]}.get(str(config.get("task")), []))

    @staticmethod
    def rule(config: DictConfig) -> None:
        check_loss(config, config.task)
        source = find_style_image(config.style.image) if config.task == "texture" else Path(config.content)
        image = resize_longer_side(read_image(source), config.size)
        if min(image.size) >> (config.levels - 1) < LEAST_SIDE:
            begins = " × ".join(str(side >> (config.levels - 1)) for side in image.size)
            raise UserError(
                f"levels={config.levels} begins with {begins} pixels, fewer than {LEAST_SIDE} a side; "
                "take fewer levels or a larger size"
            )


OPTIMIZE = Application("optimize", Optimize, "fst optimize content=PHOTO style.image=PAINTING")


@dataclass(frozen=True)
class Step:
    """What is known after an iteration: its number from 1 up, the terms before it, the picture after it."""

    iteration: int
    terms: dict[str, float]
    picture: Tensor


class Optimization:
    """An endless iterator over the iterations of the slow method on one `(1, 3, H, W)` picture in [0, 1].

    The loss sees the picture clamped to [0, 1], and the pixels are put there after each iteration, so that one at the
    edge can come back: the objective is the same before and after. L-BFGS has learning rate 1, as in the
    released code of Gatys et al., and a strong Wolfe line search, with which the objective never rises.

    Args:
        loss: in eval mode, on the device of the pictures.
        content: what is kept; `(1, 3, H, W)`.
        start: the picture to begin with, of the same size.
        algorithm: `lbfgs` or `adam`.
        lr: of Adam.
    """

    def __init__(
        self,
        loss: PerceptualLoss,
        content: Tensor,
        start: Tensor,
        algorithm: str = "lbfgs",
        lr: float = 0.02,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise UserError(f"algorithm is '{algorithm}'; it can be {' or '.join(ALGORITHMS)}")
        self.loss = loss
        self.targets = loss.content_targets(content)
        self.pixels = start.clone(memory_format=torch.contiguous_format).requires_grad_()  # as L-BFGS wants it
        self.iteration = 0
        self._seen: tuple[Tensor, Tensor, dict[str, Tensor]] | None = None
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([self.pixels], lr)
            if algorithm == "adam"
            else torch.optim.LBFGS(
                [self.pixels],
                max_iter=1,
                max_eval=26,  # a look and the line search's 25; the default is one look, which leaves no search at all
                history_size=100,
                line_search_fn="strong_wolfe",
            )
        )

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        terms: dict[str, Tensor] = {}

        def closure() -> float:
            gradient, found = self._look()
            terms.update(terms or found)  # those of the first look
            # Outside the range the loss is flat. A pixel at the edge that wants out stays: counted in, it would promise
            # the line search what cannot be had.
            pixels = self.pixels.detach()
            out = ((pixels <= 0) & ((gradient > 0) | (pixels < 0))) | ((pixels >= 1) & ((gradient < 0) | (pixels > 1)))
            self.pixels.grad = gradient.masked_fill(out, 0)
            return found["loss"].item()

        self.optimizer.step(closure)
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
        if not torch.isfinite(terms["loss"]):
            raise RunError(f"the loss is {values['loss']} at iteration {self.iteration}; try precision=float32")
        self.iteration += 1
        return Step(self.iteration, values, self.pixels.detach())

    def _look(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient and terms of the picture in the pixels; where the last look found it, as after most line searches,
        it is not taken again: half of the time."""
        picture = self.pixels.detach().clamp(0, 1)
        if self._seen is None or not torch.equal(picture, self._seen[0]):
            with torch.enable_grad():
                terms = self.loss(picture.requires_grad_(), self.targets)
                (gradient,) = torch.autograd.grad(terms["loss"], picture)
            self._seen = picture.detach(), gradient, {name: term.detach() for name, term in terms.items()}
        return self._seen[1], self._seen[2]

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """The terms of the picture as it is."""
        return self.loss(self.pixels, self.targets)

    def state_dict(self) -> dict[str, Any]:
        return {
            "pixels": self.pixels.detach(),
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.pixels.copy_(state["pixels"])
        self.iteration = state["iteration"]
        self.optimizer.load_state_dict(state["optimizer"])


def start_picture(init: str, content: Tensor, seed: int) -> Tensor:
    """`content`, white `noise` of that seed (Gatys et al. 2016, section 2.2), or a picture file, at the content's size.

    Raises:
        UserError: the file cannot be read.
    """
    if init == "content":
        return content.clone()
    if init == "noise":
        return torch.rand(content.shape, generator=torch.Generator().manual_seed(seed)).to(content.device)
    return resize(read_tensor(Path(init)), content.shape[-2:]).to(content.device)


def resize(picture: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(picture, tuple(size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def pyramid(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Heights and widths from coarse to fine, each half of the next.

    >>> pyramid((300, 401), 3)
    [(75, 100), (150, 200), (300, 401)]
    """
    return [(size[0] >> level, size[1] >> level) for level in reversed(range(levels))]


def optimize(config: DictConfig, folder: Path) -> Path:
    """Optimise one picture as `config` says, with everything it writes in `folder`.

    Returns:
        The picture's path.

    Raises:
        UserError: something in the configuration cannot be.
        RunError: the loss became NaN or infinite.
        Interrupted: by a signal, after the checkpoint was written.
    """
    keep_large_blocks()
    device = pick_device(config.device)
    dtype = fast_dtype(device) if config.precision == "auto" else torch.float32
    content, style_image = _read_pictures(config)
    sizes = pyramid((content.shape[2], content.shape[3]), config.levels)
    settings = _settings(config) | {"precision": str(dtype)}
    state: dict[str, Any] = {"level": 0, "curve": []} if config.ckpt_path is None else _go_on(config, settings)
    loss = build_loss(_for_task(config), style_image).to(device)
    loss.loss_network.use_dtype(dtype)
    curve: list[dict[str, float]] = state["curve"]
    init = config.init or ("content" if config.task == "transfer" else "noise")
    picture = start_picture(init, content, config.seed)
    logger = instantiate(config.logger)
    curves = Curves(logger) if logger else None
    total = config.steps * config.levels
    with StopRequest() as request, tqdm(total=total, initial=len(curve), unit="step", dynamic_ncols=True) as bar:
        for level in range(state["level"], config.levels):
            goal = resize(content, sizes[level]).to(device)
            run = Optimization(loss, goal, resize(picture, sizes[level]).to(device), config.algorithm, config.lr)
            if "run" in state:
                run.load_state_dict(state.pop("run"))
            while run.iteration < config.steps:
                step = next(run)
                curve.append(step.terms)
                bar.update()
                bar.set_postfix({name: f"{step.terms[name]:.4g}" for name in ("loss", "content", "style")})
                if curves:
                    curves.log_metrics(step.terms, len(curve))
                if len(curve) % config.every == 0 or request.signal:
                    progress = {"level": level, "curve": curve, "run": run.state_dict(), "settings": settings}
                    save_checkpoint(folder / FOLDER / LAST, progress)
                    _show(folder / "samples" / f"{len(curve):05}.png", step.picture, curves, len(curve))
                if request.signal:
                    raise Interrupted(request.signal, len(curve))
            picture = run.pixels.detach()
    path = folder / f"{config.name}.png"
    _show(path, picture, curves, len(curve))
    terms = {name: float(term) for name, term in run.measure().items()}
    document = {"config": OmegaConf.to_container(config, resolve=True), "terms": terms, "curve": curve}
    write_atomically(path.with_suffix(".json"), json.dumps(document, indent=1).encode())
    return path


def _read_pictures(config: DictConfig) -> tuple[Tensor, Tensor]:
    """Content and style picture; where the task needs one only, it stands for both."""
    if config.task == "texture":
        style_image = read_style_image(config)
        return to_tensor(resize_longer_side(to_pil(style_image), config.size)), style_image
    content = read_tensor(Path(config.content), config.size)
    return content, content if config.task == "reconstruct" else read_style_image(config)


def _for_task(config: DictConfig) -> DictConfig:
    """Without the layers that the task does not need."""
    config = config.copy()
    if config.task == "reconstruct":
        config.layers.style = {}
    elif config.task == "texture":
        config.layers.content = {}
    return config


def _settings(config: DictConfig) -> dict[str, Any]:
    """What decides the picture, flat, with what is in files in place of their paths."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    files = {key: Path(plain[key]) for key in ("content", "init") if plain[key]}
    files["loss_network.weights"] = Path(config.loss_network.weights)
    if config.task != "reconstruct":
        files["style.image"] = find_style_image(config.style.image)
    known = {key: fingerprint(path) for key, path in files.items() if path.is_file()}
    return flat_settings(plain, _FREE) | known


def _go_on(config: DictConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """The state of the checkpoint to go on from.

    Raises:
        UserError: it cannot be read, or was made with other settings.
    """
    path, state = read_checkpoint(find_checkpoint(config.name, config.ckpt_path))
    if "curve" not in state:
        raise UserError(f"ckpt_path={path}: not a checkpoint of fst optimize")
    if "settings" in state:
        refuse_changes(path, state["settings"], settings, "others start from a picture (init=PICTURE)")
    else:
        log.warning("%s: an older fst wrote it, without its settings; they are taken to be the same", path)
    return state


def _show(path: Path, picture: Tensor, curves: Curves | None, step: int) -> None:
    image = to_pil(picture.cpu())
    write_image(image, path)
    if curves:
        curves.log_image("picture", np.asarray(image), step)


def main(arguments: list[str]) -> None:
    """`fst optimize`.

    Raises:
        UserError, RunError, Interrupted: the first run's that failed; a sweep does its other runs all the same.
    """
    run_application(OPTIMIZE, arguments, lambda config, folder: os.path.relpath(optimize(config, folder)))
