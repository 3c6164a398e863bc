"""Training pictures drawn by the program, for training without photos; no two are alike.

They are dead-leaves pictures (Lee, Mumford & Huang 2001): opaque shapes that hide each other, in random order and of
sizes that follow a power law. Their edges and their statistics at all scales resemble those of photos, and what a
network learns on them holds for photos (Baradad et al. 2021). Here each shape, or leaf, has a colour, shading and
texture of its own.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fst.pictures import read_all, require_images
from fst.training.data.crops import CropDataModule

_LEAVES = (25, 300)  # leaves per picture; the logarithm of the number is uniform
_RADII = (0.012, 0.55)  # as shares of the picture's side; their density falls with the cube (Lee et al. 2001)
_TEXTURES = 16  # in the bank that all pictures share
_TILE = 256  # side of a texture in pixels; it repeats without seams


def draw_scene(size: int, rng: np.random.Generator, textures: np.ndarray) -> np.ndarray:
    """One `(size, size, 3)` uint8 picture, drawn at twice the size and averaged, for smooth edges.

    Args:
        textures: `(16, 256, 256)`, from `texture_bank`.
    """
    side, count = 2 * size, _LEAVES[1] + 1
    leaf = np.asarray(_draw_leaves(side, rng))  # (side, side): indexes what each leaf has
    x, y = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 2)
    # The logarithm of the light: a gradient on each leaf, and one over the whole scene.
    slope_x, slope_y = rng.normal(0, 0.35, (2, count)).astype(np.float32)
    light = slope_x[leaf] * x + slope_y[leaf] * y
    angle = rng.uniform(0, 2 * math.pi)
    light += rng.uniform(0, 0.3) * (math.cos(angle) * x + math.sin(angle) * y)
    # A texture of some strength on each leaf; none on four leaves of ten.
    strength = (rng.exponential(0.12, count) * (rng.random(count) < 0.6)).astype(np.float32)
    shifted = np.roll(textures, rng.integers(0, _TILE, 2), (1, 2))
    texture = rng.integers(0, _TEXTURES, count)
    tile = np.arange(side) % _TILE
    light += strength[leaf] * shifted[texture[leaf], tile[:, None], tile]
    picture = _draw_colours(count, rng)[leaf] * np.exp(light)[..., None]
    picture = picture.reshape(size, 2, size, 2, 3).mean((1, 3))
    picture = picture + rng.normal(0, rng.uniform(0, 0.02), picture.shape)  # as a camera's sensor adds
    return (255 * picture.clip(0, 1) ** rng.uniform(0.7, 1.4)).astype(np.uint8)


def _draw_leaves(side: int, rng: np.random.Generator) -> Image.Image:
    """The number of the leaf that is seen at each pixel, from 1 up; 0 is the background."""
    image = Image.new("I", (side, side))
    draw = ImageDraw.Draw(image)
    radii, centres = _place_leaves(rng)
    for number, (radius, centre) in enumerate(zip(radii * side, centres * side, strict=True), 1):
        outline = _draw_outline(radius, rng) + centre
        draw.polygon([tuple(point) for point in outline.tolist()], fill=number)
    return image


def _place_leaves(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Radii `(count,)` and centres `(count, 2)`, from back to front, as shares of the picture's side."""
    smallest, largest = _RADII
    count = round(math.exp(rng.uniform(*np.log(_LEAVES))))
    # The inverse of the distribution whose density falls with the cube of the radius.
    radii = (smallest**-2 - rng.random(count) * (smallest**-2 - largest**-2)) ** -0.5
    behind = max(6, count // 12)  # large leaves at the back, which leave little of the background
    radii[:behind] = rng.uniform(0.15, 0.55, behind)
    # Most leaves are in one of four clusters; the others, and those at the back, are anywhere.
    clusters = rng.uniform(0, 1, (4, 2))
    centres = clusters[rng.integers(0, 4, count)] + rng.normal(0, 0.14, (count, 2))
    alone = (rng.random(count) < rng.uniform(0, 0.7)) | (np.arange(count) < behind)
    centres[alone] = rng.uniform(-0.1, 1.1, (int(alone.sum()), 2))
    return radii, centres


def _draw_outline(radius: float, rng: np.random.Generator) -> np.ndarray:
    """The corners `(n, 2)` of a leaf around the origin: an irregular polygon, or a wavy ellipse."""
    if rng.random() < 0.45:
        corners = int(rng.integers(3, 9))
        around = np.linspace(0, 2 * math.pi, corners, endpoint=False)
        distance = rng.uniform(0.75, 1.25, corners)
    else:
        around = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        wave = np.sin(around * rng.integers(1, 5) + rng.uniform(0, 7))
        distance = 1 + 0.2 * wave * rng.random()
    turn, stretch = rng.uniform(0, math.pi), math.exp(rng.normal(0, 0.45))
    u, v = radius * distance * np.cos(around) * stretch, radius * distance * np.sin(around) / stretch
    return np.stack([u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)], 1)


