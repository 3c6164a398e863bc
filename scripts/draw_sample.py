"""Draws the picture that the web page begins with, which is free of copyright: a lake between mountains, at sunset.

python scripts/draw_sample.py fst/inference/web/page/sample.jpg
"""

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fst.errors import run_script

WIDTH, HEIGHT = 960, 640  # pixels of the finished picture; drawn at 2.5 times that
_SCALE = 2.5
_SHORE = 0.62  # height of the far shore
_SUN = (0.48, 0.50)  # across from 0 to 1.5, down from 0 to 1

Field = np.ndarray  # float (H, W) or (H, W, 3), colours in [0, 1]


def _clouds(shape: tuple[int, int], roughness: float, stretch: float, rng: np.random.Generator) -> Field:
    """Noise of mean 0 and variance 1, `stretch` times as long across as down; its amplitudes fall with frequency."""
    fy, fx = np.meshgrid(*(HEIGHT * _SCALE * np.fft.fftfreq(side) for side in shape), indexing="ij")
    spectrum = (1 + (fx * stretch) ** 2 + fy**2) ** (-roughness / 2)
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * spectrum).real
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _smooth(line: Field) -> Field:
    return np.convolve(np.pad(line, 30, "edge"), np.ones(61) / 61, "valid")


def _mix(first: Field, second: Field, share: Field) -> Field:
    share = np.clip(share, 0, 1)[..., None]
    return first * (1 - share) + second * share


def _colour(red: int, green: int, blue: int) -> Field:
    return np.array([red, green, blue], np.float32) / 255


def _sky(x: Field, y: Field, rng: np.random.Generator) -> Field:
    sky = _mix(_colour(38, 84, 150), _colour(255, 196, 134), (y / _SHORE) ** 1.3)
    away = np.hypot(x - _SUN[0], 1.15 * (y - _SUN[1]))
    sky = _mix(sky, _colour(255, 226, 150), 0.9 * np.exp(-((away / 0.24) ** 2)))
    cover = _clouds(x.shape, 2.0, 3.2, rng) + 0.5 * np.sin(14 * y) - 0.35
    lit = _mix(_colour(250, 150, 120), _colour(255, 240, 214), np.exp(-away / 0.35) + 0.35 * cover)
    sky = _mix(sky, _mix(_colour(108, 104, 150), lit, 1.2 - 1.1 * away + 0.3 * cover), 0.85 * cover)
    return _mix(sky, _colour(255, 250, 226), (0.045 - away) * 400)


def _mountains(picture: Field, x: Field, y: Field, rng: np.random.Generator) -> Field:
    ridges = [  # height of the mean, of the peaks, colours in the light and in the shade
        (0.42, 0.115, _colour(176, 150, 176), _colour(122, 116, 160)),
        (0.50, 0.075, _colour(140, 112, 132), _colour(82, 84, 128)),
        (0.565, 0.04, _colour(104, 110, 84), _colour(48, 66, 78)),
    ]
    for number, (mean, peaks, light, shade) in enumerate(ridges):
        line = _clouds((1, x.shape[1]), 1.95, 1, rng)[0]
        top = mean - peaks * line[None]
        below = y - top
        folds = _clouds(x.shape, 1.9, 0.7, rng) - 0.12 * HEIGHT * np.gradient(_smooth(line))[None]
        rock = _mix(shade, light, 0.5 + 0.45 * folds)
        if number == 0:
            rock = _mix(rock, _colour(250, 232, 226), (0.36 - y + 0.018 * folds) * 60)
        rock = _mix(rock, _colour(240, 190, 160), 0.5 * below / max(0.1, _SHORE - mean))  # haze in the valleys
        picture = _mix(picture, rock, below * HEIGHT * _SCALE)
    return picture


