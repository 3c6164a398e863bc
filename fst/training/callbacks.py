"""What happens around the steps: progress, sample strips, and stopping without losing anything."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor
from tqdm import tqdm

from fst.errors import RunError
from fst.images import contact_sheet, to_pil, to_uint8, write_image
from fst.stopping import Interrupted, StopRequest


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
    """A bar over the steps and the logger's curves: loss terms and pictures per second, every `every` steps and one
    such stretch late (see `Reading`)."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._reading: tuple[int, float, Reading] | None = None
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

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert self._bar is not None
        self._pictures += len(batch) * trainer.world_size
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self._every == 0:
            self._show_reading(trainer)
            rate = self._pictures / (time.perf_counter() - self._since)
            self._reading = (trainer.global_step, rate, Reading(outputs, trainer.strategy))
            self._restart_clock()

    def _show_reading(self, trainer: pl.Trainer) -> None:
        if self._reading is None:
            return
        step, rate, reading = self._reading
        self._reading = None
        terms = reading.values() | {"pictures_per_second": rate}
        if self._bar is not None:
            shown = {name: f"{terms[name]:.4g}" for name in ("loss", "content", "style") if name in terms}
            self._bar.set_postfix(shown | {"pictures/s": f"{rate:.3g}"})
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{name}": value for name, value in terms.items()}, step)

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


class SampleStrip(pl.Callback):
    """After each validation, the style, some validation photos and what the network makes of them: one PNG in
    `folder`, and the same picture in TensorBoard."""

    def __init__(self, style_image: Tensor, folder: Path, pictures: int = 4) -> None:
        self._style_image, self._folder, self._most = style_image, folder, pictures
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
        sheet = contact_sheet([contents, [*stylized, self._style_image]])
        write_image(to_pil(sheet), self._folder / f"step_{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.experiment.add_image("val/stylized", to_uint8(sheet)[0], trainer.global_step, dataformats="HWC")


class SafeStop(pl.Callback):
    """SIGINT and SIGTERM finish the step, save `checkpoint` and stop; a second signal stops at once. A loss that is
    NaN or infinite stops the run, seen within twice `every` steps and before anything spoiled is saved."""

    def __init__(self, checkpoint: Path, every: int) -> None:
        self._checkpoint, self._every = checkpoint, every
        self.request = StopRequest()  # for a `with` around Trainer.fit: Lightning puts back the handlers it found
        self._finite: Tensor | None = None
        self._reading: Reading | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        finite = outputs["loss"].detach().isfinite()
        self._finite = finite if self._finite is None else self._finite & finite  # stays on the device
        if trainer.global_step % self._every == 0:
            if self._reading is not None:
                self._check(self._reading, trainer)
            self._reading = self._read_finite(trainer)
        elif trainer.world_size > 1:
            return  # several processes agree on stopping only where they wait for each other anyway
        if trainer.strategy.reduce_boolean_decision(self.request.signal is not None, all=False):
            trainer.save_checkpoint(self._checkpoint)
            raise Interrupted(self.request.signal or signal.SIGTERM, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._finite is not None:
            self._check(self._read_finite(trainer), trainer)

    def _read_finite(self, trainer: pl.Trainer) -> Reading:
        assert self._finite is not None
        return Reading({"finite": self._finite}, trainer.strategy)

    def _check(self, reading: Reading, trainer: pl.Trainer) -> None:
        if reading.values()["finite"] < 1:
            kept = (
                f"the last good checkpoint is {self._checkpoint}" if self._checkpoint.exists() else "nothing saved yet"
            )
            raise RunError(
                f"the loss became NaN or infinite by step {trainer.global_step}; {kept}. Try a lower "
                "optimizer.algorithm.lr (a third) or trainer.precision=32-true"
            )
