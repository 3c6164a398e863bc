"""Training: from a configuration to a style file."""

import functools
import io
import logging
import math
import os
import pickle
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from fst.checkpoints import FOLDER, LAST, find_checkpoint, flat_settings, read_checkpoint
from fst.errors import RunError, UserError, find_cause
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.networks.own import build_own_network
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.rules import load_start, start_of
from fst.signals import Interrupted
from fst.style_file import load_style, save_style
from fst.style_info import STYLE_SUFFIX, StyleInfo, find_style
from fst.training.callbacks import AtomicCheckpoints, GracefulStop, ImageLogger, ProgressBar
from fst.training.curves import Curves, build_loggers, running
from fst.training.data.crops import CropDataModule
from fst.training.module import StyleTransferModule, build_loss, read_style_image
from fst.training.record import RECORD, Record, style_name

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A trained style: its file, and its scores on the validation photos (`val/loss`, `val/style`, …), empty if there
    are none."""

    path: Path
    scores: Mapping[str, float]


def train(config: DictConfig, folder: Path) -> Trained:
    """Train one style as `config` says; all files are written to `folder`.

    `configure(TRAIN, OVERRIDES)` of `fst.hydra_app` makes the configuration.

    Raises:
        UserError: a mistake in the configuration, or it differs from that of the checkpoint to resume from.
        RunError: the loss diverged, or something cannot be written.
        Interrupted: by a signal, after the checkpoint was written.
    """
    keep_large_blocks()
    pl.seed_everything(config.seed, verbose=False)
    style_image = read_style_image(config)
    data = instantiate(config.data)
    trainer = _build_trainer(config, folder, style_image, data)
    record = Record(config, data, trainer)
    checkpoint = folder / FOLDER / LAST
    graceful_stop = GracefulStop(
        checkpoint, record, config.checkpoint_every, config.val_every, config.trainer.log_every_n_steps
    )
    trainer.callbacks.append(graceful_stop)  # type: ignore[attr-defined]
    resume, state = _resume(config, record)
    done = state.get("global_step", 0)
    module = build_module(config, style_image)
    path = folder / f"{config.name}{STYLE_SUFFIX}"
    if trainer.is_global_zero and done < trainer.max_steps:
        log.info("training %s on %s in %s", config.name, trainer.strategy.root_device, trainer.precision)
    elif trainer.is_global_zero:
        log.info("nothing left to train: %s has had %d of %d steps", resume, done, trainer.max_steps)
    curves = [logger for logger in trainer.loggers if isinstance(logger, Curves)]
    settings = flat_settings(cast(dict, OmegaConf.to_container(config, resolve=True)), ())
    try:
        with _its_processes(trainer), running(curves, settings), graceful_stop.request:
            if resume is None and _validates(data):
                trainer.validate(module, data, verbose=False)  # the curves begin before the first step
            _fit(trainer, module, data, resume, foreign=RECORD not in state)
            if trainer.global_step == done < trainer.max_steps and not trainer.should_stop:
                raise UserError("data: there is no batch to train on; it can have fewer pictures than data.batch_size")
            if done < trainer.max_steps:
                graceful_stop.save(trainer)  # the run can be resumed after its last step
            _write_style(path, config, module, record, {})  # before anything else can fail
            scores = _measure(trainer, module, data, path)
            _write_style(path, config, module, record, scores)
            for logger in curves:
                logger.log_scores(settings, scores, trainer.global_step)
    except SIGTERMException as stop:  # Lightning's own, raised where GracefulStop does not look
        raise Interrupted(signal.SIGTERM, trainer.global_step) from stop
    finally:
        if isinstance(data, CropDataModule):
            data.report_unreadable()
    return Trained(path, scores)


def _resume(config: DictConfig, record: Record) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to resume from, if any, and its state; `record` continues its history.

    Raises:
        UserError: it cannot be read, or was made with other settings.
    """
    if config.ckpt_path is None:
        return None, {}
    path, state = read_checkpoint(find_checkpoint(config.name, config.ckpt_path))
    if "global_step" not in state:
        raise UserError(f"ckpt_path={path}: not a checkpoint of fst train")
    record.resume(path, state)
    return path, state


def _measure(
    trainer: pl.Trainer, module: StyleTransferModule, data: pl.LightningDataModule, path: Path
) -> Mapping[str, float]:
    """The loss terms on the validation pictures; empty if there is no validation."""
    if not _validates(data):
        return {}
    try:
        results = trainer.validate(module, data, verbose=False)
    except Interrupted:
        raise
    except Exception as error:
        reason = find_cause(error) or f"{type(error).__name__}: {error}"
        raise RunError(f"trained, and {path} is written, but the last validation failed: {reason}") from error
    return {name: float(score) for name, score in results[0].items()} if results else {}


def _validates(data: pl.LightningDataModule) -> bool:
    """Whether there are validation pictures: a user's own data module may have none."""
    return is_overridden("val_dataloader", data, pl.LightningDataModule)


