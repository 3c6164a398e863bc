"""Photo-like pictures to train on, drawn on the spot: nothing to download, and no two alike.

Dead leaves (Lee, Mumford & Huang 2001): opaque shapes of power-law sizes in random order, whose edges, occlusions and
scale-free statistics are those of photos; networks trained on such pictures carry over to photos (Baradad et al.
2021). Each leaf has its colour, shading and texture.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fst.training.data.folder import CropDataModule, find_photos, read_all

_LEAVES = (25, 300)  # shapes a picture, few as often as many: open skies and thickets
_RADII = (0.012, 0.55)  # of the picture's side; their density falls with the cube: scale-free (Lee et al. 2001)
_TEXTURES = 16  # in the bank that all pictures share
_TILE = 256  # pixels of a texture's side; it repeats without seams


def draw_scene(size: int, rng: np.random.Generator, textures: np.ndarray) -> np.ndarray:
    """One picture: `(size, size, 3)` uint8, drawn at twice the size for smooth edges.

    Args:
        textures: as `texture_bank` makes them.
    """
    side = 2 * size
    leaf = np.asarray(_draw_leaves(side, rng))
    across, down = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 2)
    count = _LEAVES[1] + 1
    # Light on each leaf: a gradient of its own, and one over the whole scene.
    slope = rng.normal(0, 0.35, (2, count)).astype(np.float32)
    light = slope[0][leaf] * across + slope[1][leaf] * down
    angle = rng.uniform(0, 2 * math.pi)
    light += rng.uniform(0, 0.3) * (math.cos(angle) * across + math.sin(angle) * down)
    # Texture: which one, and how strong; half of the leaves have hardly any.
    strength = (rng.exponential(0.12, count) * (rng.random(count) < 0.6)).astype(np.float32)
    rolled = np.roll(textures, rng.integers(0, _TILE, 2), (1, 2))
    rows = np.arange(side) % _TILE
    light += strength[leaf] * rolled[rng.integers(0, _TEXTURES, count)[leaf], rows[:, None], rows[None, :]]
    picture = _colours(count, rng)[leaf] * np.exp(light)[..., None]
    picture = picture.reshape(size, 2, size, 2, 3).mean((1, 3))
    picture = picture + rng.normal(0, rng.uniform(0, 0.02), picture.shape)  # the sensor's noise
    return (255 * picture.clip(0, 1) ** rng.uniform(0.7, 1.4)).astype(np.uint8)


def _draw_leaves(side: int, rng: np.random.Generator) -> Image.Image:
    """Which leaf is seen at each pixel, from 1 up; 0 is the ground behind all."""
    image = Image.new("I", (side, side))
    draw = ImageDraw.Draw(image)
    smallest, largest = (side * radius for radius in _RADII)
    count = round(math.exp(rng.uniform(math.log(_LEAVES[0]), math.log(_LEAVES[1]))))
    # Inverse of the distribution whose density falls with the cube of the radius.
    share = rng.random(count)
    radii = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5
    behind = max(6, count // 12)
    radii[:behind] = rng.uniform(0.15, 0.55, behind) * side  # few bare spots
    clusters = rng.uniform(0, 1, (4, 2))
    places = clusters[rng.integers(0, 4, count)] + rng.normal(0, 0.14, (count, 2))
    alone = (rng.random(count) < rng.uniform(0, 0.7)) | (np.arange(count) < behind)
    places[alone] = rng.uniform(-0.1, 1.1, (int(alone.sum()), 2))
    for number, (radius, (x, y)) in enumerate(zip(radii, places * side, strict=True), 1):
        corners = int(rng.integers(3, 9)) if rng.random() < 0.45 else 24
        wobble = (
            rng.uniform(0.75, 1.25, corners)
            if corners < 24
            else 1
            + 0.2
            * np.sin(np.linspace(0, 2 * math.pi, 24, endpoint=False) * rng.integers(1, 5) + rng.uniform(0, 7))
            * rng.random()
        )
        turn, stretch = rng.uniform(0, math.pi), math.exp(rng.normal(0, 0.45))
        around = np.linspace(0, 2 * math.pi, corners, endpoint=False)
        u, v = radius * wobble * np.cos(around) * stretch, radius * wobble * np.sin(around) / stretch
        points = np.stack([x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)], 1)
        draw.polygon([tuple(point) for point in points.tolist()], fill=number)
    return image


def _colours(count: int, rng: np.random.Generator) -> np.ndarray:
    """`(count, 3)` colours of a scene: mostly muted, a few hues, bright and dark."""
    hues = rng.uniform(0, 2 * math.pi, 4)[rng.integers(0, 4, count)] + rng.normal(0, 0.3, count)
    chroma = rng.gamma(1.2, rng.uniform(0.02, 0.07), count)
    lightness = rng.beta(1.3, 1.6, count)
    opposed = np.stack([np.cos(hues), np.cos(hues - 2 * math.pi / 3), np.cos(hues + 2 * math.pi / 3)], 1)
    return (lightness[:, None] * (1 + 2.5 * chroma[:, None] * opposed)).clip(0, 1).astype(np.float32)


def texture_bank(seed: int) -> np.ndarray:
    """`(16, 256, 256)` seamless noise, mean 0 and variance 1: clouds, grain, and stripes and weaves of many kinds."""
    rng = np.random.default_rng((abs(seed), seed < 0, 1))
    frequency = np.fft.fftfreq(_TILE) * _TILE
    fx, fy = np.meshgrid(frequency, frequency)
    bank = []
    for number in range(_TEXTURES):
        turn = rng.uniform(0, math.pi)
        along, across = fx * math.cos(turn) + fy * math.sin(turn), fy * math.cos(turn) - fx * math.sin(turn)
        stretch = 1.0 if number % 2 else math.exp(rng.normal(1.2, 0.5))  # every other one has a direction
        radius = np.sqrt(along**2 * stretch + across**2 / stretch + 1)
        spectrum = radius ** -rng.uniform(0.6, 2.0)
        if number % 4 == 0:  # a scale of its own: bark, bricks, waves
            spectrum = np.exp(-((np.log(radius / rng.uniform(6, 40)) / 0.35) ** 2))
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_TILE, _TILE))) * spectrum).real
        bank.append((noise - noise.mean()) / noise.std())
    return np.stack(bank).astype(np.float32)


class SceneDataset(Dataset[Tensor]):
    """An endless row of scenes; the one at a position depends on `seed` and the position alone."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._textures = texture_bank(seed)

    def __getitem__(self, position: int) -> Tensor:
        """The `(size, size, 3)` uint8 scene at `position`, any number from 0 up."""
        rng = np.random.default_rng((abs(self.seed), self.seed < 0, 0, position))
        return torch.from_numpy(draw_scene(self.size, rng, self._textures))


class SyntheticDataModule(CropDataModule):
    """Training scenes and fixed validation scenes, as `(B, H, W, 3)` uint8 batches; nothing is read from anywhere.

    Args:
        seed: of all scenes.
        val_root: folder of validation pictures; `None` draws scenes that are never trained on.
        crops: see `CropDataModule`.

    Raises:
        UserError: `val_root` is missing or holds no picture that can be read.
    """

    def __init__(self, seed: int = 0, val_root: str | None = None, **crops: Any) -> None:
        super().__init__(**crops)
        self.scenes = SceneDataset(self.size, seed)
        self._val_paths = None if val_root is None else find_photos("data.val_root", val_root)

    def validation_images(self) -> Iterator[Image.Image]:
        if self._val_paths is not None:
            return read_all(self._val_paths, self.size)
        held_out = SceneDataset(self.size, -1 - self.scenes.seed)  # no seed of a run's is negative
        return (Image.fromarray(held_out[position].numpy()) for position in range(self.val_count))

    def train_dataloader(self) -> DataLoader:
        return self.make_loader(self.scenes, batch_sampler=self.batches())
