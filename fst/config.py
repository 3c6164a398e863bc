"""What the Hydra applications share: a command line in, configurations out, errors in one line, and the loss."""

import logging
from datetime import datetime
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from torch import Tensor

from fst.errors import UserError
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork, layer_table
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import find_style_image

log = logging.getLogger(__name__)

CHECKPOINTS, LAST = "checkpoints", "last.ckpt"  # a run's folder for them, and the one to go on from

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
        UserError: there is no such checkpoint.
    """
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


def quote(value: object) -> str:
    """A value as Hydra's grammar reads it whole, whatever commas and braces are in it."""
    return "'" + str(value).replace("'", "\\'") + "'"