def _draw_colours(count: int, rng: np.random.Generator) -> np.ndarray:
    """`(count, 3)` RGB colours in [0, 1] around four hues: dark and light, most of them muted."""
    hues = rng.uniform(0, 2 * math.pi, 4)[rng.integers(0, 4, count)] + rng.normal(0, 0.3, count)
    chroma = rng.gamma(1.2, rng.uniform(0.02, 0.07), count)
    lightness = rng.beta(1.3, 1.6, count)
    channels = np.stack([np.cos(hues - turn) for turn in (0, 2 * math.pi / 3, 4 * math.pi / 3)], 1)
    return (lightness[:, None] * (1 + 2.5 * chroma[:, None] * channels)).clip(0, 1).astype(np.float32)


def texture_bank(seed: int) -> np.ndarray:
    """`(16, 256, 256)` textures that repeat without seams, of mean 0 and variance 1: clouds, grain, stripes, weaves."""
    rng = np.random.default_rng((abs(seed), seed < 0, 1))
    frequency = np.fft.fftfreq(_TILE) * _TILE
    fx, fy = np.meshgrid(frequency, frequency)
    bank = []
    for number in range(_TEXTURES):
        turn = rng.uniform(0, math.pi)
        along, across = fx * math.cos(turn) + fy * math.sin(turn), fy * math.cos(turn) - fx * math.sin(turn)
        stretch = 1.0 if number % 2 else math.exp(rng.normal(1.2, 0.5))  # every second texture has a direction
        radius = np.sqrt(along**2 * stretch + across**2 / stretch + 1)
        spectrum = radius ** -rng.uniform(0.6, 2.0)
        if number % 4 == 0:  # every fourth has one scale: bark, bricks, waves
            spectrum = np.exp(-((np.log(radius / rng.uniform(6, 40)) / 0.35) ** 2))
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_TILE, _TILE))) * spectrum).real
        bank.append((noise - noise.mean()) / noise.std())
    return np.stack(bank).astype(np.float32)


class SceneDataset(Dataset[Tensor]):
    """An endless stream of scenes; the one at a position depends on `seed` and the position alone."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._textures = texture_bank(seed)

    def __getitem__(self, position: int) -> Tensor:
        """The `(size, size, 3)` uint8 scene at `position`, any number from 0 up."""
        rng = np.random.default_rng((abs(self.seed), self.seed < 0, 0, position))
        return torch.from_numpy(draw_scene(self.size, rng, self._textures))


class SyntheticDataModule(CropDataModule):
    """Training scenes and fixed validation scenes, as `(B, H, W, 3)` uint8 batches.

    Args:
        seed: decides all scenes.
        val_root: folder of validation pictures; `None` draws scenes that are never trained on.
        crops: the arguments of `CropDataModule`.

    Raises:
        UserError: `val_root` is missing or holds no picture that can be read.
    """

    def __init__(self, seed: int = 0, val_root: str | None = None, **crops: Any) -> None:
        super().__init__(**crops)
        self.scenes = SceneDataset(self.size, seed)
        self._val_paths = None if val_root is None else require_images(val_root, "data.val_root=")

    def validation_images(self) -> Iterator[Image.Image]:
        if self._val_paths is not None:
            return read_all(self._val_paths, self.size)
        held_out = SceneDataset(self.size, -1 - self.scenes.seed)  # the seed of a run is never negative
        return (Image.fromarray(held_out[position].numpy()) for position in range(self.val_count))

    def train_dataloader(self) -> DataLoader:
        return self.make_loader(self.scenes, batch_sampler=self.batches())
