"""The layers of the loss networks by name, without torch: mistakes in names are found at once."""

from collections.abc import Iterable
from typing import NamedTuple

from fst.errors import UserError

# Channels and convolutions of each block, a pooling after each (Simonyan & Zisserman 2015, table 1, D and E).
LOSS_NETWORKS: dict[str, tuple[tuple[int, int], ...]] = {
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
    "compact": ((32, 2), (64, 2), (128, 4), (192, 4)),  # ours: VGG19's topology, see scripts/distill_loss_network.py
}


class Layer(NamedTuple):
    """One step of the network, named as the field names it: `conv3_1`, `relu3_1` or `pool3`."""

    name: str
    channels: int
    key: str  # of its module in torchvision's state dict, `features.10`

    @property
    def kind(self) -> str:
        return self.name[:4]


def layer_table(architecture: str) -> tuple[Layer, ...]:
    """All layers from the picture on, in torchvision's order.

    Raises:
        UserError: no such architecture.
    """
    if architecture not in LOSS_NETWORKS:
        raise UserError(f"no loss network '{architecture}'; there are {', '.join(LOSS_NETWORKS)}")
    names: list[tuple[str, int]] = []
    for block, (channels, convolutions) in enumerate(LOSS_NETWORKS[architecture], 1):
        for number in range(1, convolutions + 1):
            names += [(f"conv{block}_{number}", channels), (f"relu{block}_{number}", channels)]
        names.append((f"pool{block}", channels))
    return tuple(Layer(name, channels, f"features.{index}") for index, (name, channels) in enumerate(names))


def relu_layers(architecture: str) -> tuple[str, ...]:
    """The names of all ReLU layers, by depth.

    Raises:
        UserError: no such architecture.
    """
    return tuple(layer.name for layer in layer_table(architecture) if layer.kind == "relu")


def refuse_unknown_layers(architecture: str, layers: Iterable[str], key: str = "") -> None:
    """Raises a `UserError`, which begins with the configuration's `key`, for layers that the network has not."""
    if unknown := set(layers) - {layer.name for layer in layer_table(architecture)}:
        raise UserError(
            f"{key}{': ' if key else ''}{architecture} has no layer {', '.join(sorted(unknown))}; it has "
            + ", ".join(f"conv{b}_1-{b}_{n}" for b, (_, n) in enumerate(LOSS_NETWORKS[architecture], 1))
            + " and relu… of the same numbers"
        )
