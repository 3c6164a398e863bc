"""`fst export`: writes a style for other runtimes."""

import argparse
from pathlib import Path

from fst.commands.flags import Commands
from fst.errors import one_line


def add(commands: Commands) -> None:
    export = commands.add_parser("export", help="for other runtimes: fst export starry_night --to onnx")
    export.add_argument("style", metavar="STYLE", help="a name from `fst styles`, or a style file")
    export.add_argument("--to", required=True, choices=["onnx", "openvino"], help="one .onnx file; or .xml and .bin")
    export.add_argument("-o", "--output", type=Path, help="file; default: STYLE.onnx or STYLE.xml here")
    export.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "fp16", "int8"],
        help="fp16 halves the file; int8 is for openvino, quarters it and is faster; default fp32",
    )
    export.add_argument("--photos", type=Path, help="folder of photos of the kind to be stylized, for int8")
    export.add_argument("--force", action="store_true", help="overwrite existing files")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.inference.export_check import EXPORT_SUFFIXES, check_export
    from fst.style_info import find_style, read_info

    style = find_style(options.style)
    read_info(style)
    output = options.output or Path(style.stem + EXPORT_SUFFIXES[options.to][0])
    check_export(options.to, output, options.precision, options.photos, options.force)

    from fst.inference.export import export_style

    similarity = export_style(style, options.to, output, options.precision, options.photos, options.force)
    print(one_line(output, None))
    print("PSNR to PyTorch: " + ", ".join(f"{psnr:.1f} dB at {size}" for size, psnr in similarity.items()))
    return 0
