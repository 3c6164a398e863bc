"""`fst compare`: a Hydra application. Its configuration and those of all cells are checked before torch is loaded."""

from argparse import Namespace
from pathlib import Path

from omegaconf import DictConfig

from fst.errors import RunError, UserError
from fst.hydra_app import check_config, compose_config, composing, launch, show_configuration
from fst.overrides import read_arguments
from fst.study.cells import COMPARE, Cell, Composed, cell_folder, cells_of, compose_cell, study_folder
from fst.sweep import Outcome


def _plan(options: Namespace) -> tuple[DictConfig, dict[Cell, tuple[Path, Composed]]]:
    """The study, and of each cell the folder and the configurations, checked before the first cell starts."""
    with composing(COMPARE):
        config = compose_config(COMPARE, options.overrides)
        check_config(COMPARE, config)
        composed = [(cell, compose_cell(config, cell)) for cell in cells_of(config)]
        return config, {cell: (cell_folder(config, cell, *both), both) for cell, both in composed}


def _as_list(argument: str) -> str:
    """`layers=a,b` as `layer_sets=[a,b]`: to Hydra, `layers` is a group, which takes one choice."""
    key, _, value = argument.partition("=")
    return f"layer_sets=[{value.strip('[]')}]" if key == "layers" else argument


def main(arguments: list[str]) -> None:
    """`fst compare`.

    Raises:
        UserError: a mistake in the configuration.
        RunError: a cell failed; the others are done.
    """
    own = any(argument.startswith("layers=") for argument in arguments)
    study = ["study=mine"] if own and not any(argument.startswith("study=") for argument in arguments) else []
    options = read_arguments(COMPARE, [*study, *map(_as_list, arguments)])
    if show_configuration(COMPARE, options):
        return
    if options.multirun:
        raise UserError("-m: fst compare already runs a job for each cell of a study; give each key one value")
    config, cells = _plan(options)
    chosen = range(len(cells)) if config.cell is None else [config.cell]
    options.flags += ["--multirun"]
    options.overrides += [f"cell={','.join(map(str, chosen))}"]

    def job(config: DictConfig, _: Path) -> Outcome:
        from fst.study.compare import run_cell

        cell, (folder, composed) = list(cells.items())[config.cell]
        return Outcome(run_cell(config, cell, folder, *composed))

    launch(COMPARE, options, job)
    from fst.study.compare import read_result
    from fst.study.report import write_report

    results = [read_result(cell, folder) for cell, (folder, _) in cells.items()]
    page = write_report(config, results, study_folder(config))
    print(f"{sum('failed' not in result for result in results)} of {len(results)} cells done: {page}")
    if failures := [results[number] for number in chosen if "failed" in results[number]]:
        first = failures[0]
        raise RunError(f"{len(failures)} of {len(chosen)} cells failed; {first['cell']['name']}: {first['failed']}")
