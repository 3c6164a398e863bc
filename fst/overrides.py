"""The command line of a Hydra application: its overrides, `KEY=VALUE`, are read, expanded, and refused where Hydra
would misunderstand them. Those of other runs are made here, too."""

import re
from argparse import Namespace
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from fst.errors import UserError
from fst.files import expand_user
from fst.resources import resource_folder
from fst.schemas import Application
from fst.typed import keys_of, show, suggest, takes_text

_HOME = re.compile(r"""(?<![^,'"])~[^/,'"]*""")  # at the start of a value, or of one of several


def read_arguments(application: Application, arguments: list[str]) -> Namespace:
    """Hydra's options and overrides, in any order.

    Raises:
        UserError: an option that Hydra does not have, or `style.image=glob(…)` that matches nothing.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"fst {application.command}: {message}; fst {application.command} --help lists the options")

    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(arguments)
    if options.config_path or options.config_name:
        refuse("--config-path and --config-name are not for fst; --config-dir adds a folder of your own files")
    # Hydra's parser needs all overrides side by side, so options and overrides are kept apart here.
    folder = options.config_dir
    options.flags = [
        argument
        for argument in arguments
        if argument not in (*options.overrides, folder) and not argument.startswith(("--config-dir", "-cd"))
    ]
    options.overrides = [for_hydra(application, override) for override in options.overrides]
    if folder is not None:  # as an override, so that configurations composed within a run have it as well
        folder = expand_user(folder)
        if not folder.is_dir():
            raise UserError(f"--config-dir {show(folder)}: no such folder")
        options.overrides += search_path(folder)
        if "config_dir" in keys_of(application.schema):
            options.overrides.append(f"config_dir={quote(folder.resolve())}")
    return options


def quote(value: object) -> str:
    """A value in quotes for Hydra's grammar: commas and braces in it are taken literally."""
    return "'" + str(value).replace("'", "\\'") + "'"


def overrides_of(values: Mapping[str, object]) -> list[str]:
    """`KEY=VALUE` for each value that is not `None`; text in quotes."""
    given = {key: quote(value) if isinstance(value, str) else value for key, value in values.items()}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def device_overrides(device: str) -> list[str]:
    """The overrides of `fst train` that choose a device, such as `cuda:1`."""
    kind, _, number = device.partition(":")
    return overrides_of({"trainer.accelerator": kind, "trainer.devices": [int(number)] if number else None})


def search_path(config_dir: str | Path | None) -> list[str]:
    """The override, if any, that makes Hydra find the user's own configurations before fst's."""
    return [f"hydra.searchpath=[{quote(f'file://{Path(config_dir).resolve()}')}]"] if config_dir is not None else []


def for_hydra(application: Application, override: str) -> str:
    """The override as Hydra understands it; see `expand_glob`, `quote_value` and `refuse_empty`."""
    key, equals, value = expand_glob(override).partition("=")
    value = _HOME.sub(lambda found: str(expand_user(found[0])), value)  # few shells expand it there
    override = quote_value(f"{key}{equals}{value}")
    if _is_number(value) and not value.isdigit() and takes_text(application.schema, key.lstrip("+")):
        override = f"{key}={quote(value)}"  # to Hydra, 2024_01_31 is 20240131, and 1.10 is 1.1
    refuse_empty(override)
    return override


def refuse_empty(override: str) -> None:
    """Refuse a choice of a group that is empty, `null`, a boolean or a number, for which Hydra would not list the
    choices, and `KEY={}`, which would change nothing.

    Raises:
        UserError: the override is one of these.
    """
    key, _, value = override.partition("=")
    group = resource_folder("conf") / key
    if group.is_dir() and any(map(_is_no_name, value.strip("[]").split(","))):
        choices = sorted(path.stem for path in group.glob("*.yaml"))
        raise UserError(f"{override}: no such choice; {suggest(value, choices)}")
    if value == "{}":
        raise UserError(f"{override}: adds nothing, and takes nothing away; a weight of 0 switches a layer off")


def _is_no_name(value: str) -> bool:
    return _is_number(value) or value in ("", "null", "true", "false")


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def quote_value(override: str) -> str:
    """The override, its value in quotes where that has characters that Hydra's grammar lacks, as in `~/Gemälde.jpg`.

    >>> quote_value("style.image=~/Gemälde.jpg"), quote_value("style.image=a.jpg,b.jpg")
    ("style.image='~/Gemälde.jpg'", 'style.image=a.jpg,b.jpg')
    """
    key, _, value = override.partition("=")
    odd = re.search(r"[=~]|[^\x00-\x7f]", value) and not re.search(r"""[,()\[\]{}'"\\]""", value)
    return f"{key}={quote(value)}" if odd else override


def expand_glob(argument: str) -> str:
    """`style.image=glob(PATTERN)` as a list of files: Hydra's own glob is for config groups only.

    Raises:
        UserError: no file matches.
    """
    if not (pattern := re.fullmatch(r"style\.image=glob\((.*)\)", argument)):
        return argument
    # Path.glob takes no absolute patterns.
    paths = sorted(glob(str(expand_user(pattern[1].strip("'\"")))))  # noqa: PTH207
    if not paths:
        raise UserError(f"{argument}: no such files")
    return "style.image=" + ",".join(quote(path) for path in paths)
