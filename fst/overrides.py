"""Overrides of a command line, `KEY=VALUE`: made, expanded, and refused where Hydra would misunderstand them."""

import re
from collections.abc import Mapping
from glob import glob
from pathlib import Path

from fst.errors import UserError
from fst.files import expand_user
from fst.resources import resource_folder
from fst.typed import suggest


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


def search_path(config_dir: str) -> str:
    """An override that makes Hydra find the user's own configurations before fst's."""
    return f"hydra.searchpath=[{quote(f'file://{Path(config_dir).resolve()}')}]"


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
    try:
        float(value)
    except ValueError:
        return value in ("", "null", "true", "false")
    return True


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
