"""The slow method (Gatys et al. 2016): the picture itself is optimised against the perceptual loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fst.errors import RunError, UserError
from fst.images import read_tensor, resize
from fst.perceptual import PerceptualLoss

ALGORITHMS = ("lbfgs", "adam")


@dataclass(frozen=True)
class Step:
    """What is known after an iteration: its number from 1 up, the terms before it, the picture after it."""

    iteration: int
    terms: dict[str, float]
    picture: Tensor


class Optimization:
    """An endless iterator over the iterations of the slow method on one `(1, 3, H, W)` picture in [0, 1].

    The loss sees the picture clamped to [0, 1], and the pixels are put there after each iteration, so that one at the
    edge can come back: the objective is the same before and after. L-BFGS has learning rate 1, as in the
    released code of Gatys et al., and a strong Wolfe line search, with which the objective never rises.

    Args:
        loss: in eval mode, on the device of the pictures.
        content: what is kept; `(1, 3, H, W)`.
        start: the picture to begin with, of the same size.
        algorithm: `lbfgs` or `adam`.
        lr: of Adam.
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
        self.pixels = start.clone(memory_format=torch.contiguous_format).requires_grad_()  # as L-BFGS wants it
        self.iteration = 0
        self._seen: tuple[Tensor, Tensor, dict[str, Tensor]] | None = None
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([self.pixels], lr)
            if algorithm == "adam"
            else torch.optim.LBFGS(
                [self.pixels],
                max_iter=1,
                max_eval=26,  # a look and the line search's 25; the default is one look, which leaves no search at all
                history_size=100,
                line_search_fn="strong_wolfe",
            )
        )

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        terms: dict[str, Tensor] = {}

        def closure() -> float:
            gradient, found = self._look()
            terms.update(terms or found)  # those of the first look
            # Outside the range the loss is flat. A pixel at the edge that wants out stays: counted in, it would promise
            # the line search what cannot be had.
            pixels = self.pixels.detach()
            out = ((pixels <= 0) & ((gradient > 0) | (pixels < 0))) | ((pixels >= 1) & ((gradient < 0) | (pixels > 1)))
            self.pixels.grad = gradient.masked_fill(out, 0)
            return found["loss"].item()

        self.optimizer.step(closure)
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
        if not torch.isfinite(terms["loss"]):
            raise RunError(f"the loss is {values['loss']} at iteration {self.iteration}; try precision=float32")
        self.iteration += 1
        return Step(self.iteration, values, self.pixels.detach())

    def _look(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient and terms of the picture in the pixels; where the last look found it, as after most line searches,
        it is not taken again: half of the time."""
        picture = self.pixels.detach().clamp(0, 1)
        if self._seen is None or not torch.equal(picture, self._seen[0]):
            with torch.enable_grad():
                terms = self.loss(picture.requires_grad_(), self.targets)
                (gradient,) = torch.autograd.grad(terms["loss"], picture)
            self._seen = picture.detach(), gradient, {name: term.detach() for name, term in terms.items()}
        return self._seen[1], self._seen[2]

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """The terms of the picture as it is."""
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


def start_picture(init: str, content: Tensor, seed: int) -> Tensor:
    """`content`, white `noise` of that seed (Gatys et al. 2016, section 2.2), or a picture file, at the content's size.

    Raises:
        UserError: the file cannot be read.
    """
    if init == "content":
        return content.clone()
    if init == "noise":
        return torch.rand(content.shape, generator=torch.Generator().manual_seed(seed)).to(content.device)
    return resize(read_tensor(Path(init)), (content.shape[2], content.shape[3])).to(content.device)


def pyramid(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Heights and widths from coarse to fine, each half of the next.

    >>> pyramid((300, 401), 3)
    [(75, 100), (150, 200), (300, 401)]
    """
    return [(size[0] >> level, size[1] >> level) for level in reversed(range(levels))]
