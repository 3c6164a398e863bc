"""The perceptual loss (Johnson et al. 2016): content, style and total-variation terms over named layers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from fst.errors import UserError
from fst.networks.vgg import LossNetwork
from fst.style_info import Convention, Reduction

CONVENTIONS, REDUCTIONS = get_args(Convention), get_args(Reduction)
_TINY = 1e-12  # keeps the relative terms finite where all features are zero
_LEAST_VARIANCE = 1e-3  # of a stylized picture in the temporal term, against division by 0: 8 grey levels of contrast
_GRID = 8  # pixels: the longest period of a grid that the grid term finds


class _Gram(torch.autograd.Function):
    """`F Fᵀ / (C·H·W)` with a faster backward than autograd's: one product of the features with `dG + dGᵀ`.

    The forward pass multiplies in float32, the backward pass in the features' dtype. Both read channels-last memory;
    only the features are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        pictures = (pixels.flatten(0, 1).float() for pixels in features.permute(0, 2, 3, 1))
        return torch.stack([flat.T @ flat for flat in pictures]) / features[0].numel()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        pixels = features.permute(0, 2, 3, 1)
        both = ((grad + grad.transpose(1, 2)) / features[0].numel()).to(features.dtype)
        return (pixels.flatten(1, 2) @ both).view(pixels.shape).permute(0, 3, 1, 2)


def gram_matrix(features: Tensor) -> Tensor:
    """`F Fᵀ / (C·H·W)` of `(B, C, H, W)` features: `(B, C, C)`, float32 (Johnson et al. 2016, eq. 3).

    >>> gram_matrix(torch.ones(1, 2, 3, 3))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """
    with torch.autocast(features.device.type, enabled=False):
        return _Gram.apply(features)


def content_term(features: Tensor, target: Tensor, convention: str = "relative") -> Tensor:
    """Distance of `(B, C, H, W)` features from the content image's, a scalar averaged over the batch.

    `relative`: `‖F−P‖² / ‖P‖²`; `johnson`: mean squared error (eq. 2); `gatys`: `½ Σ (F−P)²` (Gatys et al., eq. 1).
    """
    squared = (features - target).float().square()  # the difference in the features' dtype, squares and sums in float32
    if convention == "johnson":
        return squared.mean()
    squared = squared.sum((1, 2, 3))
    if convention == "gatys":
        return squared.mean() / 2
    return (squared / target.float().square().sum((1, 2, 3)).clamp_min(_TINY)).mean()


