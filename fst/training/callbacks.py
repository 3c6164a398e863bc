"""What happens around the training steps: progress bar, sample images, checkpoints, and stopping on a signal."""

import logging
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor

from fst.checkpoints import load_checkpoint, save_checkpoint
from fst.errors import RunError
from fst.images import contact_sheet
from fst.pictures import write_image
from fst.signals import Interrupted, StopRequest
from fst.training.curves import Curves
from fst.training.record import Record

log = logging.getLogger(__name__)


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, over the steps of the whole run, with the loss and the pictures per second."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures, self._since = 0, 0.0  # since the last reading of the clock

    def init_train_tqdm(self) -> Tqdm:
        done, total = self.trainer.global_step, self.trainer.max_steps
        return Tqdm(
            desc="training", initial=done, total=total, unit="step", disable=self.is_disabled, dynamic_ncols=True
        )

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(leave=False, disable=self.is_disabled, dynamic_ncols=True)

    def on_train_start(self, *arguments: Any) -> None:
        super().on_train_start(*arguments)
        self._restart_clock()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Keep the bar: Lightning would begin one for each epoch."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        self._pictures += len(batch) * trainer.world_size
        stepped = trainer.global_step - self.train_progress_bar.n  # 0 while gradients are accumulated
        self.train_progress_bar.update(stepped)
        if stepped and trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("train/pictures_per_second", self._pictures / (time.perf_counter() - self._since))
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))
            self._restart_clock()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._restart_clock()

    def on_exception(self, *_: Any) -> None:
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, int | str | float | dict]:
        names = ("loss", "content", "style", "pictures_per_second")
        logged = {name: trainer.callback_metrics.get(f"train/{name}") for name in names}
        return {
            name.replace("_per_second", "/s"): f"{value.item():.4g}"
            for name, value in logged.items()
            if value is not None
        }

    def _restart_clock(self) -> None:
        self._pictures, self._since = 0, time.perf_counter()


_SAMPLES = 4  # validation photos in a sample image


class ImageLogger(pl.Callback):
    """After each validation, writes some validation photos, their stylized versions and the style image side by side:
    one PNG in `folder`, and the same picture in TensorBoard. If it cannot be written, training continues."""

    def __init__(self, style_image: Tensor, folder: Path) -> None:
        self._style_image, self._folder = style_image, folder
        self._failed = False
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pairs = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, *_: Any
    ) -> None:
        self._pairs += list(zip(outputs["content"].split(1), outputs["stylized"].split(1), strict=True))
        self._pairs = self._pairs[:_SAMPLES]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self._pairs:
            return
        contents, stylized = zip(*self._pairs, strict=True)
        image = contact_sheet([contents, [*stylized, self._style_image]])
        try:
            write_image(image, self._folder / f"step_{trainer.global_step:06d}.png")
        except RunError as error:
            if not self._failed:
                log.warning("sample images cannot be written; the training continues (%s)", error)
            self._failed = True
        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.log_image("val/stylized", np.asarray(image), trainer.global_step)


class AtomicCheckpoints(CheckpointIO):
    """Lets Lightning read and write checkpoints with `fst.checkpoints`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


class GracefulStop(pl.Callback):
    """Saves checkpoints, and stops the run on a signal or when the loss is no longer finite.

    A checkpoint, with the run's `record`, is saved every `save_every` steps and before each validation. On SIGINT or
    SIGTERM the current step is finished, saved, and the run stops; a validation stops after its current batch. A
    second signal stops at once. A loss that is NaN or infinite stops the run within `check_every` steps. No
    checkpoint is saved after such a loss, or with weights that are NaN or infinite.
    """

    def __init__(
        self, checkpoint: Path, record: Record, save_every: int, validate_every: int, check_every: int
    ) -> None:
        self._checkpoint, self._record = checkpoint, record
        self._save_every, self._validate_every, self._check_every = save_every, validate_every, check_every
        self.request = StopRequest()  # `train` enters it before Lightning starts, which restores the handlers it found
        self._step = self._saved = 0
        self._finite: Tensor | None = None  # whether all losses so far were finite; on the device

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning's own handler raises SystemExit at the next batch, and broadcasts from within the handler.
        self.request.listen()
        self._step = trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.request.listen()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        finite = outputs["loss"].detach().isfinite()
        self._finite = finite if self._finite is None else self._finite & finite
        step = trainer.global_step
        if step == self._step:
            return  # gradients are being accumulated: a run cannot resume from here
        self._step = step
        check = step % self._check_every == 0  # only these steps wait for the device and other processes
        if check:
            self._require_finite(trainer, self._finite)
        stop = (check or trainer.world_size == 1) and self._is_stopped(trainer)
        if stop or step % self._save_every == 0 or step % self._validate_every == 0:
            self.save(trainer)
        if stop:
            self._raise(trainer)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.global_step == 0:  # SOAP's first step would fail in the middle of its linear algebra
            gradients = [weights.grad for weights in pl_module.parameters() if weights.grad is not None]
            self._require_finite(trainer, torch.stack([gradient.isfinite().all() for gradient in gradients]).all())

    def save(self, trainer: pl.Trainer) -> None:
        """Save the checkpoint, unless this step's is saved already."""
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self._checkpoint)
            self._saved = trainer.global_step

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._is_stopped(trainer):
            self._raise(trainer)  # the checkpoint was saved before the validation

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        finite = [tensor.isfinite().all() for tensor in checkpoint["state_dict"].values()]
        if self._finite is not None:
            # After the last step Lightning moves the network to the CPU, but not this.
            finite.append(self._finite.to(finite[0].device))
        self._require_finite(trainer, torch.stack(finite).all())
        self._record.write(checkpoint, trainer.global_step)

    def _is_stopped(self, trainer: pl.Trainer) -> bool:
        """Whether any process received a signal."""
        return trainer.strategy.reduce_boolean_decision(self.request.signal is not None, all=False)

    def _raise(self, trainer: pl.Trainer) -> NoReturn:
        raise Interrupted(self.request.signal or signal.SIGTERM, trainer.global_step)

    def _require_finite(self, trainer: pl.Trainer, finite: Tensor) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(finite)):
            return
        kept = f"the last good checkpoint is {self._checkpoint}" if self._checkpoint.exists() else "nothing saved yet"
        raise RunError(
            f"the loss or the weights became NaN or infinite by step {trainer.global_step}; {kept}. Try a lower "
            "optimizer.algorithm.lr (a third) or trainer.precision=32-true"
        )
