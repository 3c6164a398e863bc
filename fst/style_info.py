"""What a style file says of its network, and which styles there are; without torch, so that mistakes in their names are
found at once.

Everything but the weights is one JSON document in the file's metadata. It is checked against the types below; nothing
it names is imported or called.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from safetensors import SafetensorError

from fst.errors import UserError
from fst.files import check_name, expand_user
from fst.pictures import PICTURE_SUFFIXES
from fst.resources import resource_folder

FORMAT_VERSION = 1
STYLE_SUFFIX = ".safetensors"
BUNDLED = "bundled:"  # before a name: the style that comes with fst, whatever was trained in the current folder
KEY = "fst"  # of the JSON document in the file's metadata
_MOST = 1024  # of widths and numbers of blocks, so that a crafted file cannot ask for a giant network

_LONGEST_HEADER = 10**8  # bytes, the limit of safetensors itself

Convention = Literal["relative", "johnson", "gatys"]  # of the perceptual loss, see `fst.perceptual`
Reduction = Literal["mean", "sum"]  # likewise

_Number = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]  # finite
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class Layers(TypedDict):
    """Names of layers and what each counts; where the set came from, if its file says it."""

    content: dict[str, _Number]
    style: dict[str, _Number]
    source: NotRequired[str]


class Loss(TypedDict):
    """As in `conf/loss`, see `fst.perceptual`."""

    convention: Convention
    reduction: Reduction
    weights: dict[Literal["content", "style", "coarse_style", "tv", "range", "grid", "temporal"], _Number]
    terms: NotRequired[dict[str, dict[str, Any]]]


class _BuiltIn(TypedDict):
    """What the description of a style with one of fst's own networks holds."""

    arguments: dict[str, Annotated[int, msgspec.Meta(ge=1, le=_MOST)] | str]


class StyleFileError(UserError):
    """A file that is not a style this version can read; the message names it and the reason."""


