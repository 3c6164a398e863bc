"""`fst stylize - -o -`: standard input and output in place of files. They are pipes of this process here."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fst.cli import main
from fst.errors import UserError
from fst.inference.pipes import PIPE, holds_video, standard_input, standard_output
from fst.inference.video.pipeline import stylize_video
from fst.pictures import FORMATS
from fst.signals import Interrupted, StopRequest
from tests.clips import gray, look, make_video
from tests.conftest import make_picture
from tests.mistakes import run


class Piped:
    """What is piped into and out of this process; `fst` runs in a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (source, self._feed), (self._drain, target) = os.pipe(), os.pipe()
        self._ends = io.TextIOWrapper(os.fdopen(source, "rb")), io.TextIOWrapper(os.fdopen(target, "wb"))
        self._monkeypatch = monkeypatch
        self.out, self.status = bytearray(), -1
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while data := os.read(self._drain, 1 << 16):
            self.out += data

    def start(self, *arguments: str) -> None:
        self._monkeypatch.setattr(sys, "stdin", self._ends[0])  # only now, as pytest sets its own before each test
        self._monkeypatch.setattr(sys, "stdout", self._ends[1])

        def work() -> None:
            self.status = main(["stylize", *arguments])
            for end in self._ends:
                end.close()

        self._working = threading.Thread(target=work)
        self._working.start()

    def feed(self, data: bytes) -> None:
        with os.fdopen(os.dup(self._feed), "wb") as file:
            file.write(data)

    def finish(self, status: int = 0) -> bytes:
        os.close(self._feed)
        self._working.join(60)
        self._reading.join(60)
        assert self.status == status
        return bytes(self.out)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Piped]:
    monkeypatch.chdir(tmp_path)
    yield Piped(monkeypatch)
    assert list(tmp_path.iterdir()) == [], "nothing is written elsewhere"


def encoded(image: Image.Image, image_format: str) -> bytes:
    image.save(buffer := io.BytesIO(), image_format, big_tiff=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image_format", "asked", "expected"),
    [
        ("JPEG", [], "PNG"),
        ("BMP", ["--format", "jpg"], "JPEG"),
        ("TIFF", ["--format", "tiff"], "TIFF"),
        pytest.param("AVIF", [], "PNG", marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="not in this Pillow")),
    ],
)
def test_a_picture(piped: Piped, style_file: Path, image_format: str, asked: list[str], expected: str) -> None:
    piped.start("-", "-s", str(style_file), "-o", "-", *asked)
    piped.feed(encoded(make_picture(40, 30), image_format))
    with Image.open(io.BytesIO(piped.finish())) as image:
        assert (image.format, image.size) == (expected, (40, 30))


