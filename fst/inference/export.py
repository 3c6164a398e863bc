"""A style for other runtimes: its network for any batch, height and width, as ONNX or as OpenVINO's IR."""

import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps

from fst.errors import RunError, UserError
from fst.files import write_errors_of, written_atomically
from fst.images import psnr, read_tensor, resize, to_tensor
from fst.inference.backends import RunNetwork, import_openvino, load_onnx, load_openvino, to_onnx
from fst.inference.export_check import EXPORT_SUFFIXES, check_export
from fst.networks.transform import TransformNetwork
from fst.pictures import read_all, require_images
from fst.resources import find_style_image
from fst.style_file import load_style

LEAST_PSNR = {"fp32": 40.0, "fp16": 40.0, "int8": 30.0}  # dB, to PyTorch in float32
_CHECKED_SIZES = ((61, 90), (127, 33), (255, 341))  # height and width, none a multiple of the strides
_CALIBRATION = 24  # photos
_CALIBRATION_SIDE = 256  # pixels


def export_style(
    style: Path, to: str, output: Path, precision: str = "fp32", photos: Path | None = None, force: bool = False
) -> dict[str, float]:
    """Write a style for another runtime, after checking that it gives the same pictures there.

    Args:
        to: `onnx` (one file) or `openvino` (`.xml` and `.bin`).
        precision: of the stored weights, `fp32` or `fp16`; or `int8` for weights and arithmetic, with OpenVINO only.
        photos: folder of photos of the kind to be stylized, on which int8 measures its value ranges.
        force: overwrite existing files.

    Returns:
        PSNR to PyTorch in float32 in dB, by size of picture.

    Raises:
        UserError: an extra is missing, a wrong suffix, an existing file, an argument that does not fit.
        StyleFileError: the style cannot be read.
        RunError: the PSNR is too low (nothing is written then), or the files cannot be written.
    """
    check_export(to, output, precision, photos, force)
    suffixes = EXPORT_SUFFIXES[to]
    pictures = None if photos is None else require_images(photos, "--photos ")
    network, _ = load_style(style)
    contents = _convert(to_onnx(style), to, precision, pictures)
    load = load_onnx if to == "onnx" else load_openvino
    similarity = _compare(network, load(*contents))
    if not min(similarity.values()) >= LEAST_PSNR[precision]:  # nor NaN
        raise RunError(
            f"{output} not written: in {precision} it differs too much from PyTorch, {min(similarity.values()):.1f} dB"
            f" where {LEAST_PSNR[precision]:.0f} are wanted"
        )
    with ExitStack() as together:
        for suffix, content in zip(suffixes, contents, strict=True):
            temporary = together.enter_context(written_atomically(path := output.with_suffix(suffix)))
            with write_errors_of(path):
                temporary.write_bytes(content)
    return similarity


def _convert(model: bytes, to: str, precision: str, photos: Sequence[Path] | None) -> list[bytes]:
    """The contents of the files to write, from an ONNX model."""
    if to == "onnx":
        return [_half_onnx(model) if precision == "fp16" else model]
    openvino = import_openvino()
    ir = openvino.Core().read_model(model)
    if photos is not None:
        ir = _quantize(ir, photos)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "style.xml")
        openvino.save_model(ir, path, compress_to_fp16=precision == "fp16")
        return [path.with_suffix(suffix).read_bytes() for suffix in EXPORT_SUFFIXES[to]]


def _half_onnx(model: bytes) -> bytes:
    """The same with weights in float16, which a runtime casts when it loads them, as OpenVINO does: half the size."""
    import onnx

    half = onnx.load_from_string(model)
    for tensor in half.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values, name = onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}_half"))
            half.graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    return half.SerializeToString()


def _quantize(ir: Any, photos: Sequence[Path]) -> Any:
    """An OpenVINO model in int8, its value ranges measured on photos (NNCF's post-training quantisation)."""
    import nncf

    chosen = photos[:: max(1, len(photos) // _CALIBRATION)][:_CALIBRATION]
    squares = (ImageOps.fit(photo, (_CALIBRATION_SIDE, _CALIBRATION_SIDE)) for photo in read_all(chosen))
    if not (pictures := [to_tensor(square).contiguous().numpy() for square in squares]):
        raise UserError("--photos: none of the pictures can be read; name another folder")
    convolutions = [op.get_friendly_name() for op in ir.get_ordered_ops() if op.get_type_name() == "Convolution"]
    # The first and last convolutions read and write pixels. Instance norms (MVN) in int8 cost 10 dB and save no time.
    precise = nncf.IgnoredScope(names=[convolutions[0], convolutions[-1]], types=["MVN"], validate=False)
    # Without VNNI, a CPU adds pairs of products in 16 bits: weights of 7 bits do not overflow there.
    careful = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(
            ir,
            nncf.Dataset(pictures),
            subset_size=len(pictures),
            ignored_scope=precise,
            advanced_parameters=careful,
        )


@torch.inference_mode()
def _compare(network: TransformNetwork, run: RunNetwork) -> dict[str, float]:
    """PSNR in dB by size of picture, measured on one picture and its mirror image."""
    picture = read_tensor(find_style_image("woodcut_sea"))
    similarity = {}
    for height, width in _CHECKED_SIZES:
        images = resize(picture, (height, width))
        images = torch.cat([images, images.flip(3)])
        similarity[f"{width}×{height}"] = psnr(run(images), network(images))
    return similarity
