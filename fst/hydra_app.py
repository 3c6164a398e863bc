"""Runs a Hydra application: from a command line to checked configurations; errors become one line."""

import logging
import os
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fst.checkpoints import FOLDER, LAST, find_checkpoint, new_folder, run_folder
from fst.errors import RunError, UserError, find_cause
from fst.menu import help_text, named_choices
from fst.overrides import for_hydra, quote, read_arguments
from fst.resources import resource_folder
from fst.schemas import Application
from fst.signals import Interrupted, StopRequest
from fst.sweep import STOPPED, Notes, Outcome
from fst.typed import MissingKeyError, check, show, suggest, unknown_path

log = logging.getLogger(__name__)

Job = Callable[[DictConfig, Path], Outcome]


def _job_devices() -> int | list[int]:
    """Lightning's `devices` for one job of a sweep: the jobs take the GPUs in turn."""
    import torch  # only here

    started = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")
    number = HydraConfig.get().job.num if started else 0
    count = torch.cuda.device_count()
    return [number % count] if count else 1


# Functions that the files in `conf` call, as ${stem:PATH}.
OmegaConf.register_new_resolver("stem", lambda path: Path(str(path)).stem)
OmegaConf.register_new_resolver(
    "run_dir", lambda name, ckpt_path: str(run_folder(str(name), ckpt_path)), use_cache=True
)
OmegaConf.register_new_resolver("new_folder", new_folder, use_cache=True)
OmegaConf.register_new_resolver("job_devices", _job_devices)


def run_application(application: Application, arguments: list[str], job: Job, quiet: bool = False) -> None:
    """Do what a command line asks for: one run of `job`, or with `-m` a sweep of them, and a table at its end.

    Args:
        application: one of fst's.
        job: called with the configuration and the run's folder.
        quiet: write and print nothing; set in all but one of the processes that share a run.

    Raises:
        UserError: a mistake in the configuration; found before anything starts and any folder is made.
        UserError, RunError, Interrupted: from the first run that failed; a sweep does its other runs all the same.
    """
    options = read_arguments(application, arguments)
    if not show_configuration(application, options):
        check_jobs(application, options)
        if not _sweeps(options):
            launch(application, options, job, quiet)
            return
        # With joblib each process stops its own run; this one must wait for them.
        patience = StopRequest() if "joblib" in HydraConfig.get().launcher._target_ else nullcontext()
        with Notes() as notes, patience:
            try:
                launch(application, options, job, quiet, notes)
            finally:
                if table := notes.table():
                    print(f"\n{table}")


def show_configuration(application: Application, options: Namespace) -> bool:
    """Print what options such as --help and --cfg ask for; returns whether there was one; then nothing is run.

    Raises:
        UserError: the configuration cannot be composed.
    """
    if options.help:
        with composing(application):
            composed = compose_config(application, options.overrides)
            chosen = HydraConfig.get().runtime.choices
            choices = GlobalHydra.instance().config_loader().get_group_options
            folders = [Path(folder) for folder in (options.config_dir, resource_folder("conf")) if folder]
            print(help_text(application, composed, chosen, choices, folders))
        return True
    if options.cfg or options.info or options.hydra_help or options.shell_completion:
        launch(application, options, lambda config, folder: Outcome(""))
        return True
    return False


@contextmanager
def composing(application: Application) -> Iterator[None]:
    """Within it, Hydra's `compose` finds fst's configurations, and its errors become one line.

    Raises:
        UserError: a configuration cannot be composed.
    """
    try:
        with initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise find_cause(error) or config_error(application, error) from error


def configure(application: Application, overrides: list[str]) -> DictConfig:
    """The configuration that a command line would give, checked: for a notebook or a script.

    >>> from fst.schemas import TRAIN
    >>> configure(TRAIN, ["experiment=quickstart", "trainer.max_steps=20"]).trainer.max_steps
    20

    Raises:
        UserError: a mistake in it.
    """
    with composing(application):
        config = compose_config(application, [for_hydra(application, override) for override in overrides])
        check_config(application, config)
        return config


