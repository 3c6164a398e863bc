"""Videos made on the spot, functions that stand in for a network, and what a player would make of a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from fst.inference.video.types import VideoOptions

WIDTH, HEIGHT = 64, 48
BEST = VideoOptions(quality=1)


def invert(picture: np.ndarray) -> np.ndarray:
    return 255 - picture


def same(picture: np.ndarray) -> np.ndarray:
    return picture


def gray(number: int) -> np.ndarray:
    """A picture that tells its number."""
    return np.full((HEIGHT, WIDTH, 3), 20 + 8 * number % 200, np.uint8)


def make_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    tone: bool = False,
    set_up: Callable[[Any], None] = lambda stream: None,
    unit: Fraction = Fraction(1, 25),
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = unit
        set_up(stream)
        sound = container.add_stream("aac", rate=8000) if tone else None
        length = round(8000 * unit)  # of a frame, in samples
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if context.colorspace != 2:
                matrix = {6: 5}.get(context.colorspace, context.colorspace)  # one matrix, two numbers
                frame = frame.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=context.color_range)
            frame.pts, frame.time_base = times[number] if times else number, unit
            container.mux(stream.encode(frame))
            if sound:
                wave = np.sin(np.arange(number * length, (number + 1) * length) / 3)[None].astype(np.float32)
                samples = av.AudioFrame.from_ndarray(np.repeat(wave, 2, 0), format="fltp", layout="stereo")
                samples.sample_rate, samples.pts, samples.time_base = 8000, number * length, Fraction(1, 8000)
                container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        if sound:
            container.mux(sound.encode(None))
    return path


def make_gif(path: Path) -> Path:
    """Three frames, the later two half transparent and of uneven length."""
    frames = [Image.new("RGBA", (40, 30), (200, 30 * n, 60, 255)) for n in range(3)]
    frames[0].paste((0, 0, 0, 0), (0, 0, 20, 30))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 200, 400], disposal=2)
    return path


def copy_packets(film: Any, output: Any, streams: Sequence[Any]) -> None:
    copies = {stream: output.add_stream_from_template(stream) for stream in streams}
    for packet in film.demux(*streams):
        if packet.size:
            packet.stream = copies[packet.stream]
            output.mux(packet)


@dataclass
class Seen:
    """What a player would make of a file."""

    pictures: list[np.ndarray]
    times: list[Fraction]
    stream: Any
    frame: Any
    packets: list[list[tuple[bytes, Fraction]]]  # of each other stream


def look(path: Path) -> Seen:
    with av.open(str(path)) as container:
        stream: Any = container.streams.best("video")
        frames = list(container.decode(stream))
        times = [frame.pts * stream.time_base for frame in frames]
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        others = [other.index for other in container.streams if other.type in ("audio", "subtitle")]
    packets = []
    for index in others:
        with av.open(str(path)) as container:
            found = [packet for packet in container.demux(container.streams[index]) if packet.size]
            packets.append([(bytes(packet), packet.pts * packet.time_base) for packet in found])
    return Seen(pictures, times, stream, frames[0], packets)
