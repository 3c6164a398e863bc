"""A logger whose failures do not stop the training."""

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, TensorBoardLogger

log = logging.getLogger(__name__)


def build_logger(config: DictConfig, folder: Path) -> "Curves | None":
    """The logger that the group `logger` describes; where its `save_dir` is null, it writes to `folder`."""
    places = {"save_dir": str(folder)} if config.get("save_dir", folder) is None else {}
    logger = instantiate(config, **places)
    return Curves(logger) if logger else None


class Curves(Logger):
    """Passes everything on to another of Lightning's loggers. After its first error, which is logged, nothing more is
    passed on.

    TensorBoard raises an error of its writing thread again at each call, and also at the one that ends the run.
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
        """Show a `(H, W, 3)` uint8 picture, if the logger is TensorBoard's."""
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
            log.warning("the curves cannot be written any more; the training continues (%s)", error)