def compose_config(application: Application, overrides: list[str]) -> DictConfig:
    """Compose a configuration. Hydra's own node is left out, but set globally, so that `${hydra:…}` can be resolved."""
    config = compose(application.command, overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def check_jobs(application: Application, options: Namespace) -> None:
    """Compose and check the configurations that a command line asks for; in a sweep, each value once.

    Raises:
        UserError: a mistake in a configuration.
    """
    with composing(application):
        for overrides in _jobs(options):
            config = compose_config(application, overrides)
            check_config(application, config)
            apart = "submitit" in HydraConfig.get().launcher._target_  # a job of the cluster for each run
            if _sweeps(options) and not apart and hasattr(application.schema, "sweep_rule"):
                application.schema.sweep_rule(config)


def check_config(application: Application, config: DictConfig) -> None:
    """Refuse a composed configuration that its schema does not allow.

    Raises:
        UserError: names the key, the value, and what it can be.
    """
    unused = application.schema.unused(config) if hasattr(application.schema, "unused") else frozenset()
    try:
        check(config, application.schema, unused=unused)
    except MissingKeyError as error:
        raise UserError(f"{error}, as in: {application.example}") from error
    if config.get("ckpt_path") is not None:
        find_checkpoint(config.name, config.ckpt_path)


def _jobs(options: Namespace) -> Iterator[list[str]]:
    """The overrides of a run, or of as few jobs of a sweep as contain each value at least once."""
    if not _sweeps(options):
        yield options.overrides
        return
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    values = []
    for override in parser.parse_overrides(options.overrides):
        if not override.is_sweep_override():
            values.append([override.input_line or ""])
        elif override.is_discrete_sweep():  # interval(a, b) has no list of values: it is for sweepers that sample
            key = override.get_key_element()
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [choices[0] for choices in values]
    yield first
    for place, choices in enumerate(values):
        for choice in choices[1:]:
            yield [*first[:place], choice, *first[place + 1 :]]


def _sweeps(options: Namespace) -> bool:
    return options.multirun or "hydra.mode=MULTIRUN" in options.overrides


def launch(
    application: Application, options: Namespace, job: Job, quiet: bool = False, notes: Notes | None = None
) -> None:
    """Let Hydra do the runs, or what its other options ask for; see `run_application`."""
    failures: list[Exception] = []
    begun = False

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name=application.command)
    def run(config: DictConfig) -> float | None:
        nonlocal begun
        begun = True
        if notes is not None and notes.is_stopped():
            _note(notes, Outcome("", "not begun"))
            return None
        try:
            outcome = _run_job(application, config, [*options.flags, *options.overrides], job, quiet)
        except Exception as error:
            _note(notes, Outcome("", f"{STOPPED if isinstance(error, Interrupted) else 'failed'}: {error}"))
            raise
        if isinstance(outcome, Exception):
            failures.append(outcome)
            return None
        _note(notes, outcome)
        return outcome.objective  # sweepers that search for the best minimise it

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # raise errors instead of printing them
    overrides = list(options.overrides)
    if quiet:
        overrides += ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    try:
        with _command_line(*overrides, *options.flags):
            run()
    except (HydraException, OmegaConfBaseException) as error:
        raise find_cause(error) or config_error(application, error) from error
    except OSError as error:
        if begun:
            raise
        raise RunError(f"{error.filename}: cannot be created: {error.strerror}") from error
    if failures:
        raise failures[0]


def _note(notes: Notes | None, outcome: Outcome) -> None:
    if notes is not None:
        notes.add(HydraConfig.get().job.num, HydraConfig.get().overrides.task, outcome)


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    """Within it, `sys.argv` holds these arguments: Hydra and Lightning read them there."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _run_job(
    application: Application,
    config: DictConfig,
    arguments: list[str],
    job: Job,
    quiet: bool,
) -> Outcome | Exception:
    """One run, possibly of a sweep. Returns the error to show if it failed; in a sweep it is raised."""
    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    path = [override for override in hydra_config.overrides.hydra if override.startswith("hydra.searchpath=")]
    again = overrides + path if sweeping else arguments  # with trainer=ddp, Lightning starts other processes with these
    folder = Path(hydra_config.runtime.output_dir)
    try:
        check_config(application, config)
        with _command_line(application.command, *again):
            outcome = job(config, folder)
    except Interrupted as stop:
        if not quiet:
            same = [argument for argument in again if not argument.startswith("ckpt_path=")]
            same.append(f"ckpt_path={_checkpoint(config, folder, sweeping)}")
            how = f"continue with: fst {application.command} {shlex.join(same)}"
            print(f"{stop}; {how if stop.step else 'there was nothing to save yet'}")
        if sweeping:
            raise
        return stop
    except Exception as error:
        cause = find_cause(error)
        if cause is None and isinstance(error, InstantiationException | OmegaConfBaseException):
            cause = config_error(application, error)
        if cause is None:
            raise
        if sweeping:  # the launcher does the other runs, perhaps in other processes, and raises this at the end
            log.error("%s: %s", shlex.join(overrides), cause)
            raise cause from error
        return cause
    if not quiet:
        print(outcome.text)
    return outcome


def _checkpoint(config: DictConfig, run: Path, sweeping: bool) -> str:
    """What `ckpt_path` can be to continue a run: its path in a sweep, whose runs may have one name, and where
    hydra.run.dir gave the run another folder."""
    usual = run.parent == Path("outputs", config.name).resolve() and not sweeping
    return "last" if usual else quote(os.path.relpath(run / FOLDER / LAST))


def config_error(application: Application, error: Exception) -> UserError:
    """One line for an error of Hydra's or OmegaConf's."""
    text = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return UserError(
            f"{show(error.override)}: not understood; it can be KEY=VALUE, with quotes around a VALUE of commas, "
            "brackets, spaces or other signs: style.image=\"'a, b.jpg'\""
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return UserError(f"{group}={show(choice)}: no such choice; {suggest(choice, named_choices(error.options))}")
    if found := re.search(r"Could not override '([^']+)'", text):
        return UserError(f"{show(found[1])}: {unknown_path(application.schema, found[1])}")
    if found := re.search(r"Ambiguous value for argument '(.+?)' 1\.", text):
        key, _, value = found[1].partition("=")
        each = "fst compare takes one" if application.command == "compare" else "-m does a run for each"
        return UserError(f"{show(found[1])}: several values; {each}, {show(f'{key}=[{value}]')} is a list")
    return UserError(show(text, 200))
