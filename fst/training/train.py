"""The Hydra entry of `fst train`: one configuration in, one style file out."""

import functools
import logging
import math
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from fst.config import CHECKPOINTS, LAST, build_loss, find_checkpoint, read_style_image
from fst.errors import UserError
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.hydra_app import run_application
from fst.inference.style_file import SUFFIX, StyleInfo, find_style, load_style, save_style
from fst.networks.transform import build_transform_network
from fst.schemas import TRAIN
from fst.training.callbacks import Progress, SafeStop, SampleStrip
from fst.training.module import StyleTransferModule

log = logging.getLogger(__name__)


def train(config: DictConfig, folder: Path) -> Path:
    """Train one style as `config` says, with everything it writes in `folder`.

    Returns:
        The style file's path.

    Raises:
        UserError: something in the configuration cannot be.
        RunError: the loss diverged.
        Interrupted: by a signal, after the checkpoint was written.
    """
    keep_large_blocks()
    pl.seed_everything(config.seed, verbose=False)
    style_image = read_style_image(config)
    module = build_module(config, style_image)
    data = instantiate(config.data)
    checkpoint = folder / CHECKPOINTS / LAST
    safe_stop = SafeStop(checkpoint, config.trainer.log_every_n_steps)
    trainer = _build_trainer(config, folder, style_image, safe_stop)
    if trainer.is_global_zero:
        log.info("training %s on %s in %s", config.name, trainer.strategy.root_device, trainer.precision)
    try:
        if config.ckpt_path is None:
            trainer.validate(module, data, verbose=False)  # the curves' and strips' "before"
        resume = None if config.ckpt_path is None else find_checkpoint(config.name, config.ckpt_path)
        with safe_stop.request:
            _fit(trainer, module, data, resume)
        trainer.save_checkpoint(checkpoint)  # the last steps, too, can be gone on from
        scores = trainer.validate(module, data, verbose=False)[0]
    finally:
        data.report_unreadable()
    path = folder / f"{config.name}{SUFFIX}"
    if trainer.is_global_zero:
        save_style(path, module.network, _describe(config, trainer.global_step, scores))
    return path


def build_module(config: DictConfig, style_image: Tensor) -> StyleTransferModule:
    """The transform network and its perceptual loss, as the configuration's groups say."""
    loss = build_loss(config, style_image)
    model = dict(config.model)
    start = model.pop("init_from")
    network = build_transform_network(**model)
    if start is not None:
        _start_from(network, start)
    if config.compile:
        network.compile(dynamic=False)  # for sizes that vary it would compile what trips over our padding
        loss.loss_network.compile(dynamic=False)
    optimizer = config.optimizer
    make_optimizer = instantiate(optimizer.algorithm, _convert_="all")  # plain lists: checkpoints hold no other
    if optimizer.lr_batch_size is not None:
        rate = optimizer.algorithm.lr * math.sqrt(config.data.batch_size / optimizer.lr_batch_size)
        make_optimizer = functools.partial(make_optimizer, lr=rate)
    teacher = None if config.teacher.style is None else load_style(find_style(config.teacher.style))[0]
    return StyleTransferModule(
        network, loss, make_optimizer, optimizer.warmup, optimizer.final, teacher, config.teacher.share
    )


def _start_from(network: nn.Module, style: str) -> None:
    """Give the network the weights of a trained style.

    Raises:
        UserError: no such style, or it has another architecture.
    """
    path = find_style(style)
    trained, info = load_style(path)
    try:
        network.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"model.init_from={style}: {path} has another network, {info.architecture} with {dict(info.arguments)}"
        ) from error


def _build_trainer(config: DictConfig, folder: Path, style_image: Tensor, safe_stop: SafeStop) -> pl.Trainer:
    # Lightning's remarks on what this program does on purpose.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", module="pytorch_lightning", message=".*(num_workers|does not have many workers).*"
    )
    warnings.filterwarnings("ignore", message=".*(LeafSpec|exists and is not empty|GPU available|broadcast_buffers).*")
    precision = config.trainer.precision
    if precision == "auto":
        device = pick_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
        precision = "bf16-mixed" if fast_dtype(device) is torch.bfloat16 else "32-true"
    logger = instantiate(config.logger)
    callbacks = [
        Progress(config.trainer.log_every_n_steps),
        SampleStrip(style_image, folder / "samples"),
        safe_stop,
        # One file, replaced as a whole each time.
        ModelCheckpoint(
            folder / CHECKPOINTS,
            Path(LAST).stem,
            every_n_train_steps=config.checkpoint_every,
            enable_version_counter=False,
        ),
        *([LearningRateMonitor("step")] if logger else []),
    ]
    return instantiate(
        config.trainer,
        precision=precision,
        callbacks=callbacks,
        logger=logger,
        default_root_dir=folder,
        max_epochs=-1,  # the stream of photos is endless: steps count
        val_check_interval=config.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _fit(trainer: pl.Trainer, module: StyleTransferModule, data: pl.LightningDataModule, resume: Path | None) -> None:
    try:
        # Tensors and plain values only: a checkpoint from elsewhere runs no code.
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        if resume is None or trainer.fit_loop.epoch_loop.batch_progress.current.ready:
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"ckpt_path={resume}: not a checkpoint of this configuration, or damaged ({reason})") from error


def _describe(config: DictConfig, steps: int, scores: Mapping[str, float]) -> StyleInfo:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    model = dict(plain["model"])
    start = model.pop("init_from")
    network = plain["loss_network"]
    return StyleInfo(
        name=config.name,
        architecture=model.pop("architecture"),
        arguments=model,
        layers={"content": plain["layers"]["content"], "style": plain["layers"]["style"]},
        loss=plain["loss"],
        loss_network=network | {"weights": Path(network["weights"]).name},  # a folder's name is nobody's business
        init_from=find_style(start).stem if start else "",
        teacher=find_style(config.teacher.style).stem if config.teacher.style else "",
        steps=steps,
        batch_size=config.data.batch_size,
        image_size=config.data.size,
        style_image=Path(config.style.image).stem,
        style_size=config.style.size,
        scores={name.removeprefix("val/"): float(score) for name, score in scores.items()},
    )


def _writes() -> bool:
    """Whether this process is the one of several (trainer=ddp) that writes and prints for all."""
    return getattr(rank_zero_only, "rank", 0) == 0


def main(arguments: list[str]) -> None:
    """`fst train`.

    Raises:
        UserError, RunError, Interrupted: the first run's that failed; a sweep does its other runs all the same.
    """

    def job(config: DictConfig, folder: Path) -> str:
        path = Path(os.path.relpath(train(config, folder)))
        return f"trained {config.name}: {path}\nuse it:  fst stylize PHOTO -s {path}"

    run_application(TRAIN, arguments, job, quiet=not _writes())
