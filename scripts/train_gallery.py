"""Trains the bundled styles anew, one after the other, and writes them in float16.

    python scripts/train_gallery.py checkpoints --paintings FOLDER --photos FOLDER --val FOLDER

The first steps differ from those of the bundled ones (checkpoints/README.md). It resumes: a style that is there is left
alone, and a stopped run is resumed.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from fst.errors import UserError, run_script
from fst.overrides import quote
from fst.pictures import read_image, require_images, resize_longer_side, write_image
from fst.study.fast import train
from fst.style_file import load_style, save_style
from fst.style_info import STYLE_SUFFIX


class Mean(NamedTuple):
    """In place of a training: the mean of the weights so far and of those after an earlier step, which lies between the
    two in style error and steadiness, or, with a negative share, beyond the later one."""

    step: int  # the earlier one's number in the style's list, from 1
    share: float  # of its weights, from -1 to 1


def weights(style: float, temporal: float) -> list[str]:
    """Overrides for the weights of the style term and of the temporal term."""
    return [f"loss.weights.style={style}", f"loss.weights.temporal={temporal}"]


def long(steps: int, rate: float, style: float, temporal: float, batch: int = 4, size: int = 192) -> list[str]:
    """Overrides of a steady training on VGG19, by its steps, its peak learning rate, two weights, and its crops."""
    length = [f"trainer.max_steps={steps}", f"optimizer.algorithm.lr={rate}"]
    crops = [f"data.batch_size={batch}", f"data.size={size}"]
    return ["loss_network=vgg19", *length, *weights(style, temporal), *crops]


# First imitates the full network's pictures, which needs no loss network, so that more steps take the same time.
LIGHT = ["teacher.style=the_scream", "init_from=null", "data.size=192", "trainer.max_steps=1500"]
LIGHT += ["loss.weights.style=5"]  # at 15 it makes stripes
LIGHT += ["loss.weights.grid=60000"]  # at 2000 its cells leave a faint weave

# Against VGG16: on small crops, whose steps take less time, then on larger ones with more weight on the photo.
SMALL_CROPS = ["loss_network=vgg16", "data.size=192", "trainer.max_steps=1000"]
LARGE_CROPS = ["loss_network=vgg16", "optimizer.algorithm.lr=5e-4", "loss.weights.grid=20000"]
WAVE = ["style.size=320"]  # whole waves, where 512 has the dots of its foam

STEADY = ["experiment=steady"]  # against flicker in video
CALM = weights(30, 4)  # for the strokes of a style that is calm already
LAST = [*STEADY, "loss_network=vgg19", "optimizer.algorithm.lr=3e-4"]  # on compact alone VGG19 finds less of the style
AGAIN = [*STEADY, "loss_network=vgg19"]  # at the full rate
STARS = ["loss.weights.style=28", "loss.weights.coarse_style=10"]
MORE = weights(28, 7)  # of both, against the content
SMOOTHED = "style.image=smoothed:"  # without grain below so many grey levels, which a network imitates by dots
CROPPED = "style.image=cropped:"  # without so many pixels at the right
NO_STRIP = f"{CROPPED}42"  # without the bare strip of The Scream, which became a line along that border
CLEAN = [f"{SMOOTHED}13", "loss.weights.grid=20000"]  # against the dots of great_wave
CLEAN_9 = [f"{SMOOTHED}9", "loss.weights.grid=20000"]
STEADY_VGG16 = [*STEADY, "loss_network=vgg16", "loss.weights.temporal=5", "trainer.max_steps=120"]
STEADY_SMALL = [*STEADY, "model=small", "loss.weights.grid=60000"]
STEADY_REALTIME = [*STEADY, "model=realtime", "loss.weights.grid=60000"]
BRIGHT = [*STEADY_REALTIME, "loss.weights.range=200"]  # against plain white areas
FROM_SMALL = ["init_from=bundled:the_scream_small", "loss.weights.style=14"]
FROM_REALTIME = ["init_from=bundled:the_scream_realtime", "teacher.imitation_ratio=0.25", "loss.weights.style=9"]
FEW_CELLS, NO_CELLS = "loss.weights.grid=150000", "loss.weights.grid=200000"  # against a faint pattern of its cells
CALM_UDNIE = [*STEADY_REALTIME, NO_CELLS, "loss.weights.temporal=13"]
SLOWER, FASTER = "optimizer.algorithm.lr=4e-4", "optimizer.algorithm.lr=5e-4"
HIGH, HIGHER = "optimizer.algorithm.lr=1e-3", "optimizer.algorithm.lr=1.5e-3"  # where much is to change
RANGE = "loss.weights.range=4000"  # against a bright knob that became plain white
LONG_UDNIE = [*STEADY_REALTIME, HIGHER, FEW_CELLS, RANGE, "loss.weights.temporal=8"]


# Each name begins with that of its style image. For each style the overrides of its trainings, each of which starts
# from the one before; they were chosen by looking at validation photos. The 700 steps of the_scream, the 1,100 of
# the_scream_realtime, and the first 1,500 of starry_night_realtime had an older temporal term (checkpoints/README.md).
# Of each style's first three trainings by `long`, on a GPU, the last 0 to 250 steps, at small rates, were lost.
STYLES: dict[str, list[list[str] | Mean]] = {
    "udnie": [  # the others start from it
        ["init_from=null", "trainer.max_steps=1000"],
        STEADY,
        [*STEADY, RANGE, "optimizer.algorithm.lr=3e-4", "trainer.max_steps=80"],
        [*LAST, *MORE, RANGE, "trainer.max_steps=90"],
        [*STEADY, *long(900, 0.001, 24, 6), RANGE],
        [*STEADY, *long(980, 0.0008, 17.9, 4.71), RANGE],
        [*STEADY, *long(1169, 0.0005, 17.7, 3.58), RANGE],
        Mean(6, -0.4),
        [*STEADY, *long(2131, 0.001, 17.7, 3.58, 8, 192), RANGE],
        [*STEADY, *long(1579, 0.0008, 20.7, 3.47, 8, 256), RANGE],
        [*STEADY, *long(1454, 0.0005, 28.5, 3.53, 8, 256), RANGE],
    ],
    "composition_vii": [
        [],
        STEADY,
        [*LAST, "loss.weights.style=30", "trainer.max_steps=150"],
        [*STEADY, *long(900, 0.001, 26, 6)],
        [*STEADY, *long(1033, 0.0008, 20.7, 3.91)],
        [*STEADY, *long(1184, 0.0005, 21, 2.58)],
        Mean(5, -0.6),
        [*STEADY, *long(750, 0.0006, 21, 3)],
        Mean(7, 0.65),
        [*STEADY, *long(1958, 0.001, 21, 2.8, 8, 192)],
        [*STEADY, *long(1421, 0.0008, 24.8, 2.53, 8, 256)],
        [*STEADY, *long(1310, 0.0005, 29, 2.3, 8, 256)],
        Mean(11, 0.5),
    ],
    "great_wave": [
        [],
        [*STEADY, "loss.weights.grid=20000"],
        [*LAST, *MORE, f"{SMOOTHED}30", "loss.weights.grid=20000", "trainer.max_steps=120"],
        [*LAST, "loss.weights.style=30", *CLEAN, "trainer.max_steps=80"],
        [*AGAIN, "loss.weights.style=34", *CLEAN, "trainer.max_steps=250"],
        [*STEADY, *long(900, 0.001, 28, 6), *CLEAN],
        [*STEADY, *long(962, 0.0008, 19.8, 3.81), *CLEAN],
        [*STEADY, *long(1108, 0.0005, 17.6, 2.37), *CLEAN],
        [*STEADY, *long(1000, 0.0006, 18.5, 1.6), *CLEAN],
        Mean(8, 0.3),
        [*STEADY, *long(1941, 0.001, 18.5, 1.8, 8, 192), *CLEAN],
        [*STEADY, *long(1445, 0.0008, 19.8, 1.73, 8, 256), *CLEAN],
        [*STEADY, *long(1332, 0.0005, 26, 1.6, 8, 256), *CLEAN],
        [*STEADY, *long(220, 0.0005, 26, 6, 2, 256), *CLEAN],
        Mean(13, 0.5),
        [*STEADY, *long(1300, 0.0006, 32, 2.6, 2, 256), *CLEAN],
        [*STEADY, *long(480, 0.0005, 31.5, 3.2, 2, 256), "seed=1", *CLEAN],
        Mean(16, 0.7),
        [*STEADY, *long(1500, 0.00065, 31.5, 3.2, 2, 256), "seed=2", *CLEAN],
        Mean(18, 0.135),
        [*STEADY, *long(1300, 0.0006, 31.5, 3, 2, 256), "seed=3", *CLEAN_9],
    ],
    "great_wave_claws": [
        ["init_from=bundled:great_wave", *SMALL_CROPS, *WAVE, "loss.weights.style=8", "loss.weights.grid=20000"],
        [*LARGE_CROPS, *WAVE, "trainer.max_steps=140", "loss.weights.style=5"],
        [*STEADY_VGG16, *WAVE, "loss.weights.style=9", "loss.weights.grid=20000"],
        [*AGAIN, *WAVE, *weights(28, 7.5), "loss.weights.grid=20000", "trainer.max_steps=250"],
        [*STEADY, *long(900, 0.001, 24, 7), *WAVE, "loss.weights.grid=20000"],
        [*STEADY, *long(1011, 0.0008, 14.8, 4.2), *WAVE, "loss.weights.grid=20000"],
        [*STEADY, *long(1234, 0.0005, 13.2, 2.52), *WAVE, "loss.weights.grid=20000"],
        Mean(6, 0.4),
    ],
    "shipwreck_minotaur": [
        [],
        [*STEADY, *weights(13, 4.5), "trainer.max_steps=360"],
        [*LAST, *weights(10, 3.5), "trainer.max_steps=60"],
        [*LAST, FASTER, *weights(28, 5), "trainer.max_steps=250"],
        [*AGAIN, *weights(17, 4.5), "trainer.max_steps=400"],
        [*AGAIN, *weights(14, 4.5), "trainer.max_steps=220"],
        Mean(3, 0.25),
        [*AGAIN, *weights(15, 4.5), "trainer.max_steps=500"],
        [*AGAIN, *weights(12.5, 1.8), "trainer.max_steps=380"],
        [*STEADY, *long(900, 0.001, 13, 3)],
        [*STEADY, *long(986, 0.0008, 14.2, 2.25)],
        [*STEADY, *long(1088, 0.0005, 15.8, 1.84)],
        Mean(11, 0.2),
        [*STEADY, *long(2139, 0.001, 20, 2.2, 8, 192)],
        [*STEADY, *long(1589, 0.0008, 25.4, 1.94, 8, 256)],
        [*STEADY, *long(1463, 0.0005, 35.3, 1.67, 8, 256)],
        [*STEADY, *long(220, 0.0005, 35.3, 6.5, 2, 256)],
        Mean(15, 0.15),
    ],
    "starry_night": [
        [],
        [*STEADY, "trainer.max_steps=480"],
        [*STEADY, *CALM, "trainer.max_steps=400"],
        [*LAST, *CALM, "trainer.max_steps=180"],
        [*LAST, *weights(36, 4.5), "trainer.max_steps=170"],
        [*LAST, *weights(36, 3.2), "trainer.max_steps=150"],
        [*AGAIN, *weights(40, 2.4), "trainer.max_steps=220"],
        [*LAST, SLOWER, *weights(40, 2.9), "trainer.max_steps=90"],
        Mean(7, 0.75),
        [*STEADY, *long(900, 0.001, 32, 3)],
        [*STEADY, *long(1003, 0.0008, 24.2, 2.35)],
        [*STEADY, *long(1215, 0.0005, 23, 1.65)],
        [*STEADY, *long(2145, 0.001, 23, 1.65, 8, 192)],
        [*STEADY, *long(1586, 0.0008, 25.3, 1.48, 8, 256)],
        [*STEADY, *long(1460, 0.0005, 34.4, 1.41, 8, 256)],
        [*STEADY, *long(220, 0.0005, 34.4, 3.5, 2, 256)],
        Mean(15, 0.5),
    ],
    "starry_night_stars": [  # the coarse term paints the stars and swirls
        ["init_from=bundled:starry_night", *SMALL_CROPS, "loss.weights.style=7.5", "loss.weights.coarse_style=7.5"],
        [*LARGE_CROPS, "trainer.max_steps=250", "loss.weights.style=7", "loss.weights.coarse_style=3"],
        [*STEADY_VGG16, "loss.weights.style=10", "loss.weights.coarse_style=8"],
        [*AGAIN, *STARS, "loss.weights.temporal=5.5", "trainer.max_steps=250"],
        [*STEADY, *long(900, 0.001, 24, 5), "loss.weights.coarse_style=8.64"],
        [*STEADY, *long(936, 0.0008, 18.8, 3), "loss.weights.coarse_style=6.77"],
        [*STEADY, *long(990, 0.0005, 18, 1.8), "loss.weights.coarse_style=6.48"],
    ],
    "the_scream": [
        [],
        [*STEADY, "trainer.max_steps=700"],
        [*LAST, *MORE, "trainer.max_steps=140"],
        [*LAST, FASTER, *weights(30, 7), "trainer.max_steps=160"],
        [*LAST, SLOWER, *weights(32, 11), "trainer.max_steps=70"],
        [*STEADY, *long(900, 0.001, 26, 9)],
        [*STEADY, *long(1001, 0.0008, 20.3, 6.62)],
        [*STEADY, *long(1150, 0.0005, 19.8, 4.64)],
        Mean(7, -0.5),
        [*STEADY, *long(1951, 0.001, 19.8, 4.64, 8, 192)],
        [*STEADY, *long(1431, 0.0008, 22.1, 3.8, 8, 256)],
        [*STEADY, *long(1318, 0.0005, 28.2, 3.03, 8, 256)],
        [*STEADY, *long(220, 0.0005, 28.2, 8, 2, 256)],
        Mean(12, 0.5),
        [*STEADY, *long(600, 0.0006, 28.2, 5, 2, 256), NO_STRIP, "seed=1"],
        Mean(14, 0.3),
    ],
    "the_scream_small": [
        ["model=small", *LIGHT],
        [*STEADY_SMALL, SLOWER, "trainer.max_steps=450", "loss.weights.style=9", "loss.weights.grid=20000"],
        [*STEADY_SMALL, SLOWER, "trainer.max_steps=500", "loss.weights.style=14"],
        [*STEADY_SMALL, "trainer.max_steps=700", *weights(30, 8)],
        [*STEADY_SMALL, *weights(30, 14), NO_CELLS, "trainer.max_steps=500"],
        [*STEADY_SMALL, *weights(30, 22), NO_CELLS, "trainer.max_steps=300"],
        [*STEADY_SMALL, *long(900, 0.0012, 26, 16), NO_CELLS],
        [*STEADY_SMALL, *long(1251, 0.00096, 20.8, 14.3), NO_CELLS],
        [*STEADY_SMALL, *long(1662, 0.0006, 18.7, 10.1), NO_CELLS],
        [*STEADY_SMALL, *long(1500, 0.0008, 20, 7.5), NO_CELLS],
        Mean(9, -0.3),
        [*STEADY_SMALL, *long(2000, 0.0008, 20.5, 8), NO_CELLS],
        Mean(11, -0.6),
        [*STEADY_SMALL, *long(2322, 0.0012, 20.5, 8, 8, 192), NO_CELLS],
        [*STEADY_SMALL, *long(1740, 0.00096, 21.1, 8.19, 8, 256), NO_CELLS],
        [*STEADY_SMALL, *long(1590, 0.0006, 26.3, 6.77, 8, 256), NO_CELLS],
        [*STEADY_SMALL, *long(500, 0.0008, 26.3, 7, 4, 256), NO_CELLS, NO_STRIP, "seed=1"],
        Mean(16, 0.3),
    ],
    "udnie_small": [
        [*STEADY_SMALL, *FROM_SMALL, "trainer.max_steps=1000"],
        [*STEADY_SMALL, "trainer.max_steps=600", *weights(30, 7), RANGE],
        [*STEADY_SMALL, HIGH, "trainer.max_steps=700", "loss.weights.style=20", RANGE],
        [*STEADY_SMALL, *long(900, 0.0012, 20, 6), RANGE],
        [*STEADY_SMALL, *long(1241, 0.00096, 17.7, 5.67), RANGE],
        [*STEADY_SMALL, *long(1647, 0.0006, 17.8, 5.03), RANGE],
        [*STEADY_SMALL, *long(430, 5e-4, 17, 4), RANGE],
        [*STEADY_SMALL, *long(1200, 0.0008, 17, 3.2), RANGE],
        [*STEADY_SMALL, *long(800, 0.0008, 15.5, 3.2), RANGE],
        Mean(8, -0.1),
        [*STEADY_SMALL, *long(2300, 0.0012, 15.5, 3.3, 8, 192), RANGE],
        [*STEADY_SMALL, *long(1747, 0.00096, 17, 3.49, 8, 256), RANGE],
        [*STEADY_SMALL, *long(1599, 0.0006, 22.6, 3.63, 8, 256), RANGE],
        Mean(12, 0.3),
        [*STEADY_SMALL, *long(1200, 0.0009, 24, 3.6, 2, 384), RANGE, "seed=3"],
        [*STEADY_SMALL, *long(450, 0.0009, 36, 5.2, 2, 384), RANGE, "seed=5"],
        Mean(14, 0.55),
    ],
    "starry_night_small": [
        [*STEADY_SMALL, *FROM_SMALL, "trainer.max_steps=1200"],
        [*STEADY_SMALL, "loss_network=vgg19", FASTER, "loss.weights.style=30", "trainer.max_steps=300"],
        [*STEADY_SMALL, "trainer.max_steps=600", *weights(34, 8)],
        [*STEADY_SMALL, HIGH, "trainer.max_steps=900", *weights(46, 7)],
        [*STEADY_SMALL, "optimizer.algorithm.lr=8e-4", "trainer.max_steps=450", *weights(35, 8)],
        [*STEADY_SMALL, *long(900, 0.0012, 34, 8)],
        [*STEADY_SMALL, *long(1206, 0.00096, 27.1, 6.75)],
        [*STEADY_SMALL, *long(1534, 0.0006, 24.4, 4.71)],
        [*STEADY_SMALL, *long(430, 5e-4, 22.5, 3.8)],
        [*STEADY_SMALL, *long(2503, 0.0012, 22.5, 3.8, 8, 192)],
        [*STEADY_SMALL, *long(1878, 0.00096, 25.5, 3.5, 8, 256)],
        [*STEADY_SMALL, *long(1712, 0.0006, 32.5, 2.99, 8, 256)],
        Mean(11, 0.3),
    ],
    "the_scream_realtime": [
        ["model=realtime", *LIGHT],
        [*STEADY_REALTIME, SLOWER, "trainer.max_steps=1100", "loss.weights.style=9"],
        [*STEADY_REALTIME, SLOWER, "trainer.max_steps=600", "loss.weights.style=14"],
        [*STEADY_REALTIME, FASTER, "trainer.max_steps=1000", *weights(18, 9)],
        [*STEADY_REALTIME, HIGHER, "trainer.max_steps=4500", *weights(22, 10)],
        [
            *STEADY_REALTIME,
            "optimizer.algorithm.lr=1.2e-3",
            "trainer.max_steps=2200",
            *weights(15, 10),
            "loss.weights.grid=100000",
        ],
        Mean(5, 0.2),
        [*STEADY_REALTIME, *long(1100, 0.0015, 18, 10, 4, 256), FEW_CELLS],
        [*STEADY_REALTIME, *long(1800, 0.0015, 17, 10, 4, 256), FEW_CELLS, NO_STRIP, "seed=1"],
        [*STEADY_REALTIME, *long(900, 0.0015, 17, 10, 2, 384), FEW_CELLS, NO_STRIP, "seed=3"],
    ],
    "udnie_realtime": [
        ["experiment=realtime"],
        [*CALM_UDNIE, HIGH, "trainer.max_steps=1500", "loss.weights.style=15", "loss.weights.range=1000"],
        [*CALM_UDNIE, FASTER, "trainer.max_steps=160", "loss.weights.style=15", "loss.weights.range=6000"],
        [*CALM_UDNIE, FASTER, "trainer.max_steps=160", "loss.weights.style=14", "loss.weights.range=40000"],
        [*LONG_UDNIE, "trainer.max_steps=4500", "loss.weights.style=18"],
        [*LONG_UDNIE, "trainer.max_steps=3500", "loss.weights.style=14"],
        [*STEADY_REALTIME, *long(900, 0.0015, 15, 8), FEW_CELLS, RANGE],
        [*STEADY_REALTIME, *long(1239, 0.0012, 9, 8.39), FEW_CELLS, RANGE],
        Mean(7, 0.75),
        [*STEADY_REALTIME, *long(480, 0.0015, 12, 8, 4, 256), FEW_CELLS, RANGE],
        [*STEADY_REALTIME, *long(1900, 0.0015, 12, 8, 4, 256), FEW_CELLS, RANGE],
        [*STEADY_REALTIME, *long(1400, 0.0015, 12, 8, 2, 384), FEW_CELLS, RANGE, "seed=3"],
    ],
    "starry_night_realtime": [
        [*BRIGHT, "teacher.style=starry_night", *FROM_REALTIME],
        [*STEADY_REALTIME, FASTER, *weights(25, 8), "trainer.max_steps=1500"],
        [*BRIGHT, FASTER, *weights(16, 9), "trainer.max_steps=700"],
        [*BRIGHT, FEW_CELLS, "loss.weights.temporal=10", "trainer.max_steps=700"],
        [*BRIGHT, HIGH, FEW_CELLS, "trainer.max_steps=3000", *weights(26, 14)],
        Mean(4, 0.7),
        [*BRIGHT, HIGHER, FEW_CELLS, "trainer.max_steps=3500", *weights(24, 14)],
        Mean(6, 0.3),
        [*BRIGHT, *long(1100, 0.0015, 24, 12, 4, 256), FEW_CELLS],
        [*BRIGHT, *long(1400, 0.0015, 22, 13, 2, 384), FEW_CELLS, "seed=3"],
        [*BRIGHT, *long(450, 0.0015, 27, 15, 2, 384), FEW_CELLS, "seed=4"],
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the styles go")
    parser.add_argument("--paintings", type=Path, required=True, help="folder of style images")
    parser.add_argument("--photos", required=True, help="folder of training photos")
    parser.add_argument("--val", required=True, help="folder of validation photos")
    parser.add_argument("--only", nargs="+", choices=STYLES, default=list(STYLES), metavar="NAME", help="styles")
    parser.add_argument("--overrides", nargs="+", default=[], help="of fst train, for all styles")
    arguments = parser.parse_args()
    photos = [f"data.root={arguments.photos}", f"data.val_root={arguments.val}"]
    paintings = require_images(arguments.paintings, "--paintings ")
    for name in arguments.only:
        target = arguments.folder / f"{name}{STYLE_SUFFIX}"
        if target.exists():
            print(f"{target} exists")
            continue
        found = [path for path in paintings if name.startswith(path.stem)]
        if len(found) != 1:
            raise UserError(f"--paintings {arguments.paintings}: {len(found)} pictures whose name {name} begins with")
        (painting,) = found
        common = [f"name={name}", f"style.image={quote(painting)}", *photos]
        trained: list[Path] = []
        for number, step in enumerate(STYLES[name], 1):
            folder = Path("outputs", name, f"gallery{number}")
            if isinstance(step, Mean):
                trained.append(mean(trained[-1], trained[step.step - 1], step.share, folder))
                continue
            own = [with_copy(painting, folder.parent, override) for override in step]
            start = [f"init_from={quote(trained[-1])}"] if trained else []
            trained.append(train([*common, *with_experiment(own), *arguments.overrides, *start], folder))
        save_style(target, *load_style(trained[-1]), torch.float16)


def mean(path: Path, other: Path, share: float, folder: Path) -> Path:
    """The style file in `folder` whose weights are those of `path`, with a `share` of those of `other`."""
    network, info = load_style(path)
    for own, its in zip(network.parameters(), load_style(other)[0].parameters(), strict=True):
        own.lerp_(its, share)
    target = folder / path.name
    save_style(target, network, dataclasses.replace(info, scores={}))  # those of other weights
    return target


def with_copy(painting: Path, folder: Path, override: str) -> str:
    """The override; if it asks for a changed painting, one that names a copy in `folder`.

    It is smoothed by a bilateral filter (Tomasi & Manduchi 1998) or cropped.
    """
    if not override.startswith((SMOOTHED, CROPPED)):
        return override
    change, amount = override.removeprefix("style.image=").split(":")
    image = read_image(painting).convert("RGB")
    if override.startswith(CROPPED):
        image = image.crop((0, 0, image.width - int(amount), image.height))
    else:
        pixels = np.array(resize_longer_side(image, 512))
        image = Image.fromarray(cv2.bilateralFilter(pixels, d=7, sigmaColor=float(amount), sigmaSpace=3))
    target = folder / f"{change}_{amount}" / f"{painting.stem}.png"
    write_image(image, target)
    return f"style.image={quote(target)}"


def with_experiment(overrides: list[str]) -> list[str]:
    """The overrides of a training; its experiment is `gallery` unless they name another."""
    named = any(override.startswith("experiment=") for override in overrides)
    return overrides if named else ["experiment=gallery", *overrides]


if __name__ == "__main__":
    run_script(main)
