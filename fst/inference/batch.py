"""Does what `fst.inference.jobs` planned; an input that fails stops none of the others."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from fst.errors import RunError, errors_of, one_line
from fst.inference.jobs import Job, Plan
from fst.inference.pipes import PIPE, picture_suffix, standard_input, standard_output
from fst.inference.stages import AHEAD, map_in, stylizing_threads
from fst.inference.stylizer import Stylizer
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.types import VideoOptions
from fst.metadata import Metadata
from fst.pictures import (
    ImageError,
    encode_image,
    image_size,
    read_photo,
    refuse_too_large,
    scaled_size,
    write_image,
)
from fst.signals import Interrupted, StopRequest

_SMALL = 16 * 10**6  # pixels, with all results: of such photos several are in memory at the same time


@dataclass
class _Item:
    """An input on its way through the stages. Once one has failed, the next ones leave it alone."""

    job: Job
    stylizers: Mapping[Path, Stylizer]  # for each target
    image: Image.Image | None = None
    metadata: Metadata | None = None
    stylized: dict[Path, Image.Image] = field(default_factory=dict)
    error: Exception | None = None

    def then(self, stage: Callable[..., None], *arguments: Any) -> "_Item":
        if self.error is None:
            try:
                stage(self, *arguments)
            except Exception as error:
                self.error = error
        return self


def stylize_all(
    planned: Plan,
    stylizers: Mapping[str, Stylizer],
    video_options: VideoOptions | None = None,
    mask: Image.Image | None = None,
) -> int:
    """Stylize pictures and videos; failures go to stderr, one line each. An input is read once for all styles.

    Args:
        stylizers: one for each ending that the plan's outputs have.
        mask: white where each picture is to be stylized, black where not.

    Returns:
        How many outputs were written. `planned.failed` counts the inputs that failed.

    Raises:
        UserError, RunError: the only input failed.
        Interrupted: stopped by a signal in a video, once the frames that were done are in place.
    """
    written = 0
    at_once = min(stylizer.at_once for stylizer in stylizers.values())
    bar = tqdm(total=len(planned.jobs), unit="file", disable=len(planned.jobs) < 2)
    with bar, logging_redirect_tqdm():  # warnings in lines of their own
        for kind, jobs in groupby(planned.jobs, _kind):
            items = (_Item(job, {path: stylizers[ending] for ending, path in job.targets.items()}) for job in jobs)
            done: Iterator[_Item]
            if kind == "video":
                done = (item.then(_stylize_videos, at_once, video_options, mask) for item in items)
            elif kind == "small" and len(planned.jobs) > 1:
                done = _side_by_side(items, at_once, mask)
            else:
                done = (item.then(_read).then(_paint, mask).then(_write) for item in items)
            for item in done:
                with planned.input(item.job.source):
                    if item.error is not None:
                        raise item.error
                    written += len(item.job.targets)
                bar.update()
    return written


def _kind(job: Job) -> str:
    """`video`, `small` for a photo of which several fit into memory at the same time, or `large`."""
    if job.is_video:
        return "video"
    try:
        width, height = (0, 0) if job.source == PIPE else image_size(job.source)
    except ImageError:  # will be reported when it is read
        return "small"
    return "small" if width * height * (1 + len(job.targets)) <= _SMALL else "large"


def _side_by_side(photos: Iterable[_Item], at_once: int, mask: Image.Image | None) -> Iterator[_Item]:
    """Photos that are done: while one is painted, others are read and written."""
    decoder, encoder = ThreadPoolExecutor(1, "decode"), ThreadPoolExecutor(1, "encode")
    with decoder, encoder, stylizing_threads(at_once) as painters:
        read = map_in(decoder, lambda photo: photo.then(_read), photos, AHEAD)
        painted = map_in(painters, lambda photo: photo.then(_paint, mask), read, at_once)
        yield from map_in(encoder, lambda photo: photo.then(_write), painted, AHEAD)


def _read(photo: _Item) -> None:
    source, size = photo.job.source, next(iter(photo.stylizers.values())).size

    def check_size(width: int, height: int) -> None:
        for stylizer in photo.stylizers.values():
            stylizer.check_size(width, height)
        for target in photo.stylizers:
            refuse_too_large(*scaled_size(width, height, size), _suffix(photo.job, target))

    file = BytesIO(standard_input().read()) if source == PIPE else None
    with errors_of(source):
        try:
            photo.image, photo.metadata = read_photo(source, file=file, check_size=check_size)
        except RunError:  # too large for the memory
            if size is None:
                raise
            # It will be scaled down, and a JPEG can be decoded at a fraction of its size.
            photo.image, photo.metadata = read_photo(source, 2 * size, file, check_size)


def _paint(photo: _Item, mask: Image.Image | None) -> None:
    assert photo.image is not None
    with errors_of(photo.job.source):
        photo.stylized = {target: stylizer(photo.image, mask) for target, stylizer in photo.stylizers.items()}


def _write(photo: _Item) -> None:
    for target, stylized in photo.stylized.items():
        if target == PIPE:
            encode_image(stylized, buffer := BytesIO(), _suffix(photo.job, target), photo.metadata)
            standard_output().write(buffer.getvalue())
        else:
            write_image(stylized, target, photo.metadata)
    photo.image, photo.stylized = None, {}  # the memory is free before the next is read


def _suffix(job: Job, target: Path) -> str:
    return picture_suffix(job.format) if target == PIPE else target.suffix.lower()


def _stylize_videos(item: _Item, at_once: int, options: VideoOptions | None, mask: Image.Image | None) -> None:
    job = item.job
    outputs = {target: partial(stylizer, mask=mask) for target, stylizer in item.stylizers.items()}
    try:
        with StopRequest() as stop:
            result = stylize_video(job.frames or job.source, outputs, options, stop, at_once, job.is_template)
        for note in result.notes:
            tqdm.write(f"fst: {one_line(note)}", file=sys.stderr)
        if stop.signal is not None:
            raise Interrupted(stop.signal, result.frames)
    except Interrupted as stopped:
        holds = "hold" if len(outputs) > 1 else "holds"
        place = f"; {', '.join(map(str, outputs))} {holds} them" if stopped.step else ""
        tqdm.write(one_line(f"fst: stopped after {stopped.step} frames{place}"), file=sys.stderr)
        raise
