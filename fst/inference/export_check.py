"""What can be wrong with an export, found before torch is loaded."""

from pathlib import Path

from fst.errors import UserError
from fst.files import check_writable
from fst.inference.runtimes import require
from fst.pictures import require_images

EXPORT_SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}


def check_export(to: str, output: Path, precision: str, photos: Path | None, force: bool) -> None:
    """Refuse what `fst.inference.export.export_style`, whose arguments these are, cannot do.

    Raises:
        UserError: an extra is missing, a wrong suffix, an existing file, no photos, an argument that does not fit.
    """
    require(to)
    suffixes = EXPORT_SUFFIXES[to]
    if output.suffix != suffixes[0]:
        raise UserError(f"{output}: {to} is written to a {suffixes[0]} file")
    for path in map(output.with_suffix, suffixes):
        check_writable(path, force)
    if (precision == "int8") != (photos is not None):
        raise UserError("int8, and only int8, measures its value ranges on photos: --precision int8 --photos FOLDER")
    if precision == "int8" and to == "onnx":
        raise UserError("int8 is for --to openvino: with ONNX Runtime it is slower than fp32")
    if precision == "int8":
        require("int8")
    if photos is not None:
        require_images(photos, "--photos ")
