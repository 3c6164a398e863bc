"""What runs a style's network: PyTorch as it is or compiled, OpenVINO, or ONNX Runtime."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

import fst
from fst.errors import RunError, UserError
from fst.files import write_atomically
from fst.hardware import fast_dtype, lacks_memory
from fst.inference.export import Painter, missing_packages, require, run_onnx, run_openvino, to_onnx
from fst.inference.style_file import StyleInfo, load_style
from fst.networks.transform import TransformNetwork, refuse_small

BACKENDS = ("torch", "compile", "openvino", "onnxruntime")
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
# What `auto` takes: the first that is installed. By kind of device; others have only PyTorch.
_FASTEST = {"cpu": ("torch",)}
_EXPORT = 1  # to be raised when another export shall replace the cached ones


@dataclass(frozen=True)
class Backend:
    """A style, to be called on its device: `(B, 3, H, W)` float32 in [0, 1], or `(B, H, W, 3)` uint8, to the same.

    Attributes:
        name: one of `BACKENDS`.
        paint: what does it.
        network: the style's, on the device, in float32.
        info: what the style file says.
    """

    name: str
    paint: Painter
    network: TransformNetwork
    info: StyleInfo

    def __call__(self, images: Tensor) -> Tensor:
        """
        Raises:
            UserError: less than 16 pixels a side.
            RunError: too large for the memory.
        """
        height, width = images.shape[1:3] if images.dtype == torch.uint8 else images.shape[2:]
        refuse_small(height, width)
        try:
            return self.paint(images)
        except Exception as error:  # every runtime has its own
            if lacks_memory(error):
                raise RunError(f"not enough memory for {width}×{height} pixels; try a smaller size") from error
            raise


def installed_backends() -> list[str]:
    """Those of `BACKENDS` whose packages are installed."""
    return [name for name in BACKENDS if name not in _EXTRAS or not missing_packages(_EXTRAS[name])]


def fastest_backend(device: torch.device) -> str:
    """What `auto` is on a device."""
    return next(name for name in _FASTEST.get(device.type, ("torch",)) if name in installed_backends())


def open_backend(name: str, style: Path, device: torch.device) -> Backend:
    """A style through one of the backends.

    Args:
        name: `auto`; `torch`; `compile` (torch.compile: a minute for each new size of picture, then faster);
            `openvino` or `onnxruntime`, on the CPU.
        style: a style file.

    Raises:
        UserError: no such backend, its packages are not installed, or it does not work on the device.
        StyleFileError: the style cannot be read.
    """
    if name == "auto":
        name = fastest_backend(device)
    if name not in BACKENDS:
        raise UserError(f"no backend '{name}'; there are auto, {', '.join(BACKENDS)}")
    if name in _EXTRAS:
        require(_EXTRAS[name])
        if device.type != "cpu":
            raise UserError(f"backend {name} works on the CPU only; use device cpu, or backend torch")
    network, info = load_style(style)
    network.to(device)
    if name == "openvino":
        paint = run_openvino(_exported(style), dtype=fast_dtype(device))
    elif name == "onnxruntime":
        paint = run_onnx(_exported(style))
    else:
        paint = _run_torch(network, device, compiled=name == "compile")
    return Backend(name, paint, network, info)


def _run_torch(network: TransformNetwork, device: torch.device, compiled: bool) -> Painter:
    dtype = fast_dtype(device)

    def run(images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return network.forward_pixels(images)
        return network(images.contiguous(memory_format=torch.channels_last))

    if compiled:
        graphs = device.type == "cuda"
        run = torch.compile(run, dynamic=False, mode="reduce-overhead" if graphs else None)

    def paint(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return run(images)

    def paint_compiled(images: Tensor) -> Tensor:
        try:
            return paint(images).clone()  # the next call would overwrite what a CUDA graph returned
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"torch.compile failed ({reason}); backend torch does without it") from error

    return paint_compiled if compiled else paint


def _exported(style: Path) -> bytes:
    """The style as ONNX: made once, and kept in the user's cache under a name that says what it was made of."""
    made_by = f"{_EXPORT} fst {fst.__version__} torch {torch.__version__} onnxscript {version('onnxscript')}"
    key = sha256(made_by.encode() + style.read_bytes()).hexdigest()
    path = _cache_folder() / f"{style.stem}-{key[:16]}.export"  # a checksum, and the model
    with suppress(OSError):
        checksum, model = (data := path.read_bytes())[:32], data[32:]
        if sha256(model).digest() == checksum:
            return model
    print(f"preparing {style.stem} for this backend, once", file=sys.stderr)
    model = to_onnx(style)
    with suppress(RunError):  # not to be kept, then
        write_atomically(path, sha256(model).digest() + model)
    return model


def _cache_folder() -> Path:
    if folder := os.environ.get("FST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fst"
