"""Draws the bundled style images, which are free of copyright: stained glass, a woodcut sea, a pointillist river.

python scripts/draw_styles.py checkpoints/pictures
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fst.errors import run_script
from fst.pictures import write_image
from fst.training.data.synthetic import texture_bank

WIDTH, HEIGHT = 1024, 768  # pixels of the finished picture; drawn at twice that
_SCALE = 2

Field = np.ndarray  # float (H, W) or (H, W, 3), colours in [0, 1]


def _grid() -> tuple[Field, Field]:
    """Across 0 to WIDTH/HEIGHT, down 0 to 1."""
    y, x = np.mgrid[0 : HEIGHT * _SCALE, 0 : WIDTH * _SCALE].astype(np.float32)
    return x / (HEIGHT * _SCALE), y / (HEIGHT * _SCALE)


def _smooth(bank: Field) -> Field:
    """The bank without its grain, variance 1: what bends lines without fraying them."""
    frequency = np.fft.fftfreq(bank.shape[-1]) * bank.shape[-1]
    keep = np.exp(-((frequency[:, None] ** 2 + frequency**2) / 12**2))
    low = np.fft.ifft2(np.fft.fft2(bank) * keep).real
    return (low / low.std((1, 2), keepdims=True)).astype(np.float32)


def _noise(bank: Field, number: int, stretch: tuple[float, float] = (1, 1)) -> Field:
    """A texture of the bank over the whole picture, `stretch` times as large across and down."""
    y, x = np.mgrid[0 : HEIGHT * _SCALE, 0 : WIDTH * _SCALE]
    tile = bank[number]
    rows, columns = y / stretch[1] / _SCALE, x / stretch[0] / _SCALE
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = rows - r, columns - c
    side = len(tile)
    corner = [[tile[(r + i) % side, (c + j) % side] for j in (0, 1)] for i in (0, 1)]
    upper, lower = (a * (1 - fc) + b * fc for a, b in corner)
    return (upper * (1 - fr) + lower * fr).astype(np.float32)


def _mix(a: Field, b: Field, share: Field) -> Field:
    return a + (b - a) * share[..., None]


def _colour(code: str) -> Field:
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32) / 255


def _finish(picture: Field) -> Image.Image:
    image = Image.fromarray((255 * picture.clip(0, 1)).astype(np.uint8))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def stained_glass() -> Image.Image:
    """A rose window that opens into a field of leaves: jewel colours between lead."""
    rng = np.random.default_rng(5)
    bank = texture_bank(0)
    x, y = _grid()
    bends = _smooth(bank)
    x, y = x + 0.006 * _noise(bends, 1, (3, 3)), y + 0.006 * _noise(bends, 3, (3, 3))
    centre = (0.62, 0.46)
    points, colours = [centre], [_colour("ffe9a8")]
    rings = ("f6b01e", "d7261e", "1746a2", "f28c18", "0b6e8f", "7a1fa0", "1d7a3c", "123c9c", "b5122b", "0f8b8d")
    for ring, code in enumerate(rings):
        count = 8 + 5 * ring
        radius = 0.075 * (ring + 1) ** 1.12
        for k in range(count):
            angle = 2 * math.pi * (k + 0.5 * (ring % 2)) / count + rng.normal(0, 0.05)
            r = radius * (1 + rng.normal(0, 0.05))
            x_k, y_k = centre[0] + r * math.cos(angle), centre[1] + r * math.sin(angle)
            if min(math.hypot(x_k - px, y_k - py) for px, py in points) < 0.035:
                continue  # a splinter that would be all lead
            points.append((x_k, y_k))
            shade = _colour(code) if rng.random() < 0.72 else _colour(str(rng.choice(rings)))
            colours.append(shade * rng.uniform(0.75, 1.2))
    nearest, second = np.full(x.shape, np.inf, np.float32), np.full(x.shape, np.inf, np.float32)
    cell = np.zeros(x.shape, np.int32)
    for number, (px, py) in enumerate(points):
        distance = np.hypot(x - px, y - py)
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        cell = np.where(closer, number, cell)
        nearest = np.where(closer, distance, nearest)
    edge = second - nearest
    picture = np.stack(colours)[cell]
    streaks = 0.5 * _noise(bends, 5, (1.5, 6)) + 0.5 * _noise(bends, 7, (2, 2))  # no grain: a network makes dots of it
    glow = 1.25 - 0.55 * np.hypot(x - centre[0], y - centre[1])
    rim = 1 - 0.45 * np.exp(-((edge / 0.022) ** 2))  # glass is darker where the lead shades it
    picture = picture * (glow * rim * (1 + 0.13 * streaks))[..., None] + 0.05
    lead = 1 / (1 + np.exp(((edge - 0.0085) / 0.0011).clip(-30, 30)))
    shine = 0.10 + 0.10 * np.exp(-(((edge - 0.003) / 0.002) ** 2))
    return _finish(_mix(picture, shine[..., None] * _colour("c8d0da"), lead))


def woodcut_sea() -> Image.Image:
    """Waves behind waves under a pale sun, cut in lines: three blocks of ink on warm paper."""
    rng = np.random.default_rng(11)
    bank = texture_bank(1)
    bends = _smooth(bank)
    x, y = _grid()
    paper, ink, blue, pale = (_colour(code) for code in ("f1e4c6", "16233f", "2f5f8f", "9dbfcb"))
    grain = _noise(bank, 3, (7, 1))
    sky = _mix(np.broadcast_to(paper, (*x.shape, 3)), _colour("e7b98a"), (1.1 * (0.42 - y)).clip(0, 0.45))
    bands = (y * 46 + 0.25 * _noise(bends, 1, (6, 6))) % 1
    picture = _mix(sky, _colour("c98f63"), ((bands < 0.34 * (1 - 2.1 * y)) & (y < 0.45)).astype(np.float32) * 0.8)
    sun = np.hypot(x - 0.95, y - 0.2)
    picture = _mix(picture, _colour("c8452f"), (sun < 0.105).astype(np.float32))
    for layer in range(7):
        depth = layer / 6
        base, height, length = 0.36 + 0.55 * depth**1.25, 0.03 + 0.13 * depth, 0.2 + 0.42 * depth
        phase = 2 * math.pi * (x / length + rng.random()) + 0.9 * np.sin(2 * math.pi * x / 0.9 + layer)
        crest = np.abs(np.sin(phase / 2)) ** 0.7  # sharp above, round below
        lean = 0.35 * height * np.sin(phase)
        top = base - height * (1 - crest) + lean + 0.010 * _noise(bends, 5, (3, 3))
        below = y - top
        inside = below > 0
        body = _mix(np.broadcast_to(pale, picture.shape), blue, (below / (1.6 * height)).clip(0, 1))
        pitch = 0.011 + 0.012 * depth
        carved = (below + 0.012 * _noise(bends, 7, (4, 4)) + 0.02 * depth * np.sin(phase)) / pitch
        body = _mix(body, ink, ((carved % 1) < 0.28 + 0.30 * (below / 0.3).clip(0, 1)).astype(np.float32))
        fingers = 0.012 + 0.02 * depth * (0.6 + 0.6 * _noise(bends, 9, (0.8, 0.8)))
        foam = (below < fingers) & (below > 0.0035 + 0.003 * depth)
        body = _mix(body, _colour("fbf6e6"), foam.astype(np.float32))
        body = _mix(body, ink, (below <= 0.0035 + 0.003 * depth).astype(np.float32))
        picture = np.where(inside[..., None], body, picture)
    worn = (grain + 0.5 * _noise(bank, 11, (1, 1))) > 1.75  # where the block did not print
    return _finish(_mix(picture, paper, 0.75 * worn) * (1 + 0.03 * grain[..., None]))


def pointillism() -> Image.Image:
    """A river at noon in dots of unmixed colour."""
    rng = np.random.default_rng(3)
    bank = texture_bank(2)
    x, y = _grid()
    clouds = _noise(bank, 1, (6, 3))
    scene = _mix(
        np.broadcast_to(_colour("7faed0"), (*x.shape, 3)), _colour("fdf0d0"), (y / 0.45 + 0.25 * clouds).clip(0, 1)
    )
    hills = 0.40 + 0.05 * np.sin(5 * x) + 0.02 * np.sin(17 * x + 1)
    scene = np.where((y > hills)[..., None], _mix(_colour("8a7fc0"), _colour("b9a3d8"), (y - 0.3).clip(0, 1)), scene)
    water = y > 0.5
    ripples = np.sin(140 * y**1.5 + 3 * _noise(bank, 3, (8, 2)))
    lake = _mix(np.broadcast_to(_colour("2e78b0"), scene.shape), _colour("f6e3b0"), (0.35 * ripples + 0.25).clip(0, 1))
    scene = np.where(water[..., None], lake, scene)
    bank_line = 0.66 + 0.16 * np.sin(2.1 * x + 0.4) + 0.015 * _noise(bank, 5, (4, 4))
    meadow = _mix(
        np.broadcast_to(_colour("6f9a4e"), scene.shape),
        _colour("d9c56a"),
        (0.5 + 0.4 * _noise(bank, 7, (5, 5))).clip(0, 1),
    )
    scene = np.where((y > bank_line)[..., None], meadow, scene)
    for tx, ty, size in ((0.16, 0.36, 0.2), (0.34, 0.47, 0.12), (1.16, 0.4, 0.17), (0.98, 0.49, 0.09)):
        trunk = (np.abs(x - tx - 0.01 * np.sin(20 * y)) < 0.06 * size) & (y > ty) & (y < ty + 1.75 * size)
        scene = np.where(trunk[..., None], _colour("5b3a5e"), scene)
        crown = np.hypot((x - tx) / 1.0, (y - ty) / 1.15) + 0.025 * _noise(bank, 9, (3, 3))
        lit = (0.5 + (tx - x + ty - y) / size).clip(0, 1)
        scene = np.where(
            (crown < size)[..., None],
            _mix(np.broadcast_to(_colour("1f5c3a"), scene.shape), _colour("b5c46a"), lit),
            scene,
        )
        shadow = np.hypot((x - tx - 0.6 * size) / 1.8, (y - ty - 1.8 * size) / 0.28)
        scene = np.where(((shadow < size) & (y > bank_line))[..., None], _colour("3a4f8a"), scene)
    image = Image.fromarray((255 * _colour("f3ead2") * np.ones_like(scene)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    height, width = x.shape
    for radius, count in ((11, 17000), (8, 30000), (6, 32000)):
        places = rng.random((count, 2)) * (width, height)
        for px, py in places:
            colour = scene[int(py), int(px)]
            # Divided colour: a part of the dots goes to the opposite side of the wheel, the rest is purer than life.
            grey = colour.mean()
            pure = grey + (colour - grey) * (1.25 if rng.random() > 0.12 else -0.5) + rng.normal(0, 0.07, 3)
            r = radius * rng.uniform(0.75, 1.15)
            fill = tuple(int(255 * value) for value in np.clip(pure, 0, 1))
            draw.ellipse((px - r, py - r, px + r, py + r), fill=fill)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "stained_glass": stained_glass,
    "woodcut_sea": woodcut_sea,
    "pointillism": pointillism,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    for name, draw in DRAWINGS.items():
        write_image(draw(), folder / f"{name}.jpg")


if __name__ == "__main__":
    run_script(main)
