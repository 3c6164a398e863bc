"""A callback of one's own: any of Lightning's kind."""

from typing import Any

import pytorch_lightning as pl


class Brightness(pl.Callback):
    """Logs how bright the stylized validation pictures are, beside the curves of fst."""

    def __init__(self, pictures: int = 1) -> None:
        self.pictures = pictures

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        pl_module.log("val/brightness", outputs["stylized"][: self.pictures].mean())
