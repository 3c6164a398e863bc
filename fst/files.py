"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fst.errors import RunError


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