def test_only_the_result_goes_to_standard_output(
    piped: Piped, style_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    piped.start("nothing*.jpg", "-", "-s", str(style_file))
    piped.feed(encoded(picture := make_picture(40, 30), "PNG"))
    with Image.open(io.BytesIO(data := piped.finish(status=1))) as image:
        assert image.size == picture.size
    assert data.endswith(b"IEND\xaeB`\x82")
    assert "1 stylized, 1 failed" in capsys.readouterr().err


def test_a_video_comes_out_while_it_goes_in(
    piped: Piped, style_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3), np.uint8)
    clip = make_video(tmp_path_factory.mktemp("clip") / "in.mkv", list(noise), tone=True)
    data = clip.read_bytes()
    piped.start("-", "-s", str(style_file), "-o", "-", "--preset", "ultrafast")
    piped.feed(data[: len(data) * 3 // 4])
    wait_until(lambda: len(piped.out) >= 50_000)  # before the input has ended
    piped.feed(data[len(data) * 3 // 4 :])
    with av.open(io.BytesIO(piped.finish())) as film:
        assert "matroska" in film.format.name
        assert [stream.type for stream in film.streams] == ["video", "audio"]
        assert sum(1 for _ in film.decode(video=0)) == 60


def test_a_video_that_comes_in_once_gets_a_result_for_each_style(
    piped: Piped, style_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("clip")
    clip = make_video(folder / "in.mkv", [gray(number) for number in range(5)], tone=True)
    piped.start("-", "-s", str(style_file), "-s", "the_scream_realtime", "-o", str(folder / "out"))
    piped.feed(clip.read_bytes())
    piped.finish()
    for name in (style_file.stem, "the_scream_realtime"):
        assert len(look(folder / "out" / f"stdin-{name}.mkv").times) == 5


@pytest.mark.parametrize(("name", "container"), [("mp4", "mp4"), ("webm", "webm"), ("MP4", "mp4"), ("MKV", "matroska")])
def test_a_file_goes_into_a_stream_of_another_format(
    clip: Path, style_file: Path, name: str, container: str, capfdbinary: Any
) -> None:
    assert main(["stylize", str(clip), "-s", str(style_file), "-o", "-", "--format", name]) == 0
    with av.open(io.BytesIO(capfdbinary.readouterr().out)) as film:
        assert container in film.format.name
        assert sum(1 for _ in film.decode(video=0)) == 20


def test_a_container_that_cannot_be_piped_is_one_line(clip: Path, style_file: Path, capfdbinary: Any) -> None:
    assert main(["stylize", str(clip), "-s", str(style_file), "-o", "-", "--format", "mxf"]) == 2
    output = capfdbinary.readouterr()
    assert output.err == b"fst: --format mxf: cannot be piped, or cannot hold libx264; try mkv, ts or nut\n"


def test_mistakes_are_one_line(tmp_path: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def outcome(data: bytes | None, flags: str = "") -> str:
        source, feed = os.pipe()
        os.write(feed, data or b"")
        os.close(feed)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(os.fdopen(source, "rb")))
        done = run(f"stylize - -s {style_file} -o out {flags}")
        assert done.faults() == []
        return done.err

    for target in ("fr%03d.png", "x.mp4"):
        picture = encoded(make_picture(40, 30), "PNG")
        assert f"-: one picture, and {target} is for a video; name a picture" in outcome(picture, f"-o {target}")
    assert "nothing came through the pipe" in outcome(b"")
    assert "the picture: damaged" in outcome(encoded(make_picture(40, 30), "PNG")[:200])
    assert "-: not a video, or damaged" in outcome(b"neither" * 9)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(sys, "stdout", sys.stdin)
    for function in (standard_input, standard_output, holds_video):
        with pytest.raises(Exception, match=r"terminal|nothing is piped in"):
            function()


def test_messages_for_a_closed_stream_do_not_go_into_the_picture(
    tmp_path: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    make_picture(40, 30).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stderr", None)  # as Python has it after 2>&-
    assert main(["stylize", str(tmp_path / "a.png"), "-s", str(style_file), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out.endswith(b"IEND\xaeB`\x82")
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match="-o -: standard output is closed"):
        standard_output()


@pytest.mark.parametrize("share", [0.75, 0.001])
def test_a_signal_ends_a_pipe_that_brings_nothing_more(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3), np.uint8)
    data = make_video(tmp_path / "in.mkv", list(noise)).read_bytes()
    source, feed = os.pipe()
    stop, out, painted, done = StopRequest(), tmp_path / "out.mkv", threading.Event(), threading.Event()
    in_time = []

    def paint(picture: np.ndarray) -> np.ndarray:
        painted.set()
        return picture

    def pipe() -> None:
        with os.fdopen(feed, "wb") as file:
            file.write(data[: round(len(data) * share)])
            file.flush()
            painted.wait(10 if share > 0.5 else 0.5)  # without enough of it nobody knows what it is
            stop.signal = signal.SIGINT
            in_time.append(done.wait(20))

    feeder = threading.Thread(target=pipe)
    with io.TextIOWrapper(os.fdopen(source, "rb")) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        feeder.start()
        if share > 0.5:
            frames = stylize_video(PIPE, {out: paint}, stop=stop).frames
            assert 0 < frames == len(look(out).times)
        else:
            with pytest.raises(Interrupted, match="step 0"):
                stylize_video(PIPE, {out: paint}, stop=stop)
        done.set()
        for thread in (feeder, *(left for left in threading.enumerate() if left.name == "decode")):
            thread.join()
    assert in_time == [True]
