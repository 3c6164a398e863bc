"""`fst export`: writes a style for other runtimes."""

import argparse
from pathlib import Path

from fst.commands.flags import Commands
from fst.errors import UserError, one_line
from fst.files import expand_user


def add(commands: Commands) -> None:
    export = commands.add_parser("export", help="for other runtimes: fst export starry_night --to onnx")
    export.add_argument("styles", nargs="+", metavar="STYLE", help="a name, or a style file; several for --to web")
    export.add_argument(
        "--to", required=True, choices=["onnx", "openvino", "web"], help="one .onnx file; .xml and .bin; a web site"
    )
    export.add_argument(
        "-o", "--output", type=expand_user, help="file, for web a folder; default: STYLE.onnx, .xml, site"
    )
    export.add_argument(
        "--precision",
        choices=["fp32", "fp16", "int8"],
        help="fp16 halves the file; int8 is for openvino, quarters it and is faster; default fp32",
    )
    export.add_argument("--photos", type=expand_user, help="folder of photos of the kind to be stylized, for int8")
    export.add_argument(
        "--runtime", type=expand_user, help="a copy of onnxruntime-web from npm: the web site works offline"
    )
    export.add_argument("--force", action="store_true", help="overwrite existing files")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return _write_site(options) if options.to == "web" else _export(options)


def _export(options: argparse.Namespace) -> int:
    from fst.inference.export_check import EXPORT_SUFFIXES, check_export
    from fst.style_info import find_style, read_builtin_info

    if len(options.styles) > 1 or options.runtime:
        raise UserError(f"--to {options.to}: one style, without --runtime; --to web takes several")
    style = find_style(options.styles[0])
    read_builtin_info(style)
    precision = options.precision or "fp32"
    output = options.output or Path(style.stem + EXPORT_SUFFIXES[options.to][0])
    check_export(options.to, output, precision, options.photos, options.force)

    from fst.inference.export import export_style

    similarity = export_style(style, options.to, output, precision, options.photos, options.force)
    print(one_line(output, None))
    print("PSNR to PyTorch: " + ", ".join(f"{psnr:.1f} dB at {size}" for size, psnr in similarity.items()))
    return 0


def _write_site(options: argparse.Namespace) -> int:
    from fst.inference.web.folder import check_site_folder, find_web_styles, write_site
    from fst.inference.web.runtime import read_runtime

    if options.precision or options.photos:
        raise UserError("--to web: without --precision and --photos; a site has float16 weights")
    folder = options.output or Path("site")
    check_site_folder(folder, options.force)
    styles = find_web_styles(options.styles)
    runtime = read_runtime(options.runtime) if options.runtime else {}

    from fst.inference.web.site import build_site

    site = build_site(styles, runtime)
    write_site(site, folder, options.force)
    print(f"{one_line(folder, None)}: {len(site)} files, {sum(map(len, site.values())) / 1e6:.2f} MB")
    return 0
