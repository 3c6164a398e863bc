"""Videos in the command `fst stylize`; for pictures see tests/test_cli.py."""

import dataclasses
import os
import signal
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fst.cli import main
from fst.errors import RunError
from fst.inference.batch import stylize_all
from fst.inference.jobs import plan
from fst.inference.stylizer import Stylizer
from fst.inference.video.pipeline import stylize_video
from fst.pictures import read_photo
from fst.signals import StopRequest
from fst.style_file import load_style, save_style
from tests.clips import gray, invert, look, make_gif, make_video, same
from tests.conftest import make_picture
from tests.mistakes import run

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


class FakeStylizer(Stylizer):
    """Inverts, without a network; with `interrupt` somebody presses Ctrl-C at the third frame."""

    frames, interrupt = 0, False

    def __call__(self, image: Any, mask: object = None) -> Any:
        self.frames += 1
        if self.interrupt and self.frames == 3:
            signal.raise_signal(signal.SIGINT)
        return Image.fromarray(255 - np.asarray(image)) if isinstance(image, Image.Image) else 255 - image


@pytest.fixture
def fake(tmp_path: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStylizer:
    monkeypatch.chdir(tmp_path)
    stylizer = FakeStylizer(style_file, "cpu")
    run = Path("outputs/tiny/run")  # where `-s tiny` is found
    run.mkdir(parents=True)
    (run / "tiny.safetensors").write_bytes(style_file.read_bytes())
    monkeypatch.setattr("fst.inference.stylizer.Stylizer", lambda *_, **__: stylizer)
    return stylizer


def stylize(*arguments: str) -> int:
    return main(["stylize", *arguments, "-s", "tiny"])


def test_interrupted_the_frames_that_are_done_are_kept(
    clip: Path, fake: FakeStylizer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.interrupt = True
    assert stylize("clip.mp4", "missing.mp4", "-o", "out") == 130
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("fst: "))
    frames = len(look(Path("out/clip-tiny.mp4")).times)
    assert line == f"fst: stopped after {frames} frames; out/clip-tiny.mp4 holds them"
    assert 3 <= frames <= 5  # of 20; what was being painted is finished
    stop = StopRequest()
    stop.signal = signal.SIGINT
    with pytest.raises(Exception, match="stopped by SIGINT at step 0"):
        stylize_video(clip, {clip.with_name("none.mp4"): same}, stop=stop)
    assert not clip.with_name("none.mp4").exists()


def test_videos_and_pictures_in_one_command(clip: Path, fake: FakeStylizer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/deep").mkdir(parents=True)
    make_picture(40, 30).save("in/a.jpg")
    make_picture(40, 30).save("in/still.gif")
    make_gif(Path("in/moving.gif"))
    clip.rename("in/deep/clip.mp4")
    make_video(Path("in/old.avi"), [gray(0)] * 3, codec="mpeg4")
    Path("in/bad.mp4").write_text("no video")
    Path("notes.txt").write_text("FFmpeg would film this\n" * 30)
    assert stylize("in", "notes.txt", "-o", "out") == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("fst: ")]
    assert errors == ["fst: in/bad.mp4: not a video, or damaged", "fst: notes.txt: no video in it"]
    assert "5 stylized, 2 failed" in captured.out
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert found == {"a-tiny.jpg", "still-tiny.png", "moving-tiny.gif", "deep/clip-tiny.mp4", "old-tiny.mkv"}
    assert len(look(Path("out/deep/clip-tiny.mp4")).packets[0]) > 3


def test_existing_videos_need_force(clip: Path, fake: FakeStylizer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.mp4").write_bytes(b"precious")
    assert stylize("clip.mp4", "-o", "out.mp4") == 2
    assert capsys.readouterr().err == "fst: out.mp4 exists; --force overwrites it, -o NAME keeps both\n"
    assert Path("out.mp4").read_bytes() == b"precious"
    assert stylize("clip.mp4", "-o", "out.mp4", "--force", "--codec", "hevc", "--quality", "40") == 0
    assert look(Path("out.mp4")).stream.codec_context.name == "hevc"
    assert stylize("clip.mp4", "-o", "clip.mp4", "--force") == 0, "over itself, too"
    assert len(look(clip).times) == 20
    assert stylize("clip.mp4", "-o", "frames/%04d.png") == 0
    Path("frames/0001.png").unlink()
    assert stylize("clip.mp4", "-o", "frames/%04d.png") == 2
    assert "frames/0002.png exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.png", "clip.mp4"])
