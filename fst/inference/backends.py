"""What runs a style's network: PyTorch as it is or compiled, OpenVINO, or ONNX Runtime."""

import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import platformdirs
import torch
from torch import Tensor

import fst
from fst.errors import RunError, UserError
from fst.files import write_atomically
from fst.hardware import fast_dtype, lacks_memory
from fst.images import from_uint8, to_uint8
from fst.networks.transform import LEAST_SIDE, TransformNetwork, plain_form, refuse_small
from fst.style_file import StyleInfo, load_style

# `(B, 3, H, W)` floats in [0, 1] to the same; or `(B, H, W, 3)` uint8 to the same, without a detour by floats
Painter = Callable[[Tensor], Tensor]

BACKENDS = ("torch", "compile", "openvino", "onnxruntime")
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "int8": ("nncf",),
}
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
    folder = Path(os.environ.get("FST_CACHE") or platformdirs.user_cache_dir("fst", appauthor=False))
    path = folder / f"{style.stem}-{key[:16]}.export"  # a checksum, and the model
    with suppress(OSError):
        checksum, model = (data := path.read_bytes())[:32], data[32:]
        if sha256(model).digest() == checksum:
            return model
    print(f"preparing {style.stem} for this backend, once", file=sys.stderr)
    model = to_onnx(style)
    with suppress(RunError):  # not to be kept, then
        write_atomically(path, sha256(model).digest() + model)
    return model


def run_onnx(model: bytes) -> Painter:
    """An ONNX model on the CPU."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def paint(images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return to_uint8(paint(from_uint8(images)))
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return paint


def run_openvino(model: bytes, weights: bytes = b"", dtype: torch.dtype = torch.float32) -> Painter:
    """An ONNX model, or OpenVINO's XML and weights, on the CPU; `dtype` is that of the work."""
    openvino = import_openvino()
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }

    @cache  # most users need one of the two
    def compiled(from_bytes: bool) -> Any:
        steps = openvino.preprocess.PrePostProcessor(core.read_model(model, weights))
        for end in (steps.input(), steps.output()):  # pictures as they lie in memory here: nobody copies them
            end.tensor().set_layout(openvino.Layout("NHWC"))
            end.model().set_layout(openvino.Layout("NCHW"))
        if from_bytes:
            steps.input().tensor().set_element_type(openvino.Type.u8)
            steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
            steps.output().postprocess().custom(_to_bytes)
        return core.compile_model(steps.build(), "CPU", options)

    alone = Lock()  # threads share one infer request; several were no faster, for each picture takes all cores

    def infer(pixels: Tensor) -> Tensor:
        with alone:
            return torch.from_numpy(compiled(pixels.dtype == torch.uint8)(pixels.numpy(), share_inputs=True)[0])

    def paint(images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return infer(images.contiguous())
        return infer(images.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)

    return paint


def _to_bytes(output: Any) -> Any:
    from openvino import Type, opset13

    steps = opset13.multiply(output, opset13.constant(255.0, Type.f32))
    return opset13.convert(opset13.round(steps), Type.u8).output(0)


def import_openvino() -> Any:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # or imports report to their makers
    import openvino
    import openvino.preprocess

    return openvino


def missing_packages(extra: str) -> list[str]:
    """Those of an extra that are not installed."""
    return [name for name in _PACKAGES[extra] if importlib.util.find_spec(name) is None]


def require(extra: str) -> None:
    """Raises a `UserError` with the command that installs an extra, unless it is installed."""
    if missing := missing_packages(extra):
        raise UserError(f"{extra} needs {', '.join(missing)}: pip install 'fast-style-transfer[{extra}]'")


def to_onnx(style: Path) -> bytes:
    """The style as an ONNX model in float32, its description in the metadata.

    Raises:
        StyleFileError: it cannot be read.
    """
    import onnx

    network, info = load_style(style)
    program = torch.onnx.export(
        plain_form(network),
        (torch.zeros(2, 3, 61, 90),),
        input_names=["images"],
        output_names=["stylized"],
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's diary
    graph.output[0].type.CopyFrom(graph.input[0].type)  # in place of formulas for the same size
    pictures = f"float32 (batch, 3, height, width), RGB in [0, 1], sides from {LEAST_SIDE} pixels up"
    description = {"style": info.name, "architecture": info.architecture, "fst": fst.__version__}
    onnx.helper.set_model_props(model, description | {"images": pictures, "stylized": "as images, of the same size"})
    return model.SerializeToString()
