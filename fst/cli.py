"""The command `fst`. Each sub-command is a few lines that call the floor below; imports wait until they are needed."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fst import __version__
from fst.errors import find_cause
from fst.stopping import Interrupted

_EPILOG = """
train, optimize and compare are Hydra applications: fst train --help lists its groups, fst train … --cfg job prints its
configuration.
--debug shows the whole traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (failed at run time), 2 (a mistake in the command)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        if arguments[:1] in (["train"], ["optimize"], ["compare"]):
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
        print(f"fst: {cause or f'{type(error).__name__}: {error} (--debug shows where)'}", file=sys.stderr)
        return cause.exit_status if cause else 1


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
    parser = argparse.ArgumentParser("fst", description="Train style transfer networks and use them.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"fst {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a style: fst train style.image=PAINTING data.root=PHOTOS")

    commands.add_parser("optimize", help="the slow method: fst optimize content=PHOTO style.image=PAINTING")
    commands.add_parser("compare", help="layer sets side by side: fst compare study=recipes content=… style.image=…")

    stylize = commands.add_parser("stylize", help="stylize pictures: fst stylize photo.jpg -s starry_night")
    stylize.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob")
    stylize.add_argument("-s", "--style", required=True, help="a name from `fst styles`, or a style file")
    stylize.add_argument(
        "-o", "--output", type=Path, help="file (for one picture) or folder; default: PICTURE-STYLE here"
    )
    stylize.add_argument("--size", type=int, help="longer side in pixels to stylize at; default: the picture's own")
    stylize.add_argument("--strength", type=float, default=1.0, help="0 (the picture) to 1 (the style); default 1")
    stylize.add_argument("--keep-colors", action="store_true", help="keep the picture's colours")
    stylize.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    stylize.add_argument("--force", action="store_true", help="overwrite existing outputs")
    stylize.set_defaults(run=_stylize)

    evaluate = commands.add_parser("evaluate", help="measure styles: fst evaluate starry_night --photos FOLDER")
    evaluate.add_argument("styles", nargs="+", metavar="STYLE", help="a name from `fst styles`, or a style file")
    evaluate.add_argument("--photos", type=Path, required=True, help="folder of photos they never saw")
    evaluate.add_argument("--paintings", type=Path, help="folder of the pictures they were trained on, by name")
    evaluate.add_argument("--weights", default="imagenet", help="of the judge, VGG19: imagenet (downloaded), or a file")
    evaluate.add_argument("--size", type=int, default=256, help="longer side in pixels; default 256")
    evaluate.add_argument("--count", type=int, default=8, help="how many photos; default 8")
    evaluate.add_argument("--iterations", type=int, default=500, help="the most of the slow method; default 500")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    evaluate.add_argument("-o", "--output", type=Path, default=Path("outputs/evaluation"), help="folder for figures")
    evaluate.set_defaults(run=_evaluate)

    styles = commands.add_parser("styles", help="list what can be named after -s")
    styles.set_defaults(run=_styles)
    return parser


def _stylize(options: argparse.Namespace) -> int:
    from fst.inference.jobs import stylize_all
    from fst.inference.stylizer import Stylizer

    stylizer = Stylizer(options.style, options.device, options.size, options.strength, options.keep_colors)
    return stylize_all(stylizer, options.inputs, options.output, options.force)


def _evaluate(options: argparse.Namespace) -> int:
    from fst.study.evaluate import evaluate_all, table

    results = evaluate_all(
        options.styles,
        options.photos,
        options.paintings,
        options.weights,
        options.output,
        options.size,
        options.count,
        options.iterations,
        options.device,
    )
    print(f"{table(results)}\n\nevery layer and the curves: {options.output}")
    return 0


def _styles(options: argparse.Namespace) -> int:
    from fst.inference.style_file import StyleFileError, list_styles, read_info

    for name, path in sorted(list_styles().items()):
        try:
            info = read_info(path)
            arguments = ", ".join(f"{key} {value}" for key, value in info.arguments.items())
            made = f"{info.architecture} ({arguments}), {info.steps} steps of {info.batch_size} at {info.image_size} px"
        except StyleFileError as error:
            made = str(error)
        print(f"{name:<20} {made}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
