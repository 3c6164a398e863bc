"""Reads a video with FFmpeg: frames as upright RGB pictures with their times, other streams as packets."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from fst.errors import UserError
from fst.files import refusal_to_read
from fst.inference.pipes import PIPE, video_input
from fst.inference.video.types import (
    BT470BG,
    BT601,
    BT709,
    FULL,
    LIMITED,
    ColorTags,
    Frame,
    guess_matrix,
)
from fst.pictures import FORMATS

_MATRICES = {BT709, 4, BT470BG, BT601, 7, 9}  # the YCbCr matrices that FFmpeg's scaler knows
# Still images, which FFmpeg would film: its readers of them, beside those that are called *_pipe, and brands of HEIF.
_STILLS = {"image2", "ico", "fits", "avif", "heic", "heix", "heim", "heis", "mif1", "mif2"}
_MOST_PACKETS = 256  # per frame, so that sound longer than the video does not fill the memory


class VideoReader:
    """The best video stream of a file, or of standard input (`-`), frame by frame; iterate once, then `close`.

    Attributes:
        time_base: the unit of the frames' times, in seconds.
        rate: frames a second, as far as the file tells; the times are what counts.
        expected: about how many frames there will be; 0 if unknown.
        damaged: packets so far that could not be decoded, or not without faults.
        notes: none, see `PictureReader`.

    Raises:
        UserError: not there, not readable, or no video in it.
    """

    def __init__(self, path: Path) -> None:
        if refusal := refusal_to_read(path):
            raise UserError(f"{path} {refusal}")
        try:
            file = video_input() if path == PIPE else f"file:{path}"
            self._container = av.open(file, metadata_errors="replace")
        except av.FFmpegError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else "not a video, or damaged"
            raise UserError(f"{path}: {reason}") from error
        kind = self._container.format.name
        if kind.endswith("_pipe") or {kind, self._container.metadata.get("major_brand")} & _STILLS:
            self.close()
            raise UserError(f"{path}: not a picture that fst reads; convert it to one of {', '.join(FORMATS)}")
        video: Any = self._container.streams.best("video")
        # FFmpeg would render a .txt file as video, and take the cover of a song for one.
        if video is None or kind == "tty" or video.disposition & Disposition.attached_pic:
            self.close()
            raise UserError(f"{path}: no video in it")
        video.thread_type = "AUTO"
        self._video = video
        self._others = [s for s in self._container.streams if s.type in ("audio", "subtitle", "attachment")]
        self.time_base: Fraction = video.time_base
        self.rate: Fraction = video.guessed_rate or Fraction(25)
        length = video.duration * video.time_base if video.duration else Fraction(self._container.duration or 0, 10**6)
        self.expected: int = video.frames or round(length * self.rate)
        self.damaged = 0
        self.notes: list[str] = []
        self._size: tuple[int, int] | None = None
        self._last: int | None = None  # pts
        self._scaler = VideoReformatter()

    def close(self) -> None:
        self._container.close()

    def copy_streams(self, output: Any) -> tuple[dict[int, Any], list[str]]:
        """Add this file's sound, subtitles, fonts, chapters and metadata to another.

        Args:
            output: an `av.container.OutputContainer` before its header is written.

        Returns:
            The output's stream for each index of this file's, and a line for each that it cannot hold.
        """
        copies, notes = {}, []
        for stream in self._others:
            try:
                if stream.type == "attachment" and output.format.name != "matroska":  # PyAV would take it
                    raise ValueError
                copy = output.add_stream_from_template(stream)
            except ValueError:  # PyAV raises it if the format cannot hold the codec
                context = stream.codec_context
                codec = context.name if context else stream.metadata.get("filename", "unknown codec")
                notes.append(f"left out the {stream.type} ({codec}), which {output.format.name} cannot hold")
                continue
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition.value
            copies[stream.index] = copy
        output.metadata.update(self._container.metadata)
        output.set_chapters(self._container.chapters())
        return copies, notes

    def __iter__(self) -> Iterator[Frame]:
        packets: list[tuple[int, av.Packet]] = []
        for packet in self._demux():
            if packet is not None and packet.stream is not self._video:
                packets.append((packet.stream_index, packet))
                if self._size and len(packets) == _MOST_PACKETS:
                    yield Frame(None, packets=packets)
                    packets = []
                continue
            for frame in self._decode(packet):
                yield self._convert(frame, packets)
                packets = []
        if self._size:
            yield Frame(None, packets=packets)

    def _demux(self) -> Iterator[av.Packet | None]:
        """All packets, then `None` to empty the decoder; a truncated file ends early."""
        try:
            # PyAV ends each stream with an empty packet, which would empty the decoder too early.
            yield from (packet for packet in self._container.demux(self._video, *self._others) if packet.size)
        except av.FFmpegError:
            self.damaged += 1
        yield None

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self._video.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return frames

    def _convert(self, frame: av.VideoFrame, packets: list[tuple[int, av.Packet]]) -> Frame:
        if self._size is None:
            # Only once: `side_data` and its frame keep each other in memory until the next garbage collection.
            self._turn = _find_turn(frame)
        # If the size changes within the stream, later frames are scaled to the first one's.
        self._size = width, height = self._size or (frame.width, frame.height)
        duration = frame.duration or round(1 / (self.rate * self.time_base)) or 1
        pts = frame.pts
        if pts is None or (self._last is not None and pts <= self._last):  # no time stamp, or one that runs backwards
            pts = 0 if self._last is None else self._last + duration
        self._last = pts
        signal = self._tag(frame)
        alpha = any(component.is_alpha for component in frame.format.components)
        rgb = self._scaler.reformat(
            frame, width, height, "rgba" if alpha else "rgb24", interpolation=Interpolation.BICUBIC
        )
        pixels: np.ndarray = rgb.to_ndarray()
        if alpha:  # over white, as for pictures
            cover = pixels[..., 3:].astype(np.uint16)
            pixels = ((pixels[..., :3] * cover + 255 * (255 - cover)) // 255).astype(np.uint8)
        swapped, mirrored, flipped = self._turn
        if swapped:
            pixels, signal = pixels.swapaxes(0, 1), replace(signal, aspect=1 / signal.aspect)
        pixels = np.ascontiguousarray(pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1])
        return Frame(pixels, pts, duration, signal, packets)

    def _tag(self, frame: av.VideoFrame) -> ColorTags:
        """The frame's colour tags; missing ones are filled in, also in the frame itself."""
        aspect = self._video.sample_aspect_ratio or Fraction(1)
        matrix = frame.colorspace if frame.colorspace in _MATRICES else guess_matrix(frame.height)
        if frame.format.is_rgb or frame.format.has_palette:
            return ColorTags(matrix, aspect=aspect)
        full_range = frame.color_range == FULL or frame.format.name.startswith("yuvj")
        frame.colorspace, frame.color_range = matrix, FULL if full_range else LIMITED
        return ColorTags(matrix, full_range, frame.color_primaries, frame.color_trc, aspect)


def _find_turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """The display matrix as three steps, to a multiple of 90°: transpose, then mirror, then flip upside down."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    # x' = ax + cy, y' = bx + dy in the matrix (a b u; c d v; x y w)
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    return (True, c < 0, b < 0) if abs(a) < abs(b) else (False, a < 0, d < 0)
