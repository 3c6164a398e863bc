"""Image sequences in place of videos: reads picture files in order, writes numbered files."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fst.inference.video.types import ColorTags, Frame, frame_path, guess_matrix
from fst.pictures import ImageError, flatten_alpha, read_image, write_image


class PictureReader:
    """Picture files as frames at a constant rate. Unreadable ones are left out, each with a note; all are scaled to the
    first one's size.

    Has what `VideoReader` has.
    """

    def __init__(self, paths: Sequence[Path], rate: Fraction) -> None:
        self._paths = paths
        self.rate, self.time_base = rate, 1 / rate
        self.expected, self.damaged = len(paths), 0
        self.notes: list[str] = []

    def close(self) -> None:
        pass

    def copy_streams(self, output: Any) -> tuple[dict[int, Any], list[str]]:
        return {}, []

    def __iter__(self) -> Iterator[Frame]:
        size = None
        for number, path in enumerate(self._paths):
            try:
                image = flatten_alpha(read_image(path))
            except ImageError as error:
                self.notes.append(f"{error}; left out")
                continue
            size = size or image.size
            pixels = np.asarray(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS))
            yield Frame(pixels, number, 1, ColorTags(guess_matrix(size[1])))


class PictureWriter:
    """Writes each frame to a picture file: `frames/%05d.png` becomes `frames/00001.png` and so on.

    Has what `VideoWriter` has; the other streams' packets are left out.
    """

    def __init__(self, template: Path) -> None:
        self._template = template
        self._count = 0
        self.damaged = 0
        self.notes: list[str] = []

    def write(self, frame: Frame, picture: np.ndarray | None) -> None:
        if picture is not None:
            self._count += 1
            write_image(Image.fromarray(picture), frame_path(self._template, self._count))

    def finish(self) -> None:
        if (later := frame_path(self._template, self._count + 1)).exists():
            self.notes.append(f"{later.name} and what follows it are left from an earlier video; remove them")

    def close(self) -> None:
        pass
