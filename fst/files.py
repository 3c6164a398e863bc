"""Files that appear whole or not at all, and what can be known of them before the work."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fst.errors import RunError, UserError, one_line

LONGEST_NAME = 100  # bytes of UTF-8: file systems take 255, and suffixes and other names are added


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A hidden file beside `path`, of the same suffix, to write to; it becomes `path` at the end, or goes on an error.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's 0600 would surprise
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` appears whole or not at all.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    with written_atomically(path) as temporary:
        temporary.write_bytes(data)


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
