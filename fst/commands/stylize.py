"""`fst stylize`: pictures and videos in, stylized ones out."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fst.commands import flags
from fst.errors import UserError, one_line
from fst.files import expand_user

if TYPE_CHECKING:
    from fst.inference.jobs import Plan
    from fst.inference.stylizer import Stylizer
    from fst.style_info import StyleInfo

    ReadInfo = Callable[[Path], StyleInfo]

Value = TypeVar("Value")
WEBCAM = "webcam:"  # begins the name of an input that is a camera
_MOST_MEGAPIXELS = 1000  # unless the user says otherwise


def add(commands: flags.Commands) -> None:
    stylize = commands.add_parser("stylize", help="pictures and videos: fst stylize photo.jpg -s starry_night")
    stylize.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, video, folder, glob, frames/%%05d.png, webcam:0, or - for standard input",
    )
    style = stylize.add_mutually_exclusive_group(required=True)
    style.add_argument(
        "-s",
        "--style",
        action="append",
        help="a name from `fst styles`, or a style file; several -s make a result for each, -s all for every style",
    )
    style.add_argument("--blend", type=flags.shares, metavar="A:0.3,B:0.7", help="several styles and their shares")
    stylize.add_argument("--network", metavar="MODULE:CLASS", help="your own class that the style was trained with")
    stylize.add_argument(
        "-o",
        "--output",
        type=expand_user,
        help="file, folder, - for standard output, or frames/%%05d.png for a video's frames; where it is a video file, "
        "pictures become one video; default: INPUT-STYLE here",
    )
    stylize.add_argument("--format", help="of -o -: png, jpg, webp, mkv, mp4, webm, ts, …; default: png or mkv")
    stylize.add_argument(
        "--suffix", help="after INPUT-STYLE in the default names, in place of what tells the look: --suffix=-large"
    )
    stylize.add_argument("--force", action="store_true", help="overwrite existing outputs")
    stylize.add_argument(
        "--size", type=flags.whole, help="longer side in pixels to stylize at; default: the picture's own"
    )
    look = stylize.add_argument_group("look")
    look.add_argument("--strength", type=flags.number, default=1.0, help="0 (the picture) to 1 (the style); default 1")
    look.add_argument("--keep-colors", "--keep-colours", action="store_true", help="keep the picture's colours")
    look.add_argument(
        "--stroke", type=flags.number, default=1.0, help="breadth of the strokes: 2 doubles it; default 1"
    )
    look.add_argument("--mask", type=expand_user, help="a picture: white where to stylize, black where not")
    _add_video_flags(stylize.add_argument_group("videos"))
    _add_machine_flags(stylize.add_argument_group("machine"))
    stylize.set_defaults(run=run)


def _add_video_flags(videos: argparse._ArgumentGroup) -> None:
    videos.add_argument("--codec", help="h264, hevc, vp9, av1 or any of FFmpeg's; default: h264, vp9 in .webm")
    videos.add_argument(
        "--quality",
        type=flags.whole,
        help="0 (the best) to 51, for vp9 and av1 to 63; default: 20 for h264, 24 for hevc, 30 for vp9 and av1",
    )
    videos.add_argument(
        "--preset", help="ultrafast encodes faster, slow makes smaller files; default: veryfast, for av1 10"
    )
    videos.add_argument("--pixel-format", help="default: yuv420p; yuv444p where a side is odd")
    videos.add_argument(
        "--fps", type=flags.rate, help="of pictures that become a video: 24, 29.97, 30000/1001; default 25"
    )
    videos.add_argument(
        "--steady",
        action="store_true",
        default=None,
        help="less flicker, a little less detail; needs the extra 'flow'",
    )


def _add_machine_flags(machine: argparse._ArgumentGroup) -> None:
    flags.add_device(machine)
    machine.add_argument("--backend", default="torch", help="torch, compile, openvino, onnxruntime; default torch")
    machine.add_argument("--memory", type=flags.above_zero, metavar="GIB", help="memory limit; default: what is free")
    machine.add_argument(
        "--max-megapixels",
        type=flags.above_zero,
        help=f"the largest picture to read, in million pixels; default {_MOST_MEGAPIXELS}",
    )


def run(options: argparse.Namespace) -> int:
    from fst.inference.jobs import plan
    from fst.inference.look import Look
    from fst.inference.runtimes import check_backend
    from fst.inference.video.types import VideoOptions
    from fst.pictures import allow_megapixels, read_image

    video_options = _options_of(VideoOptions, options)
    if camera := options.inputs[0].startswith(WEBCAM):
        _check_camera(options, video_options.given())
    styles, names = _styles_and_names(options)
    look = _options_of(Look, options)
    check_backend(options.backend)
    allow_megapixels(options.max_megapixels or _MOST_MEGAPIXELS)
    mask = read_image(options.mask) if options.mask else None
    endings = [name + _ending(options, str(look)) for name in names]
    planned = None if camera else plan(options.inputs, options.output, endings, options.force, video_options)

    if planned is not None and not planned.jobs:
        return _report(planned, 0)
    # Only now what takes seconds to load.
    from fst.hardware import keep_large_blocks
    from fst.inference.batch import stylize_all
    from fst.inference.stylizer import Stylizer
    from fst.networks.own import find_class

    def open_style(style: str | dict[str, float]) -> Stylizer:
        return Stylizer(
            style, options.device, memory=options.memory, backend=options.backend, network=network, **vars(look)
        )

    network = find_class(options.network) if options.network else None
    keep_large_blocks()
    if planned is None:
        return _show_camera(options.inputs[0].removeprefix(WEBCAM), open_style, options.style[0])
    needed = {ending for job in planned.jobs for ending in job.targets}
    stylizers = {ending: open_style(style) for ending, style in zip(endings, styles, strict=True) if ending in needed}
    status = _report(planned, stylize_all(planned, stylizers, video_options, mask))
    first = next(iter(stylizers.values()))
    print(f"backend: {first.backends[0].name} on {first.device}", file=sys.stderr)
    return status


def _options_of(kind: type[Value], options: argparse.Namespace) -> Value:
    """An object of a dataclass whose fields are flags."""
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def _check_camera(options: argparse.Namespace, video_flags: Sequence[str]) -> None:
    """Raises a `UserError` for what a camera, which writes no file, has no use for."""
    others = ("blend", "mask", "output", "suffix", "force", "max_megapixels")
    found = [name for name in others if getattr(options, name) not in (None, False)]
    given = [*video_flags, *(f"--{name.replace('_', '-')}" for name in found)]
    if given or len(options.inputs) > 1:
        without = f", without {', '.join(given)}" if given else ""
        raise UserError(f"{options.inputs[0]}: one camera and -s STYLE{without}")
    if len(options.style) > 1 or options.style == ["all"]:
        raise UserError(f"{options.inputs[0]}: one -s STYLE; its page has the others to choose from")


def _styles_and_names(options: argparse.Namespace) -> tuple[list[str | dict[str, float]], list[str]]:
    """The styles to use, or the one blend with its shares; and what each is called in the names of outputs."""
    from fst.style_info import read_builtin_info, read_info

    read = read_info if options.network else read_builtin_info
    styles: list[str | dict[str, float]] = [options.blend] if options.blend else list(_chosen(options.style, read))
    names = [_name(style, read) for style in styles]
    if same := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"-s/--style: two of them are called {same.pop()}, and so are their outputs; stylize with one at a time, "
            "and -o or --suffix"
        )
    return styles, names


def _chosen(styles: Sequence[str], read: "ReadInfo") -> list[str]:
    """The styles to use, each once; `all` means every one that `fst styles` lists and that `read` can read."""
    from fst.style_info import StyleFileError, list_styles

    chosen = [style for style in styles if style != "all"]
    names: dict[str, Path] = {}
    for style, path in list_styles().items() if "all" in styles else ():
        try:
            if (name := read(path).name) in names:
                raise StyleFileError(f"{path}: it is called {name}, as {names[name]} is")
            names[name] = path
        except StyleFileError as error:
            print(f"fst: left out: {one_line(error)}", file=sys.stderr)
        else:
            chosen.append(style)
    if len(set(chosen)) < len(chosen):
        raise UserError("-s/--style: a style is given twice; --blend A:0.5,B:0.5 mixes several styles")
    return chosen


def _name(style: str | dict[str, float], read: "ReadInfo") -> str:
    """Of a style, or of a blend and its shares."""
    from fst.inference.look import check_shares
    from fst.style_info import find_style

    if isinstance(style, dict):
        check_shares(style)
        return "+".join(_name(part, read) for part in style)
    return read(find_style(style)).name


def _ending(options: argparse.Namespace, look: str) -> str:
    """What follows INPUT-STYLE in the name of an output."""
    from fst.inference.jobs import names_file

    if options.suffix is None:
        return look + ("-mask" if options.mask else "")
    if "/" in options.suffix or "\\" in options.suffix or not (options.suffix or "-").isprintable():
        raise UserError(f"--suffix {options.suffix}: a part of a name has no path separators or control characters")
    if options.output is not None and names_file(options.output):
        raise UserError(f"--suffix is for default names, and -o {options.output} is the whole name")
    return options.suffix


def _report(planned: "Plan", written: int) -> int:
    """Print what was done; returns the exit status."""
    targets = [str(target) for job in planned.jobs for target in job.targets.values()]
    if planned.alone and targets == ["-"]:
        pass  # standard output holds the result
    elif planned.alone and written == 1:
        print(one_line(targets[0], None))
    else:
        print(f"{written} stylized, {planned.failed} failed", file=sys.stderr if targets in ([], ["-"]) else sys.stdout)
    return 1 if planned.failed else 0


def _show_camera(source: str, open_style: "Callable[[str], Stylizer]", style: str) -> int:
    from fst.inference.webcam import Live, show_camera
    from fst.style_info import list_styles

    styles = list(list_styles())
    if style not in styles:
        styles.insert(0, style)
    try:
        show_camera(source, Live(open_style, styles, style))
    except KeyboardInterrupt:
        print()
    return 0