def style_term(gram: Tensor, target: Tensor, convention: str = "relative") -> Tensor:
    """Distance of `(B, C, C)` Gram matrices from the style image's `(1, C, C)`, a scalar averaged over the batch.

    `relative`: `‖G−A‖² / ‖A‖²`; `johnson`: `‖G−A‖²` (eq. 4); `gatys`: `Σ (G'−A')² / (4 N² M²)` with `G' = F Fᵀ`
    (Gatys et al., eq. 4), which for Gram matrices divided by C·H·W is `‖G−A‖² / 4`. Unlike the paper's form,
    this one also works for two pictures of different sizes.
    """
    squared = (gram - target).square().sum((1, 2))
    if convention == "relative":
        squared = squared / target.square().sum((1, 2)).clamp_min(_TINY)
    elif convention == "gatys":
        squared = squared / 4
    return squared.mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of `(B, 3, H, W)`, rows and columns added: a scalar.

    The regulariser of Johnson et al. 2016 (section 3.2), as a mean, so that its weight does not depend on the size.
    """
    images = images.float()
    vertical, horizontal = images.diff(dim=2), images.diff(dim=3)
    return vertical.square().mean() + horizontal.square().mean()


def range_excess(images: Tensor) -> Tensor:
    """Mean square of how far values lie outside [0, 1]: a scalar.

    It keeps a linear output in range. A saturating function would do so too, but has no gradient at its flat ends.
    """
    images = images.float()
    return (images - images.clamp(0, 1)).square().mean()


def grid_excess(images: Tensor) -> Tensor:
    """Strength of a fixed grid of 2, 4 or 8 pixels in `(B, 3, H, W)`: a scalar, near zero in photos.

    From no paper. A network that upsamples by four, or works on cells of 4×4 pixels, can imitate fine texture in flat
    areas by a fixed grid. The picture is cut into cells of 8×8 pixels. The term is the variance, over the places in a
    cell, of the mean difference between neighbouring pixels there. Differences leave out shading.
    """
    excess = images.new_zeros((), dtype=torch.float32)
    for dim in (2, 3):
        difference = images.float().diff(dim=dim)
        rows, columns = (size // _GRID for size in difference.shape[2:])
        if not rows or not columns:
            continue  # smaller than one cell
        cells = difference[..., : rows * _GRID, : columns * _GRID].unflatten(3, (columns, _GRID))
        places = cells.unflatten(2, (rows, _GRID)).mean((2, 4))
        excess = excess + places.var((2, 3), correction=0).mean()
    return excess


def temporal_term(stylized_moved: Tensor, moved_stylized: Tensor, visible: Tensor) -> Tensor:
    """Mean squared distance of the stylized moved photos from the moved stylized photos, divided by the variance of
    the latter: a scalar.

    A network with a small term paints a moved and noisy photo as the moved picture, so it does not flicker (compound
    regularisation, Wang et al. 2020, with moved photos in place of their sliding patches). Without the division, which
    is ours, a network lowers the term by painting paler pictures.

    Args:
        stylized_moved: G(W(x) + n), `(B, 3, H, W)`.
        moved_stylized: W(G(x)), likewise.
        visible: `(B, 1, H, W)`, true where both show the same part of the photo.
    """
    wanted, pixels = moved_stylized.float(), visible.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (wanted * visible).sum((2, 3), keepdim=True) / pixels

    def mean_square(difference: Tensor) -> Tensor:
        return (difference.square() * visible).sum() / (wanted.shape[1] * pixels.sum())

    return mean_square(stylized_moved.float() - wanted) / mean_square(wanted - mean).clamp_min(_LEAST_VARIANCE)


class ContentTargets(NamedTuple):
    """What the content term and your own terms compare with: the content images, and their features by layer."""

    images: Tensor
    features: Mapping[str, Tensor]


# A term of the loss: a scalar, from the stylized pictures and the content images, both (B, 3, H, W), and the features
# of both by layer: of the stylized pictures at all layers of the loss, of the content images at the content layers.
Term = Callable[[Tensor, Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
_PICTURE_TERMS: dict[str, Term] = {
    "tv": lambda stylized, *_: total_variation(stylized),
    "range": lambda stylized, *_: range_excess(stylized),
    "grid": lambda stylized, *_: grid_excess(stylized),
}


class LossWeights(NamedTuple):
    """Weights of the terms in the sum that is minimised."""

    content: float = 1.0
    style: float = 1.0
    coarse_style: float = 0.0
    tv: float = 0.0
    range: float = 0.0
    grid: float = 0.0
    temporal: float = 0.0


TRAINING_WEIGHTS = LossWeights(content=1.0, style=15.0, range=50.0, grid=2000.0)  # conf/loss/relative.yaml


class PerceptualLoss(nn.Module):
    """Content, style, total-variation, range and grid terms of stylized pictures. Training adds the temporal term.

    The coarse style term compares the picture and the style image at half their size, for larger shapes: two levels of
    the pyramid of Snelgrove 2017. It is measured only if it has a weight.

    Args:
        loss_network: must read all layers named below.
        style_image: `(1, 3, H, W)` in [0, 1]; its Gram matrices are computed once and kept as buffers.
        content_layers: layer name to weight.
        style_layers: layer name to weight.
        weights: of the terms; the default is `fst train`'s, for the convention `relative`.
        convention: `relative`, `johnson` or `gatys`; see `content_term` and `style_term`.
        reduction: over the layers of a term: weighted `mean`, so that a set's weight does not grow with its
            size, or weighted `sum`.
        own_terms: more terms by name, each with its weight.

    Raises:
        UserError: unknown convention or reduction, a negative weight, or a term of one's own named like another.
    """

    def __init__(
        self,
        loss_network: LossNetwork,
        style_image: Tensor,
        content_layers: Mapping[str, float],
        style_layers: Mapping[str, float],
        weights: LossWeights = TRAINING_WEIGHTS,
        convention: str = "relative",
        reduction: str = "mean",
        own_terms: Mapping[str, tuple[float, Term]] | None = None,
    ) -> None:
        super().__init__()
        for key, value, choices in (("convention", convention, CONVENTIONS), ("reduction", reduction, REDUCTIONS)):
            if value not in choices:
                raise UserError(f"loss.{key} is '{value}'; it can be {', '.join(choices)}")
        self.loss_network = loss_network
        self.weights, self.convention = weights, convention
        self.content_layers = _layer_weights("content", content_layers, reduction)
        self.style_layers = _layer_weights("style", style_layers, reduction)
        self._terms = {**_PICTURE_TERMS, **{name: term for name, (_, term) in (own_terms or {}).items()}}
        self._weight_of = {**weights._asdict(), **{name: weight for name, (weight, _) in (own_terms or {}).items()}}
        if min(self._weight_of.values()) < 0:
            raise UserError(f"loss weights must not be negative: {self._weight_of}")
        if taken := {"loss", *weights._fields} & {*(own_terms or {})}:
            raise UserError(f"loss.terms: {', '.join(sorted(taken))} is the name of a term of fst; take another")
        with torch.no_grad():
            self._keep_grams("style", style_image)
            if weights.coarse_style:
                self._keep_grams("coarse_style", _half_size(style_image))

    def _keep_grams(self, term: str, style_image: Tensor) -> None:
        for layer, features in self.loss_network(style_image, self.style_layers).items():
            self.register_buffer(f"_{term}_{layer}", gram_matrix(features), persistent=False)

    @torch.no_grad()
    def content_targets(self, content: Tensor) -> ContentTargets:
        """The content images and their features at the content layers, without gradients."""
        return ContentTargets(content, self.loss_network(content, self.content_layers))

    def forward(self, stylized: Tensor, targets: ContentTargets) -> dict[str, Tensor]:
        """All terms by name, each a scalar: `loss` (what is minimised), `content`, `style`, `coarse_style` if it has a
        weight, `tv`, `range`, `grid`, one's own, and `content/LAYER`, `style/LAYER`, `coarse_style/LAYER`. All but
        `loss` are given before the term's weight.

        Raises:
            UserError: the targets are not those of `content_targets`, or of pictures of another size.
        """
        features = self.loss_network(stylized, {*self.content_layers, *self.style_layers})
        _check_targets({layer: features[layer] for layer in self.content_layers}, targets)
        style_features = {"style": features}
        if self.weights.coarse_style:
            style_features["coarse_style"] = self.loss_network(_half_size(stylized), self.style_layers)
        with torch.autocast(stylized.device.type, enabled=False):
            by_layer = {
                f"content/{layer}": content_term(features[layer], targets.features[layer], self.convention)
                for layer in self.content_layers
            } | {
                f"{term}/{layer}": style_term(
                    gram_matrix(found[layer]), self.get_buffer(f"_{term}_{layer}"), self.convention
                )
                for term, found in style_features.items()
                for layer in self.style_layers
            }
            zero = stylized.new_zeros((), dtype=torch.float32)
            layers_of = {"content": self.content_layers} | dict.fromkeys(style_features, self.style_layers)
            terms = {
                term: sum((weight * by_layer[f"{term}/{layer}"] for layer, weight in layers.items()), zero)
                for term, layers in layers_of.items()
            }
            for name, term in self._terms.items():
                terms[name] = term(stylized, targets.images, features, targets.features)
            weight = self._weight_of
            loss = sum((weight[name] * value for name, value in terms.items() if weight[name]), zero)
        return {"loss": loss, **terms, **by_layer}


def _half_size(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 2)


def _check_targets(features: Mapping[str, Tensor], targets: ContentTargets) -> None:
    """Refuse targets for the content term that do not fit the stylized pictures' features."""
    if not isinstance(targets, ContentTargets) or features.keys() - targets.features.keys():
        raise UserError("the targets must be what content_targets(PICTURES) of the same PerceptualLoss returns")
    for layer, found in features.items():
        target = targets.features[layer]
        if target.shape[1:] != found.shape[1:] or len(target) not in (1, len(found)):
            raise UserError(
                f"the targets do not fit the stylized pictures: at {layer} they are {tuple(target.shape)}, and "
                f"{tuple(found.shape)} is needed"
            )


def _layer_weights(term: str, layers: Mapping[str, float], reduction: str) -> dict[str, float]:
    """The weights above zero by layer; for `mean` they are scaled to a sum of one."""
    if any(weight < 0 for weight in layers.values()):
        raise UserError(f"layers.{term} has a negative weight: {dict(layers)}")
    kept = {layer: float(weight) for layer, weight in layers.items() if weight}
    divisor = sum(kept.values()) if reduction == "mean" else 1.0
    return {layer: weight / divisor for layer, weight in kept.items()}
