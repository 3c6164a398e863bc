"""Stylizing many inputs: which output each gets, and an input that fails stops none of the others."""

import glob
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fst.errors import RunError, UserError, one_line
from fst.files import check_writable, refusal_to_read, write_errors_of
from fst.inference.stylizer import Stylizer
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.types import VIDEO_SUFFIXES, WRITABLE_VIDEO_SUFFIXES, VideoOptions, find_frames, is_template
from fst.pictures import (
    PICTURE_SUFFIXES,
    WRITABLE_PICTURE_SUFFIXES,
    ImageError,
    find_images,
    is_animated,
    read_image,
    write_image,
)
from fst.signals import Interrupted, StopRequest

_FILE_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,4}")  # "results.2024" and "v1.0" may be folders


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    is_video: bool
    frames: tuple[Path, ...] = ()  # the pictures that become one video


@dataclass
class _Batch:
    """Counts the inputs that failed. Each is reported in a line on stderr; the error of a single input is raised."""

    alone: bool
    failed: int = 0

    @contextmanager
    def input(self, name: str | Path) -> Iterator[None]:
        """Around the work on one input: if it fails, the others are done all the same."""
        try:
            yield
        except (UserError, RunError, OSError, MemoryError) as error:
            failure: Exception = error
            if isinstance(error, OSError):
                failure = RunError(f"{name}: {error.strerror or error}")
            elif isinstance(error, MemoryError):
                failure = RunError(f"{name}: not enough memory")
            if self.alone:
                raise failure from error.__cause__
            self.fail(failure)

    def fail(self, error: object) -> None:
        self.failed += 1
        tqdm.write(f"fst: {one_line(error)}", file=sys.stderr)


def stylize_all(
    stylizer: Stylizer,
    inputs: Sequence[str],
    output: Path | None,
    force: bool = False,
    video_options: VideoOptions | None = None,
    mask: Image.Image | None = None,
) -> int:
    """Stylize pictures and videos, folders of them and globs; failures go to stderr, one line each.

    Args:
        output: a file (for one picture or video), a template of numbered pictures (for the frames of one video) or
            a folder; `None` is the current one. Several pictures become one video where it is a video file.
        force: overwrite existing outputs.
        mask: white where each picture is to be stylized, black where not.

    Returns:
        The exit status: 0, or 1 if any of several inputs failed.

    Raises:
        UserError, RunError: the only input failed, or `output` or the options suit none of the inputs.
        Interrupted: stopped by a signal in a video, once the frames that were done are in place.
    """
    is_file = output is not None and _names_file(output)
    batch = _Batch(alone=len(inputs) == 1)
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        with batch.input(text):
            found += _find(text, batch)
    jobs = list(_jobs(found, output, is_file, stylizer.name)) if found else []
    options = video_options or VideoOptions()
    if (flags := options.given()) and found and not any(job.is_video for job in jobs):
        raise UserError(f"{', '.join(flags)}: only for videos, and there is none")
    batch.alone = len(jobs) == 1 and not batch.failed
    written: set[Path] = set()
    for job in tqdm(jobs, unit="file", disable=len(jobs) < 2):
        with batch.input(job.source):
            if job.target in written:
                raise UserError(f"{job.source}: {job.target} is already another input's output; use separate folders")
            check_writable(job.target)
            existing = find_frames(job.target) if is_template(job.target) else [job.target]
            if existing and existing[0].exists() and not force:
                raise UserError(f"{existing[0]} exists; --force overwrites it, -o NAME keeps both")
            if job.is_video:
                _stylize_video(partial(stylizer, mask=mask), job, options, stylizer.at_once)
            else:
                _stylize_photo(stylizer, job, mask)
            written.add(job.target)
    print(one_line(jobs[0].target, None) if batch.alone else f"{len(written)} stylized, {batch.failed} failed")
    return 1 if batch.failed else 0


def _stylize_photo(stylizer: Stylizer, job: _Job, mask: Image.Image | None) -> None:
    try:
        try:
            image = read_image(job.source, check_size=stylizer.check_size)
        except RunError:  # too large for the memory
            if stylizer.size is None:
                raise
            # It will be scaled down, and a JPEG can be decoded at a fraction of its size.
            image = read_image(job.source, 2 * stylizer.size, check_size=stylizer.check_size)
        stylized = stylizer(image, mask)
    except ImageError:  # names the file already
        raise
    except (UserError, RunError) as error:
        raise type(error)(f"{job.source}: {error}") from error
    write_image(stylized, job.target)


