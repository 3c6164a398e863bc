"""Files that appear whole or not at all, and what can be known of them before the work."""

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from fst.errors import RunError, UserError, one_line

LONGEST_NAME = 100  # bytes of UTF-8: file systems take 255, and suffixes and other names are added

_MARK = "fst-tmp"  # in the names of temporary files
_ABANDONED = 24 * 3600  # seconds since the last write after which a temporary file belongs to no running process
_LONGEST_STEM = 40  # characters of a temporary file's name: with all that is added, it must not become too long


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A hidden file beside `path`, of the same suffix, to write to; it becomes `path` at the end, or goes on an error.

    What the body raises passes unchanged; `write_errors_of` is for its writes. Temporary files that killed
    processes left in the folder a day ago or earlier are removed.

    Raises:
        RunError: the file cannot be made in its folder, or cannot be put in its place.
    """
    temporary = path.with_name(f".{path.stem[:_LONGEST_STEM]}.{secrets.token_hex(4)}.{_MARK}{path.suffix}")
    with write_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _collect_abandoned(path.parent.resolve())
        temporary.touch(exist_ok=False)
    try:
        yield temporary
        with write_errors_of(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_errors_of(path: Path) -> Iterator[None]:
    """Around what writes to `path`: a system error becomes a RunError that names it."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` appears whole or not at all.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    with written_atomically(path) as temporary, write_errors_of(path):
        fill(temporary, data)


def fill(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a file; the OSError where that fails says how much room it takes and how much there is."""
    try:
        path.write_bytes(data)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        room = f"{len(data) / 2**20:.2f} MiB needed, {free / 2**20:.2f} MiB free"
        raise OSError(error.errno, f"{error.strerror}, {room}") from error


def check_name(name: str) -> str:
    """A name that files and folders are given, as it is.

    Raises:
        UserError: it is empty, longer than 100 bytes, holds a path separator or a control character, or is `.` or `..`.
    """
    shown, size = f"name='{one_line(name, 40)}'", len(os.fsencode(name))
    if not 0 < size <= LONGEST_NAME:
        raise UserError(f"{shown} has {size} bytes; it can have 1 to {LONGEST_NAME}")
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise UserError(f"{shown} cannot be a file's: no path, no control characters")
    return name


def check_writable(path: Path) -> None:
    """Find out before the work whether a file can be written afterwards; leaves nothing behind.

    Raises:
        UserError: `path` is a folder, its name is too long, or its folder cannot be made or written.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file")
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error


def refusal_to_read(path: Path) -> str | None:
    """Why something that is there can be no input: a folder, or a pipe or device, which could block for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # opening it will tell
    if stat.S_ISREG(mode):
        return None
    return "is a folder" if stat.S_ISDIR(mode) else "is a pipe or a device; save what it gives to a file first"


@lru_cache  # once for each folder: a video's frames may fill it
def _collect_abandoned(folder: Path) -> None:
    now = time.time()
    for path in folder.glob(f".*.{_MARK}*"):
        with suppress(OSError):
            if now - path.stat().st_mtime > _ABANDONED:
                path.unlink()
