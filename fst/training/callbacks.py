"""What happens around the steps: progress, sample strips, and stopping without losing anything."""

import logging
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.strategies import Strategy
from torch import Tensor
from tqdm import tqdm

from fst.checkpoints import load_checkpoint, save_checkpoint
from fst.errors import RunError
from fst.images import contact_sheet, to_pil, write_image
from fst.signals import Interrupted, StopRequest
from fst.training.curves import Curves
from fst.training.record import Record

log = logging.getLogger(__name__)


class Reading:
    """Scalars on their way off the device, averaged over all processes. Whoever reads them some steps later
    finds them there: no step waits for a metric."""

    def __init__(self, scalars: Mapping[str, Tensor], strategy: Strategy) -> None:
        stacked = torch.stack([scalar.detach().float() for scalar in scalars.values()])
        values = strategy.reduce(stacked, reduce_op="mean")
        assert isinstance(values, Tensor)
        self._names = list(scalars)
        self._values = values.to("cpu", non_blocking=values.is_cuda)
        self._arrived = torch.cuda.Event() if values.is_cuda else None
        if self._arrived:
            self._arrived.record()

    def values(self) -> dict[str, float]:
        if self._arrived:
            self._arrived.synchronize()
        return dict(zip(self._names, self._values.tolist(), strict=True))


class Progress(pl.Callback):
    """A bar over the steps and the logger's curves: loss terms, learning rate and pictures per second, every `every`
    steps and one such stretch late (see `Reading`)."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._reading: tuple[int, dict[str, float], Reading] | None = None
        self._learning_rate = 0.0
        self._bar: tqdm | None = None
        self._validation_bar: tqdm | None = None
        self._pictures, self._since = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            desc="training",
            unit="step",
            disable=not trainer.is_global_zero,
            dynamic_ncols=True,
        )
        self._restart_clock()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]  # at the end it is the next step's

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert self._bar is not None
        self._pictures += len(batch) * trainer.world_size
        stepped = trainer.global_step - self._bar.n  # 0 while gradients are gathered from several batches
        self._bar.update(stepped)
        if stepped and trainer.global_step % self._every == 0:
            self._show_reading(trainer)
            known = {
                "train/pictures_per_second": self._pictures / (time.perf_counter() - self._since),
                f"lr-{type(trainer.optimizers[0]).__name__}": self._learning_rate,
            }
            whole = {"loss": outputs["loss"] * trainer.accumulate_grad_batches}  # Lightning has divided it
            self._reading = (trainer.global_step, known, Reading(outputs | whole, trainer.strategy))
            self._restart_clock()

    def _show_reading(self, trainer: pl.Trainer) -> None:
        if self._reading is None:
            return
        step, known, reading = self._reading
        self._reading = None
        terms = reading.values()
        if self._bar is not None:
            shown = {name: f"{terms[name]:.4g}" for name in ("loss", "content", "style") if name in terms}
            self._bar.set_postfix(shown | {"pictures/s": f"{known['train/pictures_per_second']:.3g}"})
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{name}": value for name, value in terms.items()} | known, step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches = int(sum(trainer.num_val_batches))
        hidden = not trainer.is_global_zero
        self._validation_bar = tqdm(total=batches, desc="validating", leave=False, disable=hidden, dynamic_ncols=True)

    def on_validation_batch_end(self, *_: Any) -> None:
        assert self._validation_bar is not None
        self._validation_bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._validation_bar is not None
        self._validation_bar.close()
        self._restart_clock()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show_reading(trainer)
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _restart_clock(self) -> None:
        self._pictures, self._since = 0, time.perf_counter()


class ImageLogger(pl.Callback):
    """After each validation, the style, some validation photos and what the network makes of them: one PNG in
    `folder`, and the same picture in TensorBoard. Strips that cannot be written stop no training."""

    def __init__(self, style_image: Tensor, folder: Path, pictures: int = 4) -> None:
        self._style_image, self._folder, self._most = style_image, folder, pictures
        self._failed = False
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pairs = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, *_: Any
    ) -> None:
        self._pairs += list(zip(outputs["content"].split(1), outputs["stylized"].split(1), strict=True))
        self._pairs = self._pairs[: self._most]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self._pairs:
            return
        contents, stylized = zip(*self._pairs, strict=True)
        image = to_pil(contact_sheet([contents, [*stylized, self._style_image]]))
        try:
            write_image(image, self._folder / f"step_{trainer.global_step:06d}.png")
        except RunError as error:
            if not self._failed:
                log.warning("sample strips cannot be written; the training goes on (%s)", error)
            self._failed = True
        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.log_image("val/stylized", np.asarray(image), trainer.global_step)


class WholeCheckpoints(CheckpointIO):
    """Lightning's way to the files of `fst.checkpoints`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


class GracefulStop(pl.Callback):
    """Saves `checkpoint`, with what `record` notes, so that nothing is lost.

    It is saved every `save_every` steps and before each validation. SIGINT and SIGTERM finish the step, save it and
    stop; a validation stops after its batch. A second signal stops at once. A loss that is NaN or infinite stops the
    run, seen within twice `look_every` steps; neither it nor weights that are NaN or infinite are ever saved.
    """

    def __init__(self, checkpoint: Path, record: Record, save_every: int, validate_every: int, look_every: int) -> None:
        self._checkpoint, self._record = checkpoint, record
        self._save_every, self._validate_every, self._look_every = save_every, validate_every, look_every
        self.request = (
            StopRequest()
        )  # for a `with` around the Trainer's work: Lightning puts back the handlers it found
        self._step = self._saved = 0
        self._finite: Tensor | None = None
        self._reading: Reading | None = None

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
        self._finite = finite if self._finite is None else self._finite & finite  # stays on the device
        step = trainer.global_step
        if step == self._step:
            return  # gradients are being gathered from several batches: nothing could go on from here
        self._step = step
        look = step % self._look_every == 0
        if look:
            if self._reading is not None:
                self._check(self._reading, trainer)
            self._reading = self._read_finite(trainer)
        # Several processes agree on stopping only where they wait for each other anyway.
        stop = (look or trainer.world_size == 1) and self._stops(trainer)
        if stop or step % self._save_every == 0 or step % self._validate_every == 0:
            self.save(trainer)
        if stop:
            self._raise(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save the checkpoint unless it is that of this step."""
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self._checkpoint)
            self._saved = trainer.global_step

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._stops(trainer):
            self._raise(trainer)  # what has been learned is saved already

    def _stops(self, trainer: pl.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self.request.signal is not None, all=False)

    def _raise(self, trainer: pl.Trainer) -> NoReturn:
        raise Interrupted(self.request.signal or signal.SIGTERM, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._finite is not None:
            self._check(self._read_finite(trainer), trainer)
        weights = [tensor.isfinite().all() for tensor in checkpoint["state_dict"].values()]
        self._check(Reading({"finite": torch.stack(weights).all()}, trainer.strategy), trainer)
        self._record.write(checkpoint, trainer.global_step)

    def _read_finite(self, trainer: pl.Trainer) -> Reading:
        assert self._finite is not None
        return Reading({"finite": self._finite}, trainer.strategy)

    def _check(self, reading: Reading, trainer: pl.Trainer) -> None:
        if reading.values()["finite"] < 1:
            kept = (
                f"the last good checkpoint is {self._checkpoint}" if self._checkpoint.exists() else "nothing saved yet"
            )
            raise RunError(
                f"the loss or the weights became NaN or infinite by step {trainer.global_step}; {kept}. Try a lower "
                "optimizer.algorithm.lr (a third) or trainer.precision=32-true"
            )
