"""Does what `fst.inference.jobs` planned; an input that fails stops none of the others."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from fst.errors import RunError, UserError, one_line
from fst.inference.jobs import Job, Plan
from fst.inference.pipes import PIPE, picture_suffix, standard_input, standard_output
from fst.inference.stylizer import Stylizer
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.types import VideoOptions
from fst.pictures import ImageError, encode_image, read_photo, write_image
from fst.signals import Interrupted, StopRequest


def stylize_all(
    planned: Plan,
    stylizers: Sequence[Stylizer],
    video_options: VideoOptions | None = None,
    mask: Image.Image | None = None,
) -> int:
    """Stylize pictures and videos; failures go to stderr, one line each. A picture is read once for all styles.

    Args:
        stylizers: one for each style of the plan.
        mask: white where each picture is to be stylized, black where not.

    Returns:
        How many outputs were written. `planned.failed` counts the inputs that failed.

    Raises:
        UserError, RunError: the only input failed.
        Interrupted: stopped by a signal in a video, once the frames that were done are in place.
    """
    written = 0
    for job in tqdm(planned.jobs, unit="file", disable=len(planned.jobs) < 2):
        with planned.input(job.source):
            if not job.is_video:
                written += _stylize_photo(stylizers, job, mask)
                continue
            for stylizer, target in zip(stylizers, job.targets, strict=True):
                _stylize_video(partial(stylizer, mask=mask), job, target, video_options, stylizer.at_once)
                written += 1
    return written


def _stylize_photo(stylizers: Sequence[Stylizer], job: Job, mask: Image.Image | None) -> int:
    """Returns how many pictures it wrote."""
    size = stylizers[0].size

    def check_size(width: int, height: int) -> None:
        for stylizer in stylizers:
            stylizer.check_size(width, height)

    file = BytesIO(standard_input().read()) if job.source == PIPE else None
    try:
        try:
            image, metadata = read_photo(job.source, file=file, check_size=check_size)
        except RunError:  # too large for the memory
            if size is None:
                raise
            # It will be scaled down, and a JPEG can be decoded at a fraction of its size.
            image, metadata = read_photo(job.source, 2 * size, file, check_size)
    except ImageError:  # names the file already
        raise
    except (UserError, RunError) as error:
        raise type(error)(f"{job.source}: {error}") from error
    for stylizer, target in zip(stylizers, job.targets, strict=True):
        try:
            stylized = stylizer(image, mask)
        except (UserError, RunError) as error:
            raise type(error)(f"{job.source}: {error}") from error
        if target == PIPE:
            encode_image(stylized, buffer := BytesIO(), picture_suffix(job.format), metadata)
            standard_output().write(buffer.getvalue())
        else:
            write_image(stylized, target, metadata)
    return len(job.targets)


def _stylize_video(
    stylize: Callable[..., Any], job: Job, target: Path, options: VideoOptions | None, at_once: int
) -> None:
    try:
        with StopRequest() as stop:
            result = stylize_video(job.frames or job.source, target, stylize, options, stop, at_once)
        for note in result.notes:
            tqdm.write(f"fst: {one_line(note)}", file=sys.stderr)
        if stop.signal is not None:
            raise Interrupted(stop.signal, result.frames)
    except Interrupted as stopped:
        place = f"; {target} holds them" if stopped.step else ""
        tqdm.write(one_line(f"fst: stopped after {stopped.step} frames{place}"), file=sys.stderr)
        raise
