"""The command `fst`. Each sub-command is a short function, which imports what it needs: the command starts fast."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fst import __version__
from fst.errors import UserError, find_cause, one_line
from fst.signals import Interrupted

if TYPE_CHECKING:
    from fst.inference.stylizer import Stylizer

Value = TypeVar("Value")
_HYDRA = ("train", "optimize", "compare")
_COMMANDS = (*_HYDRA, "stylize", "styles", "evaluate", "export", "bench")
WEBCAM = "webcam:"  # begins the name of an input that is a camera
_EPILOG = """
train, optimize and compare are Hydra applications: fst train --help lists their keys, fst train … --cfg job prints the
configuration, and eval "$(fst -sc install=bash)" makes the shell complete keys and values.
--debug shows the whole traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (failed at run time), 2 (a mistake in the command)."""
    _set_up_output()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        if arguments[:1] in (["-sc"], ["--shell-completion"]):
            return _complete(arguments)
        if arguments and arguments[0] in _HYDRA:
            return _hydra_application(*arguments)
        options = _parser().parse_args(arguments)
        return options.run(options)
    except Interrupted as stop:
        return stop.exit_status
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fst styles | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        cause = find_cause(error)
        unexpected = one_line(f"{type(error).__name__}: {error}", 250) + " (--debug shows where)"
        print(f"fst: {one_line(cause) if cause else unexpected}", file=sys.stderr)
        return cause.exit_status if cause else 1


class _LogRecord(logging.LogRecord):
    """A log record that is safe to print: file names in it may hold control characters."""

    def getMessage(self) -> str:  # noqa: N802 (logging's)
        return one_line(super().getMessage(), None)


def _set_up_output() -> None:
    """Write characters that the terminal cannot show, or that act on it, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_LogRecord)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that names the command's help."""

    def parse_known_args(self, *arguments: Any, **keywords: Any) -> Any:
        options, unknown = super().parse_known_args(*arguments, **keywords)
        if unknown:  # argparse would name `fst` instead of this command
            self.error(f"unknown: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{one_line(message)}; see {self.prog} --help")


