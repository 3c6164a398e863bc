"""A transform network of one's own: any module that takes and returns pictures in [0, 1]."""

import torch
from torch import Tensor, nn


class Tint(nn.Module):
    """Mixes the colours of each pixel by a small network."""

    def __init__(self, width: int = 8, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.mix = nn.Sequential(nn.Conv2d(3, width, 1), nn.Tanh(), nn.Conv2d(width, 3, 1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.lerp(images, self.mix(images), self.strength)
