"""`fst train`: a Hydra application. Its configuration is checked before torch and Lightning are loaded."""

import os
import shlex
import threading
from pathlib import Path

from omegaconf import DictConfig

from fst.checkpoints import refuse_used
from fst.hydra_app import run_application
from fst.schemas import TRAIN
from fst.style_info import STYLE_SUFFIX
from fst.sweep import Outcome

_SHOWN = ("val/loss", "val/content", "val/style")  # in the table of a sweep, which minimises the first
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # where Lightning looks, in this order


def main(arguments: list[str]) -> None:
    """`fst train`.

    Raises:
        UserError, RunError, Interrupted: the first run's that failed; a sweep does its other runs all the same.
    """

    writes = _is_writer()

    def job(config: DictConfig, folder: Path) -> Outcome:
        if writes and config.ckpt_path is None:
            refuse_used(folder, config.name + STYLE_SUFFIX)
        from fst.training.train import train

        path, scores = train(config, folder)
        shown = os.path.relpath(path)
        own = config.model.get("_target_")  # a class of the user's, which the style file does not import
        network = f" --network {':'.join(own.rsplit('.', 1))}" if own else ""
        text = f"trained {config.name}: {shown}\nuse it:  fst stylize PHOTO -s {shlex.quote(shown)}{network}"
        return Outcome(text, shown, {name: scores[name] for name in _SHOWN if name in scores})

    threading.excepthook = _drop_write_errors
    run_application(TRAIN, arguments, job, quiet=not writes)


def _is_writer() -> bool:
    """Whether this is the process that writes and prints, of several with trainer=ddp."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def _drop_write_errors(failure: threading.ExceptHookArgs) -> None:
    """Drop the traceback that TensorBoard's writing thread prints: `Curves` reports the same error."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)