@dataclass(frozen=True)
class Run:
    """A part of a style's training with one length, device, precision and versions. A stop alone begins no other part.

    Attributes:
        style: its name; that of another style in a network that started from it.
        steps: optimiser steps at the end of this part, counted from the beginning of the style's training.
        max_steps: the length that was asked for, which the learning rate was planned for.
        device: kind of device: cpu, cuda, mps.
        precision: of the training, as Lightning names it.
        versions: of fst and torch.
    """

    style: str
    steps: _Count
    max_steps: _Count = 0
    device: str = ""
    precision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StyleInfo:
    """What a style file says about its network.

    Attributes:
        name: of the style, as after `-s`; it can be a file's, see `check_name`.
        architecture: of the transform network, see `build_transform_network`; or the import path of a user's own
            class, as plain text: nothing imports it.
        arguments: of the architecture: plain values.
        layers: `{"content": {layer: weight}, "style": {layer: weight}}`; empty if not known, as is `loss`.
        loss: convention, reduction and term weights.
        loss_network: architecture and weights (a file's name, never its folder).
        init_from: the style whose weights it started from, if any.
        teacher: the style whose output it imitated at first, if any.
        steps: optimiser steps; `batch_size` pictures each, `image_size` pixels a side.
        style_image: file name of the style image without folder and suffix; `name` if empty.
        style_size: its longer side in pixels, when the targets were measured.
        versions: of fst and torch that trained it, if known.
        history: the parts of its training in their order, first those of the style it started from.
        scores: measured terms on validation photos, by name.
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    layers: Layers = field(default_factory=dict)  # type: ignore[assignment]
    loss: Loss = field(default_factory=dict)  # type: ignore[assignment]
    loss_network: Mapping[str, str] = field(default_factory=dict)
    init_from: str = ""
    teacher: str = ""
    steps: _Count = 0
    batch_size: _Count = 0
    image_size: _Count = 0
    style_image: str = ""
    style_size: _Count = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Run, ...] = ()
    scores: Mapping[str, _Number] = field(default_factory=dict)
    format_version: Annotated[int, msgspec.Meta(ge=1)] = FORMAT_VERSION


def read_info(path: Path) -> StyleInfo:
    """What the file says of its network, without reading the weights.

    Raises:
        StyleFileError: no such file, not a style file, damaged, or of a newer format.
    """
    with file_errors(path):
        header = _read_header(path)  # the library's reader would load NumPy, which takes longer than all the rest
    return parse_info(path, header.get("__metadata__"))


def read_builtin_info(path: Path) -> StyleInfo:
    """What the file of a style with one of fst's own networks says.

    Raises:
        StyleFileError: as `read_info`, or the network is of another class.
    """
    info = read_info(path)
    if "." in info.architecture:
        raise unknown_class(path, info)
    return info


def unknown_class(path: Path, info: StyleInfo) -> StyleFileError:
    """For a style whose network is of a user's class: nothing that a file names is imported."""
    name = info.architecture.rpartition(".")[2]
    return StyleFileError(
        f"{path}: its network is of the class {info.architecture}, which is not fst's; only these can use it: "
        f"Stylizer(path, network={name}), or fst stylize --network MODULE:{name}, or init_from"
    )


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON document at the start of a safetensors file: https://github.com/huggingface/safetensors#format"""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    end = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
    if path.stat().st_size != end:
        raise ValueError(f"{path.stat().st_size} bytes, not {end}")
    return header


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Around reading a style file: turns what goes wrong into a `StyleFileError`."""
    if not path.is_file():
        raise StyleFileError(f"{path}: no such style file")
    try:
        yield
    except OSError as error:
        raise StyleFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StyleFileError(
            f"{path}: damaged, or not a style: those are {STYLE_SUFFIX} files that fst train writes"
        ) from error


def parse_info(path: Path, metadata: Any) -> StyleInfo:
    """What a safetensors file's metadata say of its network; `path` is for messages.

    Raises:
        StyleFileError: not a style, of a newer format, or something in its description is wrong or not known.
    """
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get(KEY), str):
        raise StyleFileError(f"{path}: a safetensors file, but not a style that fst train wrote")
    try:
        document = json.loads(metadata[KEY])
        version = document.get("format_version")
    except (ValueError, AttributeError, RecursionError) as error:
        raise StyleFileError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StyleFileError(
            f"{path}: written in style format {version}, this fst reads up to {FORMAT_VERSION}; update fst"
        )
    for name in ("layers", "loss"):  # empty: not known
        if document.get(name) == {}:
            del document[name]
    try:
        info = msgspec.convert(document, StyleInfo)
        if "." not in info.architecture:
            msgspec.convert({"arguments": document["arguments"]}, _BuiltIn)
        check_name(info.name)
        if info.style_image != Path(info.style_image).name:
            raise UserError(f"style_image='{info.style_image}' is a path")
    except (msgspec.ValidationError, UserError) as error:
        raise StyleFileError(f"{path}: its description is wrong: {error}") from error
    if unknown := _unknown(document, msgspec.to_builtins(info)):
        raise StyleFileError(f"{path}: its description has unknown entries: {', '.join(sorted(unknown))}")
    return info


def _unknown(said: Any, known: Any, path: str = "") -> list[str]:
    """Keys at any depth that decoding left out, by dotted name."""
    if isinstance(said, list):
        return [key for pair in zip(said, known, strict=True) for key in _unknown(*pair, path)]
    if not isinstance(said, dict):
        return []
    left_out = [f"{path}{key}" for key in said if key not in known]
    return left_out + [
        name for key in said if key in known for name in _unknown(said[key], known[key], f"{path}{key}.")
    ]


def list_styles() -> dict[str, Path]:
    """The styles that can be named after `-s`: the bundled ones, and the newest of each name below `outputs/` of the
    current folder, which replaces a bundled one of the same name; no hidden files, as of styles being written."""
    found = Path("outputs").glob(f"*/*/*{STYLE_SUFFIX}")
    trained = [path for path in found if path.is_file() and not path.name.startswith(".")]
    return {path.stem: path for path in [*bundled_styles(), *sorted(trained, key=lambda path: path.stat().st_mtime)]}


def bundled_styles() -> list[Path]:
    """The style files that come with fst."""
    return sorted(resource_folder("checkpoints").glob(f"*{STYLE_SUFFIX}"))


def check_style_name(name: str) -> str:
    """Return a style's name unchanged if `-s` can take it.

    Raises:
        UserError: no file can have it, or `find_style` or the command line would take it for something else.
    """
    check_name(name)
    is_path = name[0] in ".~" or Path(name).suffix.lower() in PICTURE_SUFFIXES | {STYLE_SUFFIX}
    if is_path or name[0] == "-" or name == "all" or name.startswith(BUNDLED):
        raise UserError(f"name='{name}' means something else after -s; choose another")
    return name


def find_style(name_or_path: str | Path) -> Path:
    """The style file meant by a name from `list_styles`, by `bundled:NAME`, or by a path.

    Raises:
        StyleFileError: none of these.
    """
    path = expand_user(name_or_path)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise StyleFileError(
            f"{path} is a picture, not a style; train one from it: fst train style.image={path} data.root=PHOTOS"
        )
    if path.suffix == STYLE_SUFFIX or path.is_file():
        return path
    styles = list_styles()
    named = {f"{BUNDLED}{path.stem}": path for path in bundled_styles()} | styles
    if name_or_path not in named:
        known = ", ".join(sorted(styles)) or "none yet (fst train makes them)"
        name = str(name_or_path).removeprefix(BUNDLED)
        raise StyleFileError(f"no style '{name}'; there are: {known}")
    return named[str(name_or_path)]