class _Style(argparse.Action):
    """Refuses a second style: argparse would take the last one without a message."""

    def __call__(self, parser: Any, options: argparse.Namespace, value: Any, flag: str | None = None) -> None:
        if getattr(options, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; --blend A:0.5,B:0.5 mixes several styles")
        setattr(options, self.dest, value)


def _complete(arguments: list[str]) -> int:
    """Shell completion: sub-commands are completed here, keys and values by Hydra."""
    if not any(argument.startswith("query=") for argument in arguments):
        return _hydra_application("train", *arguments)  # the installation, the same for all
    program, *words = os.environ.get("COMP_LINE", "").split(" ", 2)
    if len(words) < 2:
        print(" ".join(_COMMANDS))
    elif words[0] in _HYDRA:
        os.environ["COMP_LINE"] = f"{program} {words[1]}"
        return _hydra_application(words[0], *arguments)
    return 0  # the shell completes file names


def _hydra_application(command: str, *arguments: str) -> int:
    if command == "train":
        from fst.training.train import main as run
    elif command == "optimize":
        from fst.study.optimize import main as run
    else:
        from fst.study.compare import main as run
    run(list(arguments))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("fst", description="Train style transfer networks and use them.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"fst {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a style: fst train style.image=PAINTING data.root=PHOTOS")
    commands.add_parser("optimize", help="the slow method: fst optimize content=PHOTO style.image=PAINTING")
    commands.add_parser("compare", help="layer sets side by side: fst compare study=recipes content=… style.image=…")
    _add_stylize(commands.add_parser("stylize", help="pictures and videos: fst stylize photo.jpg -s starry_night"))
    styles = commands.add_parser("styles", help="list what can be named after -s")
    styles.set_defaults(run=_styles)
    _add_evaluate(commands.add_parser("evaluate", help="measure styles: fst evaluate starry_night --photos FOLDER"))
    _add_export(commands.add_parser("export", help="for other runtimes: fst export starry_night --to onnx"))
    _add_bench(commands.add_parser("bench", help="how fast the networks are on this machine"))
    return parser


def _add_stylize(stylize: argparse.ArgumentParser) -> None:
    stylize.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture, video, folder, glob, frames/%%05d.png or webcam:0"
    )
    style = stylize.add_mutually_exclusive_group(required=True)
    style.add_argument("-s", "--style", action=_Style, help="a name from `fst styles`, or a style file")
    style.add_argument("--blend", type=_shares, metavar="A:0.3,B:0.7", help="several styles and their shares")
    stylize.add_argument(
        "-o",
        "--output",
        type=Path,
        help="file, folder, or frames/%%05d.png for a video's frames; pictures become one video where it is a video "
        "file; default: INPUT-STYLE here",
    )
    stylize.add_argument("--force", action="store_true", help="overwrite existing outputs")
    stylize.add_argument("--size", type=_whole, help="longer side in pixels to stylize at; default: the picture's own")
    look = stylize.add_argument_group("look")
    look.add_argument("--strength", type=_number, default=1.0, help="0 (the picture) to 1 (the style); default 1")
    look.add_argument("--keep-colors", action="store_true", help="keep the picture's colours")
    look.add_argument("--stroke", type=_number, default=1.0, help="breadth of the strokes: 2 doubles it; default 1")
    look.add_argument("--mask", type=Path, help="a picture: white where to stylize, black where not")
    videos = stylize.add_argument_group("videos")
    videos.add_argument("--codec", help="h264, hevc, vp9, av1 or any of FFmpeg's; default: h264, vp9 in .webm")
    videos.add_argument("--quality", type=_whole, help="0 (the best) to 51, for vp9 and av1 63; default: 20, 24 or 30")
    videos.add_argument("--preset", help="default: veryfast; ultrafast encodes faster, slow makes smaller files")
    videos.add_argument("--pixel-format", help="default: yuv420p; yuv444p where a side is odd")
    videos.add_argument("--fps", type=_rate, help="of pictures that become a video: 24, 29.97, 30000/1001; default 25")
    machine = stylize.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    machine.add_argument("--backend", default="torch", help="torch, compile, openvino, onnxruntime; default torch")
    machine.add_argument("--memory", type=_number, metavar="GIB", help="memory limit; default: what is free")
    machine.add_argument(
        "--max-megapixels",
        type=_number,
        default=1000,
        help="the largest picture to read, in million pixels; default 1000",
    )
    stylize.set_defaults(run=_stylize)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("styles", nargs="+", metavar="STYLE", help="a name from `fst styles`, or a style file")
    evaluate.add_argument("--photos", type=Path, required=True, help="folder of photos they never saw")
    evaluate.add_argument("--style-images", type=Path, help="folder of the style images they were trained on, by name")
    evaluate.add_argument("--weights", default="imagenet", help="of VGG19: imagenet (downloaded), or a file")
    evaluate.add_argument("--size", type=_whole, default=256, help="longer side in pixels; default 256")
    evaluate.add_argument("--count", type=_whole, default=8, help="how many photos; default 8")
    evaluate.add_argument("--iterations", type=_whole, default=500, help="limit for the slow method; default 500")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    evaluate.add_argument("-o", "--output", type=Path, default=Path("outputs/evaluation"), help="folder for figures")
    evaluate.set_defaults(run=_evaluate)


def _add_export(export: argparse.ArgumentParser) -> None:
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
    export.set_defaults(run=_export)


def _add_bench(bench: argparse.ArgumentParser) -> None:
    sizes = "256x256,512x512,1280x720,1920x1080"
    bench.add_argument("--sizes", default=sizes, help=f"in pixels; default {sizes}")
    bench.add_argument("--networks", type=lambda text: text.split(","), help="of conf/model (default: all), or styles")
    bench.add_argument(
        "--backends",
        type=lambda text: text.split(","),
        help="torch,compile,openvino,onnxruntime; default: all but compile",
    )
    bench.add_argument("--rounds", type=_whole, default=5, help="times each is measured; default 5")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    bench.add_argument("--json", type=Path, help="write the figures there")
    bench.set_defaults(run=_bench)


def _whole(text: str) -> int:
    return _parsed(int, text, "a whole number")


def _number(text: str) -> float:
    return _parsed(float, text, "a number")


def _rate(text: str) -> Fraction:
    return _parsed(Fraction, text, "a number or a fraction such as 30000/1001")


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.rpartition(":")
        shares[name] = shares.get(name, 0.0) + _parsed(float, share, "a style's share; write A:0.3,B:0.7")
    return shares


def _parsed(kind: Callable[[str], Value], text: str, what: str) -> Value:
    try:
        return kind(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}") from error


def _stylize(options: argparse.Namespace) -> int:
    from fst.hardware import keep_large_blocks
    from fst.images import allow_megapixels, read_image
    from fst.inference.batch import stylize_all
    from fst.inference.stylizer import Stylizer
    from fst.inference.video.types import VideoOptions

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
    from fst.style_file import list_styles

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


def _bench(options: argparse.Namespace) -> int:
    import json

    from fst.files import check_writable, write_atomically
    from fst.study.bench import bench, format_rows, parse_sizes

    if options.json:
        check_writable(options.json)
    result = bench(options.networks, options.backends, parse_sizes(options.sizes), options.rounds, options.device)
    print(f"{result['machine']}\n{format_rows(result['rows'])}")
    if options.json:
        write_atomically(options.json, json.dumps(result, indent=2).encode())
    return 0


def _export(options: argparse.Namespace) -> int:
    from fst.inference.export import EXPORT_SUFFIXES, export_style
    from fst.style_file import find_style

    style = find_style(options.style)
    output = options.output or Path(style.stem + EXPORT_SUFFIXES[options.to][0])
    similarity = export_style(style, options.to, output, options.precision, options.photos, options.force)
    print(one_line(output, None))
    print("PSNR to PyTorch: " + ", ".join(f"{psnr:.1f} dB at {size}" for size, psnr in similarity.items()))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from fst.hardware import keep_large_blocks
    from fst.study.evaluate import evaluate_all, format_results

    keep_large_blocks()
    results = evaluate_all(
        options.styles,
        options.photos,
        options.style_images,
        options.weights,
        options.output,
        options.size,
        options.count,
        options.iterations,
        options.device,
    )
    print(f"{format_results(results)}\n\nevery layer and the curves: {options.output}")
    return 0


def _styles(options: argparse.Namespace) -> int:
    from fst.style_file import StyleFileError, list_styles, read_info

    for name, path in sorted(list_styles().items()):
        try:
            info = read_info(path)
            arguments = ", ".join(f"{key} {value}" for key, value in info.arguments.items())
            made = f"{info.architecture} ({arguments}), {info.steps} steps of {info.batch_size} at {info.image_size} px"
        except StyleFileError as error:
            made = str(error)
        print(one_line(f"{name:<20} {made}  {path}", None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
