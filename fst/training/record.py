"""The record of a run, kept in its checkpoints: the settings that decide its result, and its history."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

import fst
from fst.checkpoints import fingerprint, flat_settings, refuse_changes
from fst.resources import find_style_image
from fst.rules import start_of
from fst.style_info import BUNDLED, STYLE_SUFFIX, Run, find_style, read_info
from fst.training.data.crops import CropDataModule

log = logging.getLogger(__name__)

# Keys that may differ when a run is resumed, because they do not decide what is learned. The length does, since the
# learning rate depends on it; the style file's history records it.
_MAY_DIFFER = (
    "trainer.max_steps",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.benchmark",
    "trainer.log_every_n_steps",
    "trainer.limit_val_batches",
    "data.workers",
    "logger",
    "name",
    "compile",
    "ckpt_path",
    "checkpoint_every",
    "val_every",
)
RECORD = "fst"  # the record's key in a checkpoint
_INSTEAD = "to change them, start from a style file: init_from=STYLE"


class Record:
    """The settings and history of a run.

    Args:
        config: of `fst train`.
        data: made from its group `data`.
        trainer: made from its group `trainer`.
    """

    def __init__(self, config: DictConfig, data: pl.LightningDataModule, trainer: pl.Trainer) -> None:
        self._settings = _settings(config, data, trainer.precision)
        versions = {"fst": fst.__version__, "torch": str(torch.__version__)}
        device = trainer.strategy.root_device.type
        self._run = Run(config.name, 0, trainer.max_steps, device, str(trainer.precision), versions)
        start = start_of(config)
        self._start = _history_of(start) if start else ()  # history of the style that it starts from
        self._parts: tuple[Run, ...] = ()  # earlier parts of this training

    def resume(self, path: Path, state: Mapping[str, Any]) -> None:
        """Continue the history in a checkpoint's state.

        Raises:
            UserError: the checkpoint was made with other settings.
        """
        if RECORD not in state:
            log.warning("%s: written by an older fst without its settings; assuming that they are the same", path)
            self._parts = (Run(self._run.style, state["global_step"]),)
            return
        before = state[RECORD]["settings"]
        start = {"init_from": style_name(before.get("init_from")) or None}  # of an older fst it can be a path
        refuse_changes(path, before | start, self._settings, _INSTEAD)
        self._start, self._parts = (tuple(Run(**run) for run in state[RECORD][of]) for of in ("start", "parts"))

    def write(self, state: dict[str, Any], steps: int) -> None:
        """Put the record into the state of a checkpoint after `steps` steps."""
        start, parts = ([dataclasses.asdict(run) for run in runs] for runs in (self._start, self._until(steps)))
        state[RECORD] = {"settings": self._settings, "start": start, "parts": parts}

    def history(self, steps: int) -> tuple[Run, ...]:
        """For the style file after `steps` steps."""
        return self._start + self._until(steps)

    def _until(self, steps: int) -> tuple[Run, ...]:
        run = dataclasses.replace(self._run, steps=steps)
        if not self._parts:
            return (run,)
        last = self._parts[-1]
        if steps <= last.steps:  # nothing was trained since
            return self._parts
        same = dataclasses.replace(last, steps=steps) == run  # only stopped in between: one part
        return (*(self._parts[:-1] if same else self._parts), run)


def style_name(style: str | None) -> str:
    """Of a style that is given by its name, by `bundled:NAME` or by its path; "" for none."""
    return Path(str(style or "").removeprefix(BUNDLED)).name.removesuffix(STYLE_SUFFIX)


def _history_of(style: str) -> tuple[Run, ...]:
    info = read_info(find_style(style))
    return tuple(info.history) or (Run(info.name, info.steps, versions=info.versions),)


def _settings(config: DictConfig, data: pl.LightningDataModule, precision: Any) -> dict[str, Any]:
    """Settings by dotted key; files and folders are represented by their fingerprints, the style that it started from
    by its name: its file is not needed any more."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    found = flat_settings(plain, _MAY_DIFFER) | {"init_from": style_name(config.init_from) or None}
    files = {
        "style.image": find_style_image(config.style.image),
        "loss_network.weights": Path(config.loss_network.weights),
    }
    if config.teacher.style is not None:
        files["teacher.style"] = find_style(config.teacher.style)
    found |= {key: fingerprint(path) for key, path in files.items() if path.is_file()}
    if isinstance(data, CropDataModule):
        found |= {f"data.{key}": pictures for key, pictures in data.fingerprints().items()}
    return found | {"trainer.precision": str(precision)}
