"""The runtimes that a style's network can run in: PyTorch, torch.compile, OpenVINO and ONNX Runtime."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

import fst
from fst.errors import RunError, UserError
from fst.files import write_atomically
from fst.hardware import fast_dtype, lacks_memory
from fst.images import from_uint8, to_uint8
from fst.inference.runtimes import EXTRAS, check_backend
from fst.networks.own import OwnNetwork
from fst.networks.transform import TransformNetwork, plain_form, refuse_small
from fst.pictures import LEAST_SIDE
from fst.style_file import load_style
from fst.style_info import StyleInfo

# Takes and returns `(B, 3, H, W)` floats in [0, 1], or `(B, H, W, 3)` uint8.
RunNetwork = Callable[[Tensor], Tensor]

_EXPORT = 1  # to be raised when the export changes, so that cached ones are made anew


@dataclass(frozen=True)
class Backend:
    """A style's network in one of the runtimes. Call it with pictures on its device.

    Attributes:
        name: one of `fst.inference.runtimes.BACKENDS`.
        run: the network in that runtime.
        network: the same in PyTorch, on the device, in float32.
        info: what the style file says.
    """

    name: str
    run: RunNetwork
    network: TransformNetwork
    info: StyleInfo

    def __call__(self, images: Tensor) -> Tensor:
        """Stylize `(B, 3, H, W)` float32 in [0, 1], or `(B, H, W, 3)` uint8; returns the same kind and size.

        Raises:
            UserError: less than 16 pixels a side.
            RunError: too large for the memory.
        """
        height, width = images.shape[1:3] if images.dtype == torch.uint8 else images.shape[2:]
        refuse_small(height, width)
        with memory_errors(width, height):
            return self.run(images)


@contextmanager
def memory_errors(width: int, height: int) -> Iterator[None]:
    """Around work on a picture: a lack of memory becomes a `RunError`."""
    try:
        yield
    except Exception as error:  # each runtime raises its own kinds
        if lacks_memory(error):
            raise RunError(f"not enough memory for {width}×{height} pixels; try a smaller size") from error
        raise


def open_backend(
    name: str, style: Path, device: torch.device, network_class: Callable[..., nn.Module] | None = None
) -> Backend:
    """A style through one of the backends.

    Args:
        name: `torch`; `compile` (torch.compile: a minute for each new size of picture, then faster); `openvino` or
            `onnxruntime`, on the CPU.
        style: a style file.
        network_class: of the style's network, if that is the user's own; for `torch` and `compile` only.

    Raises:
        UserError: no such backend, its packages are not installed, or it does not work on the device.
        StyleFileError: the style cannot be read.
    """
    check_backend(name)
    if name in EXTRAS and device.type != "cpu":
        raise UserError(f"backend {name} works on the CPU only; use device cpu, or backend torch")
    network, info = load_style(style, network_class)
    network.to(device)
    if name in EXTRAS and isinstance(network, OwnNetwork):
        raise UserError(f"{info.name}: backend {name} has only fst's own networks; use torch or compile")
    if name == "openvino":
        run = load_openvino(_exported(style), dtype=fast_dtype(device))
    elif name == "onnxruntime":
        run = load_onnx(_exported(style))
    else:
        run = _load_torch(network, device, compiled=name == "compile")
    return Backend(name, run, network, info)


def _load_torch(network: TransformNetwork, device: torch.device, compiled: bool) -> RunNetwork:
    dtype = fast_dtype(device)

    def forward(images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return network.forward_pixels(images)
        return network(images.contiguous(memory_format=torch.channels_last))

    if compiled:
        # On a GPU it captures CUDA graphs, which start all kernels of a picture at once.
        forward = torch.compile(forward, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return forward(images)

    def run_compiled(images: Tensor) -> Tensor:
        try:
            return run(images).clone()  # the next call would overwrite what a CUDA graph returned
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"torch.compile failed ({reason}); backend torch does without it") from error

    return run_compiled if compiled else run


def _exported(style: Path) -> bytes:
    """The style as an ONNX model. It is kept in the user's cache, under a hash of the style and of all versions."""
    made_by = f"{_EXPORT} fst {fst.__version__} torch {torch.__version__} onnxscript {version('onnxscript')}"
    key = sha256(made_by.encode() + style.read_bytes()).hexdigest()
    folder = Path(os.environ.get("FST_CACHE") or platformdirs.user_cache_dir("fst", appauthor=False))
    path = folder / f"{style.stem}-{key[:16]}.export"  # 32 bytes of checksum, then the model
    with suppress(OSError):
        checksum, model = (data := path.read_bytes())[:32], data[32:]
        if sha256(model).digest() == checksum:
            return model
    print(f"preparing {style.stem} for this backend, once", file=sys.stderr)
    model = to_onnx(style)
    with suppress(RunError):  # a cache that cannot be written is no error
        write_atomically(path, sha256(model).digest() + model)
    return model


def load_onnx(model: bytes) -> RunNetwork:
    """An ONNX model in ONNX Runtime, on the CPU."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return to_uint8(run(from_uint8(images)))
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return run


def load_openvino(model: bytes, weights: bytes = b"", dtype: torch.dtype = torch.float32) -> RunNetwork:
    """A model in OpenVINO, on the CPU.

    Args:
        model: ONNX, or OpenVINO's XML.
        weights: that belong to the XML.
        dtype: bfloat16 or float32, what it computes in.
    """
    openvino = import_openvino()
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }

    @cache  # one model for floats and one for bytes, each compiled at its first picture
    def compiled(is_bytes: bool) -> Any:
        steps = openvino.preprocess.PrePostProcessor(core.read_model(model, weights))
        for end in (steps.input(), steps.output()):  # pictures stay in channels-last memory: no copies
            end.tensor().set_layout(openvino.Layout("NHWC"))
            end.model().set_layout(openvino.Layout("NCHW"))
        if is_bytes:
            steps.input().tensor().set_element_type(openvino.Type.u8)
            steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
            steps.output().postprocess().custom(_openvino_to_bytes)
        return core.compile_model(steps.build(), "CPU", options)

    lock = Lock()  # threads share one inference request: each picture uses all cores, so several were no faster

    def run(images: Tensor) -> Tensor:
        is_bytes = images.dtype == torch.uint8
        pixels = images if is_bytes else images.permute(0, 2, 3, 1)  # B, H, W, 3
        with lock:
            stylized = torch.from_numpy(compiled(is_bytes)(pixels.contiguous().numpy(), share_inputs=True)[0])
        return stylized if is_bytes else stylized.permute(0, 3, 1, 2)

    return run


def _openvino_to_bytes(output: Any) -> Any:
    """A node in [0, 1], scaled, rounded and converted to uint8."""
    from openvino import Type, opset13

    scaled = opset13.multiply(output, opset13.constant(255.0, Type.f32))
    return opset13.convert(opset13.round(scaled), Type.u8).output(0)


def import_openvino() -> Any:
    """The package, without the one that sends usage data to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so its import fails, which is allowed
    import openvino
    import openvino.preprocess

    return openvino


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
        part.ClearField("metadata_props")  # paths and names of the exporting program
    graph.output[0].type.CopyFrom(graph.input[0].type)  # the same size, which the exporter writes as formulas
    pictures = f"float32 (batch, 3, height, width), RGB in [0, 1], sides from {LEAST_SIDE} pixels up"
    description = {"style": info.name, "architecture": info.architecture, "fst": fst.__version__}
    onnx.helper.set_model_props(model, description | {"images": pictures, "stylized": "as images, of the same size"})
    return model.SerializeToString()
