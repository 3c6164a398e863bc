"""`fst search`: a Hydra application. Its configuration is checked before torch is loaded."""

import os
from pathlib import Path

from omegaconf import DictConfig

from fst.hydra_app import check_jobs, launch, read_arguments, show_configuration
from fst.overrides import quote
from fst.study.search_config import SEARCH
from fst.sweep import Outcome


def main(arguments: list[str]) -> None:
    """`fst search`.

    Raises:
        UserError, RunError: see `search`, or a mistake in the configuration.
        KeyboardInterrupt: stopped by a signal.
    """
    options = read_arguments(SEARCH, arguments)
    if options.config_dir is not None:  # the named layer sets are composed with it as well
        options.overrides.append(f"config_dir={quote(Path(options.config_dir).resolve())}")
    if show_configuration(SEARCH, options):
        return
    check_jobs(SEARCH, options)

    def job(config: DictConfig, folder: Path) -> Outcome:
        from fst.study.search import search

        return Outcome(search(config, Path(os.path.relpath(folder))))

    launch(SEARCH, options, job)
