"""`fst optimize`: a Hydra application. Its configuration is checked before torch is loaded."""

import os
from pathlib import Path

from omegaconf import DictConfig

from fst.checkpoints import refuse_used
from fst.hydra_app import run_application
from fst.schemas import OPTIMIZE
from fst.sweep import Outcome


def main(arguments: list[str]) -> None:
    """`fst optimize`.

    Raises:
        UserError, RunError, Interrupted: the first run's that failed; a sweep does its other runs all the same.
    """

    def job(config: DictConfig, folder: Path) -> Outcome:
        if config.ckpt_path is None:
            refuse_used(folder, f"{config.name}.png")
        from fst.study.optimize import optimize

        return Outcome(os.path.relpath(optimize(config, folder)))

    run_application(OPTIMIZE, arguments, job)
