"""What `fst stylize` has to do: its inputs, and which output each gets. Mistakes in both are found without torch."""

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import UnidentifiedImageError

from fst.errors import RunError, UserError, one_line
from fst.files import check_writable, expand_user, refusal_to_read, write_errors_of
from fst.inference.pipes import PIPE, holds_video, picture_suffix, standard_output, video_format
from fst.inference.video.types import VIDEO_SUFFIXES, WRITABLE_VIDEO_SUFFIXES, VideoOptions, find_frames, is_template
from fst.pictures import (
    PICTURE_SUFFIXES,
    WRITABLE_PICTURE_SUFFIXES,
    ImageError,
    by_number,
    find_images,
    image_size,
    is_animated,
)
from fst.signals import Interrupted

_FILE_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,4}")  # "results.2024" and "v1.0" may be folders


@dataclass(frozen=True)
class Job:
    """An input, and an output for each style.

    Attributes:
        targets: the outputs; their keys are the endings that `plan` was given, one for each style.
        frames: the pictures that become one video.
        format: of what is written to standard output.
        is_template: whether the target names numbered pictures, because the user gave it as such.
    """

    source: Path
    targets: Mapping[str, Path]
    is_video: bool
    frames: tuple[Path, ...] = ()
    format: str | None = None
    is_template: bool = False


@dataclass
class Plan:
    """The inputs that can be done, and the number of those that failed.

    Each failure is reported in a line on stderr; that of a single input is raised.
    """

    alone: bool
    jobs: list[Job] = field(default_factory=list)
    failed: int = 0

    @contextmanager
    def input(self, name: str | Path) -> Iterator[None]:
        """Around the work on one input: if it fails, the others are done all the same."""
        try:
            yield
        except (BrokenPipeError, Interrupted):  # nobody reads standard output any more, or the user stops
            raise
        except Exception as error:
            failure = _failure(name, error)
            if not self.alone:
                self.fail(failure)
            elif failure is error:
                raise
            else:
                raise failure from error

    def fail(self, error: object) -> None:
        self.failed += 1
        from tqdm import tqdm  # here, because loading it takes long

        tqdm.write(f"fst: {one_line(error)}", file=sys.stderr)


def _failure(name: str | Path, error: Exception) -> UserError | RunError:
    """An error of any kind as one that names the input."""
    if isinstance(error, UserError | RunError):
        return error
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    elif isinstance(error, MemoryError):
        reason = "not enough memory"
    else:
        reason = f"{type(error).__name__}: {error}"
    return RunError(f"{name}: {reason}")


def plan(
    inputs: Sequence[str],
    output: Path | None,
    endings: Sequence[str],
    force: bool = False,
    video_options: VideoOptions | None = None,
) -> Plan:
    """Find pictures and videos, folders of them and globs, and name their outputs; failures go to stderr, a line each.

    Args:
        output: a file (for one picture or video), a template of numbered pictures (for the frames of one video) or
            a folder; `None` is the current one. Several pictures become one video where it is a video file.
        endings: of the outputs' names, after the input's and `-`; each input gets an output for each.
        force: overwrite existing outputs.

    Raises:
        UserError, RunError: the only input cannot be done, or `output` or the options suit none of the inputs.
    """
    if PIPE.name in inputs and output is None:
        output = PIPE
    is_file = output is not None and names_file(output)
    if is_file and len(endings) > 1:
        raise UserError(f"-o {output} is one file for {len(endings)} styles; name a folder")
    planned = Plan(alone=len(inputs) == 1)
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        with planned.input(text):
            found += _find(text, planned)
    options = video_options or VideoOptions()
    if options.format is not None and output != PIPE:
        raise UserError("--format is for -o -; the suffix of a file names its format")
    jobs = list(_jobs(found, output, is_file, endings, options.format)) if found else []
    flags = [flag for flag in options.given() if flag != "--format"]
    if flags and found and not any(job.is_video for job in jobs):
        raise UserError(f"{', '.join(flags)}: only for videos, and there is none")
    planned.alone = len(jobs) == 1 and not planned.failed
    taken: set[Path] = set()
    for job in jobs:
        with planned.input(job.source):
            job = _writable(job, taken, force, planned)
            if planned.alone:  # of several, each is opened when its turn comes
                _check_source(job)
            if job.targets:
                planned.jobs.append(job)
                taken.update(job.targets.values())
    return planned


def _writable(job: Job, taken: set[Path], force: bool, planned: Plan) -> Job:
    """The job without the outputs that cannot be written; each of several is reported, a single one raises an error."""
    targets = {}
    for ending, target in job.targets.items():
        try:
            _check_target(job, target, taken, force)
        except UserError as error:
            if len(job.targets) == 1:
                raise
            planned.fail(error)
        else:
            targets[ending] = target
    return replace(job, targets=targets)


