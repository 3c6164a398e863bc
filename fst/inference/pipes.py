"""Standard input and output in place of files: `-` in `fst stylize - -s STYLE -o -`."""

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from fst.errors import UserError
from fst.pictures import WRITABLE_PICTURE_SUFFIXES

PIPE = Path("-")
VIDEO_FORMAT = "matroska"  # it can be written without going back, and holds every kind of sound
NO_WAY_BACK = "an .mp4 with its index at the end cannot be piped: use fst … < FILE, or ffmpeg -movflags +faststart"
_FORMATS = {"mkv": "matroska", "ts": "mpegts"}  # FFmpeg's names of these
_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II[*+]\0|MM\0[*+]|P[1-6f]\s|RIFF....WEBP|....ftypavif", re.DOTALL)


def standard_input() -> BinaryIO:
    """Raises a `UserError` if it is closed, or a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("-: nothing is piped in; give a picture or a video by a pipe: ffmpeg … | fst stylize - …")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Raises a `UserError` if it is closed, or a terminal."""
    if sys.stdout is None:
        raise UserError("-o -: standard output is closed; pipe it into a program, or name a file")
    if sys.stdout.isatty():
        raise UserError("-o -: standard output is a terminal; pipe it into a program: fst stylize … | ffplay -")
    stream: Any = sys.stdout
    return getattr(stream, "buffer", stream)  # a notebook's has none


def holds_video() -> bool:
    """Whether standard input does not begin as a picture does; it can still be read from its beginning.

    Raises:
        UserError: it is empty, or a terminal.
    """
    beginning = standard_input().peek(16)  # type: ignore[attr-defined]  # waits for the first bytes
    if not beginning:
        raise UserError("-: nothing came through the pipe; did the program before it fail?")
    return not _PICTURE.match(beginning)


def video_input() -> Any:
    """For `av.open`: a file as it is, for formats that are read from several places, else a stream."""
    stream: Any = standard_input()
    if stream.seekable():
        return stream
    held = stream.read1()  # what `holds_video` has looked at

    def read(size: int) -> bytes:
        nonlocal held
        # Not by the buffer, whose lock a thread that waits here would still hold when Python ends.
        data, held = (held[:size], held[size:]) if held else (os.read(stream.fileno(), size), b"")
        return data

    return SimpleNamespace(read=read)  # without `seek`, so PyAV does not try to go back


def video_output() -> Any:
    """For `av.open`: what is written goes on at once."""
    stream = standard_output()

    def write(data: bytes) -> int:
        stream.write(data)
        stream.flush()
        return len(data)

    return SimpleNamespace(write=write)  # likewise


def picture_suffix(name: str | None) -> str:
    """The suffix of a picture in a format of that name; PNG without one.

    Raises:
        UserError: no such format.
    """
    suffix = f".{name or 'png'}".lower()
    if suffix not in WRITABLE_PICTURE_SUFFIXES:
        raise UserError(
            f"--format {name}: pictures can be {', '.join(sorted(s[1:] for s in WRITABLE_PICTURE_SUFFIXES))}"
        )
    return suffix


def video_format(name: str | None) -> str:
    """FFmpeg's name of a container; Matroska without one.

    Raises:
        UserError: no such format.
    """
    import av

    chosen = (name or VIDEO_FORMAT).lower()
    chosen = _FORMATS.get(chosen, chosen)
    try:
        av.ContainerFormat(chosen, "w")
    except ValueError as error:
        raise UserError(f"--format {name}: FFmpeg writes no such format; try mkv, mp4, webm, ts or nut") from error
    return chosen
