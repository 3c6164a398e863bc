"""How many frames a second a video takes: decoding, the network and encoding alone, and all of it side by side.

    python scripts/benchmark_video.py [STYLE] [--size 1280x720] [--frames 60] [--codec h264] [--preset ultrafast]
        [--json FILE]

The clip is made on the spot: a picture that moves, with a tone. Times drift and differ from machine to machine;
what side by side gains over one after another is a ratio of times in the same run.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from fst.errors import run_script
from fst.files import write_atomically
from fst.hardware import keep_large_blocks, peak_memory_mib
from fst.inference.stylizer import Stylizer
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.reader import VideoReader
from fst.inference.video.types import VideoOptions
from fst.inference.video.writer import VideoWriter

_RATE, _SOUND_RATE = 25, 48000
_SOUND = _SOUND_RATE // _RATE  # samples a frame


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (18, 32, 3), dtype=np.uint8)).resize((width, height), 3)
    picture = (np.asarray(coarse) + rng.integers(-8, 9, (height, width, 1))).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=_RATE, options={"crf": "20", "preset": "veryfast"})
        video.width, video.height = width, height
        sound: Any = container.add_stream("aac", rate=_SOUND_RATE)
        for number in range(frames):
            moved = np.ascontiguousarray(np.roll(picture, 3 * number, axis=1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
            wave = np.sin(0.06 * np.arange(number * _SOUND, (number + 1) * _SOUND), dtype=np.float32)
            samples = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = _SOUND_RATE, number * _SOUND, Fraction(1, _SOUND_RATE)
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def decode(clip: Path) -> list[np.ndarray]:
    """The last few pictures."""
    reader = VideoReader(clip)
    pictures: list[np.ndarray] = []
    for frame in reader:
        if frame.picture is not None:
            pictures = [*pictures[-7:], frame.picture]
    reader.close()
    return pictures


def encode(clip: Path, target: Path, pictures: list[np.ndarray], options: VideoOptions) -> float:
    """Seconds to write these pictures, again and again, in place of the clip's."""
    reader = VideoReader(clip)
    frames = list(reader)
    for frame in frames:  # only times and packets are needed
        frame.picture = None if frame.picture is None else pictures[0]
    writer = VideoWriter(target, reader, options)
    start = time.perf_counter()
    for number, frame in enumerate(frames):
        writer.write(frame, None if frame.picture is None else pictures[number % len(pictures)])
    writer.finish()
    seconds = time.perf_counter() - start
    reader.close()
    return seconds


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    width, height = map(int, arguments.size.split("x"))
    keep_large_blocks()  # as the command does
    stylizer = Stylizer(arguments.style, arguments.device)
    options = VideoOptions(codec=arguments.codec, preset=arguments.preset)
    clip, frames = folder / "clip.mp4", arguments.frames
    make_clip(clip, width, height, frames)
    pictures = decode(clip)
    stylized = [stylizer(picture) for picture in pictures]  # also warms up
    seconds = {
        "decode": timed(lambda: decode(clip)),
        "network": timed(lambda: [stylizer(pictures[0]) for _ in range(frames)]),
        "encode": encode(clip, folder / "encoded.mp4", stylized, options),
        "whole": timed(lambda: stylize_video(clip, {folder / "whole.mp4": stylizer}, options, None, stylizer.at_once)),
    }
    alone = sum(seconds.values()) - seconds["whole"]
    return {
        "style": stylizer.name,
        "size": arguments.size,
        "frames": frames,
        "device": str(stylizer.device),
        "milliseconds": {stage: round(1000 * value / frames, 2) for stage, value in seconds.items()},
        "fps": {stage: round(frames / value, 2) for stage, value in seconds.items()},
        "ratio": round(alone / seconds["whole"], 3),
        "peak_mib": round(peak_memory_mib(stylizer.device)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("style", nargs="?", default="starry_night", help="a name from `fst styles`, or a style file")
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT; default 1280x720")
    parser.add_argument("--frames", type=int, default=60, help="default 60")
    parser.add_argument("--codec", help="as in `fst stylize`")
    parser.add_argument("--preset", help="as in `fst stylize`")
    parser.add_argument("--device", default="auto", help="as in `fst stylize`")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(f"{result['style']}, {result['size']}, {result['frames']} frames, {result['device']}")
    for stage, milliseconds in result["milliseconds"].items():
        print(f"{stage:<8} {milliseconds:8.1f} ms a frame {result['fps'][stage]:8.1f} frames/s")
    print(f"side by side: {result['ratio']:.2f}× the speed of one after another; peak memory {result['peak_mib']} MiB")
    if arguments.json:
        write_atomically(arguments.json, json.dumps(result, indent=2).encode())


if __name__ == "__main__":
    run_script(main)
