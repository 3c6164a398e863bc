"""`fst stylize`: pictures and videos in, stylized ones out."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fst.commands import flags
from fst.errors import UserError

if TYPE_CHECKING:
    from fst.inference.stylizer import Stylizer

WEBCAM = "webcam:"  # begins the name of an input that is a camera


def add(commands: flags.Commands) -> None:
    stylize = commands.add_parser("stylize", help="pictures and videos: fst stylize photo.jpg -s starry_night")
    stylize.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture, video, folder, glob, frames/%%05d.png or webcam:0"
    )
    style = stylize.add_mutually_exclusive_group(required=True)
    style.add_argument("-s", "--style", action=_Style, help="a name from `fst styles`, or a style file")
    style.add_argument("--blend", type=flags.shares, metavar="A:0.3,B:0.7", help="several styles and their shares")
    stylize.add_argument(
        "-o",
        "--output",
        type=Path,
        help="file, folder, or frames/%%05d.png for a video's frames; pictures become one video where it is a video "
        "file; default: INPUT-STYLE here",
    )
    stylize.add_argument("--force", action="store_true", help="overwrite existing outputs")
    stylize.add_argument(
        "--size", type=flags.whole, help="longer side in pixels to stylize at; default: the picture's own"
    )
    look = stylize.add_argument_group("look")
    look.add_argument("--strength", type=flags.number, default=1.0, help="0 (the picture) to 1 (the style); default 1")
    look.add_argument("--keep-colors", action="store_true", help="keep the picture's colours")
    look.add_argument(
        "--stroke", type=flags.number, default=1.0, help="breadth of the strokes: 2 doubles it; default 1"
    )
    look.add_argument("--mask", type=Path, help="a picture: white where to stylize, black where not")
    videos = stylize.add_argument_group("videos")
    videos.add_argument("--codec", help="h264, hevc, vp9, av1 or any of FFmpeg's; default: h264, vp9 in .webm")
    videos.add_argument(
        "--quality", type=flags.whole, help="0 (the best) to 51, for vp9 and av1 63; default: 20, 24 or 30"
    )
    videos.add_argument("--preset", help="default: veryfast; ultrafast encodes faster, slow makes smaller files")
    videos.add_argument("--pixel-format", help="default: yuv420p; yuv444p where a side is odd")
    videos.add_argument(
        "--fps", type=flags.rate, help="of pictures that become a video: 24, 29.97, 30000/1001; default 25"
    )
    machine = stylize.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    machine.add_argument("--backend", default="torch", help="torch, compile, openvino, onnxruntime; default torch")
    machine.add_argument("--memory", type=flags.number, metavar="GIB", help="memory limit; default: what is free")
    machine.add_argument(
        "--max-megapixels",
        type=flags.number,
        default=1000,
        help="the largest picture to read, in million pixels; default 1000",
    )
    stylize.set_defaults(run=run)


class _Style(argparse.Action):
    """Refuses a second style: argparse would take the last one without a message."""

    def __call__(self, parser: Any, options: argparse.Namespace, value: Any, flag: str | None = None) -> None:
        if getattr(options, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; --blend A:0.5,B:0.5 mixes several styles")
        setattr(options, self.dest, value)


def run(options: argparse.Namespace) -> int:
    from fst.hardware import keep_large_blocks
    from fst.inference.batch import stylize_all
    from fst.inference.stylizer import Stylizer
    from fst.inference.video.types import VideoOptions
    from fst.pictures import allow_megapixels, read_image

    def open_style(style: str | dict[str, float]) -> Stylizer:
        look = {name: getattr(options, name) for name in ("size", "strength", "keep_colors", "stroke")}
        return Stylizer(style, options.device, memory=options.memory, backend=options.backend, **look)

    keep_large_blocks()
    allow_megapixels(options.max_megapixels)
    if options.inputs[0].startswith(WEBCAM):
        return _show_camera(options, open_style)
    video_options = VideoOptions(options.codec, options.quality, options.pixel_format, options.fps, options.preset)
    mask = read_image(options.mask) if options.mask else None
    stylizer = open_style(options.blend or options.style)
    status = stylize_all(stylizer, options.inputs, options.output, options.force, video_options, mask)
    print(f"backend: {stylizer.backends[0].name} on {stylizer.device}", file=sys.stderr)
    return status


def _show_camera(options: argparse.Namespace, open_style: "Callable[[str], Stylizer]") -> int:
    from fst.inference.webcam import Live, show_camera
    from fst.style_info import list_styles

    if options.blend or options.mask or options.output or len(options.inputs) > 1:
        raise UserError(f"{WEBCAM}: one camera and -s STYLE, without --blend, --mask or -o")
    styles = list(list_styles())
    if options.style not in styles:
        styles.insert(0, options.style)
    try:
        show_camera(options.inputs[0].removeprefix(WEBCAM), Live(open_style, styles, options.style))
    except KeyboardInterrupt:
        print()
    return 0