def test_an_existing_output_costs_none_of_the_other_styles(
    clip: Path, fake: FakeStylizer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make_picture(20, 20).save("a.png")
    run = Path("outputs/tiny/run")
    network, info = load_style(run / "tiny.safetensors")
    save_style(run / "own.safetensors", network, dataclasses.replace(info, name="own"))
    there, other = (Path(name).with_stem(f"{Path(name).stem}-{style}") for style in ("tiny", "own"))
    there.write_bytes(b"precious")
    assert stylize(name, "-s", "own") == 1
    captured = capsys.readouterr()
    assert f"fst: {there} exists; --force overwrites it, -o NAME keeps both\n" in captured.err
    assert captured.out == f"{other}\n"
    assert there.read_bytes() == b"precious"
    assert other.is_file()
    assert stylize(name, "-s", "own") == 1
    assert capsys.readouterr().err.endswith("0 stylized, 2 failed\n")


def test_pictures_become_a_video_where_one_is_asked_for(
    fake: FakeStylizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for number in (2, 10, 1):
        Image.fromarray(gray(number)).save(f"in/{number}.png")
    assert stylize("in/%d.png", "-o", "out.mp4", "--fps", "30000/1001") == 0
    seen = look(Path("out.mp4"))
    assert seen.times == [number * Fraction(1001, 30000) for number in range(3)]
    for picture, number in zip(seen.pictures, (1, 2, 10), strict=True):  # by number, not by name
        assert abs(picture.astype(int) - invert(gray(number))).mean() < 5
    for source, target in (("in", "folder.mp4"), ("in/*.png", "glob.mp4")):
        assert stylize(source, "-o", target, "--fps", "30000/1001") == 0
        assert all((a == b).all() for a, b in zip(look(Path(target)).pictures, seen.pictures, strict=True))
    assert stylize("in", "-o", "out.gif") == 0
    with Image.open("out.gif") as image:
        assert image.n_frames == 3
    assert stylize("in/1.png", "-o", "still.gif") == 0
    with Image.open("still.gif") as image:
        assert not image.is_animated
    assert stylize("in/%d.png", "-o", "painted") == 0, "a folder takes them one by one"
    assert len(list(Path("painted").iterdir())) == 3
    assert stylize("in/%d.jpg", "-o", "none.mp4") == 2
    assert "matches nothing" in capsys.readouterr().err


def test_a_picture_cannot_hold_a_video(clip: Path, fake: FakeStylizer, capsys: pytest.CaptureFixture[str]) -> None:
    assert stylize("clip.mp4", "-o", "out.png") == 2
    message = "fst: clip.mp4 is a video, out.png one picture; -o out-%05d.png writes each frame\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pipe.jpg", "pipe.jpg is a pipe or a device; save its content to a file first"),
        ("pipe.mp4", "pipe.mp4 is a pipe"),
        ("pipe", "pipe is a pipe"),
        ("folders/* -o x.png", "folders/*: matches folders only"),
        ("folders/*", "folders/*: matches folders only"),
        ("a.png -o x.txt", "-o x.txt: neither a picture nor a video"),
        ("a.png --codec h264 --fps 5", "--codec, --fps: only for videos, and there is none"),
        ("clip.mp4 -o %d.png --quality 5", "--quality: only for videos, and %d.png are pictures"),
        ("clip.mp4 --quality 60", "quality is 60; libx264's goes from 0 (the best) to 51"),
        ("a.png -o a.mp4 --fps 100000", "fps is 100000; it is frames a second, from 0.01 to 1000"),
        ("a.png missing.png -o a.mp4", "missing.png: no such file"),
        ("a.png --suffix x -o b.png", "--suffix is for default names, and -o b.png is the whole name"),
        ("a.png --max-megapixels 0", "--max-megapixels: '0' is not a number above 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(clip: Path, fake: FakeStylizer, arguments: str, message: str) -> None:
    for name in ("pipe.jpg", "pipe.mp4", "pipe"):
        os.mkfifo(name)
    Path("folders/one").mkdir(parents=True)
    make_picture(20, 20).save("a.png")
    outcome = run(f"stylize {arguments} -s tiny")
    assert outcome.faults() == []
    assert message in outcome.err


def test_a_rate_of_nothing_is_refused(fake: FakeStylizer) -> None:
    outcome = run("stylize a.png -o a.mp4 -s tiny --fps 1/0")
    assert outcome.status == 2
    assert "'1/0' is not a number" in outcome.err


def test_a_percent_sign_in_an_inputs_name_is_just_a_character(
    fake: FakeStylizer, capsys: pytest.CaptureFixture[str]
) -> None:
    make_picture(20, 20).save("sale 50%discount.jpg")
    make_gif(Path("50%dx.gif"))
    for name, target in (("sale 50%discount.jpg", "sale 50%discount-tiny.jpg"), ("50%dx.gif", "50%dx-tiny.gif")):
        assert stylize(name) == 0
        assert Path(target).is_file()
        assert stylize(name) == 2
        assert f"{target} exists; --force overwrites it" in capsys.readouterr().err


def test_a_file_of_several_pictures_gives_the_first_and_says_so(
    fake: FakeStylizer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [make_picture(20, 20, seed) for seed in range(3)]
    for name in ("pages.tiff", "moving.webp", "moving.png"):
        pages[0].save(name, save_all=True, append_images=pages[1:])
    pages[0].save("one.png")
    assert stylize("pages.tiff", "moving.webp", "moving.png", "one.png") == 0
    expected = [f"{name}: only the first of its pictures is read" for name in ("pages.tiff", "moving.webp")]
    expected.append("moving.png: only the first of its pictures is read")
    assert caplog.messages == expected
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert [line for line in lines if "only" in line] == expected, "beside the progress bar"


def test_a_name_with_a_number_may_be_a_folder(fake: FakeStylizer) -> None:
    make_picture(20, 20).save("a.png")
    assert stylize("a.png", "-o", "results.2024") == 0
    Path("x.txt").mkdir()
    assert stylize("a.png", "-o", "x.txt") == 0
    assert Path("results.2024/a-tiny.png").is_file()
    assert Path("x.txt/a-tiny.png").is_file()


def test_what_the_system_refuses_costs_one_input(
    fake: FakeStylizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/locked").mkdir(parents=True)
    for name in ("a.png", "b.png", "long.png", "huge.png", "odd.png"):
        make_picture(20, 20).save(f"in/{name}")
    exists, scandir, read = Path.exists, os.scandir, read_photo

    def exists_or_not(path: Path) -> bool:
        if path.name == "long-tiny.png":
            raise OSError(36, "File name too long", str(path))
        return exists(path)

    def list_folder(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def read_or_not(path: Path, *options: object, **others: Any) -> Image.Image:
        if path.name in ("huge.png", "odd.png"):
            raise MemoryError if path.name == "huge.png" else ZeroDivisionError("a fault in fst")
        return read(path, *options, **others)

    monkeypatch.setattr(Path, "exists", exists_or_not)
    monkeypatch.setattr(os, "scandir", list_folder)
    monkeypatch.setattr("fst.inference.batch.read_photo", read_or_not)
    assert stylize("nothing/*.png", "in", "-o", "out") == 1
    captured = capsys.readouterr()
    assert [line for line in captured.err.splitlines() if line.startswith("fst: ")] == [
        "fst: nothing/*.png: matches nothing",
        "fst: in/locked: Permission denied",
        "fst: in/long.png: File name too long",  # names are checked before the work begins
        "fst: in/huge.png: not enough memory",
        "fst: in/odd.png: ZeroDivisionError: a fault in fst",
    ]
    assert captured.out == "2 stylized, 5 failed\n"
    assert stylize("in/locked", "-o", "out") == 1
    assert capsys.readouterr().err == "fst: in/locked: Permission denied\n"


def test_a_photo_too_large_for_the_memory_is_decoded_smaller_where_it_can_be(
    fake: FakeStylizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_size(width: int, height: int) -> None:
        if width * height > 50_000:
            raise RunError(f"not enough memory for {width}×{height} pixels")

    monkeypatch.setattr(fake, "check_size", check_size)
    make_picture(640, 480).save("large.jpg")
    make_picture(640, 480).save("large.png")
    assert stylize("large.jpg") == 1
    assert "large.jpg: not enough memory for 640×480" in capsys.readouterr().err
    fake.size = 60
    assert stylize("large.jpg") == 0
    with Image.open("large-tiny.jpg") as image:
        assert image.size == (160, 120)  # the fake one does not scale
    assert stylize("large.png") == 1


def test_a_picture_too_large_for_its_format_is_refused_before_it_is_stylized(
    fake: FakeStylizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fst.pictures._MOST_SIDE", {"WEBP": 300})
    make_picture(320, 16).save("wide.png")
    assert stylize("wide.png", "-o", "wide.webp") == 2
    assert capsys.readouterr().err == (
        "fst: wide.png: 320×16 pixels; a .webp file has at most 300 a side: use .png, or --size\n"
    )
    assert not fake.frames
    fake.size = 300
    assert stylize("wide.png", "-o", "wide.webp") == 0
    assert stylize("wide.png", "-o", "same.png") == 0


def test_a_video_can_be_stylized_in_any_thread(clip: Path, fake: FakeStylizer) -> None:
    before = signal.getsignal(signal.SIGINT)
    written: list[int] = []
    planned = plan(["clip.mp4"], Path("out.mp4"), ["tiny"])
    thread = threading.Thread(target=lambda: written.append(stylize_all(planned, {"tiny": fake})))
    thread.start()
    thread.join()
    assert written == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_network_paints_a_video(clip: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clip.with_name("out.mp4")
    assert main(["stylize", str(clip), "-s", str(style_file), "-o", str(out), "--size", "43"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert look(out).pictures[0].shape == (32, 42, 3)
    tiny = make_video(clip.with_name("tiny.mkv"), [np.zeros((8, 64, 3), np.uint8)])
    assert main(["stylize", str(tiny), "-s", str(style_file), "-o", str(clip.with_name("tiny-out.mp4"))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "tiny.mkv: a 64×8 picture is too small" in line
