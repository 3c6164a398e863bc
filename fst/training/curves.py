"""The loggers of a run, whose failures do not stop it."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyExperiment

from fst.errors import UserError, one_line

log = logging.getLogger(__name__)


def build_loggers(config: DictConfig, folder: Path) -> "list[Curves]":
    """The loggers of the group `logger`; one whose `save_dir` is null writes to `folder`.

    Raises:
        UserError: one cannot be made, as when its package is not installed.
    """
    loggers = []
    for name, one in config.items():
        places = {"save_dir": str(folder)} if one.get("save_dir", folder) is None else {}
        try:
            loggers.append(Curves(instantiate(one, **places)))
        except InstantiationException as error:
            raise UserError(f"logger.{name!s}: {one_line(error.__cause__ or error, 200)}") from error
    return loggers


@contextmanager
def running(loggers: "Iterable[Curves]", params: Mapping[str, Any]) -> Iterator[None]:
    """Gives the loggers the hyperparameters, and ends their runs behind it, as failed after an exception."""
    status = "failed"
    for logger in loggers:
        logger.log_hyperparams(dict(params))
    try:
        yield
        status = "success"
    finally:
        for logger in loggers:
            logger.close(status)


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

    @property
    def experiment(self) -> Any:
        """What the logger writes with, for a callback of one's own: of TensorBoard's, a `SummaryWriter`. After an
        error, an object whose methods do nothing.

        Raises:
            AttributeError: a logger of one's own without it.
        """
        logger: Any = self._logger
        if "experiment" not in dir(logger):  # `hasattr` would open it
            raise AttributeError(f"{type(logger).__name__} has no attribute 'experiment'")
        self._try(lambda: logger.experiment)  # opens it; Lightning asks for it before the training
        return DummyExperiment() if self._failed else logger.experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._try(lambda: self._logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._try(lambda: self._logger.log_hyperparams(params, *args, **kwargs))

    def log_scores(self, params: Mapping[str, Any], scores: Mapping[str, float], step: int) -> None:
        """Show the final scores beside the hyperparameters on TensorBoard's HParams page."""
        if isinstance(logger := self._logger, TensorBoardLogger):
            final = {name.replace("val/", "final/"): score for name, score in scores.items()}
            self._try(lambda: logger.log_hyperparams(dict(params), final, step))

    def log_image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Show a `(H, W, 3)` uint8 picture, if the logger takes any: TensorBoard's, MLflow's, and those with a method
        `log_image`, such as that of Weights & Biases."""
        logger: Any = self._logger
        if isinstance(logger, TensorBoardLogger):
            self._try(lambda: logger.experiment.add_image(tag, picture, step, dataformats="HWC"))
        elif isinstance(logger, MLFlowLogger):
            self._try(lambda: logger.experiment.log_image(logger.run_id, picture, key=tag, step=step))
        elif hasattr(logger, "log_image"):
            self._try(lambda: logger.log_image(tag, [picture], step))

    def save(self) -> None:
        self._try(self._logger.save)

    def finalize(self, status: str) -> None:
        """Write what is held back. Lightning calls this after each validation and training, and after it TensorBoard's
        logger would begin another file, so only `close` ends the run."""
        self.save()

    def close(self, status: str) -> None:
        """End the run: its `status` is `success` or `failed`."""
        self._try(lambda: self._logger.finalize(status))
        if isinstance(logger := self._logger, WandbLogger):
            self._try(lambda: logger.experiment.finish())  # or the next run of a sweep would go on with this one

    def _try(self, act: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            act()
        except Exception as error:
            self._failed = True
            log.warning("the curves cannot be written any more; the training continues (%s)", error)
