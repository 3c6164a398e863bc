"""Types shared by reading, stylizing and writing videos: frames, options, file names."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fst.errors import UserError

if TYPE_CHECKING:
    import numpy as np  # not to load it: mistaken flags need not wait for it

# Code points of ITU-T H.273, as in FFmpeg.
BT709, UNTAGGED, BT470BG, BT601 = 1, 2, 5, 6
LIMITED, FULL = 1, 2

# Containers for H.264 (or their own default codec) and most audio codecs; the others are only read.
WRITABLE_VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".flv", ".3gp", ".gif"})
VIDEO_SUFFIXES = WRITABLE_VIDEO_SUFFIXES - {".gif"} | {
    ".avi",
    ".mts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".vob",
    ".wmv",
    ".asf",
    ".ogv",
}
_LEAST_FPS, _MOST_FPS = Fraction(1, 100), 1000
_NUMBER = re.compile(r"%0?(\d*)d")


@dataclass(frozen=True)
class ColorTags:
    """How stored values are displayed: code points of ITU-T H.273, and the ratio of a pixel's width to its height."""

    matrix: int
    full_range: bool = False
    primaries: int = UNTAGGED
    transfer: int = UNTAGGED
    aspect: Fraction = Fraction(1)


def guess_matrix(height: int) -> int:
    """What players assume for a video without colour tags: BT.601 in standard definition, else BT.709."""
    return BT601 if height <= 576 else BT709


@dataclass
class Frame:
    """A frame, with the packets of other streams that come before it in the file.

    `picture` is uint8 `(H, W, 3)` RGB, or `None` where only packets are left; `pts` and `duration` are in units of
    the reader's `time_base`.
    """

    picture: "np.ndarray | None"
    pts: int = 0
    duration: int = 0
    tags: ColorTags = ColorTags(BT709)
    packets: list[tuple[int, Any]] = field(default_factory=list)  # index of the stream, and an av.Packet


class Reader(Protocol):
    """A source of frames; see `VideoReader`."""

    time_base: Fraction
    rate: Fraction
    expected: int
    damaged: int
    notes: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def copy_streams(self, output: Any) -> tuple[dict[int, Any], list[str]]: ...

    def close(self) -> None: ...


def require_opencv() -> None:
    """Raises a `UserError` if OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise UserError("optical flow needs OpenCV: pip install 'fast-style-transfer[flow]'")


@dataclass(frozen=True)
class VideoOptions:
    """How a video is written; `None` chooses by the file's suffix.

    Attributes:
        codec: FFmpeg's name of a codec or encoder: h264, hevc, vp9, av1, libx264, …
        quality: constant rate factor of that encoder: from 0, the best, to 51, for vp9 and av1 to 63.
        pixel_format: FFmpeg's name: yuv420p, yuv444p, …
        preset: of the encoder: slow for small files, veryfast (the default), ultrafast for speed; av1's are numbers.
        format: FFmpeg's name of the container, for standard output; Matroska if `None`.
        steady: less flicker, see `fst.inference.video.steady`.
        fps: frames a second, for pictures that become a video; 25 if `None`.

    Raises:
        UserError: a number out of range.
    """

    codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None
    fps: Fraction | None = None
    preset: str | None = None
    format: str | None = None
    steady: bool | None = None

    def __post_init__(self) -> None:
        if self.steady:
            require_opencv()
        if self.quality is not None and not 0 <= self.quality <= 63:
            raise UserError(f"quality is {self.quality}; it goes from 0 (the best) to 51, for vp9 and av1 63")
        if self.fps is not None and not _LEAST_FPS <= self.fps <= _MOST_FPS:
            raise UserError(f"fps is {float(self.fps):g}; it is frames a second, from 0.01 to {_MOST_FPS}")

    def given(self) -> list[str]:
        """The command-line flags that are set."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class VideoResult:
    """The number of frames written, and notes for the user, a line each."""

    frames: int
    notes: tuple[str, ...] = ()


def is_template(path: Path) -> bool:
    """Whether the name is a template for numbered pictures, such as `%05d.png`."""
    return _NUMBER.search(path.name) is not None and path.suffix.lower() not in VIDEO_SUFFIXES  # "50%discount.mp4"


def frame_path(template: Path, number: int) -> Path:
    """The file of a numbered picture.

    >>> frame_path(Path("frames/%05d.png"), 7).name
    '00007.png'
    """
    return template.with_name(_NUMBER.sub(lambda match: f"{number:0{match[1] or 1}d}", template.name, count=1))


def find_frames(template: Path) -> list[Path]:
    """The pictures that match a template, in the order of their numbers."""
    before, after = (re.escape(part) for part in _NUMBER.sub("\0", template.name, count=1).split("\0"))
    name = re.compile(rf"{before}(\d+){after}")
    numbered = [(int(match[1]), path) for path in template.parent.glob("*") if (match := name.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]
