"""A transform network of the user's own class."""

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fst.errors import UserError
from fst.networks.transform import TransformNetwork


class OwnNetwork(TransformNetwork):
    """Any module that takes and returns `(B, 3, H, W)` in [0, 1], of one size; it is called as it is, in float32.

    Args:
        module: may leave [0, 1], as `TransformNetwork` may.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(nn.Sequential(module), multiple=1)

    def unclamped(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # some operations refuse a mixture with bfloat16
            stylized = self.layers(images.to(torch.float32, copy=True)).float()  # it may compute in place
        if stylized.shape != images.shape:
            name = type(self.layers[0]).__name__
            raise UserError(
                f"{name} makes {tuple(stylized.shape)} of pictures {tuple(images.shape)}; it must keep them"
            )
        return stylized

    def margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0


def build_own_network(make: Callable[..., nn.Module], name: str, arguments: Mapping[str, Any]) -> OwnNetwork:
    """Call a user's class.

    Raises:
        UserError: it does not take the arguments, or makes no module.
    """
    try:
        module = make(**arguments)
    except Exception as error:  # the user's code
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{name} makes a {type(module).__name__}; a network is a torch.nn.Module")
    return OwnNetwork(module)


def find_class(name: str) -> Any:
    """The class that a user names on a command line, as `my_package:MyNetwork`; it is imported.

    Raises:
        UserError: no such class.
    """
    try:
        return pkgutil.resolve_name(name)
    except Exception as error:  # also what goes wrong in the user's module
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"--network {name}: {reason}; it is MODULE:CLASS, and PYTHONPATH=. adds this folder") from error
