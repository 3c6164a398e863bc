"""The style file: a trained transform network and what is known of it, in one `NAME.safetensors`.

The weights are plain tensors, read without pickle; the rest is `fst.style_info.StyleInfo`. The file holds no code.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fst.errors import UserError
from fst.files import write_atomically
from fst.networks.own import build_own_network
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.style_info import KEY, StyleFileError, StyleInfo, file_errors, parse_info, unknown_class


def save_style(path: Path, network: nn.Module, info: StyleInfo, dtype: torch.dtype = torch.float32) -> None:
    """Write a style file, whole or not at all; scores that are not finite are left out.

    Args:
        dtype: of the stored weights; whole numbers and booleans stay as they are. float16 halves the file (81 dB from
            float32 for the bundled style).
    """
    tensors = {name: _stored(tensor, dtype) for name, tensor in network.state_dict().items()}
    document = msgspec.to_builtins(info)
    document["scores"] = {name: score for name, score in info.scores.items() if math.isfinite(score)}
    write_atomically(path, save(tensors, metadata={KEY: json.dumps(document)}))


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy, since tensors that share their memory, as tied weights do, cannot be stored."""
    kept = tensor.detach().cpu()
    return (kept.to(dtype) if kept.is_floating_point() else kept).clone(memory_format=torch.contiguous_format)


def load_style(path: Path, network: Callable[..., nn.Module] | None = None) -> tuple[TransformNetwork, StyleInfo]:
    """The transform network in float32 and eval mode, and what the file says of it.

    Args:
        network: the class of a network of the user's own. Nothing that the file names is imported: without this, a
            style with such a network is refused.

    Raises:
        StyleFileError: no such file, not a style file, damaged, or of a newer format.
    """
    with file_errors(path), safe_open(path, framework="pt") as file:
        info = parse_info(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return _build(path, info, tensors, network), info


def _build(
    path: Path, info: StyleInfo, tensors: dict[str, Tensor], make: Callable[..., nn.Module] | None
) -> TransformNetwork:
    try:
        network: TransformNetwork
        if "." in info.architecture:
            if make is None:
                raise unknown_class(path, info)
            network = build_own_network(make, info.architecture, info.arguments)
        else:
            with torch.device("meta"):  # no memory is taken, whatever size the file asks for
                network = build_transform_network(info.architecture, **info.arguments)
        expected = network.state_dict()
        if expected.keys() != tensors.keys():
            odd = sorted(expected.keys() ^ tensors.keys())
            raise StyleFileError(f"{path}: its weights do not fit its description ({odd[0]} and {len(odd) - 1} more)")
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                raise StyleFileError(
                    f"{path}: {name} has shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
                )
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise StyleFileError(f"{path}: {name} holds NaN or infinity")
        wide = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
        network.load_state_dict(wide, assign=True)
    except StyleFileError:
        raise
    except (UserError, RuntimeError, ValueError) as error:
        raise StyleFileError(f"{path}: {error}") from error
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
