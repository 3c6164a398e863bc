"""Stylizing videos: decoding, the network and encoding run at the same time, each in threads of its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from fst.errors import RunError, UserError
from fst.files import written_atomically
from fst.inference.pipes import NO_WAY_BACK, PIPE
from fst.inference.stages import AHEAD, map_in, stylizing_threads
from fst.inference.video.steady import Steadier
from fst.inference.video.types import VideoOptions, VideoResult, is_template
from fst.signals import Interrupted, StopRequest

if TYPE_CHECKING:
    from fst.inference.video.image_sequence import PictureWriter
    from fst.inference.video.types import Frame, Reader
    from fst.inference.video.writer import VideoWriter

Stylize = Callable[[np.ndarray], np.ndarray]


def stylize_video(
    source: Path | Sequence[Path],
    target: Path,
    stylize: Stylize,
    options: VideoOptions | None = None,
    stop: StopRequest | None = None,
    at_once: int = 1,
) -> VideoResult:
    """Stylize a video frame by frame. Frame times, sound, subtitles, proportions and colour tags are kept.

    A damaged packet loses its frame only. Memory does not grow with the length. Frames are written upright.

    Args:
        source: a video, `-` for one on standard input, or pictures in order.
        target: a file, whose suffix names the container, or a template of pictures such as `frames/%05d.png`.
            A file appears when it is complete; `-` is standard output, where frames appear at once.
        stylize: takes and returns uint8 `(H, W, 3)` RGB; called in other threads. It may return another size, but the
            same one for all frames.
        stop: after it has noted a signal, no more frames are read, and those that are done are kept.
        at_once: how many threads call `stylize`, each with its share of PyTorch's threads. On a CPU two are faster
            than one: while one waits for its slowest PyTorch thread, the other computes.

    Returns:
        The number of frames, and remarks for the user. An early end because of `stop` is no error.

    Raises:
        UserError: no video can be read from `source`, or `options` do not suit it.
        RunError: `target` cannot be written.
        Interrupted: stopped before the first frame.
    """
    from av import FFmpegError  # here, so that photos do not load FFmpeg

    options, stop = options or VideoOptions(), stop or StopRequest()
    name = source if isinstance(source, Path) else source[0].parent
    with closing(_open_reader(source, options)) as reader, _destination(target) as path:
        with closing(_open_writer(path, reader, options)) as writer:
            try:
                steadier = Steadier() if options.steady else None
                frames = _stylize_frames(reader, writer, _named(name, stylize), stop, at_once, steadier)
                if frames:
                    writer.finish()
            except BrokenPipeError:  # the program that reads standard output has ended
                raise
            except FFmpegError as error:  # the writer's: the reader handles its own
                raise RunError(f"{target}: cannot be written: {error.strerror}") from error
        if not frames and stop.signal is not None:
            raise Interrupted(stop.signal, 0)
        if not frames:
            hint = f"; {NO_WAY_BACK}" if name == PIPE else ""
            raise UserError(f"{name}: no frame in it can be decoded{hint}")
    notes = [f"{target}: {note}" for note in writer.notes]
    if damaged := reader.damaged + writer.damaged:
        notes.append(f"{name}: {damaged} damaged packets; their frames are missing or patched up")
    return VideoResult(frames, tuple(notes))


def _open_reader(source: Path | Sequence[Path], options: VideoOptions) -> "Reader":
    if not isinstance(source, Path):
        from fst.inference.video.image_sequence import PictureReader

        return PictureReader(source, options.fps or Fraction(25))
    from fst.inference.video.reader import VideoReader

    if options.fps is not None:
        raise UserError(f"{source}: a video keeps its own frame times; --fps is for pictures")
    return VideoReader(source)


def _open_writer(path: Path, reader: "Reader", options: VideoOptions) -> "VideoWriter | PictureWriter":
    if is_template(path):
        from fst.inference.video.image_sequence import PictureWriter

        if flags := [flag for flag in options.given() if flag not in ("--fps", "--steady")]:
            raise UserError(f"{', '.join(flags)}: only for videos, and {path} are pictures")
        return PictureWriter(path)
    from fst.inference.video.writer import VideoWriter

    return VideoWriter(path, reader, options)


def _destination(target: Path) -> AbstractContextManager[Path]:
    return nullcontext(target) if is_template(target) or target == PIPE else written_atomically(target)


def _named(name: Path, stylize: Stylize) -> Stylize:
    """The same function, with the video's name in its errors."""

    def named(picture: np.ndarray) -> np.ndarray:
        try:
            return stylize(picture)
        except (UserError, RunError) as error:
            raise type(error)(f"{name}: {error}") from error

    return named


def _stylize_frames(
    reader: "Reader",
    writer: "VideoWriter | PictureWriter",
    stylize: Stylize,
    stop: StopRequest,
    at_once: int,
    steadier: Steadier | None,
) -> int:
    """Read, stylize and write all frames, each in threads of its own; returns how many pictures were written."""
    frames, count = iter(reader), 0

    def read(_: None) -> "Frame | None":
        return next(frames, None)

    def until_the_end(decoded: "Iterable[Frame | None]") -> "Iterator[Frame]":
        for frame in decoded:
            if frame is None or stop.signal is not None:
                return
            yield frame

    def stylize_frame(frame: "Frame") -> "tuple[Frame, np.ndarray | None]":
        return frame, None if frame.picture is None else stylize(frame.picture)

    def steady(result: "tuple[Frame, np.ndarray | None]") -> "tuple[Frame, np.ndarray | None]":
        frame, stylized = result
        if steadier is None or frame.picture is None or stylized is None:
            return result
        return frame, steadier(frame.picture, stylized)

    def write(result: "tuple[Frame, np.ndarray | None]") -> bool:
        writer.write(*result)
        return result[1] is not None

    bar = tqdm(total=reader.expected or None, unit="frame", leave=False, disable=None)
    decoder, blender, encoder = (ThreadPoolExecutor(1, name) for name in ("decode", "steady", "encode"))
    with bar, decoder, blender, encoder, stylizing_threads(at_once) as stylizers:
        decoded = until_the_end(map_in(decoder, read, repeat(None), AHEAD))
        stylized = map_in(stylizers, stylize_frame, decoded, at_once)
        if steadier is not None:
            stylized = map_in(blender, steady, stylized, AHEAD)
        for has_picture in map_in(encoder, write, stylized, AHEAD):
            count += has_picture
            bar.update(has_picture)
    return count
