"""Checkpoints on disk, and the folders of runs: written atomically, checked when read, compared when resumed."""

import hashlib
import io
import logging
import os
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fst.errors import RunError, UserError
from fst.files import expand_user, fill, write_errors_of, written_atomically
from fst.typed import show

log = logging.getLogger(__name__)

FOLDER = "checkpoints"  # of a run, for its checkpoints
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
_SHOWN = 2  # differing settings in an error message
_LONGEST = 40  # characters of a value in it


class CheckpointError(UserError):
    """A damaged file, or one that is not a checkpoint; the message names it and the reason."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values; an undamaged checkpoint at `path` first becomes `previous.ckpt` beside it.

    At any moment one of the two is complete, even if the process is killed or the disk is full.

    Raises:
        RunError: it cannot be written.
    """
    import torch  # here, because the folders of runs are found without it

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    with written_atomically(path) as temporary, write_errors_of(path):
        fill(temporary, buffer.getbuffer())
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a power failure could leave an empty file
        if _damage(path) is None:
            path.replace(path.with_name(PREVIOUS))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a file, on the CPU. No code in the file is run.

    Raises:
        CheckpointError: missing, damaged (its checksums are compared), or no checkpoint.
    """
    if reason := _damage(path):
        raise CheckpointError(f"ckpt_path={path}: not a checkpoint, or damaged ({reason})")
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"ckpt_path={path}: it holds more than tensors and plain values, and was not read"
        ) from error
    except Exception as error:  # torch raises many kinds
        raise CheckpointError(f"ckpt_path={path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"ckpt_path={path}: not a checkpoint (it holds a {type(state).__name__})")
    return state


def read_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file to resume from, and its state: `path`, or `previous.ckpt`, with a warning, if `path` is a `last.ckpt`
    that is damaged or missing.

    Raises:
        CheckpointError: neither can be read.
    """
    try:
        return path, load_checkpoint(path)
    except CheckpointError as error:
        previous = path.with_name(PREVIOUS)
        if path.name != LAST or not previous.is_file():
            raise
        state = load_checkpoint(previous)
        log.warning("%s; resuming from the previous one, %s", error, previous)
        return previous, state


def _damage(path: Path) -> str | None:
    """What is wrong with a file, judging by its checksums, which torch itself does not compare; `None` if nothing."""
    try:
        with zipfile.ZipFile(path) as file:
            odd = file.testzip()
    except FileNotFoundError:
        return "no such file"
    except Exception as error:  # zipfile raises many types
        return "it is empty" if path.is_file() and not path.stat().st_size else f"{error}" or type(error).__name__
    return odd and f"the checksum of {odd} is wrong"


def checkpoint_of(run: Path) -> Path | None:
    """The checkpoint of a run's folder, for `read_checkpoint`; `None` if there is none yet."""
    folder = run / FOLDER
    return folder / LAST if any((folder / name).is_file() for name in (LAST, PREVIOUS)) else None


def refuse_used(run: Path, result: str) -> None:
    """Refuse a run's folder, as hydra.run.dir can name it, that holds a checkpoint or a file named `result`, which a
    new run would overwrite.

    Raises:
        UserError: it does.
    """
    if checkpoint_of(run) or (run / result).exists():
        shown = os.path.relpath(run)
        raise UserError(f"hydra.run.dir={shown}: it holds another run; name another folder, or continue with ckpt_path")


def find_checkpoint(name: str, ckpt_path: str) -> Path:
    """The checkpoint that `ckpt_path` names, for `read_checkpoint`: a path, or `last`, of the newest run of that name.

    Raises:
        UserError: there is none.
    """
    if ckpt_path != "last":
        path = Path(ckpt_path)
        if not path.is_file() and path != checkpoint_of(path.parent.parent):
            raise UserError(f"ckpt_path={ckpt_path}: no such checkpoint; ckpt_path=last takes the newest run's")
        return path
    files = [path for kept in (LAST, PREVIOUS) for path in Path("outputs", name).glob(f"*/{FOLDER}/{kept}")]
    if not files:
        raise UserError(f"ckpt_path=last: no run of '{name}' below outputs has a checkpoint; leave it out to start one")
    return max(files, key=lambda path: path.stat().st_mtime).with_name(LAST)


def flat_settings(config: Mapping[str, Any], free: tuple[str, ...]) -> dict[str, Any]:
    """The values of a nested configuration by dotted keys, without the keys in `free` and those below them.

    >>> flat_settings({"a": {"b": 1, "c": [2]}, "d": 3, "dd": 4}, ("a.b", "d"))
    {'a.c': [2], 'dd': 4}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in free:
            continue
        below = tuple(name.removeprefix(f"{key}.") for name in free if name.startswith(f"{key}."))
        if isinstance(value, Mapping):  # an empty one has no settings
            found |= {f"{key}.{name}": inner for name, inner in flat_settings(value, below).items()}
        else:
            found[key] = value
    return found


def refuse_changes(
    path: Path, before: Mapping[str, Any], now: Mapping[str, Any], instead: str, prefix: str = "ckpt_path="
) -> None:
    """Refuse to resume a checkpoint with other settings than it was made with.

    Args:
        path: of the checkpoint.
        before, now: its settings and those of now, by dotted key, as of `flat_settings`.
        instead: for the message: how to continue with other settings.
        prefix: for the message: stands before the path.

    Raises:
        UserError: they differ; names the keys and both values.
    """
    changes = [
        f"{key} was {_shown(before, key)}, is {_shown(now, key)}"
        for key in [*now, *(key for key in before if key not in now)]
        if key not in before or key not in now or before[key] != now[key]
    ]
    if changes:
        rest = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise UserError(f"{prefix}{path}: made with other settings: {'; '.join(changes[:_SHOWN])}{rest}; {instead}")


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return show(settings[key], _LONGEST) if key in settings else "not set"


def fingerprint(path: Path) -> str:
    """A file's name and a hash of its content, which represent the file among the settings."""
    return f"{path.name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:8]})"


def folder_fingerprint(folder: str, paths: list[Path]) -> str:
    """The number of pictures and a hash of their names and sizes; it stays the same when the folder is moved.

    A file that is not there, such as a link that leads nowhere, has no size.
    """
    root, digest = expand_user(folder), hashlib.sha256()
    for path in paths:
        size = None
        with suppress(OSError):
            size = path.stat().st_size
        digest.update(f"{path.relative_to(root).as_posix()}\n{size}\n".encode(errors="surrogateescape"))
    return f"{len(paths)} pictures ({digest.hexdigest()[:8]})"


def run_folder(name: str, ckpt_path: str | None) -> Path:
    """The folder that a run writes to: that of the run it resumes, or a new `outputs/NAME/TIMESTAMP`.

    Raises:
        UserError: there is no such checkpoint.
    """
    if ckpt_path is not None:
        checkpoint = find_checkpoint(name, ckpt_path)
        if checkpoint.parent.name == FOLDER:
            return checkpoint.parent.parent
    return Path("outputs", new_folder("outputs", name))


def new_folder(root: str, name: str) -> str:
    """Make `ROOT/NAME/TIMESTAMP`; if several runs of one name start in the same second, a number is added.

    Returns:
        Its path below `root`.

    Raises:
        RunError: it cannot be created.
    """
    folder = begin = f"{name}/{datetime.now():%Y-%m-%d_%H-%M-%S}"
    number = 1
    try:
        Path(root, name).mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(FileExistsError):
                Path(root, folder).mkdir()
                return folder
            number += 1
            folder = f"{begin}_{number}"
    except OSError as error:
        raise RunError(f"{root}/{folder}: cannot be created: {error.strerror}") from error
