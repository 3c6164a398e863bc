"""Writes a video with FFmpeg; other streams are copied unchanged."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from fst.errors import UserError
from fst.inference.pipes import PIPE, video_format, video_output
from fst.inference.video.types import BT470BG, BT601, FULL, LIMITED, Frame, Reader, VideoOptions

_RGB = 0  # the "matrix" of RGB itself in ITU-T H.273
_CODECS = {".webm": "libvpx-vp9", ".gif": "gif"}
# Encoders with a constant rate factor: its default, its worst value, and options for speed.
_QUALITIES: dict[str, tuple[int, int, dict[str, str]]] = {
    "libx264": (20, 51, {"preset": "veryfast"}),
    "libx265": (24, 51, {"preset": "veryfast", "x265-params": "log-level=error"}),
    "libvpx-vp9": (30, 63, {"deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
    "libsvtav1": (30, 63, {"preset": "10"}),
}
# An .mp4 or .mov has its table of contents at its end, where a stream needs it in parts.
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_STREAMED = {"mp4": _FRAGMENTED, "mov": _FRAGMENTED}
os.environ.setdefault("SVT_LOG", "1")  # libsvtav1 would fill the terminal


class VideoWriter:
    """Writes pictures, and packets of the other streams, to a video file; `finish` completes it.

    Args:
        path: its suffix names the container; `-` is standard output, whose container is `options.format`.
        reader: where times, sound, subtitles and metadata come from.

    Attributes:
        notes: a line for each stream that the container cannot hold.
        damaged: packets of other streams that could not be written.

    Raises:
        UserError: no such codec or pixel format, one that cannot hold these pictures, or a quality it does not have.
        OSError: any method may raise it, for example if the disk is full.
    """

    def __init__(self, path: Path, reader: Reader, options: VideoOptions) -> None:
        self._path, self._reader, self._options = path, reader, options
        self._format = video_format(options.format) if path == PIPE else None
        name = options.codec or _CODECS.get(f".{self._format}" if self._format else path.suffix.lower(), "libx264")
        try:
            self._codec = av.Codec(name, "w")
        except UnknownCodecError as error:
            raise UserError(f"no encoder '{name}' in this FFmpeg; try h264, hevc, vp9 or av1") from error
        if self._codec.type != "video":
            raise UserError(f"{name} encodes {self._codec.type}; --codec is of the pictures: h264, hevc, vp9 or av1")
        self._encoder_options = self._choose_options()
        self._container: Any = None
        self._is_broken = False  # a file whose opening failed: writing into it would crash FFmpeg
        self._scaler = VideoReformatter()
        self._last = -(2**63)  # pts
        self.notes: list[str] = []
        self.damaged = 0

    def write(self, frame: Frame, picture: np.ndarray | None) -> None:
        """Append a frame's packets and, in place of its own picture, this one: uint8 `(H, W, 3)` RGB."""
        if self._is_broken:  # frames that waited when it broke
            return
        if picture is not None and self._container is None:
            self._is_broken = True
            self._open(frame, picture)  # the size is known only now
            self._is_broken = False
        for index, packet in frame.packets:
            self._copy(index, packet)
        if picture is not None:
            image, unit = self._to_frame(picture), self._stream.codec_context.time_base
            scale = self._reader.time_base / unit
            image.time_base = unit
            image.pts = self._last = max(round(frame.pts * scale), self._last + 1)
            image.duration = max(1, round(frame.duration * scale))
            self._encode(image)

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and the end of the file; call it after at least one frame."""
        self._encode(None)
        self._container.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        if self._container is not None:
            with contextlib.suppress(av.FFmpegError):
                self._container.close()

    def _encode(self, image: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(image):
            if packet.dts is not None and packet.dts > packet.pts:  # libx265 in a video of two frames
                packet.dts = packet.pts
            self._container.mux_one(packet)

    def _copy(self, index: int, packet: av.Packet) -> None:
        stream = self._copies.get(index)  # of the input: the packet names the output that it was written to before
        if stream is None:
            return
        packet.stream = stream
        try:
            self._container.mux_one(packet)
        except av.ArgumentError:  # its time stamp runs backwards
            self.damaged += 1

    def _open(self, frame: Frame, picture: np.ndarray) -> None:
        codec = self._codec
        file = f"file:{self._path}" if self._format is None else video_output()
        container = self._container = av.open(
            file, "w", self._format, container_options=_STREAMED.get(self._format or "", {})
        )
        stream: Any
        try:
            stream = container.add_stream(codec.name, rate=self._reader.rate, options=self._encoder_options)
        except ValueError as error:
            raise UserError(f".{container.format.name} holds no {codec.name}; choose another --codec") from error
        self._stream, self._tags = stream, frame.tags
        scaled = frame.picture is not None and picture.shape != frame.picture.shape
        stream.width, stream.height, stream.pix_fmt = self._choose_format(picture, scaled)
        self._set_up(stream.codec_context)
        try:
            stream.codec_context.open()
        except av.FFmpegError as error:
            what = f"{stream.width}×{stream.height} pixels in {stream.pix_fmt}"
            others = "--codec, --pixel-format or --preset"
            raise UserError(f"{codec.name} cannot encode {what}; try another {others}") from error
        self._copies, self.notes = self._reader.copy_streams(container)
        try:
            container.start_encoding()
        except (av.ArgumentError, av.PermissionError) as error:  # what muxers answer
            if self._format is None:
                raise UserError(
                    f"{self._path.suffix} cannot hold {codec.name}; choose another --codec or suffix"
                ) from error
            raise UserError(
                f"--format {self._options.format}: cannot be piped, or cannot hold {codec.name}; try mkv, ts or nut"
            ) from error

    def _choose_options(self) -> dict[str, str]:
        quality, preset = self._options.quality, self._options.preset
        if self._codec.name in _QUALITIES:
            default, worst, options = _QUALITIES[self._codec.name]
            if quality is not None and quality > worst:
                raise UserError(f"quality is {quality}; {self._codec.name}'s goes from 0 (the best) to {worst}")
            options = options | {"crf": str(default if quality is None else quality)}
            if preset is None:
                return options
            if "preset" in options:
                return options | {"preset": preset}
        if preset is not None:
            raise UserError(f"{self._codec.name} has no --preset; libx264, libx265 and libsvtav1 have")
        if quality is not None:
            raise UserError(f"{self._codec.name} has no --quality; {', '.join(_QUALITIES)} have")
        return {}

    def _choose_format(self, picture: np.ndarray, scaled: bool) -> tuple[int, int, str]:
        """Width, height and pixel format. The size differs from the picture's only if the input was scaled anyway."""
        height, width = picture.shape[:2]
        known = [known.name for known in self._codec.video_formats or ()] or ["yuv420p"]
        name = self._options.pixel_format or ("pal8" if self._codec.name == "gif" else known[0])
        try:
            pixel_format = av.VideoFormat(name, 16, 16)
        except ValueError as error:
            raise UserError(f"no pixel format '{name}'; try yuv420p or yuv444p") from error
        # H.264 and H.265 need even sides if the colours are stored at half the size.
        if self._codec.canonical_name in ("h264", "hevc") and pixel_format.chroma_width() < 16:
            if scaled:  # one row or column less, and it plays everywhere
                width, height = width - width % 2, height - height % 2
            elif (width % 2 or height % 2) and self._options.pixel_format is None:
                name = "yuv444p"
        return width, height, name

    def _set_up(self, context: Any) -> None:
        is_rgb = av.VideoFormat(context.pix_fmt, 16, 16).is_rgb
        full_range = self._tags.full_range or is_rgb or context.pix_fmt.startswith("yuvj")
        context.colorspace = _RGB if is_rgb else self._tags.matrix
        context.color_range = FULL if full_range else LIMITED
        context.color_primaries, context.color_trc = self._tags.primaries, self._tags.transfer
        context.sample_aspect_ratio = self._tags.aspect
        # A container without variable frame rate has a frame in each unit of time.
        varies = self._container.format.flags & av.format.Flags.variable_fps.value
        context.time_base = self._reader.time_base if varies else 1 / Fraction(self._reader.rate)
        context.flags |= av.codec.context.Flags.frame_duration.value
        context.thread_type = "AUTO"

    def _to_frame(self, picture: np.ndarray) -> av.VideoFrame:
        context = self._stream.codec_context
        picture = np.ascontiguousarray(picture[: context.height, : context.width])
        if context.pix_fmt == "pal8":  # 256 colours of its own for each frame
            image = Image.fromarray(picture).quantize(256)
            palette = np.full((256, 4), 255, np.uint8)  # ARGB
            colors = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
            palette[: len(colors), 1:] = colors
            indexed: Any = (np.asarray(image), palette)
            return av.VideoFrame.from_ndarray(indexed, format="pal8")
        matrix = context.colorspace
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(picture, format="rgb24"),
            format=context.pix_fmt,
            dst_colorspace=BT470BG if matrix == BT601 else matrix,  # one matrix, and PyAV knows this number
            dst_color_range=context.color_range,
            interpolation=Interpolation.BICUBIC,
        )
        frame.colorspace, frame.color_range = matrix, context.color_range
        return frame
