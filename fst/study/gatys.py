"""The slow method (Gatys et al. 2016): the picture itself is optimised against the perceptual loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from fst.errors import RunError, UserError
from fst.images import read_tensor, resize
from fst.perceptual import PerceptualLoss
from fst.values import SlowAlgorithm

ALGORITHMS = get_args(SlowAlgorithm)


@dataclass(frozen=True)
class Step:
    """One iteration: its number, counted from 1, the terms before it, and the picture after it."""

    iteration: int
    terms: dict[str, float]
    picture: Tensor


class Optimization:
    """An endless iterator over the iterations of the slow method on one `(1, 3, H, W)` picture in [0, 1].

    The loss sees the pixels clamped to [0, 1], and they are clamped for good after each iteration: the value that a
    step ends with is the one that the next step starts from. L-BFGS has learning rate 1, as in the code released by
    Gatys et al., and a strong Wolfe line search, with which the loss never rises.

    Args:
        loss: in eval mode, on the device of the pictures.
        content: the content image, `(1, 3, H, W)`.
        start: the picture to begin with, of the same size.
        algorithm: `lbfgs` or `adam`.
        lr: the learning rate of Adam.

    Raises:
        UserError: there is no such algorithm.
        RunError: on `next`, when the loss is NaN or infinite.
    """

    def __init__(
        self,
        loss: PerceptualLoss,
        content: Tensor,
        start: Tensor,
        algorithm: str = "lbfgs",
        lr: float = 0.02,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise UserError(f"algorithm is '{algorithm}'; it can be {' or '.join(ALGORITHMS)}")
        self.loss = loss
        self.targets = loss.content_targets(content)
        self.pixels = start.clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS flattens by view
        self.iteration = 0
        self._last: tuple[Tensor, dict[str, Tensor], Tensor] | None = None  # a picture, its terms and its gradient
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([self.pixels], lr)
            if algorithm == "adam"
            else torch.optim.LBFGS(
                [self.pixels],
                max_iter=1,
                max_eval=26,  # one, and 25 for the line search; the default of 1.25 * max_iter leaves it none
                tolerance_grad=0,  # the defaults suit a loss of about 1; a much smaller one would stop at once
                tolerance_change=0,
                history_size=100,
                line_search_fn="strong_wolfe",
            )
        )

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        terms, _ = self._evaluate()
        values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))  # one transfer for all
        if not math.isfinite(values["loss"]):
            raise RunError(f"the loss is {values['loss']} at iteration {self.iteration}; try precision=float32")
        self.optimizer.step(self._closure)
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        self.iteration += 1
        return Step(self.iteration, values, self.pixels.detach())

    def _closure(self) -> float:
        """For the optimizer: set the gradient of the pixels and return the loss."""
        terms, gradient = self._evaluate()
        self.pixels.grad = project_gradient(gradient, self.pixels.detach())
        return terms["loss"].item()

    def _evaluate(self) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the clamped picture, and the gradient of the loss there, `(1, 3, H, W)`.

        Most iterations begin where the line search of the one before ended. The last evaluation is kept, so that this
        picture is not evaluated again, which halves the time.
        """
        picture = self.pixels.detach().clamp(0, 1)
        if self._last is None or not torch.equal(picture, self._last[0]):
            with torch.enable_grad():
                terms = self.loss(picture.requires_grad_(), self.targets)
                (gradient,) = torch.autograd.grad(terms["loss"], picture)
            self._last = picture.detach(), {name: term.detach() for name, term in terms.items()}, gradient
        return self._last[1], self._last[2]

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """The terms of the current picture."""
        return self.loss(self.pixels, self.targets)

    def state_dict(self) -> dict[str, Any]:
        return {
            "pixels": self.pixels.detach(),
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.pixels.copy_(state["pixels"])
        self.iteration = state["iteration"]
        self.optimizer.load_state_dict(state["optimizer"])


def project_gradient(gradient: Tensor, pixels: Tensor) -> Tensor:
    """The gradient of a loss that sees the pixels clamped to [0, 1], from its gradient at the clamped pixels.

    It is 0 where a pixel is outside the range, and where a step of descent would take a pixel out of it. Without this
    the line search would expect a decrease that the clamped pixels cannot give.

    >>> project_gradient(torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    tensor([ 0., -1.,  1.,  0.])
    """
    outside = (pixels < 0) | (pixels > 1)
    leaving = ((pixels <= 0) & (gradient > 0)) | ((pixels >= 1) & (gradient < 0))
    return gradient.masked_fill(outside | leaving, 0)


def start_picture(init: str, content: Tensor, seed: int) -> Tensor:
    """Where to start: from `content`, from white `noise` (Gatys et al. 2016, section 2.2), or from a picture file.

    The result has the size and the device of `content`, `(1, 3, H, W)`.

    Raises:
        UserError: the file cannot be read.
    """
    if init == "content":
        return content.clone()
    if init == "noise":
        return torch.rand(content.shape, generator=torch.Generator().manual_seed(seed)).to(content.device)
    return resize(read_tensor(Path(init)), (content.shape[2], content.shape[3])).to(content.device)


def pyramid(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Heights and widths from coarse to fine, each half of the next; the last is `size`.

    >>> pyramid((300, 401), 3)
    [(75, 100), (150, 200), (300, 401)]
    """
    return [(size[0] >> level, size[1] >> level) for level in reversed(range(levels))]
