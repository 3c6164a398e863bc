"""Curves for a logger that may fail, without stopping the training."""

import logging
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger

log = logging.getLogger(__name__)


class Curves(Logger):
    """Forwards to one of Lightning's loggers until that fails; then warns once and writes no more curves.

    Once TensorBoard's writing thread has failed, each later call raises the same error, also the one that ends the run.
    """

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger, self._failed = logger, False

    @property
    def name(self) -> str | None:
        return self._logger.name

    @property
    def version(self) -> int | str | None:
        return self._logger.version

    @property
    def save_dir(self) -> str | None:
        return self._logger.save_dir

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._try(lambda: self._logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._try(lambda: self._logger.log_hyperparams(params, *args, **kwargs))

    def log_image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Log an `(H, W, 3)` uint8 picture, if the logger is TensorBoard's."""
        if isinstance(logger := self._logger, TensorBoardLogger):
            self._try(lambda: logger.experiment.add_image(tag, picture, step, dataformats="HWC"))

    def save(self) -> None:
        self._try(self._logger.save)

    def finalize(self, status: str) -> None:
        self._try(lambda: self._logger.finalize(status))

    def _try(self, act: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            act()
        except Exception as error:
            self._failed = True
            log.warning("no more curves can be written; training continues (%s)", error)
