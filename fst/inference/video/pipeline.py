"""Stylizing videos: decoding, the networks and encoding run at the same time, each in threads of its own."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from fst.errors import RunError, UserError, errors_of
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
_PATIENCE = 0.5  # seconds: how long a signal may go unnoticed while a pipe brings nothing


@dataclass(frozen=True)
class _Output:
    """One of the results: what stylizes its frames, and where they go."""

    target: Path
    stylize: Stylize
    writer: "VideoWriter | PictureWriter"
    steadier: Steadier | None

    def blend(self, frame: "Frame", stylized: np.ndarray) -> np.ndarray:
        return stylized if self.steadier is None or frame.picture is None else self.steadier(frame.picture, stylized)

    def write(self, frame: "Frame", stylized: np.ndarray | None) -> None:
        with _write_errors(self.target):
            self.writer.write(frame, stylized)

    def finish(self) -> None:
        with _write_errors(self.target):
            self.writer.finish()


def stylize_video(
    source: Path | Sequence[Path],
    outputs: Mapping[Path, Stylize],
    options: VideoOptions | None = None,
    stop: StopRequest | None = None,
    at_once: int = 1,
    templates: bool = True,
) -> VideoResult:
    """Stylize a video frame by frame. Frame times, sound, subtitles, proportions and colour tags are kept.

    A damaged packet loses its frame only. Memory does not grow with the length. Frames are written upright. The video
    is read once, however many outputs there are.

    Args:
        source: a video, `-` for one on standard input, or pictures in order.
        outputs: what stylizes the frames, by target: a file, whose suffix names the container, or a template of
            pictures such as `frames/%05d.png`. A file appears when it is complete; `-` is standard output, where
            frames appear at once. The function takes and returns uint8 `(H, W, 3)` RGB, and is called in other
            threads. It may return another size, but the same one for all frames.
        stop: after it has noted a signal, no more frames are read, and those that are done are kept.
        at_once: how many threads stylize, each with its share of PyTorch's threads. On a CPU two are faster
            than one: while one waits for its slowest PyTorch thread, the other computes.
        templates: whether targets can be templates; if not, "50%discount.gif" is just a name.

    Returns:
        The number of frames, and remarks for the user. An early end because of `stop` is no error.

    Raises:
        UserError: no video can be read from `source`, or `options` do not suit it.
        RunError: a target cannot be written; then no video file appears, and numbered pictures stay as far as they go.
        Interrupted: stopped before the first frame.
    """
    options, stop = options or VideoOptions(), stop or StopRequest()
    name = source if isinstance(source, Path) else source[0].parent
    with ExitStack() as stack:
        reader, read = stack.enter_context(_read_ahead(source, options, stop))
        opened = []
        for target, stylize in outputs.items():
            numbered = templates and is_template(target)
            path = stack.enter_context(_destination(target, numbered))
            writer = stack.enter_context(closing(_open_writer(path, numbered, reader, options)))
            steadier = Steadier() if options.steady else None
            opened.append(_Output(target, errors_of(name)(stylize), writer, steadier))
        frames = _stylize_frames(read, reader.expected, opened, at_once)
        if not frames and stop.signal is not None:
            raise Interrupted(stop.signal, 0)
        if not frames:
            hint = f"; {NO_WAY_BACK}" if name == PIPE else ""
            raise UserError(f"{name}: no frame in it can be decoded{hint}")
        for output in opened:
            output.finish()
    notes = [*reader.notes, *(f"{output.target}: {note}" for output in opened for note in output.writer.notes)]
    if damaged := reader.damaged + max(output.writer.damaged for output in opened):
        notes.append(f"{name}: {damaged} damaged packets; their frames are missing or patched up")
    return VideoResult(frames, tuple(notes))


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """Around a writer's work: FFmpeg's errors become one line that names the target."""
    from av import FFmpegError  # here, so that photos do not load FFmpeg

    try:
        yield
    except BrokenPipeError:  # the program that reads standard output has ended
        raise
    except FFmpegError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror}") from error


def _open_reader(source: Path | Sequence[Path], options: VideoOptions) -> "Reader":
    if not isinstance(source, Path):
        from fst.inference.video.image_sequence import PictureReader

        # FFmpeg stores it as two numbers of 32 bits.
        return PictureReader(source, (options.fps or Fraction(25)).limit_denominator(100_000))
    from fst.inference.video.reader import VideoReader

    if options.fps is not None:
        raise UserError(f"{source}: a video keeps its own frame times; --fps is for pictures")
    return VideoReader(source)


def _open_writer(path: Path, numbered: bool, reader: "Reader", options: VideoOptions) -> "VideoWriter | PictureWriter":
    if numbered:
        from fst.inference.video.image_sequence import PictureWriter

        if flags := [flag for flag in options.given() if flag not in ("--fps", "--steady")]:
            raise UserError(f"{', '.join(flags)}: only for videos, and {path} are pictures")
        return PictureWriter(path)
    from fst.inference.video.writer import VideoWriter

    return VideoWriter(path, reader, options)


def _destination(target: Path, numbered: bool) -> AbstractContextManager[Path]:
    return nullcontext(target) if numbered or target == PIPE else written_atomically(target)


@contextmanager
def _read_ahead(
    source: Path | Sequence[Path], options: VideoOptions, stop: StopRequest
) -> "Iterator[tuple[Reader, Iterator[Frame]]]":
    """A reader and its frames, read in a thread of their own, until their end or a signal.

    A pipe may never bring what the thread waits for: then it is left behind.

    Raises:
        Interrupted: stopped before the reader was open.
    """
    read: Queue[Any] = Queue(AHEAD)  # the reader, its frames, then `None` or an error
    done = threading.Event()

    def work() -> None:
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(closing(_open_reader(source, options)))
                for item in chain([reader], reader, [None]):
                    read.put(item)
                    if done.is_set():
                        return
            except Exception as error:
                read.put(error)
            done.wait()  # before the reader is closed: writers look into it, too

    def take() -> Any:
        while stop.signal is None:
            with suppress(Empty):
                if isinstance(item := read.get(timeout=_PATIENCE), Exception):
                    raise item
                return item
        return None

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        if (reader := take()) is None:
            assert stop.signal is not None
            raise Interrupted(stop.signal, 0)
        yield reader, iter(take, None)
    finally:
        done.set()
        while not read.empty():  # room for what the thread still holds
            read.get()
        thread.join(_PATIENCE)


def _stylize_frames(read: "Iterable[Frame]", expected: int, outputs: Sequence[_Output], at_once: int) -> int:
    """Stylize and write all frames, each in threads of its own; returns how many frames were written."""
    count = 0

    def stylize(frame: "Frame") -> "tuple[Frame, list[np.ndarray] | None]":
        return frame, None if frame.picture is None else [output.stylize(frame.picture) for output in outputs]

    def steady(result: "tuple[Frame, list[np.ndarray] | None]") -> "tuple[Frame, list[np.ndarray] | None]":
        frame, stylized = result
        if stylized is None:
            return result
        return frame, [output.blend(frame, picture) for output, picture in zip(outputs, stylized, strict=True)]

    def write(result: "tuple[Frame, list[np.ndarray] | None]") -> bool:
        frame, stylized = result
        for output, picture in zip(outputs, stylized or repeat(None, len(outputs)), strict=True):
            output.write(frame, picture)
        return stylized is not None

    bar = tqdm(total=expected or None, unit="frame", leave=False, disable=None)
    blender, encoder = (ThreadPoolExecutor(1, name) for name in ("steady", "encode"))
    with bar, blender, encoder, stylizing_threads(at_once) as stylizers:
        stylized = map_in(stylizers, stylize, read, at_once)
        if any(output.steadier for output in outputs):
            stylized = map_in(blender, steady, stylized, AHEAD)
        for has_picture in map_in(encoder, write, stylized, AHEAD):
            count += has_picture
            bar.update(has_picture)
    return count
