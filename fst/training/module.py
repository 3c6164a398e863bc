"""The LightningModule: one transform network learning one style."""

import math
from collections.abc import Callable, Iterable

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fst.images import from_uint8, read_tensor
from fst.motion import random_motion
from fst.networks.transform import TransformNetwork
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss, Term, temporal_term
from fst.resources import find_style_image

_MOST_NOISE = 4 / 255  # standard deviation, of the moved photos: twice what a camera sensor has in good light


class StyleTransferModule(pl.LightningModule):
    """Trains `network` to minimise `loss` on photos.

    Args:
        network: an image transform network; the only thing in the checkpoint's state dict.
        loss: the perceptual loss, style targets measured.
        make_optimizer: called with the network's parameters.
        warmup: fraction of the steps in which the learning rate rises linearly from zero.
        final_lr_ratio: fraction of the peak learning rate that the half cosine ends at; 1 keeps it constant.
        teacher: a trained network of the same style. `network` first imitates its pictures (mean squared error);
            then they are what `loss` takes as content, in place of the photos.
        imitation_ratio: fraction of the steps in which it only imitates.
    """

    def __init__(
        self,
        network: TransformNetwork,
        loss: PerceptualLoss,
        make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        warmup: float = 0.0,
        final_lr_ratio: float = 1.0,
        teacher: nn.Module | None = None,
        imitation_ratio: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self._make_optimizer, self._warmup, self._final_lr_ratio = make_optimizer, warmup, final_lr_ratio
        self._teacher = (teacher,)  # the tuple keeps its weights out of checkpoints
        self._imitation_ratio = imitation_ratio

    def setup(self, stage: str) -> None:
        if self.trainer.precision == "bf16-mixed":
            # Autocast alone would cast the frozen weights again at each step.
            self.loss.loss_network.use_dtype(torch.bfloat16)

    def on_fit_start(self) -> None:
        if (teacher := self._teacher[0]) is not None:
            teacher.eval().to(self.device)

    def training_step(self, batch: Tensor, batch_index: int) -> dict[str, Tensor]:
        """The terms of a batch of photos, uint8 `(B, H, W, 3)`; Lightning minimises `loss` among them."""
        terms = self._training_terms(from_uint8(batch), batch_index)
        # Logged only where it is written: Lightning would process it at each step.
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": term for name, term in terms.items()}, sync_dist=True)
        return terms

    def _training_terms(self, content: Tensor, batch_index: int) -> dict[str, Tensor]:
        """The loss and its terms on photos `(B, 3, H, W)`, or the imitation's loss alone."""
        wanted = content
        if (teacher := self._teacher[0]) is not None:
            with torch.no_grad():
                wanted = teacher(content)
            if self.global_step < self._imitation_ratio * self.trainer.max_steps:
                stylized = self.network(content)
                imitation = {"loss": F.mse_loss(stylized, wanted)}
                return self._with_temporal(imitation, content, stylized, self.network, batch_index)
        targets = self.loss.content_targets(wanted)  # first: its memory is free again before the graph is built
        stylized = self.network(content)
        return self._with_temporal(self.loss(stylized, targets), content, stylized, self.network, batch_index)

    def _with_temporal(
        self,
        terms: dict[str, Tensor],
        content: Tensor,
        stylized: Tensor,
        network: Callable[[Tensor], Tensor],
        batch_index: int = 0,
    ) -> dict[str, Tensor]:
        """The terms with the temporal one, unless its weight is 0; motion and noise depend on the step alone, and on
        the batch where gradients of several are accumulated."""
        if not (weight := self.loss.weights.temporal):
            return terms
        parts = self.trainer.accumulate_grad_batches
        batch = self.global_step * parts + batch_index % parts
        share = batch * self.trainer.world_size + self.global_rank  # of the batch, of all until now
        count, _, height, width = content.shape
        generator, device = torch.Generator().manual_seed(share), content.device
        motion = random_motion(count, height, width, generator, share * count, device)
        strength = _MOST_NOISE * torch.rand(count, 1, 1, 1, generator=generator).to(device)
        grain = torch.Generator(device).manual_seed(share)
        moved = motion(content) + strength * torch.randn(content.shape, generator=grain, device=device)
        term = temporal_term(network(moved), motion(stylized), motion.visible())
        return {**terms, "temporal": term, "loss": terms["loss"] + weight * term}

    def validation_step(self, batch: Tensor, batch_index: int) -> dict[str, Tensor]:
        """Log the terms of a batch of photos, uint8 `(B, H, W, 3)`.

        Returns:
            For callbacks: `content` and `stylized`, `(B, 3, H, W)` each, in [0, 1].
        """
        content = from_uint8(batch)
        stylized = self.network.unclamped(content)  # not clamped: the range term would always be 0
        terms = self.loss(stylized, self.loss.content_targets(content))
        terms = self._with_temporal(terms, content, stylized, self.network.unclamped)
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, batch_size=len(batch), sync_dist=True)
        return {"content": content, "stylized": stylized.clamp(0, 1)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self._make_optimizer(self.network.parameters())
        steps = self.trainer.max_steps

        def rate(step: int) -> float:
            return learning_rate_factor(step, steps, self._warmup, self._final_lr_ratio)

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}}


def learning_rate_factor(step: int, steps: int, warmup: float, final_lr_ratio: float) -> float:
    """Learning rate at `step` of `steps`, divided by its peak: linear warm-up, then half a cosine to `final_lr_ratio`.

    >>> [round(learning_rate_factor(step, 100, warmup=0.1, final_lr_ratio=0.0), 2) for step in (0, 4, 9, 10, 55, 99)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = warmup * steps
    if step < rising:
        return min(1.0, (step + 1) / rising)
    progress = min(1.0, (step - rising) / max(1.0, steps - rising))
    return final_lr_ratio + (1 - final_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


def read_style_image(config: DictConfig) -> Tensor:
    """The style image as `(1, 3, H, W)` in [0, 1], its longer side `style.size`."""
    return read_tensor(find_style_image(config.style.image), config.style.size)


def build_loss(config: DictConfig, style_image: Tensor) -> PerceptualLoss:
    """The perceptual loss that the groups `loss_network`, `layers` and `loss` describe."""
    layers = config.layers
    return PerceptualLoss(
        LossNetwork(layers=[*layers.content, *layers.style], **config.loss_network),
        style_image,
        layers.content,
        layers.style,
        LossWeights(**config.loss.weights),
        config.loss.convention,
        config.loss.reduction,
        {str(name): _own_term(term) for name, term in config.loss.terms.items()},
    )


def _own_term(config: DictConfig) -> tuple[float, Term]:
    """The weight and the function; other keys are arguments of the function."""
    function = OmegaConf.masked_copy(config, [str(key) for key in config if key != "weight"])
    return config.weight, instantiate(function, _partial_=True)
