"""`fst import`: makes a style file of another project's network."""

import argparse
import shlex
from pathlib import Path

from fst.commands.flags import Commands
from fst.errors import UserError, one_line
from fst.files import expand_user


def add(commands: Commands) -> None:
    importer = commands.add_parser("import", help="a network of pytorch/examples: fst import mosaic.pth --name mosaic")
    importer.add_argument("file", type=expand_user, metavar="FILE.pth", help="the weights, as torch.save wrote them")
    importer.add_argument("--name", required=True, help="of the style, as after -s")
    importer.add_argument("-o", "--output", type=expand_user, help="default: outputs/NAME/imported/NAME.safetensors")
    importer.add_argument("--force", action="store_true", help="overwrite an existing style")
    importer.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.files import check_writable, refusal_to_read
    from fst.style_info import STYLE_SUFFIX, check_style_name

    check_style_name(options.name)
    output = options.output or Path("outputs", options.name, "imported", options.name + STYLE_SUFFIX)
    if output.suffix != STYLE_SUFFIX:
        raise UserError(f"-o {output}: a style is a {STYLE_SUFFIX} file")
    check_writable(output, options.force)
    if not options.file.exists():
        raise UserError(f"{options.file}: no such file")
    if refusal := refusal_to_read(options.file):
        raise UserError(f"{options.file} {refusal}")

    from fst.style_file import save_style
    from fst.style_import import import_style

    save_style(output, *import_style(options.file, options.name))
    print(one_line(output, None))
    style = shlex.quote(str(output) if options.output else options.name)
    print(one_line(f"use it:  fst stylize PHOTO -s {style}", None))
    return 0
