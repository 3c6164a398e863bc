"""Many inputs, one style: which output each gets, and one bad input spoils no other."""

import glob
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from fst.errors import RunError, UserError, one_line
from fst.files import check_writable
from fst.images import SUFFIXES, WRITABLE_SUFFIXES, find_images, read_image, write_image
from fst.inference import video
from fst.inference.stylizer import Stylizer
from fst.inference.video import VideoOptions, find_frames, is_template, stylize_video
from fst.stopping import Interrupted, StopRequest


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    frames: tuple[Path, ...] = ()  # the pictures that become one video


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
        mask: white where each picture shall be stylized, black where not.

    Returns:
        The exit status: 0, or 1 if any of several inputs failed.

    Raises:
        UserError, RunError: the only input failed, or the inputs name nothing.
        Interrupted: stopped by a signal in a video, once the frames that were done are in place.
    """
    jobs = list(_jobs(inputs, output, stylizer.name))
    stylize = partial(stylizer, mask=mask)
    failures = 0
    written: set[Path] = set()
    for job in tqdm(jobs, unit="file", disable=len(jobs) == 1):
        try:
            if job.target in written:
                raise UserError(f"{job.source}: {job.target} is already another input's output; use separate folders")
            check_writable(job.target)
            existing = find_frames(job.target) if is_template(job.target) else [job.target]
            if existing and existing[0].exists() and not force:
                raise UserError(f"{existing[0]} exists; --force overwrites it")
            _stylize(stylize, job, video_options, stylizer.at_once)
            written.add(job.target)
        except (UserError, RunError) as error:
            if len(jobs) == 1:
                raise
            failures += 1
            tqdm.write(f"fst: {one_line(error)}", file=sys.stderr)
    print(one_line(jobs[0].target, None) if len(jobs) == 1 else f"{len(written)} stylized, {failures} failed")
    return 1 if failures else 0


def _stylize(stylize: Callable[..., Any], job: _Job, options: VideoOptions | None, at_once: int) -> None:
    if job.frames or _is_video(job.source):
        _stylize_video(stylize, job, options, at_once)
        return
    image = read_image(job.source)
    try:
        painted = stylize(image)
    except (UserError, RunError) as error:
        raise type(error)(f"{job.source}: {error}") from error
    write_image(painted, job.target)


def _stylize_video(stylize: Callable[..., Any], job: _Job, options: VideoOptions | None, at_once: int) -> None:
    if job.target.suffix.lower() in WRITABLE_SUFFIXES and not is_template(job.target):
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
    """By its suffix; an animated GIF is one, and a file that says nothing is one unless it holds a picture."""
    suffix = path.suffix.lower()
    if suffix in video.SUFFIXES or not path.exists():
        return suffix in video.SUFFIXES
    if suffix in SUFFIXES - {".gif"}:
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "is_animated", False)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return suffix != ".gif"


def _jobs(inputs: Sequence[str], output: Path | None, style: str) -> Iterator[_Job]:
    """Each input with where its result goes; the tree below an input folder is kept."""
    found = [(path, place) for text in inputs for path, place in _find(text)]
    if output is not None and _names_file(output):
        sources = tuple(path for path, _ in found)
        if _become_video(sources, output):
            yield _Job(Path(inputs[0]), output, sources)
        elif len(found) > 1:
            raise UserError(f"-o {output} is one file for {len(found)} inputs; name a folder")
        else:
            yield _Job(sources[0], output)
        return
    folder = output or Path()
    for source, place in found:
        suffix = place.suffix.lower()
        if _is_video(source):
            suffix = place.suffix if suffix in video.WRITABLE_SUFFIXES else ".mkv"  # holds every kind of sound
        else:
            suffix = place.suffix if suffix in WRITABLE_SUFFIXES else ".png"
        yield _Job(source, folder / place.with_name(f"{place.stem}-{style}{suffix}"))


def _names_file(output: Path) -> bool:
    return not output.is_dir() and (output.suffix.lower() in SUFFIXES | video.SUFFIXES or is_template(output))


def _become_video(sources: Sequence[Path], output: Path) -> bool:
    """Whether these are pictures and the output holds them one after another; one picture makes a still GIF."""
    suffix = output.suffix.lower()
    if not is_template(output) and suffix not in video.SUFFIXES and (suffix != ".gif" or len(sources) == 1):
        return False
    return all(path.exists() and not _is_video(path) for path in sources)


def _find(text: str) -> list[tuple[Path, Path]]:
    """The pictures and videos that an argument names, each with its place below the output folder."""
    if not text:
        raise UserError("an input is empty; name a picture, a video or a folder ('.' is the current one)")
    path = Path(text).expanduser()
    if path.is_dir():
        files = find_images(path, SUFFIXES | video.SUFFIXES)
        if not files:
            raise UserError(f"{text}: no pictures in it or below it")
        return [(file, file.relative_to(path)) for file in files]
    if not path.exists() and (is_template(path) or glob.has_magic(text)):
        # Path.glob takes no absolute patterns.
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = find_frames(path) if is_template(path) else [Path(name) for name in names]
        if not files:
            raise UserError(f"{text}: matches nothing")
        return [(file, Path(file.name)) for file in files if file.is_file()]
    return [(path, Path(path.name))]
