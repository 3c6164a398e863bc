"""Criteria for stylized pictures that no loss of fst minimises: with them, layer sets can be compared fairly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.perceptual import grid_excess
from fst.study.artefacts import weave

DIRECTIONS = 64  # random projections of a layer's features
QUANTILES = 256  # of each projection: pictures of all sizes are compared at the same number of them
STRUCTURE_BLOCKS = (3, 4)  # whose layers measure content: deep enough to forgive colours, fine enough for outlines
_CELLS = 16  # the most a side between which self-similarity is measured
_TINY = 1e-8  # keeps quotients finite where all features are equal


@dataclass(frozen=True)
class Scores:
    """Distances and faults of stylized pictures, means over the pictures; all are 0 or more, and less is better.

    Attributes:
        style: from the painting, the mean of `style_layers`.
        content: from the photo, the mean of `content_layers`: 0 is the same structure, 1 the most.
        color: of the picture's colours from the painting's, in pixel values from 0 to 1.
        grid: strength of a fixed grid of up to 8 pixels, above the photo's (`fst.perceptual.grid_excess`).
        weave: fine texture where the photo is flat, see `fst.study.artefacts.weave`.
        style_layers: at each layer; 1 is one standard deviation of the painting's features there.
        content_layers: at each layer of `STRUCTURE_BLOCKS`.
    """

    style: float
    content: float
    color: float
    grid: float
    weave: float
    style_layers: Mapping[str, float]
    content_layers: Mapping[str, float]


class Criteria:
    """Scores pictures for one painting. The same pictures always get the same scores.

    Args:
        network: must read all its ReLU layers; it should be the same for all that is compared.
        style_images: the painting at one or several sizes, `(1, 3, H, W)` each, in [0, 1]. Each picture is compared
            with the size that is nearest to it, so that no breadth of strokes is preferred; `weave` with the first.
    """

    def __init__(self, network: LossNetwork, style_images: Sequence[Tensor]) -> None:
        self.network, self._painting = network, style_images[0]
        self.layers = relu_layers(network.architecture)
        with torch.no_grad():
            self._colors = [projected_quantiles(image) for image in style_images]
            self._styles = [self._quantiles(network(image, self.layers)) for image in style_images]

    @torch.no_grad()
    def score(self, photos: Tensor, pictures: Tensor) -> Scores:
        """The scores of `(B, 3, H, W)` pictures in [0, 1], each made of the photo in the same place."""
        features = self.network(pictures, self.layers)
        quantiles = self._quantiles(features)
        # (sizes of the painting, layers, pictures)
        distances = torch.stack([self._distances(quantiles, painting) for painting in self._styles])
        nearest = distances.mean(1).argmin(0)
        style = distances[nearest, :, torch.arange(len(pictures))].mean(0)
        colors = projected_quantiles(pictures)
        color = torch.stack([sliced_wasserstein(colors, wanted) for wanted in self._colors]).amin(0)
        structure = [layer for layer in self.layers if int(layer[4]) in STRUCTURE_BLOCKS]
        wanted = self.network(photos, structure)
        content = [float(structure_distance(features[layer], wanted[layer]).mean()) for layer in structure]
        return Scores(
            style=float(style.mean()),
            content=sum(content) / len(content),
            color=float(color.mean()),
            grid=max(0.0, float(grid_excess(pictures) - grid_excess(photos))),
            weave=sum(map(self._weave, pictures.split(1), photos.split(1))) / len(pictures),
            style_layers=dict(zip(self.layers, style.tolist(), strict=True)),
            content_layers=dict(zip(structure, content, strict=True)),
        )

    def _distances(self, quantiles: Mapping[str, Tensor], painting: Mapping[str, Tensor]) -> Tensor:
        """At each layer, in standard deviations of the painting's features: `(layers, B)`."""
        rows = [sliced_wasserstein(quantiles[n], painting[n]) / _spread(painting[n]) for n in self.layers]
        return torch.stack(rows)

    def _weave(self, picture: Tensor, photo: Tensor) -> float:
        return weave(picture, photo, self._painting)

    def _quantiles(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {layer: projected_quantiles(features[layer]) for layer in self.layers}


def projected_quantiles(features: Tensor) -> Tensor:
    """The values of `(B, C, H, W)` features along fixed random directions, sorted: `(B, DIRECTIONS, QUANTILES)`.

    The directions are unit vectors of C entries, drawn with a fixed seed.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(features.shape[1], DIRECTIONS, generator=generator)
    directions = F.normalize(directions, dim=0).to(features.device)
    projected = features.float().flatten(2).transpose(1, 2) @ directions
    ordered = projected.transpose(1, 2).sort(dim=2).values
    return F.interpolate(ordered, size=QUANTILES, mode="linear", align_corners=True)


def sliced_wasserstein(quantiles: Tensor, target: Tensor) -> Tensor:
    """The sliced Wasserstein distance of two distributions, the root mean square over directions: `(B,)`.

    Heitz et al. 2021, "A Sliced Wasserstein Loss for Neural Texture Synthesis", equations 5 and 6, with quantiles in
    place of all sorted values. Unlike the Gram matrices, it compares whole distributions.

    Args:
        quantiles: `(B, directions, quantiles)`, as of `projected_quantiles`; target: the same, or of one picture.

    >>> ramp = torch.linspace(0, 1, 5).view(1, 1, 5)
    >>> sliced_wasserstein(ramp, ramp + 0.25)
    tensor([0.2500])
    """
    return (quantiles - target).square().mean((1, 2)).sqrt()


def _spread(quantiles: Tensor) -> Tensor:
    """The standard deviation along a direction, the root mean square over directions, of one picture: `(1,)`."""
    return quantiles.var(2, correction=0).mean(1).sqrt().clamp_min(_TINY)


def structure_distance(features: Tensor, target: Tensor) -> Tensor:
    """How differently two `(B, C, H, W)` feature maps are structured, from 0 to 1: `(B,)`.

    The cosine distances of each place from all others, divided by their sum, are compared: half the sum of the absolute
    differences, the mean over the places (Kolkin et al. 2019, "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", equation 6). How places differ matters, not what is there, so new colours cost little. Features
    are first averaged over at most 16 × 16 cells.
    """
    return (self_similarity(features) - self_similarity(target)).abs().sum(2).mean(1) / 2


def self_similarity(features: Tensor) -> Tensor:
    """Cosine distances between the cells of `(B, C, H, W)` features, each row with the sum 1: `(B, cells, cells)`."""
    size = min(features.shape[2], _CELLS), min(features.shape[3], _CELLS)
    cells = F.normalize(F.adaptive_avg_pool2d(features.float(), size).flatten(2), dim=1)
    distances = (1 - cells.transpose(1, 2) @ cells).clamp_min(0)
    return distances / distances.sum(2, keepdim=True).clamp_min(_TINY)
