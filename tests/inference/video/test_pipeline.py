"""The whole way of a video, with a function that is no network in the middle."""

import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import fst
from fst.errors import RunError, UserError
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.reader import VideoReader
from fst.inference.video.types import VideoOptions
from fst.inference.video.writer import VideoWriter
from tests.clips import HEIGHT, WIDTH, gray, invert, look, make_video, same
from tests.conftest import make_picture

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_each_frame_is_stylized_in_its_place(clip: Path, tmp_path: Path) -> None:
    before = clip.read_bytes()
    result = stylize_video(clip, {tmp_path / "new" / "out.mp4": invert})
    assert (result.frames, result.notes) == (20, ())
    seen, source = look(tmp_path / "new" / "out.mp4"), look(clip)
    assert seen.times == source.times
    for number, picture in enumerate(seen.pictures):
        assert abs(picture.astype(int) - invert(gray(number))).mean() < 3
    assert (seen.stream.codec_context.name, seen.stream.pix_fmt) == ("h264", "yuv420p")
    assert clip.read_bytes() == before


def test_side_by_side_they_keep_their_order_and_share_the_threads(clip: Path, tmp_path: Path) -> None:
    before, threads, together = torch.get_num_threads(), set(), threading.Barrier(2)

    def slower_and_slower(picture: np.ndarray) -> np.ndarray:
        together.wait(10)  # two are here at once; there are twenty
        threads.add(torch.get_num_threads())
        threading.Event().wait(0.02 * (picture.mean() % 3 < 1))
        return invert(picture)

    stylize_video(clip, {tmp_path / "out.mp4": slower_and_slower}, at_once=2)
    for number, picture in enumerate(look(tmp_path / "out.mp4").pictures):
        assert abs(picture.astype(int) - invert(gray(number))).mean() < 3
    assert threads == {max(1, before // 2)}
    assert torch.get_num_threads() == before


def test_a_video_is_read_once_for_several_outputs(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, convert = [], VideoReader._convert
    monkeypatch.setattr(VideoReader, "_convert", lambda *arguments: (read.append(1), convert(*arguments))[1])
    outputs = {tmp_path / "a.mp4": same, tmp_path / "b.mp4": invert, tmp_path / "%02d.png": invert}
    assert stylize_video(clip, outputs).frames == len(read) == 20
    assert len(list(tmp_path.glob("*.png"))) == 20
    source = look(clip)
    for name, picture in (("a.mp4", gray(3)), ("b.mp4", invert(gray(3)))):
        seen = look(tmp_path / name)
        assert abs(seen.pictures[3].astype(int) - picture).mean() < 3
        assert (seen.times, seen.packets) == (source.times, source.packets)


def test_if_one_output_fails_none_is_written(clip: Path, tmp_path: Path) -> None:
    pictures = iter([gray(0)] * 5)

    def fail(_: np.ndarray) -> np.ndarray:
        if (picture := next(pictures, None)) is None:
            raise UserError("too small")
        return picture

    with pytest.raises(UserError, match="too small"):
        stylize_video(clip, {tmp_path / "a.mp4": same, tmp_path / "b.mp4": fail})
    assert list(tmp_path.iterdir()) == [clip]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_uneven_times_are_kept(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 80, 200, 210, 500, 533, 2000]
    source = make_video(tmp_path / "in.mkv", [gray(n) for n in range(8)], times, unit=Fraction(1, 1000))
    stylize_video(source, {tmp_path / f"out{suffix}": same})
    assert look(tmp_path / f"out{suffix}").times == [Fraction(time, 1000) for time in times]


def test_an_odd_unit_of_time_is_kept(tmp_path: Path) -> None:
    unit, times = Fraction(1001, 30000), [0, 1, 2, 4, 5]
    source = make_video(tmp_path / "in.mp4", [gray(n) for n in range(5)], times, unit=unit)
    stylize_video(source, {tmp_path / "out.mp4": same})
    assert look(tmp_path / "out.mp4").times == [time * unit for time in times]


def test_sound_and_subtitles_are_copied_packet_for_packet(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,300\nHello\n\n2\n00:00:00,400 --> 00:00:00,700\nYou\n"
    )
    both = tmp_path / "both.mkv"
    with av.open(str(clip)) as film, av.open(str(tmp_path / "words.srt")) as words, av.open(str(both), "w") as output:
        copies = {stream: output.add_stream_from_template(stream) for stream in (*film.streams, *words.streams)}
        copies[film.streams[1]].metadata["language"] = "eng"
        for packet in (*film.demux(), *words.demux()):
            if packet.size:
                packet.stream = copies[packet.stream]
                output.mux(packet)
    stylize_video(both, {tmp_path / "out.mkv": invert})
    seen, source = look(tmp_path / "out.mkv"), look(both)
    assert [len(packets) for packets in source.packets] == [len(look(clip).packets[0]), 2]
    assert seen.packets == source.packets
    assert seen.times == source.times
    with av.open(str(tmp_path / "out.mkv")) as output:
        assert output.streams.audio[0].language == "eng"


def test_sound_that_outlasts_the_pictures_is_copied_too(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [gray(0)] * 90, tone=True)
    short = tmp_path / "short.mkv"
    with av.open(str(source)) as film, av.open(str(short), "w") as output:
        copies = {stream: output.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.size and (packet.stream.type == "audio" or packet.is_keyframe):
                packet.stream = copies[packet.stream]
                output.mux(packet)
    assert stylize_video(short, {tmp_path / "out.mkv": same}).frames == 1
    assert look(tmp_path / "out.mkv").packets == look(short).packets


def test_what_fails_in_the_network_names_the_video(clip: Path, tmp_path: Path) -> None:
    def fail(picture: np.ndarray) -> np.ndarray:
        raise UserError("too small")

    with pytest.raises(UserError, match=r"clip\.mp4: too small"):
        stylize_video(clip, {tmp_path / "out.mp4": fail})
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError):
        stylize_video(clip, {tmp_path / "out.mp4": lambda picture: picture // (1 // 0)})
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_an_unexpected_error_in_another_thread_is_not_lost(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    for kind, method in ((VideoReader, "_convert"), (VideoWriter, "write")):
        with monkeypatch.context() as patch:
            patch.setattr(kind, method, fail)
            with pytest.raises(ZeroDivisionError):
                stylize_video(clip, {clip.with_name("out.mp4"): same})
    assert not clip.with_name("out.mp4").exists()


def test_targets_that_cannot_be_written_are_one_line(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"out\.mp4: cannot be written: (Not a directory|File exists)"):
        stylize_video(clip, {clip / "out.mp4": same})
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = iter(noise)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # as good as a full disk
    try:
        with pytest.raises(RunError, match=r"out\.mp4: cannot be written: File too large"):
            stylize_video(clip, {tmp_path / "out.mp4": lambda _: next(frames)}, VideoOptions(quality=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out.mp4").exists()


def test_the_stages_run_side_by_side_a_few_frames_apart(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, set[str]] = {"_convert": set(), "write": set(), "network": set()}
    count = {"_convert": 0, "write": 0}
    ahead = []

    def watch(kind: type, method: str) -> None:
        original = getattr(kind, method)

        def watched(*arguments: Any) -> Any:
            threads[method].add(threading.current_thread().name)
            count[method] += 1
            return original(*arguments)

        monkeypatch.setattr(kind, method, watched)

    def network(picture: np.ndarray) -> np.ndarray:
        threads["network"].add(threading.current_thread().name)
        ahead.append(count["_convert"] - len(ahead))
        threading.Event().wait(0.01)  # the slowest stage: the reader could run far ahead
        return picture

    watch(VideoReader, "_convert")
    watch(VideoWriter, "write")
    stylize_video(clip, {clip.with_name("out.mp4"): network})
    assert len(set.union(*threads.values())) == 3
    assert 1 < max(ahead) <= 4


PEAK = """
import sys
from pathlib import Path
from fst.inference.video.pipeline import stylize_video
frames = stylize_video(Path(sys.argv[1]), {Path(sys.argv[2]): lambda picture: 255 - picture}).frames
status = Path("/proc/self/status").read_text().splitlines()
print(frames, next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    picture = np.asarray(make_picture(320, 180))  # 0.17 MB: 550 of them would weigh as much as all else together
    peaks = []
    for seconds in (5, 60):
        rolled = [np.roll(picture, 4 * number, 1) for number in range(10)]
        times = range(seconds * 10)
        source = tmp_path / f"{seconds}.mp4"
        make_video(source, [rolled[t % 10] for t in times], times, tone=True, unit=Fraction(1, 10), codec="mpeg4")
        environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
        command = [sys.executable, "-c", PEAK, str(source), str(tmp_path / f"out{seconds}.mp4")]
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        frames, peak = map(int, result.stdout.split())
        assert frames == seconds * 10
        peaks.append(peak)
    assert peaks[1] <= 1.1 * peaks[0]