def _stylize_video(stylize: Callable[..., Any], job: _Job, options: VideoOptions | None, at_once: int) -> None:
    if job.target.suffix.lower() in WRITABLE_PICTURE_SUFFIXES and not is_template(job.target):
        numbered = job.target.with_stem(f"{job.target.stem}-%05d")
        raise UserError(f"{job.source} is a video, {job.target} one picture; -o {numbered} writes each frame")
    try:
        with StopRequest() as stop:
            result = stylize_video(job.frames or job.source, job.target, stylize, options, stop, at_once)
        for note in result.notes:
            tqdm.write(f"fst: {one_line(note)}", file=sys.stderr)
        if stop.signal is not None:
            raise Interrupted(stop.signal, result.frames)
    except Interrupted as stopped:
        place = f"; {job.target} holds them" if stopped.step else ""
        tqdm.write(one_line(f"fst: stopped after {stopped.step} frames{place}"), file=sys.stderr)
        raise


def _is_video(path: Path) -> bool:
    """Decide by the suffix. A GIF is a video if it is animated, a file of another suffix unless it is a picture."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES - {".gif"}:
        return suffix in VIDEO_SUFFIXES
    try:
        return is_animated(path)
    except ImageError as error:
        return suffix != ".gif" and isinstance(error.__cause__, UnidentifiedImageError)


def _jobs(found: Sequence[tuple[Path, Path]], output: Path | None, is_file: bool, style: str) -> Iterator[_Job]:
    """Each input with its target. The tree below an input folder is kept."""
    if output is not None and is_file:
        sources = tuple(path for path, _ in found)
        if _become_video(sources, output):
            yield _Job(sources[0] if len(sources) == 1 else sources[0].parent, output, True, sources)
        elif len(found) > 1:
            raise UserError(f"-o {output} is one file for {len(found)} inputs; name a folder")
        else:
            yield _Job(sources[0], output, _is_video(sources[0]))
        return
    folder = output or Path()
    for source, place in found:
        suffix = place.suffix.lower()
        if is_video := _is_video(source):
            suffix = place.suffix if suffix in WRITABLE_VIDEO_SUFFIXES else ".mkv"  # Matroska holds every kind of sound
        else:
            suffix = place.suffix if suffix in WRITABLE_PICTURE_SUFFIXES else ".png"
        yield _Job(source, folder / place.with_name(f"{place.stem}-{style}{suffix}"), is_video)


def _names_file(output: Path) -> bool:
    """Whether `output` is the name of a file; if not, it is a folder's.

    Raises:
        UserError: it has the suffix of a file that fst does not write.
    """
    with write_errors_of(output):
        if output.is_dir():
            return False
    if output.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES or is_template(output):
        return True
    if str(output) == "-" or _FILE_SUFFIX.fullmatch(output.suffix):
        raise UserError(f"-o {output}: neither a picture nor a video (.png, .jpg, .mp4, …), nor a folder that is there")
    return False


def _become_video(sources: Sequence[Path], output: Path) -> bool:
    """Whether pictures become the frames of one output. A single picture and a GIF make a picture."""
    suffix = output.suffix.lower()
    if not is_template(output) and suffix not in VIDEO_SUFFIXES and (suffix != ".gif" or len(sources) == 1):
        return False
    # Path.exists raises an error in a folder without search permission.
    return all(os.path.exists(path) and not _is_video(path) for path in sources)  # noqa: PTH110


def _find(text: str, batch: _Batch) -> list[tuple[Path, Path]]:
    """The pictures and videos that an argument names, each with its path below the output folder."""
    if not text:
        raise UserError("an input is empty; name a picture, a video or a folder ('.' is the current one)")
    path = Path(text).expanduser()
    if path.is_dir():

        def skip(error: OSError) -> None:
            if Path(error.filename) == path:
                raise error
            batch.fail(f"{error.filename}: {error.strerror}")

        files = find_images(path, PICTURE_SUFFIXES | VIDEO_SUFFIXES, skip)
        if not files:
            raise UserError(f"{text}: no pictures in it or below it")
        return [(file, file.relative_to(path)) for file in files]
    if not path.exists() and (is_template(path) or glob.has_magic(text)):
        # Path.glob does not take absolute patterns.
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = find_frames(path) if is_template(path) else [Path(name) for name in names]
        if not (files := [file for file in files if not refusal_to_read(file)]):
            raise UserError(f"{text}: matches {'folders only' if names else 'nothing'}")
        return [(file, Path(file.name)) for file in files]
    return [(path, Path(path.name))]
