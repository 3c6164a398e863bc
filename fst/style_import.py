"""Styles of other projects: the networks of pytorch/examples as style files.

https://github.com/pytorch/examples/tree/main/fast_neural_style (BSD-3-Clause): the layers of Johnson et al. 2016 with
reflection padding, instance normalisation, and nearest-neighbour upsampling before convolutions. Pictures are RGB from
0 to 255 there and [-1, 1] in the layers here; the first and the last convolution take up the difference.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fst.errors import UserError
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.style_info import StyleInfo

_ARCHITECTURE = "pytorch_examples"
_HALF = 127.5  # x in [-1, 1] is 127.5 (x + 1) in 0 to 255
_UNUSED = re.compile(r"\.(running_(mean|var)|num_batches_tracked)$")  # older files have them; the network does not


def import_style(path: Path, name: str) -> tuple[TransformNetwork, StyleInfo]:
    """The network of a `.pth` file, and what is known of it.

    The file is read without unpickling anything but tensors and plain values.

    Raises:
        UserError: it cannot be read, or holds another network.
    """
    weights = _read(path)
    first, blocks = weights.get("conv1.conv2d.weight"), {key.split(".")[0] for key in weights if key.startswith("res")}
    if first is None or first.ndim != 4:
        raise UserError(f"{path}: no network of pytorch/examples: it has no conv1.conv2d.weight")
    if not blocks:
        raise UserError(f"{path}: no network of pytorch/examples: it has no res1.conv1.conv2d.weight")
    arguments = {"width": first.shape[0], "blocks": len(blocks)}
    with torch.device("meta"):
        network = build_transform_network(_ARCHITECTURE, **arguments)
    state = {}
    for key, expected in network.state_dict().items():
        theirs = _their_name(key, len(blocks))
        value = weights.pop(theirs, None)
        if value is None or value.shape != expected.shape:
            found = "missing" if value is None else tuple(value.shape)
            raise UserError(f"{path}: no network of pytorch/examples: {theirs} is {found}, not {tuple(expected.shape)}")
        state[key] = value.float()
    if weights:
        raise UserError(f"{path}: no network of pytorch/examples: it has {min(weights)}, too")
    _rescale(state, "layers.0", f"layers.{15 + len(blocks)}")
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise UserError(f"{path}: it holds NaN or infinity")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False), StyleInfo(name, _ARCHITECTURE, arguments)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds
        raise UserError(f"{path}: cannot be read as the weights of a network; it must hold tensors only") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: not the weights of a network; those are a state_dict")
    return {str(key): value for key, value in found.items() if not _UNUSED.search(str(key))}


def _their_name(key: str, blocks: int) -> str:
    """The original's name of one of our weights: `layers.3.bias` is `conv2.conv2d.bias`."""
    numbers = [int(part) for part in key.split(".") if part.isdecimal()]
    kind = key.rpartition(".")[2]
    layer, part = numbers[0], numbers[-1]
    if 9 <= layer < 9 + blocks:  # a residual block: convolution, norm, ReLU, convolution, norm
        module = {0: "conv1.conv2d", 1: "in1", 3: "conv2.conv2d", 4: "in2"}[part]
        return f"res{layer - 8}.{module}.{kind}"
    stage, place = divmod(layer if layer < 9 else layer - blocks, 3)  # convolution, norm, ReLU
    if place == 1:
        return f"in{stage + 1}.{kind}"
    return f"{('conv1', 'conv2', 'conv3', 'deconv1', 'deconv2', 'deconv3')[stage]}.conv2d.{kind}"


def _rescale(state: dict[str, Tensor], first: str, last: str) -> None:
    """Make the first convolution take, and the last one give, [-1, 1] in place of 0 to 255."""
    weight = state[f"{first}.weight"]
    state[f"{first}.bias"] = state[f"{first}.bias"] + _HALF * weight.sum((1, 2, 3))
    state[f"{first}.weight"] = _HALF * weight
    state[f"{last}.weight"] = state[f"{last}.weight"] / _HALF
    state[f"{last}.bias"] = state[f"{last}.bias"] / _HALF - 1
