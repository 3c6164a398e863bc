"""What the Hydra applications share: a command line in, configurations out, errors in one line, and the loss."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from glob import glob
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from fst.errors import UserError, find_cause
from fst.files import check_name
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork, layer_table
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import find_style_image, resource_folder
from fst.stopping import Interrupted

log = logging.getLogger(__name__)

CHECKPOINTS, LAST = "checkpoints", "last.ckpt"  # a run's folder for them, and the one to go on from
_EXAMPLES = {
    "train": "fst train style.image=PAINTING data.root=PHOTOS",
    "optimize": "fst optimize content=PHOTO style.image=PAINTING",
    "compare": "fst compare study=recipes content=PHOTO style.image=PAINTING",
}

# Each layer of the loss network is a layer set by itself, beside those in conf/layers: layers=conv4_2.
for _layer in layer_table("vgg19"):
    if _layer.kind != "pool":
        _alone = {_layer.name: 1.0}
        _set = {"name": _layer.name, "content": _alone, "style": _alone}
        ConfigStore.instance().store(_layer.name, _set, group="layers")


def read_style_image(config: DictConfig) -> Tensor:
    """The style picture as `(1, 3, H, W)` in [0, 1], its longer side `style.size`."""
    return read_tensor(find_style_image(config.style.image), config.style.size)


def build_loss(config: DictConfig, style_image: Tensor) -> PerceptualLoss:
    """The perceptual loss that the groups `loss_network`, `layers` and `loss` describe."""
    layers = config.layers
    return PerceptualLoss(
        LossNetwork(layers=[*layers.content, *layers.style], **config.loss_network),
        style_image,
        layers.content,
        layers.style,
        LossWeights(**config.loss.weights),
        config.loss.convention,
        config.loss.reduction,
    )


def run_folder(name: str, ckpt_path: str | None) -> Path:
    """Where a run writes: `outputs/NAME/TIMESTAMP`, or the folder of the run that it goes on with.

    Raises:
        UserError: there is no such checkpoint, or the name cannot be a folder's and a file's.
    """
    check_name(name)
    if ckpt_path is not None:
        checkpoint = find_checkpoint(name, ckpt_path)
        if checkpoint.parent.name == CHECKPOINTS:
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
    found = sorted(Path("outputs", name).glob(f"*/{CHECKPOINTS}/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"ckpt_path=last: no run of '{name}' below outputs has a checkpoint; leave it out to start one")
    return found[-1]


def run_application(
    command: str, arguments: list[str], job: Callable[[DictConfig, Path], str], quiet: bool = False
) -> None:
    """What Hydra makes of a command line: one run of `job`, or (with `-m`) a sweep of them.

    Args:
        command: of `fst`, and the name of its configuration in `conf`.
        job: called with the configuration and the run's folder; returns what the user reads at the end.
        quiet: this process is one of several that do the same run; another one writes and prints.

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

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name=command)
    def run(config: DictConfig) -> None:
        if failure := _run(command, config, arguments, job, quiet):
            failures.append(failure)

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # raise errors here instead of printing them there
    if quiet:
        arguments = [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    script = sys.argv[0]
    sys.argv = [script, *arguments]
    try:
        run()
    except (HydraException, OmegaConfBaseException) as error:
        raise find_cause(error) or config_error(command, error) from error
    if failures:
        raise failures[0]


def _run(
    command: str, config: DictConfig, arguments: list[str], job: Callable[[DictConfig, Path], str], quiet: bool
) -> Exception | None:
    """One run, the only one or one of a sweep; returns what the user should read if it failed."""
    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    # Lightning starts its other processes (trainer=ddp) with these arguments.
    sys.argv = [sys.argv[0], command, *(overrides if sweeping else arguments)]
    try:
        text = job(config, Path(hydra_config.runtime.output_dir))
    except Interrupted as stop:
        if not quiet:
            again = shlex.join(override for override in overrides if not override.startswith("ckpt_path="))
            print(f"{stop}; go on with: fst {command} {again} ckpt_path=last")
        if sweeping:
            raise
        return stop
    except Exception as error:
        cause = find_cause(error)
        if cause is None and isinstance(error, InstantiationException | OmegaConfBaseException):
            cause = config_error(command, error)
        if cause is None:
            raise
        if sweeping:  # the launcher does the other runs, perhaps elsewhere, and raises at the end
            log.error("%s: %s", shlex.join(overrides), cause)
            raise cause from error
        return cause
    if not quiet:
        print(text)
    return None


def config_error(command: str, error: Exception) -> UserError:
    """Hydra's several lines as one."""
    text = " ".join(str(error).split())
    if missing := re.search(r"[Mm]issing mandatory value: ([\w.]+)", text):
        return UserError(f"{missing[1]} is missing: {_EXAMPLES[command]}")
    return UserError(text)


def quote(value: object) -> str:
    """A value as Hydra's grammar reads it whole, whatever commas and braces are in it."""
    return "'" + str(value).replace("'", "\\'") + "'"


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
    return "style.image=" + ",".join(quote(path) for path in paths)
