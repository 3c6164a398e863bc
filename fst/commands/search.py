"""`fst search`: a Hydra application. Its configuration is checked before torch is loaded."""

import os
from pathlib import Path

from omegaconf import DictConfig

from fst.hydra_app import run_application
from fst.study.search_config import SEARCH
from fst.sweep import Outcome


def main(arguments: list[str]) -> None:
    """`fst search`.

    Raises:
        UserError, RunError: see `search`, or a mistake in the configuration.
        KeyboardInterrupt: stopped by a signal.
    """

    def job(config: DictConfig, folder: Path) -> Outcome:
        from fst.study.search import search

        return Outcome(search(config, Path(os.path.relpath(folder))))

    run_application(SEARCH, arguments, job)
