"""`fst styles`: what can be named after `-s`, in words, or as one sheet of pictures."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from fst.commands.flags import Commands
from fst.errors import RunError, UserError, one_line
from fst.files import expand_user


def add(commands: Commands) -> None:
    styles = commands.add_parser("styles", help="list what can be named after -s, and what each looks like")
    styles.add_argument(
        "--preview", type=expand_user, metavar="PHOTO", help="write one sheet of that photo in each style"
    )
    styles.add_argument("-o", "--output", type=expand_user, help="file of the sheet; default: PHOTO-styles.jpg here")
    styles.add_argument("--force", action="store_true", help="overwrite an existing sheet")
    styles.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.style_info import list_styles

    styles = dict(sorted(list_styles().items()))
    if options.preview:
        return _preview(options, styles)
    if options.output or options.force:
        raise UserError("-o and --force are for the sheet of --preview PHOTO")
    import yaml

    from fst.resources import resource_folder

    checkpoints = resource_folder("checkpoints")
    looks = yaml.safe_load((checkpoints / "looks.yaml").read_text())
    width = max(map(len, styles), default=0)
    for name, path in styles.items():
        described = _describe(path, looks if path.parent == checkpoints else {})  # not of one that is called alike
        print(one_line(f"{name:<{width}}  {described}  {path}", None))
    return 0


def _describe(path: Path, looks: Mapping[str, str]) -> str:
    """What a style looks like, and how it was made; or why its file cannot be read."""
    from fst.style_info import StyleFileError, read_info

    try:
        info = read_info(path)
    except StyleFileError as error:
        return str(error)
    image = info.style_image or info.name
    arguments = ", ".join(f"{key} {value}" for key, value in info.arguments.items())
    made = f"{info.architecture} ({arguments})"
    if info.init_from:
        made += f", from {info.init_from}"
    if info.steps:  # known for what fst trained
        made += f", {info.steps} steps of {info.batch_size}"
    if info.image_size:  # photos of the user's own may have any
        made += f" at {info.image_size} px"
    return f"{looks.get(info.name) or looks.get(image, f'as {image}')}; {made}"


def _preview(options: argparse.Namespace, styles: Mapping[str, Path]) -> int:
    from fst.files import check_writable
    from fst.pictures import WRITABLE_PICTURE_SUFFIXES, flatten_alpha, read_image, resize_longer_side, write_image

    output = options.output or Path(f"{options.preview.stem}-styles.jpg")
    if output.suffix.lower() not in WRITABLE_PICTURE_SUFFIXES:
        raise UserError(f"-o {output}: name a picture, such as {output.stem}.jpg")
    check_writable(output, options.force)
    photo = read_image(options.preview)

    from fst.inference.preview import SIDE, sheet
    from fst.inference.stylizer import Stylizer

    pictures = {"the photo": resize_longer_side(flatten_alpha(photo), SIDE)}
    for name, path in styles.items():
        try:
            pictures[name] = Stylizer(path)(pictures["the photo"])
        except (UserError, RunError) as error:
            print(f"fst: {one_line(error)}", file=sys.stderr)
    write_image(sheet(pictures), output)
    print(one_line(output, None))
    return 1 if len(pictures) <= len(styles) else 0
