"""`fst styles`: what can be named after `-s`."""

import argparse

from fst.commands.flags import Commands
from fst.errors import one_line


def add(commands: Commands) -> None:
    styles = commands.add_parser("styles", help="list what can be named after -s")
    styles.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.style_info import StyleFileError, list_styles, read_info

    for name, path in sorted(list_styles().items()):
        try:
            info = read_info(path)
            arguments = ", ".join(f"{key} {value}" for key, value in info.arguments.items())
            made = f"{info.architecture} ({arguments}), {info.steps} steps of {info.batch_size} at {info.image_size} px"
        except StyleFileError as error:
            made = str(error)
        print(one_line(f"{name:<20} {made}  {path}", None))
    return 0