def _lake(picture: Field, x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Everything above the shore again, upside down, darker, moved by waves that are larger nearby."""
    rows, columns = np.indices(x.shape)
    depth = np.clip(y - _SHORE, 0, 1)
    waves = _clouds(x.shape, 1.7, 7, rng)
    side = y.shape[0]
    mirrored = np.clip((2 * _SHORE - y + 0.16 * depth * waves) * side, 0, _SHORE * side - 1).astype(int)
    moved = np.clip(columns + 90 * depth * waves, 0, x.shape[1] - 1).astype(int)
    water = _mix(picture[mirrored, moved], _colour(22, 52, 92), 0.24 + 0.9 * depth + 0.05 * waves)
    glitter = np.exp(-(((x - _SUN[0]) / (0.05 + 0.25 * depth)) ** 2)) * (waves > 0.4)
    water = _mix(water, _colour(255, 226, 160), 0.75 * glitter)
    return np.where((rows > _SHORE * side)[..., None], water, picture)


def _tree(draw: ImageDraw.ImageDraw, x: float, y: float, angle: float, length: float, rng: np.random.Generator) -> None:
    """A branch, the smaller ones at its end, and leaves on the last."""
    end_x, end_y = x + length * math.cos(angle), y - length * math.sin(angle)
    draw.line([x, y, end_x, end_y], (58, 38, 32), max(2, round(length / 7)))
    if length < 28:
        for _ in range(5):
            at_x, at_y, r = *rng.normal((end_x, end_y), 16), rng.uniform(6, 15)
            leaf = [(196, 92, 34), (226, 138, 40), (150, 60, 32), (240, 176, 62)][rng.integers(4)]
            draw.ellipse([at_x - r, at_y - r * 0.8, at_x + r, at_y + r * 0.8], leaf)
        return
    for turn in (-0.5, 0.1, 0.55):
        _tree(draw, end_x, end_y, angle + turn + rng.normal(0, 0.14), length * rng.uniform(0.68, 0.8), rng)


def _foreground(image: Image.Image, rng: np.random.Generator) -> None:
    """A sailing boat, and a bank with grass, stones and a tree."""
    draw, (width, height) = ImageDraw.Draw(image), image.size
    boat = lambda *points: [(width * 0.245 + px * 2.1, height * 0.73 + py * 2.1) for px, py in points]  # noqa: E731
    draw.polygon(boat((-46, 24), (46, 24), (30, 52), (4, 150), (-40, 46)), (104, 84, 104))  # in the water
    draw.polygon(boat((-62, 0), (66, 0), (46, 24), (-46, 24)), (112, 40, 34))
    draw.polygon(boat((-66, -5), (70, -5), (66, 2), (-62, 2)), (236, 214, 186))
    draw.polygon(boat((4, -12), (4, -150), (64, -14)), (250, 240, 220))
    draw.polygon(boat((-4, -12), (-4, -132), (-50, -16)), (228, 108, 70))
    draw.line(boat((0, -4), (0, -156)), (60, 40, 34), 6)
    across = np.arange(0, width + 8, 8)
    line = 0.93 - 0.13 * (across / width) ** 2 + 0.012 * _clouds((1, len(across)), 1.6, 1, rng)[0]
    bank = [*zip(across.tolist(), (height * line).tolist(), strict=True), (width, height), (0, height)]
    draw.polygon(bank, (52, 60, 34))
    _tree(draw, width * 0.86, height * 0.87, math.pi / 2 + 0.05, 190, rng)
    for _ in range(7000):
        x = rng.uniform(0, width)
        y = height * (np.interp(x, across, line) + rng.uniform(0, 0.27))
        tall, lean = rng.uniform(14, 46), rng.normal(5, 9)
        shade = rng.uniform(0.6, 1.25)
        colour = tuple(
            int(min(255, shade * part)) for part in ((112, 116, 46), (70, 88, 44), (176, 140, 58))[rng.integers(3)]
        )
        draw.line([x, y, x + lean, y - tall], colour, 3)


def draw_sample() -> Image.Image:
    """The picture, the same at every call."""
    rng = np.random.default_rng(5)
    y, x = (np.mgrid[0 : round(HEIGHT * _SCALE), 0 : round(WIDTH * _SCALE)] / (HEIGHT * _SCALE)).astype(np.float32)
    picture = _lake(_mountains(_sky(x, y, rng), x, y, rng), x, y, rng)
    image = Image.fromarray((255 * picture.clip(0, 1)).astype(np.uint8))
    _foreground(image, rng)
    return image.filter(ImageFilter.GaussianBlur(0.8)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    draw_sample().save(parser.parse_args().output, quality=82)


if __name__ == "__main__":
    run_script(main)