def build_module(config: DictConfig, style_image: Tensor) -> StyleTransferModule:
    """The transform network and its perceptual loss, as described by the configuration."""
    loss = build_loss(config, style_image)
    network = _build_network(config.model)
    if start_of(config) is not None:
        network.load_state_dict(load_start(config).state_dict())
    if config.compile:
        network.compile(dynamic=False)  # with dynamic shapes it fails at the padding
        loss.loss_network.compile(dynamic=False)
    optimizer = config.optimizer
    make_optimizer = instantiate(optimizer.algorithm, _convert_="all")  # plain lists, as checkpoints need
    if optimizer.lr_reference_batch_size is not None:
        rate = optimizer.algorithm.lr * math.sqrt(config.data.batch_size / optimizer.lr_reference_batch_size)
        make_optimizer = functools.partial(make_optimizer, lr=rate)
    teacher = None if config.teacher.style is None else load_style(find_style(config.teacher.style))[0]
    return StyleTransferModule(
        network,
        loss,
        make_optimizer,
        optimizer.warmup,
        optimizer.final_lr_ratio,
        teacher,
        config.teacher.imitation_ratio,
    )


def _build_network(model: DictConfig) -> TransformNetwork:
    arguments: Any = OmegaConf.to_container(model, resolve=True)
    if "_target_" not in arguments:
        return build_transform_network(**arguments)
    name = arguments.pop("_target_")
    return build_own_network(get_class(name), name, arguments)


def _build_trainer(config: DictConfig, folder: Path, style_image: Tensor, data: pl.LightningDataModule) -> pl.Trainer:
    # Hide Lightning's remarks on what is done here on purpose.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", module="pytorch_lightning", message=".*(num_workers|does not have many workers|no `val_dataloader`).*"
    )
    warnings.filterwarnings("ignore", message=".*(LeafSpec|callbacks used to create|GPU available|broadcast_buffers).*")
    precision = config.trainer.precision
    if precision == "auto":
        device = pick_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
        precision = "bf16-mixed" if fast_dtype(device) is torch.bfloat16 else "32-true"
    loggers = build_loggers(config.logger, folder)
    callbacks: list[pl.Callback] = [ProgressBar(), ImageLogger(style_image, folder / "samples")]
    if loggers:
        callbacks.append(LearningRateMonitor("step"))
    callbacks += _own_callbacks(config.callbacks)
    return instantiate(
        config.trainer,
        precision=precision,
        callbacks=callbacks,
        logger=loggers,
        plugins=AtomicCheckpoints(),
        enable_checkpointing=False,  # GracefulStop saves checkpoints
        default_root_dir=folder,
        max_epochs=-1,  # the stream of photos has no end: steps are counted
        val_check_interval=config.val_every * config.trainer.get("accumulate_grad_batches", 1),  # in batches
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=not isinstance(data, CropDataModule),  # which shares out its batches itself
    )


@contextmanager
def _its_processes(trainer: pl.Trainer) -> Iterator[None]:
    """Around a run whose other processes Lightning starts: what it leaves would keep the next run from its own."""
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    if cluster is None or cluster.creates_processes_externally:
        yield
        return
    environment = dict(os.environ)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)


def _own_callbacks(config: DictConfig) -> list[pl.Callback]:
    callbacks = {name: instantiate(one) for name, one in config.items()}
    for name, callback in callbacks.items():
        if not isinstance(callback, pl.Callback):
            raise UserError(f"callbacks.{name!s}: a {type(callback).__name__}; it can be a pytorch_lightning.Callback")
        torch.save(callback.state_dict(), state := io.BytesIO())
        state.seek(0)
        try:
            torch.load(state, weights_only=True)  # as a run is resumed
        except pickle.UnpicklingError as error:
            raise UserError(f"callbacks.{name!s}: state_dict() can hold tensors and plain values only") from error
    return list(callbacks.values())


def _fit(
    trainer: pl.Trainer, module: StyleTransferModule, data: pl.LightningDataModule, resume: Path | None, foreign: bool
) -> None:
    try:
        # Only tensors and plain values: a checkpoint cannot run code.
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except UserError as error:
        raise UserError(str(error).strip().rpartition("UserError: ")[2]) from error  # without a worker's traceback
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if resume is None or not foreign:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"ckpt_path={resume}: not a checkpoint of this configuration ({reason})") from error


def _write_style(
    path: Path, config: DictConfig, module: StyleTransferModule, record: Record, scores: Mapping[str, float]
) -> None:
    if not module.trainer.is_global_zero:
        return
    steps, batches = module.trainer.global_step, module.trainer.accumulate_grad_batches
    plain: Any = OmegaConf.to_container(config, resolve=True)
    model, start = plain["model"], plain["init_from"]
    if not plain["loss"]["terms"]:
        del plain["loss"]["terms"]  # as in styles that are older than terms of one's own
    network = plain["loss_network"]
    history = record.history(steps)
    info = StyleInfo(
        name=config.name,
        architecture=model.pop("_target_", None) or model.pop("architecture"),
        arguments=model,
        layers=plain["layers"],
        loss=plain["loss"],
        loss_network=network | {"weights": Path(network["weights"]).name},  # the folder is private
        init_from=style_name(start),
        teacher=style_name(config.teacher.style),
        steps=steps,
        batch_size=batches * plain["data"].get("batch_size", 0),  # a user's own data module may have neither
        image_size=plain["data"].get("size", 0),
        style_image=Path(config.style.image).stem,
        style_size=config.style.size,
        versions=history[-1].versions,
        history=history,
        scores={name.removeprefix("val/"): score for name, score in scores.items()},
    )
    save_style(path, module.network, info)
