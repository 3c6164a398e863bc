"""What the Hydra applications share: a command line in, configurations out, errors in one line, and the loss."""

import logging
from datetime import datetime
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from torch import Tensor

from fst.checkpoints import FOLDER, find_checkpoint
from fst.errors import RunError
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork, layer_table
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import find_style_image

log = logging.getLogger(__name__)


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
    """Where a run writes: the folder of the run that it goes on with, or a new `outputs/NAME/TIMESTAMP`.

    Raises:
        UserError: there is no such checkpoint.
    """
    if ckpt_path is not None:
        checkpoint = find_checkpoint(name, ckpt_path)
        if checkpoint.parent.name == FOLDER:
            return checkpoint.parent.parent
    return Path("outputs", new_folder("outputs", name))


def new_folder(root: str, name: str) -> str:
    """Make `ROOT/NAME/TIMESTAMP`, with a number at its end where several runs of one name begin in one second.

    Returns:
        Its path below `root`.

    Raises:
        RunError: it cannot be made.
    """
    folder = begin = f"{name}/{datetime.now():%Y-%m-%d_%H-%M-%S}"
    number = 1
    while True:
        try:
            Path(root, folder).mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = f"{begin}_{number}"
        except OSError as error:
            raise RunError(f"{root}/{folder}: cannot be made: {error.strerror}") from error
        else:
            return folder


def quote(value: object) -> str:
    """A value as Hydra's grammar reads it whole, whatever commas and braces are in it."""
    return "'" + str(value).replace("'", "\\'") + "'"
