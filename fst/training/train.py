"""The Hydra entry of `fst train`: one configuration in, one style file out."""

import functools
import logging
import math
import os
import pickle
import re
import shlex
import sys
import warnings
import zipfile
from collections.abc import Mapping
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from fst.errors import UserError, find_cause
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.images import flatten_alpha, read_image, resize_longer_side, to_tensor
from fst.inference.style_file import SUFFIX, StyleInfo, find_style, load_style, save_style
from fst.networks.transform import build_transform_network
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import find_style_image, resource_folder
from fst.training.callbacks import Interrupted, Progress, SafeStop, SampleStrip
from fst.training.module import StyleTransferModule

log = logging.getLogger(__name__)

_CHECKPOINTS, _LAST = "checkpoints", "last.ckpt"


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
    style_image = _read_style(config)
    module = build_module(config, style_image)
    data = instantiate(config.data)
    checkpoint = folder / _CHECKPOINTS / _LAST
    safe_stop = SafeStop(checkpoint, config.trainer.log_every_n_steps)
    trainer = _build_trainer(config, folder, style_image, safe_stop)
    if trainer.is_global_zero:
        log.info("training %s on %s in %s", config.name, trainer.strategy.root_device, trainer.precision)
    try:
        if config.ckpt_path is None:
            trainer.validate(module, data, verbose=False)  # the curves' and strips' "before"
        resume = None if config.ckpt_path is None else find_checkpoint(config.name, config.ckpt_path)
        with safe_stop.listening():
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
    layers = config.layers
    loss = PerceptualLoss(
        LossNetwork(layers=[*layers.content, *layers.style], **config.loss_network),
        style_image,
        layers.content,
        layers.style,
        LossWeights(**config.loss.weights),
        config.loss.convention,
        config.loss.reduction,
    )
    model = dict(config.model)
    start = model.pop("init_from")
    network = build_transform_network(**model)
    if start is not None:
        _start_from(network, start)
    if config.compile:
        network.compile()
        loss.loss_network.compile()
    optimizer = config.optimizer
    make_optimizer = instantiate(optimizer.algorithm, _convert_="all")  # plain lists: checkpoints hold no other
    if optimizer.lr_batch_size is not None:
        rate = optimizer.algorithm.lr * math.sqrt(config.data.batch_size / optimizer.lr_batch_size)
        make_optimizer = functools.partial(make_optimizer, lr=rate)
    return StyleTransferModule(network, loss, make_optimizer, optimizer.warmup, optimizer.final)


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


def run_folder(name: str, ckpt_path: str | None) -> Path:
    """Where a run writes: `outputs/NAME/TIMESTAMP`, or the folder of the run that it goes on with.

    Raises:
        UserError: there is no such checkpoint.
    """
    if ckpt_path is not None:
        checkpoint = find_checkpoint(name, ckpt_path)
        if checkpoint.parent.name == _CHECKPOINTS:
            return checkpoint.parent.parent
    return Path("outputs", name, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))


