"""A loss term of one's own: a function that returns a scalar."""

from collections.abc import Mapping

from torch import Tensor


def edges(
    stylized: Tensor,
    photos: Tensor,
    features: Mapping[str, Tensor],
    photo_features: Mapping[str, Tensor],
    power: float = 1.0,
) -> Tensor:
    """How much the horizontal differences of neighbouring pixels change."""
    return (stylized.diff(dim=3) - photos.diff(dim=3)).abs().pow(power).mean()
