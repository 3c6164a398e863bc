"""Writing files atomically, and checks of names and places before the work starts."""

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

LONGEST_NAME = 100  # bytes of UTF-8: file systems take 255, and suffixes and other names are appended

_MARK = "fst-tmp"  # in the names of temporary files
_ABANDONED = 24 * 3600  # seconds since the last write after which a temporary file belongs to no running process
_LONGEST_STEM = 40  # characters of the file's own name in that of a temporary file


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yields a hidden file beside `path`, with the same suffix, to write to. At the end it is renamed to `path`; after
    an error it is removed.

    Errors of the body pass unchanged; put its writes in `write_errors_of`. Temporary files that killed processes left
    in the folder more than a day ago are removed.

    Raises:
        RunError: the temporary file cannot be created, or cannot replace `path`.
    """
    temporary = _temporary(path)
    with write_errors_of(path):
        temporary.touch(exist_ok=False)
    try:
        yield temporary
        with write_errors_of(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """The same for a folder that does not exist yet, or is empty.

    Raises:
        RunError: the temporary folder cannot be created, or cannot become `path`.
    """
    temporary = _temporary(path.absolute())  # `.` has no name
    try:
        with write_errors_of(path):
            temporary.mkdir()
        yield temporary
        with write_errors_of(path):
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A new hidden name beside `path`, whose folder is made and cleared of what killed processes left."""
    with write_errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.resolve())
    return path.with_name(f".{path.stem[:_LONGEST_STEM]}.{secrets.token_hex(4)}.{_MARK}{path.suffix}")


@contextmanager
def write_errors_of(path: Path) -> Iterator[None]:
    """Turns a system error of its body, which writes to `path`, into a RunError that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def expand_user(path: str | Path) -> Path:
    """The path with `~` or `~NAME` at its start as the home folder; unchanged where NAME is nobody's."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises an error in that case)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which appears complete or not at all.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    with written_atomically(path) as temporary, write_errors_of(path):
        fill(temporary, data)


def fill(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a file; if that fails, the OSError says how much space it needs and how much is free."""
    try:
        path.write_bytes(data)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        room = f"{len(data) / 2**20:.2f} MiB needed, {free / 2**20:.2f} MiB free"
        raise OSError(error.errno, f"{error.strerror}, {room}") from error


def check_name(name: str) -> str:
    """Return a name unchanged if files and folders can have it.

    Raises:
        UserError: it is empty, longer than 100 bytes, holds a path separator or a control character, or is `.` or `..`.
    """
    shown, size = f"name='{one_line(name, 40)}'", len(os.fsencode(name))
    if not 0 < size <= LONGEST_NAME:
        raise UserError(f"{shown} has {size} bytes; it can have 1 to {LONGEST_NAME}")
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise UserError(f"{shown} cannot be a file's name: no path separators, no control characters")
    return name


def check_writable(path: Path, force: bool = True) -> None:
    """Check before the work that a file can be written afterwards; leaves nothing behind.

    Raises:
        UserError: `path` is a folder, a pipe or a device, its name is too long, its folder cannot be created or
            written, or it exists and `force` is not given.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file")
        if refusal_to_read(path):  # it would be replaced by a file
            raise UserError(f"{path} is a pipe or a device; name a file")
        if not force and path.exists():
            raise UserError(f"{path} exists; --force overwrites it")
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error


def refusal_to_read(path: Path) -> str | None:
    """Why an existing path cannot be read as a file: a folder, or a pipe or device, which could block for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # opening it will give the reason
    if stat.S_ISREG(mode):
        return None
    return "is a folder" if stat.S_ISDIR(mode) else "is a pipe or a device; save its content to a file first"


@lru_cache  # once for each folder, which may fill with the frames of a video
def _remove_abandoned(folder: Path) -> None:
    now = time.time()
    for path in folder.glob(f".*.{_MARK}*"):
        with suppress(OSError):
            if now - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
