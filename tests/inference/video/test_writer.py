"""Sizes, formats and options of what is written."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fst.errors import UserError
from fst.inference.video.pipeline import stylize_video
from fst.inference.video.reader import VideoReader
from fst.inference.video.types import VideoOptions, find_frames
from fst.inference.video.writer import VideoWriter
from fst.pictures import FORMATS
from tests.clips import BEST, HEIGHT, WIDTH, copy_packets, gray, invert, look, make_gif, make_video, same
from tests.conftest import make_picture

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_streams_that_do_not_fit_are_one_line_each(clip: Path, tmp_path: Path) -> None:
    (note,) = stylize_video(clip, {tmp_path / "out.webm": invert}).notes
    assert note == f"{tmp_path / 'out.webm'}: left out the audio (aac), which webm cannot hold"
    seen = look(tmp_path / "out.webm")
    assert seen.stream.codec_context.name == "vp9"
    assert seen.times == look(clip).times
    assert abs(seen.pictures[5].astype(int) - invert(gray(5))).mean() < 4
    assert seen.packets == []


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".gif"])
def test_only_matroska_holds_fonts(tmp_path: Path, suffix: str) -> None:
    with (
        av.open(str(make_video(tmp_path / "in.mp4", [gray(0)] * 3))) as film,
        av.open(str(tmp_path / "in.mkv"), "w") as output,
    ):
        output.add_attachment("font.ttf", "application/x-truetype-font", b"a font")
        copy_packets(film, output, film.streams.video)
    out = tmp_path / f"out{suffix}"
    notes = stylize_video(tmp_path / "in.mkv", {out: same}).notes
    left_out = [f"{out}: left out the attachment (font.ttf), which"]
    assert [note.partition(" which")[0] + " which" for note in notes] == ([] if suffix == ".mkv" else left_out)
    with av.open(str(out)) as film:
        kinds = [stream.type for stream in film.streams]
    assert kinds == (["video", "attachment"] if suffix == ".mkv" else ["video"])


@pytest.mark.parametrize(("codec", "suffix"), [(None, ".mp4"), ("hevc", ".mkv"), (None, ".webm"), ("av1", ".webm")])
def test_odd_sizes_are_neither_cut_nor_skewed(tmp_path: Path, codec: str | None, suffix: str) -> None:
    picture = np.asarray(make_picture(97, 65))
    source = make_video(tmp_path / "in.mkv", [picture] * 2, codec="ffv1", pixel_format="yuv444p")
    stylize_video(source, {tmp_path / f"out{suffix}": same}, VideoOptions(codec=codec, quality=4))
    seen = look(tmp_path / f"out{suffix}").pictures[0]
    assert seen.shape == picture.shape
    assert abs(seen.astype(int) - picture).mean() < 5


def test_a_scaled_video_gets_an_even_size(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [gray(3)] * 2)
    stylize_video(source, {tmp_path / "out.mp4": lambda picture: picture[:27, :35]})
    seen = look(tmp_path / "out.mp4")
    assert (seen.pictures[0].shape, seen.stream.pix_fmt) == ((26, 34, 3), "yuv420p")
    stylize_video(
        source, {tmp_path / "full.mp4": lambda picture: picture[:27, :35]}, VideoOptions(pixel_format="yuv444p")
    )
    assert look(tmp_path / "full.mp4").pictures[0].shape == (27, 35, 3)


def test_gifs_in_and_out(tmp_path: Path) -> None:
    result = stylize_video(make_gif(tmp_path / "in.gif"), {tmp_path / "out.gif": same})
    assert result.frames == 3
    with Image.open(tmp_path / "out.gif") as image:
        assert (image.n_frames, image.size) == (3, (40, 30))
        durations, colors = [], []
        for number in range(3):
            image.seek(number)
            durations.append(image.info["duration"])
            colors.append(image.convert("RGB").getpixel((30, 15)))
        image.seek(0)
        left = image.convert("RGB").getpixel((10, 15))
    assert durations == [100, 200, 400]
    assert left == (255, 255, 255), "what is transparent lies over white, as in pictures"
    assert np.abs(np.array(colors) - [(200, 30 * n, 60) for n in range(3)]).max() <= 3


def test_a_videos_frames_as_pictures_and_back(clip: Path, tmp_path: Path) -> None:
    assert stylize_video(clip, {tmp_path / "frames" / "%03d.png": invert}).frames == 20
    frames = find_frames(tmp_path / "frames" / "%03d.png")
    assert [path.name for path in frames] == [f"{number:03d}.png" for number in range(1, 21)]
    assert abs(np.asarray(Image.open(frames[4])).astype(int) - invert(gray(4))).max() <= 4
    frames[9].write_bytes(b"damaged")
    Image.open(frames[3]).resize((20, 20)).save(frames[3])
    result = stylize_video(frames, {tmp_path / "out.mp4": invert}, VideoOptions(fps=Fraction(24)))
    assert result.frames == 19
    assert result.notes == (f"{frames[9]}: not a picture ({', '.join(FORMATS)}), or damaged; left out",)
    seen = look(tmp_path / "out.mp4")
    assert seen.times == [Fraction(number, 24) for number in range(20) if number != 9]
    assert {picture.shape for picture in seen.pictures} == {(HEIGHT, WIDTH, 3)}
    assert abs(seen.pictures[4].astype(int) - gray(4)).mean() < 4


def test_nothing_is_written_to_a_file_whose_opening_failed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError

    with closing(VideoReader(clip)) as reader, closing(VideoWriter(clip.with_name("out.mkv"), reader, BEST)) as writer:
        frames = [frame for frame in reader if frame.picture is not None]
        with monkeypatch.context() as patch:
            patch.setattr(VideoReader, "copy_streams", fail)
            with pytest.raises(BrokenPipeError):
                writer.write(frames[0], frames[0].picture)
        for frame in frames[1:]:  # those that were queued; FFmpeg would crash
            writer.write(frame, frame.picture)


def test_frames_of_an_earlier_video_are_named_not_removed(clip: Path, tmp_path: Path) -> None:
    for name in ("20.png", "21.png", "30.png"):
        (tmp_path / name).touch()
    (note,) = stylize_video(clip, {tmp_path / "%d.png": same}).notes
    assert note == f"{tmp_path / '%d.png'}: 21.png and what follows it are left from an earlier video; remove them"
    assert (tmp_path / "21.png").exists()


def test_a_rate_of_many_digits(tmp_path: Path) -> None:
    make_picture(32, 32).save(tmp_path / "a.png")
    frames = [tmp_path / "a.png"] * 3
    stylize_video(frames, {tmp_path / "out.mp4": same}, VideoOptions(fps=Fraction("23.976023976023978")))
    assert look(tmp_path / "out.mp4").times[2] == Fraction(2 * 1001, 24000)


def test_a_preset_trades_size_for_speed(clip: Path, tmp_path: Path) -> None:
    sizes = []
    for preset in ("slow", "ultrafast"):
        stylize_video(clip, {tmp_path / f"{preset}.mp4": same}, VideoOptions(preset=preset))
        sizes.append((tmp_path / f"{preset}.mp4").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (".mp4", {"codec": "abacus"}, "no encoder 'abacus'"),
        (".mp4", {"codec": "aac"}, "aac encodes audio"),
        (".webm", {"codec": "h264"}, "webm holds no libx264"),
        (".mov", {"codec": "vp9"}, ".mov cannot hold libvpx-vp9; choose another --codec or suffix"),
        (".mp4", {"pixel_format": "abacus"}, "no pixel format 'abacus'"),
        (".mp4", {"pixel_format": "pal8"}, "libx264 cannot encode 64×48 pixels in pal8"),
        (".mkv", {"codec": "ffv1", "quality": 5}, "ffv1 has no --quality"),
        (".mkv", {"codec": "ffv1", "preset": "slow"}, "ffv1 has no --preset"),
        (".mp4", {"preset": "abacus"}, "libx264 cannot encode .* --preset"),
        (".mp4", {"quality": 99}, "quality is 99"),
        (".mp4", {"fps": Fraction(0)}, "fps is 0"),
        (".mp4", {"fps": Fraction(1, 10**9)}, "fps is 1e-09; it is frames a second, from 0.01 to 1000"),
        (".mp4", {"fps": Fraction(24)}, "a video keeps its own frame times"),
    ],
)
def test_options_that_do_not_suit_are_one_line(clip: Path, suffix: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        stylize_video(clip, {clip.with_name(f"out{suffix}"): same}, VideoOptions(**options))
    assert not clip.with_name(f"out{suffix}").exists()
