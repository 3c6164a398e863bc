"""The help of `fst train`, `optimize`, `compare` and `search`: the purpose, the choices of each group, and each key
with its comment, all read from the YAML files in `conf`."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from fst.networks.vgg_layers import layer_table
from fst.schemas import Application
from fst.typed import show

# Each layer of the loss network is also a layer set, beside those in conf/layers: layers=conv4_2.
for _layer in layer_table("vgg19"):
    if _layer.kind != "pool":
        _alone = {_layer.name: 1.0}
        ConfigStore.instance().store(_layer.name, {"content": _alone, "style": _alone}, group="layers")


_OPTIONS = """\
  -m                    one run for each of several values: KEY=A,B, or style.image=glob(PAINTINGS/*.jpg)
  --cfg job             print the whole configuration and end
  --config-dir FOLDER   your own YAML files, in folders named like the groups
  -sc install=bash      print what makes the shell complete keys and values
  --debug               show the whole traceback of an error"""


def help_text(
    application: Application,
    config: DictConfig,
    chosen: Mapping[str, str | None],
    choices: Callable[[str], Sequence[str]],
    folders: Sequence[Path],
) -> str:
    """The text of `--help`.

    Args:
        config: composed, unresolved.
        chosen: the choice in each group.
        choices: returns the choices of a group.
        folders: with YAML files, the user's own first.
    """
    main = _find(folders, f"{application.command}.yaml")
    groups = dict(_groups(main.read_text()))
    lines = [_purpose(main), "", f"  {application.example}", "", "usage: GROUP=CHOICE … KEY=VALUE … OPTION …", ""]
    lines += [_OPTIONS, "", "Groups, what is chosen now, and the choices:", ""]
    for group, note in groups.items():
        lines += [f"  {group}={chosen.get(group) or 'null'}  # {note}", *_wrapped(_listed(choices(group))), ""]
    notes = _notes(main, folders)
    for group in groups:  # the experiment is the last, as in the defaults list, and wins
        prefix = "" if group == "experiment" else f"{group}."
        found = _notes(_find(folders, f"{group}/{chosen.get(group)}.yaml"), folders)
        notes |= {f"{prefix}{key}": note for key, note in found.items() if note or f"{prefix}{key}" not in notes}
    plain: Any = OmegaConf.to_container(config, resolve=False)
    lines += ["Keys, and their values now:", ""]
    for key, value in _leaves(plain, notes):
        lines.append(f"  {f'{key}={show(value)}':<42}  # {notes.get(key, '')}".rstrip(" #"))
    return "\n".join(lines)


def _find(folders: Sequence[Path], name: str) -> Path:
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[-1] / name)


def _purpose(path: Path) -> str:
    """The comment at the top of a file."""
    lines = path.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.lstrip("# ") for line in lines[:end])


def _groups(text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^  - (?!optional)(\w+): [^#\n]*(?:# (.*))?$", text, re.MULTILINE):
        yield found[1], found[2] or ""


def _notes(path: Path, folders: Sequence[Path]) -> dict[str, str]:
    """The comment beside each key of a file and of the files in its defaults, by dotted name; "" without a comment."""
    if not path.is_file():
        return {}
    text = path.read_text()
    notes: dict[str, str] = {}
    for group, base in re.findall(r"^  - (/?)(\w+)(?:@_here_)?$", text, re.MULTILINE):
        if base != "_self_":
            notes |= _notes(_find(folders, f"{base}.yaml") if group else path.with_name(f"{base}.yaml"), folders)
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (found := re.match(r"( *)(\w+):(?: [^#]*?)?(?: *# (.*))?$", line)):
            continue
        indent = len(found[1])
        parents = [parent for parent in parents if parent[0] < indent] + [(indent, found[2])]
        notes[".".join(name for _, name in parents)] = found[3] or ""
    return notes


def _leaves(node: Mapping[str, object], notes: Mapping[str, str], path: str = "") -> Iterator[tuple[str, object]]:
    """The values that have their own line in the files."""
    for name, value in node.items():
        key = f"{path}{name}"
        if isinstance(value, dict) and any(known.startswith(f"{key}.") for known in notes):
            yield from _leaves(value, notes, f"{key}.")
        else:
            yield key, value


def named_choices(choices: Sequence[str]) -> list[str]:
    """The choices of a group, without the layer sets of a single layer."""
    layers = {layer.name for layer in layer_table("vgg19")}
    return [choice for choice in choices if choice not in layers]


def _listed(choices: Sequence[str]) -> str:
    named = named_choices(choices)
    return ", ".join(named) + (", or any layer by itself, as conv4_2" if len(named) < len(choices) else "")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=6 * " ", subsequent_indent=6 * " ", break_on_hyphens=False)