def _check_target(job: Job, target: Path, taken: set[Path], force: bool) -> None:
    if target == PIPE:
        standard_output()
        return
    if target in taken:
        raise UserError(f"{job.source}: {target} is already another input's output; use separate folders")
    if job.is_video and target.suffix.lower() in WRITABLE_PICTURE_SUFFIXES and not job.is_template:
        numbered = target.with_stem(f"{target.stem}-%05d")
        known = job.source.suffix.lower() in VIDEO_SUFFIXES | {".gif"}
        what = "a video" if known else "taken for a video, being no picture that fst reads"
        raise UserError(f"{job.source} is {what}, {target} one picture; -o {numbered} writes each frame")
    if not job.is_video and (job.is_template or target.suffix.lower() in VIDEO_SUFFIXES):
        raise UserError(f"{job.source}: one picture, and {target} is for a video; name a picture (.png, .jpg, …)")
    check_writable(target)
    existing = find_frames(target) if job.is_template else [target]
    if existing and existing[0].exists() and not force:
        raise UserError(f"{existing[0]} exists; --force overwrites it, -o NAME keeps both")


def _check_source(job: Job) -> None:
    if PIPE in job.targets.values():
        (video_format if job.is_video else picture_suffix)(job.format)
    if job.source == PIPE:  # what has been read cannot be read again
        return
    if not job.is_video:
        image_size(job.source)
    elif not job.frames:
        from fst.inference.video.reader import VideoReader

        VideoReader(job.source).close()


def _is_video(path: Path) -> bool:
    """Decide by the suffix. A GIF is a video if it is animated, a file of another suffix unless it is a picture."""
    if path == PIPE:
        return holds_video()
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES - {".gif"}:
        return suffix in VIDEO_SUFFIXES
    try:
        return is_animated(path)
    except ImageError as error:
        return suffix != ".gif" and isinstance(error.__cause__, UnidentifiedImageError)


def _jobs(
    found: Sequence[tuple[Path, Path]],
    output: Path | None,
    is_file: bool,
    endings: Sequence[str],
    output_format: str | None,
) -> Iterator[Job]:
    """Each input with its targets. The tree below an input folder is kept."""
    if output is not None and is_file:
        sources, numbered = tuple(path for path, _ in found), is_template(output)
        targets = {endings[0]: output}
        if _become_video(sources, output):
            source = sources[0] if len(sources) == 1 else sources[0].parent
            yield Job(source, targets, True, sources, is_template=numbered)
        elif len(found) > 1:
            raise UserError(f"-o {output} is one file for {len(found)} inputs; name a folder")
        else:
            yield Job(sources[0], targets, _is_video(sources[0]), format=output_format, is_template=numbered)
        return
    folder = output or Path()
    for source, place in found:
        suffix = place.suffix.lower()
        if is_video := _is_video(source):
            suffix = place.suffix if suffix in WRITABLE_VIDEO_SUFFIXES else ".mkv"  # Matroska holds every kind of sound
        else:
            suffix = place.suffix if suffix in WRITABLE_PICTURE_SUFFIXES else ".png"
        targets = {ending: folder / place.with_name(f"{place.stem}-{ending}{suffix}") for ending in endings}
        yield Job(source, targets, is_video)


def names_file(output: Path) -> bool:
    """Whether `output` is the name of a file; if not, it is a folder's.

    Raises:
        UserError: it has the suffix of a file that fst does not write, or numbers pictures without one.
    """
    if output == PIPE:
        return True
    with write_errors_of(output):
        if output.is_dir():
            return False
    if output.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        return True
    if is_template(output):
        raise UserError(f"-o {output}: pictures need a suffix, such as {output.with_suffix('.png')}")
    if _FILE_SUFFIX.fullmatch(output.suffix):
        raise UserError(f"-o {output}: neither a picture nor a video (.png, .jpg, .mp4, …), nor a folder that is there")
    return False


def _become_video(sources: Sequence[Path], output: Path) -> bool:
    """Whether pictures become the frames of one output. A single picture and a GIF make a picture.

    Raises:
        UserError: one that would become a frame is not there.
    """
    suffix = output.suffix.lower()
    if not is_template(output) and suffix not in VIDEO_SUFFIXES and (suffix != ".gif" or len(sources) == 1):
        return False
    for path in sources:
        # Path.exists raises an error in a folder without search permission.
        if path != PIPE and not os.path.exists(path):  # noqa: PTH110
            raise UserError(f"{path}: no such file")
    return all(path != PIPE and not _is_video(path) for path in sources)


def _find(text: str, planned: Plan) -> list[tuple[Path, Path]]:
    """The pictures and videos that an argument names, each with its path below the output folder."""
    if not text:
        raise UserError("an input is empty; name a picture, a video or a folder ('.' is the current one)")
    path = expand_user(text)
    if path == PIPE:
        return [(path, Path("stdin"))]
    if path.is_dir():

        def skip(error: OSError) -> None:
            if Path(error.filename) == path:
                raise error
            planned.fail(f"{error.filename}: {error.strerror}")

        files = find_images(path, PICTURE_SUFFIXES | VIDEO_SUFFIXES, skip)
        if not files:
            raise UserError(f"{text}: no pictures in it or below it")
        return [(file, file.relative_to(path)) for file in sorted(files, key=by_number)]
    if not path.exists() and (is_template(path) or glob.has_magic(text)):
        # Path.glob does not take absolute patterns.
        names = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        files = find_frames(path) if is_template(path) else sorted(names, key=by_number)
        if not (files := [file for file in files if not refusal_to_read(file)]):
            raise UserError(f"{text}: matches {'folders only' if names else 'nothing'}")
        return [(file, Path(file.name)) for file in files]
    return [(path, Path(path.name))]
