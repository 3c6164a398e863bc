"""`fst evaluate`: measures styles on photos they never saw."""

import argparse
from pathlib import Path

from fst.commands import flags
from fst.errors import UserError
from fst.files import expand_user


def add(commands: flags.Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="measure styles: fst evaluate mine.safetensors --photos FOLDER --style-images FOLDER"
    )
    evaluate.add_argument("styles", nargs="+", metavar="STYLE", help="a name from `fst styles`, or a style file")
    evaluate.add_argument("--photos", type=expand_user, required=True, help="folder of photos they never saw")
    evaluate.add_argument(
        "--style-images", type=expand_user, help="folder of the style images they were trained on, by name"
    )
    evaluate.add_argument("--weights", default="imagenet", help="of the judge: a file; default imagenet (downloaded)")
    evaluate.add_argument(
        "--judge",
        default="vgg19",
        choices=["vgg19", "vgg16"],
        help="measures the errors; default vgg19",
    )
    evaluate.add_argument("--size", type=flags.whole, default=256, help="longer side in pixels; default 256")
    evaluate.add_argument("--count", type=flags.whole, default=8, help="how many photos; default 8")
    evaluate.add_argument(
        "--iterations", type=flags.whole, default=500, help="limit for the slow method, 0 leaves it out; default 500"
    )
    evaluate.add_argument("--steadiness", action="store_true", help="measure how steady the styles are, on the photos")
    evaluate.add_argument(
        "--video",
        type=expand_user,
        nargs="+",
        default=[],
        metavar="CLIP",
        help="the same on videos, or folders of frames",
    )
    flags.add_device(evaluate)
    evaluate.add_argument(
        "-o",
        "--output",
        type=expand_user,
        default=Path("outputs/evaluation"),
        help="folder for figures; default outputs/evaluation",
    )
    evaluate.add_argument("--force", action="store_true", help="overwrite an earlier evaluation")
    evaluate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fst.files import check_writable
    from fst.inference.video.reader import VideoReader
    from fst.pictures import LEAST_SIDE, require_images
    from fst.style_info import find_style, read_builtin_info

    for name, least in (("size", LEAST_SIDE), ("count", 1), ("iterations", 0)):
        flags.require_least(name, getattr(options, name), least)
    check_writable(options.output / "evaluation.json", options.force)
    for style in options.styles:
        read_builtin_info(find_style(style))
    for flag, folder in (("--photos ", options.photos), ("--style-images ", options.style_images)):
        if folder is not None:
            require_images(folder, flag)
    for clip in options.video:
        if clip.is_dir():
            require_images(clip, "--video ")
        else:
            VideoReader(clip).close()
    weights = expand_user(options.weights)
    if weights.suffix and not weights.exists():
        raise UserError(f"--weights {options.weights}: no such file")

    from fst.hardware import keep_large_blocks
    from fst.study.evaluate import evaluate_all, format_results

    keep_large_blocks()
    results = evaluate_all(
        options.styles,
        options.photos,
        options.style_images,
        str(weights),
        options.output,
        size=options.size,
        count=options.count,
        iterations=options.iterations,
        device=options.device,
        judge=options.judge,
        with_steadiness=options.steadiness,
        clips=options.video,
    )
    print(f"{format_results(results)}\n\nevery layer and the curves: {options.output}")
    return 0
