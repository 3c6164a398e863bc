"""The style file: a trained transform network and what is known of it, in one `NAME.safetensors`.

The weights are plain tensors; everything else is one JSON document in the file's metadata. It holds no code and is
read without pickle; what it says is checked against a dataclass and never imported or called.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import fst
from fst.errors import UserError
from fst.files import write_atomically
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.resources import resource_folder

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_KEY = "fst"  # of the JSON document in the file's metadata
_MOST = 1024  # no sane width or number of blocks is larger: a crafted file must not make us build a giant


class StyleFileError(UserError):
    """A file that is not a style this version can read; the message names it and the reason."""


@dataclass(frozen=True)
class StyleInfo:
    """What a style file says about its network.

    Attributes:
        name: of the style, as after `-s`.
        architecture: of the transform network, see `build_transform_network`.
        arguments: of the architecture.
        layers: `{"content": {layer: weight}, "style": {layer: weight}}`.
        loss: convention, reduction and term weights.
        loss_network: architecture and weights (a file's name, never its folder).
        init_from: the style whose weights it started from, if any.
        teacher: the style whose pictures it imitated first, if any.
        steps: optimiser steps; `batch_size` pictures each, `image_size` pixels a side.
        style_image: the style picture: its file without folder and suffix; that of `name` if empty.
        style_size: its longer side in pixels, when the targets were measured.
        versions: of fst and torch that trained it.
        scores: measured terms on validation photos, by name.
    """

    name: str
    architecture: str
    arguments: Mapping[str, int | str]
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    loss_network: Mapping[str, str] = field(default_factory=dict)
    init_from: str = ""
    teacher: str = ""
    steps: int = 0
    batch_size: int = 0
    image_size: int = 0
    style_image: str = ""
    style_size: int = 0
    versions: Mapping[str, str] = field(default_factory=lambda: {"fst": fst.__version__, "torch": torch.__version__})
    scores: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def save_style(path: Path, network: nn.Module, info: StyleInfo, dtype: torch.dtype = torch.float32) -> None:
    """Write a style file, whole or not at all.

    Args:
        dtype: of the stored weights; float16 halves the file (81 dB from float32 for the bundled style).
    """
    tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, save(tensors, metadata={_KEY: json.dumps(dataclasses.asdict(info))}))


def load_style(path: Path) -> tuple[TransformNetwork, StyleInfo]:
    """The transform network in float32 and eval mode, and what the file says of it.

    Raises:
        StyleFileError: no such file, not a style file, damaged, or of a newer format.
    """
    with _open(path) as file:
        info = _parse(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return _build(path, info, tensors), info


def read_info(path: Path) -> StyleInfo:
    """What the file says of its network, without reading the weights.

    Raises:
        StyleFileError: as `load_style`.
    """
    with _open(path) as file:
        return _parse(path, file.metadata())


@contextmanager
def _open(path: Path) -> Iterator[safe_open]:
    if not path.is_file():
        raise StyleFileError(f"{path}: no such style file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise StyleFileError(f"{path}: not a style file, or damaged ({error})") from error


def _parse(path: Path, metadata: Mapping[str, str] | None) -> StyleInfo:
    if not metadata or _KEY not in metadata:
        raise StyleFileError(f"{path}: a safetensors file, but not a style that fst train wrote")
    try:
        document = json.loads(metadata[_KEY])
        version = document.get("format_version")
    except (ValueError, AttributeError, RecursionError) as error:
        raise StyleFileError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StyleFileError(
            f"{path}: written in style format {version}, this fst reads up to {FORMAT_VERSION}; update fst"
        )
    fields = {f.name: f for f in dataclasses.fields(StyleInfo)}
    if unknown := document.keys() - fields.keys():
        raise StyleFileError(f"{path}: unknown entries in its description: {', '.join(sorted(unknown))}")
    for name, value in document.items():
        kind = next((plain for plain in (str, int) if fields[name].type is plain), dict)
        if not isinstance(value, kind):
            raise StyleFileError(f"{path}: '{name}' in its description is not {kind.__name__}")
    try:
        return StyleInfo(**document)
    except TypeError as error:
        raise StyleFileError(f"{path}: its description is incomplete ({error})") from error


def _build(path: Path, info: StyleInfo, tensors: dict[str, Tensor]) -> TransformNetwork:
    for name, value in info.arguments.items():
        if not isinstance(value, int | str) or (isinstance(value, int) and not 0 < value <= _MOST):
            raise StyleFileError(f"{path}: network argument {name}={value} is out of range")
    try:
        with torch.device("meta"):  # costs nothing, whatever size the file asks for
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


def list_styles() -> dict[str, Path]:
    """What can be named after `-s`: the bundled styles, and over them the newest of each name that was trained
    below `outputs/` of the current folder."""
    bundled = resource_folder("checkpoints").glob(f"*{SUFFIX}")
    trained = Path("outputs").glob(f"*/*/*{SUFFIX}")
    return {path.stem: path for path in [*sorted(bundled), *sorted(trained, key=lambda p: p.stat().st_mtime)]}


def find_style(name_or_path: str | Path) -> Path:
    """The style file meant by a name from `list_styles` or by a path.

    Raises:
        StyleFileError: neither.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == SUFFIX or path.is_file():
        return path
    styles = list_styles()
    if str(name_or_path) not in styles:
        known = ", ".join(sorted(styles)) or "none yet (fst train makes them)"
        raise StyleFileError(f"no style '{name_or_path}'; there are: {known}; or give a {SUFFIX} file")
    return styles[str(name_or_path)]
