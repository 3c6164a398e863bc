"""Whatever the file is like, its pictures are upright, in true colours and in time; or it is one clear line."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fst.errors import UserError
from fst.inference.video.pipeline import stylize_video
from fst.pictures import FORMATS
from tests.clips import BEST, HEIGHT, WIDTH, copy_packets, gray, invert, look, make_video, same
from tests.conftest import make_picture

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}


@pytest.mark.parametrize(
    ("turn", "shape", "corners"),
    [
        ((-90.0,), (WIDTH, HEIGHT), ["blue", "red", "black", "green"]),  # a phone held upright
        ((90.0,), (WIDTH, HEIGHT), ["green", "black", "red", "blue"]),
        ((180.0,), (HEIGHT, WIDTH), ["black", "blue", "green", "red"]),
        ((0.0, True), (HEIGHT, WIDTH), ["green", "red", "black", "blue"]),
        ((90.0, True), (WIDTH, HEIGHT), ["black", "green", "blue", "red"]),
    ],
)
def test_a_turned_video_is_written_upright(
    tmp_path: Path, turn: tuple, shape: tuple[int, int], corners: list[str]
) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:16, :24], picture[:16, -24:], picture[-16:, :24] = CORNERS["red"], CORNERS["green"], CORNERS["blue"]

    def set_up(stream: Any) -> None:
        stream.set_display_rotation(*turn)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    source = make_video(tmp_path / "in.mp4", [picture] * 2, set_up=set_up)
    shapes = set()
    stylize_video(source, {tmp_path / "out.mp4": lambda picture: (shapes.add(picture.shape[:2]), picture)[1]}, BEST)
    assert shapes == {shape}, "the network sees it upright"
    seen = look(tmp_path / "out.mp4")
    assert (seen.pictures[0].shape[:2], seen.frame.rotation) == (shape, 0)
    found = [seen.pictures[0][y, x] for y in (4, -4) for x in (4, -4)]
    assert [next(n for n, c in CORNERS.items() if abs(pixel - np.array(c)).max() < 40) for pixel in found] == corners
    assert seen.stream.sample_aspect_ratio == (Fraction(4, 3) if shape == (HEIGHT, WIDTH) else Fraction(3, 4))


@pytest.mark.parametrize("color", [(200, 120, 40), (230, 20, 30), (30, 90, 200)])
@pytest.mark.parametrize(("matrix", "color_range"), [(1, 1), (6, 1), (5, 2), (1, 2), (9, 1)])
def test_colours_and_their_tags_are_kept(
    tmp_path: Path, matrix: int, color_range: int, color: tuple[int, int, int]
) -> None:
    def set_up(stream: Any) -> None:
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        stream.codec_context.options = {"crf": "1"}

    picture = np.full((HEIGHT, WIDTH, 3), color, np.uint8)
    source = make_video(tmp_path / "in.mp4", [picture] * 2, set_up=set_up)
    met: list[np.ndarray] = []
    stylize_video(source, {tmp_path / "out.mp4": lambda picture: (met.append(picture), picture)[1]}, BEST)
    assert abs(met[0].astype(int) - picture).max() <= 3, "the network sees the true colours"
    seen, stored = look(tmp_path / "out.mp4"), look(source)
    assert (seen.frame.colorspace, seen.frame.color_range) == (matrix, color_range)
    assert abs(seen.pictures[0].astype(int) - picture).max() <= 6
    for plane, original in zip(seen.frame.planes, stored.frame.planes, strict=True):
        assert abs(bytes(plane)[0] - bytes(original)[0]) <= 2


@pytest.mark.parametrize(("height", "matrix"), [(576, 6), (720, 1)])
def test_untagged_colours_are_tagged_as_players_take_them(tmp_path: Path, height: int, matrix: int) -> None:
    picture = np.full((height, 16, 3), (200, 120, 40), np.uint8)
    source = make_video(tmp_path / "in.mp4", [picture])
    assert look(source).frame.colorspace == 2
    stylize_video(source, {tmp_path / "out.mp4": same}, BEST)
    seen = look(tmp_path / "out.mp4")
    assert (seen.frame.colorspace, seen.frame.color_range) == (matrix, 1)
    assert bytes(seen.frame.planes[0])[0] == pytest.approx(bytes(look(source).frame.planes[0])[0], abs=2)


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", [gray(7)] * 3, codec="ffv1", pixel_format="yuv420p10le")
    stylize_video(source, {tmp_path / "out.mp4": same}, BEST)
    seen = look(tmp_path / "out.mp4")
    assert seen.stream.pix_fmt == "yuv420p"
    assert abs(seen.pictures[0].astype(int) - gray(7)).max() <= 3


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [gray(3)])
    assert stylize_video(source, {tmp_path / "out.mp4": same}).frames == 1
    assert len(look(tmp_path / "out.mp4").times) == 1


def test_a_damaged_packet_costs_its_frame(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", [gray(n) for n in range(12)], codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux() if packet.size][5]
        data, whole = bytes(packet), source.read_bytes()
    assert whole.count(data) == 1
    source.write_bytes(whole.replace(data, bytes(len(data))))
    result = stylize_video(source, {tmp_path / "out.mp4": same})
    assert result.frames == 11
    assert result.notes == (f"{source}: 1 damaged packets; their frames are missing or patched up",)
    assert look(tmp_path / "out.mp4").times == [Fraction(number, 25) for number in range(12) if number != 5]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_truncated_video_is_done_as_far_as_it_goes(tmp_path: Path, suffix: str) -> None:
    pictures = [np.asarray(make_picture(WIDTH, HEIGHT, seed=number)) for number in range(30)]
    source = make_video(tmp_path / f"in{suffix}", pictures, tone=True)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    frames = stylize_video(source, {tmp_path / "out.mp4": invert}).frames
    assert 5 < frames < 25
    assert len(look(tmp_path / "out.mp4").times) == frames


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path: Path) -> None:
    parts = []
    for size in ((WIDTH, HEIGHT), (96, 32)):
        part = make_video(tmp_path / f"{size[0]}.h264", [np.asarray(make_picture(*size))] * 5)
        parts.append(part.read_bytes())
    (tmp_path / "in.h264").write_bytes(b"".join(parts))  # has no times, either
    assert stylize_video(tmp_path / "in.h264", {tmp_path / "out.mp4": same}, BEST).frames == 10
    seen = look(tmp_path / "out.mp4")
    assert seen.times == sorted(set(seen.times))
    assert {picture.shape for picture in seen.pictures} == {(HEIGHT, WIDTH, 3)}
    scaled = np.asarray(make_picture(96, 32).resize((WIDTH, HEIGHT)))
    assert abs(seen.pictures[-1].astype(int) - scaled).mean() < 12


def broken(path: Path, kind: str) -> Path:
    source = path / f"{kind}.mp4"
    if kind == "zero":
        source.touch()
    elif kind == "text":
        source.write_text("Once upon a time\n" * 30)
    elif kind == "cut":  # mp4 keeps its table of contents at the end
        make_video(source, [gray(n) for n in range(9)])
        source.write_bytes(source.read_bytes()[: source.stat().st_size // 3])
    elif kind == "sound":
        both = make_video(path / "both.mp4", [gray(0)] * 9, tone=True)
        with av.open(str(both)) as film, av.open(str(source), "w") as output:
            copy_packets(film, output, [film.streams.audio[0]])
    elif kind == "empty":
        make_video(source, [gray(0)])
        data = source.read_bytes()
        start = data.index(b"mdat") + 4
        end = data.index(b"moov") - 4
        source.write_bytes(data[:start] + bytes(end - start) + data[end:])
    return source


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("zero", "not a video, or damaged"),
        ("text", "not a video, or damaged"),
        ("cut", "not a video, or damaged"),
        ("sound", "no video in it"),
        ("empty", "no frame in it can be decoded"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path: Path, kind: str, message: str) -> None:
    source = broken(tmp_path, kind)
    with pytest.raises(UserError, match=message) as failure:
        stylize_video(source, {tmp_path / "out.mp4": same})
    assert str(failure.value).startswith(f"{source}: ")
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("suffix", [".ico", ".tga", ".pcx", ".avif"])
def test_a_still_image_is_no_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and "AVIF" not in FORMATS:
        pytest.skip("this Pillow does not write AVIF")
    make_picture(32, 32).save(source := tmp_path / f"still{suffix}")
    with pytest.raises(UserError, match=r"not a picture that fst reads; convert it to one of JPEG, PNG"):
        stylize_video(source, {tmp_path / "out.mkv": same})