def find_checkpoint(name: str, ckpt_path: str) -> Path:
    """The checkpoint meant by `last` (of the newest run of that name) or by a path.

    Raises:
        UserError: there is none.
    """
    if ckpt_path != "last":
        if not Path(ckpt_path).is_file():
            raise UserError(f"ckpt_path={ckpt_path}: no such checkpoint; ckpt_path=last takes the newest run's")
        return Path(ckpt_path)
    found = sorted(Path("outputs", name).glob(f"*/{_CHECKPOINTS}/{_LAST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"ckpt_path=last: no run of '{name}' below outputs has a checkpoint; leave it out to start one")
    return found[-1]


def _read_style(config: DictConfig) -> Tensor:
    image = flatten_alpha(read_image(find_style_image(config.style.image)))
    return to_tensor(resize_longer_side(image, config.style.size))


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
            folder / _CHECKPOINTS,
            Path(_LAST).stem,
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
        layers={term: plain["layers"][term] for term in ("content", "style")},
        loss=plain["loss"],
        loss_network=network | {"weights": Path(network["weights"]).name},  # a folder's name is nobody's business
        init_from=Path(start).stem if start else "",
        steps=steps,
        batch_size=config.data.batch_size,
        image_size=config.data.size,
        style_size=config.style.size,
        scores={name.removeprefix("val/"): float(score) for name, score in scores.items()},
    )


def _writes() -> bool:
    """Whether this process is the one of several (trainer=ddp) that writes and prints for all."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _config_error(error: Exception) -> UserError:
    """Hydra's several lines as one."""
    text = " ".join(str(error).split())
    if missing := re.search(r"[Mm]issing mandatory value: ([\w.]+)", text):
        return UserError(f"{missing[1]} is missing: fst train style.image=PAINTING data.root=PHOTOS")
    return UserError(text)


def _run(config: DictConfig, arguments: list[str]) -> Exception | None:
    """One run, the only one or one of a sweep; returns what the user should read if it failed."""
    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    # Lightning starts its other processes (trainer=ddp) with these arguments.
    sys.argv = [sys.argv[0], "train", *(overrides if sweeping else arguments)]
    try:
        path = train(config, Path(hydra_config.runtime.output_dir))
    except Interrupted as stop:
        if _writes():
            again = shlex.join(override for override in overrides if not override.startswith("ckpt_path="))
            print(f"{stop}; go on with: fst train {again} ckpt_path=last")
        if sweeping:
            raise
        return stop
    except Exception as error:
        cause = find_cause(error)
        if cause is None and isinstance(error, InstantiationException | OmegaConfBaseException):
            cause = _config_error(error)
        if cause is None:
            raise
        if sweeping:  # the launcher does the other runs, perhaps elsewhere, and raises at the end
            log.error("%s: %s", shlex.join(overrides), cause)
            raise cause from error
        return cause
    if _writes():
        path = Path(os.path.relpath(path))
        print(f"trained {config.name}: {path}\nuse it:  fst stylize PHOTO -s {path}")
    return None


def _job_devices() -> int | list[int]:
    """Lightning's `devices` for one job of a sweep: the jobs take the GPUs in turn."""
    job = HydraConfig.get().job
    number = 0 if OmegaConf.is_missing(job, "num") else job.num
    count = torch.cuda.device_count()
    return [number % count] if count else 1


def _expand_glob(argument: str) -> str:
    """`style.image=glob(PATTERN)` as the list of the files: Hydra's own glob knows config groups only.

    Raises:
        UserError: no file matches.
    """
    if not (pattern := re.fullmatch(r"style\.image=glob\((.*)\)", argument)):
        return argument
    # Path.glob takes no absolute patterns.
    paths = sorted(glob(str(Path(pattern[1].strip("'\"")).expanduser())))  # noqa: PTH207
    if not paths:
        raise UserError(f"{argument}: no such files")
    return "style.image=" + ",".join("'" + path.replace("'", "\\'") + "'" for path in paths)


def main(arguments: list[str]) -> None:
    """`fst train`: what Hydra makes of the command line, one run or (with `-m`) a sweep of them.

    Raises:
        UserError, RunError, Interrupted: the first run's that failed; a sweep does its other runs all the same.
    """
    arguments = [_expand_glob(argument) for argument in arguments]
    OmegaConf.register_new_resolver("stem", lambda path: Path(path).stem, replace=True)
    OmegaConf.register_new_resolver(
        "run_dir", lambda name, ckpt: str(run_folder(name, ckpt)), use_cache=True, replace=True
    )
    OmegaConf.register_new_resolver("job_devices", _job_devices, replace=True)
    failures: list[Exception] = []

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="train")
    def run(config: DictConfig) -> None:
        if failure := _run(config, arguments):
            failures.append(failure)

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # raise errors here instead of printing them there
    if not _writes():
        arguments = [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    script = sys.argv[0]
    sys.argv = [script, *arguments]
    try:
        run()
    except (HydraException, OmegaConfBaseException) as error:
        raise find_cause(error) or _config_error(error) from error
    if failures:
        raise failures[0]
