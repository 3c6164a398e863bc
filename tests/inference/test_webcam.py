import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import numpy as np
import pytest
from PIL import Image

from fst.errors import RunError, UserError
from fst.inference.webcam import Live, Newest, Page, PageServer, read_camera, show_camera
from tests.clips import make_video


def frames(count: int = 10_000) -> Iterator[np.ndarray]:
    for number in range(count):
        yield np.full((24, 32, 3), number % 256, dtype=np.uint8)
        time.sleep(0.002)


def open_style(name: str) -> object:
    if name == "damaged":
        raise UserError("damaged")
    return {
        "plain": lambda frame: frame,
        "inverted": lambda frame: 255 - frame,
        "red": lambda frame: RED,
        NAMED: lambda frame: RED,
    }[name]


NAMED = "outputs/Große Welle/100%+ё?.safetensors"
RED = np.zeros((24, 32, 3), dtype=np.uint8) + np.array([200, 0, 0], dtype=np.uint8)


@pytest.fixture
def live() -> Iterator[Live]:
    live = Live(open_style, ["plain", "red", "damaged", NAMED], "plain")
    yield live
    live.stop()


@pytest.fixture
def page(live: Live) -> Iterator[HTTPConnection]:
    server = PageServer(live)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=live.run, args=(frames(),), daemon=True).start()
    yield HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    server.shutdown()
    server.server_close()


def ask(page: HTTPConnection, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    page.request(method, path, headers=headers)
    answer = page.getresponse()
    return answer.status, answer.read()


def test_a_reader_gets_the_newest_and_none_twice() -> None:
    place: Newest[str] = Newest()
    assert place.get(timeout=0.01) == (None, 0)
    place.put("a")
    place.put("b")
    assert place.get() == ("b", 2)
    assert place.get(seen=2, timeout=0.01) == (None, 2)


def test_frames_are_dropped_rather_than_late(live: Live) -> None:
    shown: list[int] = []

    def slow(frame: np.ndarray) -> np.ndarray:
        shown.append(int(frame[0, 0, 0]))
        time.sleep(0.05)
        if len(shown) == 4:
            live.stop()
        return frame

    live = Live(lambda _: slow, ["slow"], "slow")
    live.run(frames(250))
    assert shown == sorted(shown)
    assert shown[-1] >= 3 * 10  # at 2 ms a frame and 50 ms a picture most were never looked at
    assert live.latency < 0.5


def test_the_page_shows_the_pictures(page: HTTPConnection) -> None:
    status, html = ask(page, "GET", "/")
    assert status == 200
    assert b'src="/pictures"' in html
    page.request("GET", "/pictures")
    stream = page.getresponse()
    assert stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=picture"
    for _ in range(3):
        assert stream.readline() == b"--picture\r\n"
        assert stream.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(stream.readline().split()[1])
        stream.readline()
        assert Image.open(BytesIO(stream.read(length))).size == (32, 24)
        stream.readline()


def test_the_style_is_switched_from_the_page(page: HTTPConnection, live: Live) -> None:
    status, body = ask(page, "POST", "/style/red")
    assert status == 200
    assert json.loads(body)["style"] == "red"
    _, seen = live.pictures.get()
    picture, _ = live.pictures.get(live.pictures.get(seen)[1])  # one may have been under way
    assert picture is not None
    assert np.abs(np.asarray(Image.open(BytesIO(picture))).astype(int) - RED).max() < 8
    state = json.loads(ask(page, "GET", "/state")[1])
    assert state["styles"] == ["plain", "red", "damaged", NAMED]
    assert state["fps"] > 0
    for unknown in ("/style/blue", "/style/damaged", "/style/", "/style", "/plain", "/style/%ff", "/"):
        assert ask(page, "POST", unknown)[0] == 404
    assert json.loads(ask(page, "GET", "/state")[1])["style"] == "red"


def test_a_style_that_cannot_be_opened_is_named_on_the_page(page: HTTPConnection, browser: Any) -> None:
    with browser.new_page() as tab:
        tab.goto(f"http://127.0.0.1:{page.port}/")
        tab.click("button:text-is('damaged')")
        tab.wait_for_function("() => document.querySelector('p').textContent.startsWith('damaged cannot be used; ')")
        tab.wait_for_timeout(700)  # the line is written anew twice a second
        assert "damaged cannot be used" in tab.text_content("p")
        tab.click("button:text-is('red')")
        tab.wait_for_function("() => document.querySelector('p').textContent.includes('frames a second')")
        assert tab.get_attribute("button:text-is('red')", "aria-pressed") == "true"


def test_other_sites_do_not_see_the_camera(page: HTTPConnection) -> None:
    for path in ("/", "/pictures", "/state"):
        assert ask(page, "GET", path, Host="evil.example")[0] == 403
    assert ask(page, "POST", "/style/red", Host="evil.example")[0] == 403


def test_other_sites_do_not_switch_styles(page: HTTPConnection, live: Live) -> None:
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{page.port + 1}",
        f"https://127.0.0.1:{page.port}",
        "null",
    ):
        assert ask(page, "POST", "/style/red", Origin=origin)[0] == 403
        assert ask(page, "GET", "/state", Origin=origin)[0] == 403
    assert live.style == "plain"
    assert ask(page, "POST", "/style/red", Origin=f"http://127.0.0.1:{page.port}")[0] == 200
    assert live.style == "red"


def test_any_name_of_a_style_can_be_asked_for(page: HTTPConnection, live: Live) -> None:
    assert ask(page, "POST", "/style/" + quote(NAMED, safe=""))[0] == 200  # as encodeURIComponent does
    assert live.style == NAMED
    assert b"encodeURIComponent(style)" in ask(page, "GET", "/")[1]


def test_head_is_get_without_the_body(page: HTTPConnection) -> None:
    for path, kind in (("/", "text/html; charset=utf-8"), ("/state", "application/json"), ("/pictures", "multipart")):
        page.request("HEAD", path)
        answer = page.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert answer.getheader("Content-Type", "").startswith(kind)
    assert ask(page, "HEAD", "/nothing")[0] == 404


def test_nobody_elses_script_runs_and_no_frame_shows_the_page(page: HTTPConnection) -> None:
    page.request("GET", "/")
    answer = page.getresponse()
    policy = answer.getheader("Content-Security-Policy", "")
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert b"http" not in answer.read(), "the page needs nothing from elsewhere"


def serving() -> int:
    """How many requests are being answered."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_half_requests_hold_few_threads_and_not_for_long(page: HTTPConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Page, "timeout", 0.5)
    halves, crowded = [], False
    for _ in range(100):
        halves.append(socket.create_connection(("127.0.0.1", page.port)))
        with suppress(ConnectionError):  # one too many
            halves[-1].sendall(b"GET / HT")
        crowded |= serving() > 10  # on a busy machine the first are let go before the last come
    assert crowded or wait_until(lambda: serving() > 10)
    assert serving() <= 64
    assert wait_until(lambda: serving() == 0), "let go, each of them"
    assert ask(page, "GET", "/state")[0] == 200
    for half in halves:
        half.close()


def test_a_browser_that_goes_away_prints_nothing(page: HTTPConnection, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        gone = socket.create_connection(("127.0.0.1", page.port))
        gone.sendall(b"GET /pictures HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % page.port)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
        gone.close()
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_it_at_once_whoever_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    viewers: list[socket.socket] = []
    served: list[int] = []

    def look(address: str) -> None:
        port = int(address.rstrip("/").rpartition(":")[2])
        for _ in range(20):  # none reads what it is sent
            viewers.append(socket.create_connection(("127.0.0.1", port)))
            viewers[-1].sendall(b"GET /pictures HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)

    def paint(frame: np.ndarray) -> np.ndarray:
        served.append(serving())
        if served[-1] == 20 or len(served) == 3000:
            raise KeyboardInterrupt
        return frame

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr("fst.inference.webcam.read_camera", lambda _: frames())
    with pytest.raises(KeyboardInterrupt):
        show_camera("0", Live(lambda _: paint, ["plain"], "plain"))
    assert served[-1] == 20
    assert wait_until(lambda: serving() == 0, 0.9)
    for viewer in viewers:
        viewer.close()


def test_a_file_stands_in_for_a_camera(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(3):
            grey = np.full((24, 32, 3), 80 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())
    camera = read_camera(str(path))
    start = time.monotonic()
    seen = [int(next(camera)[0, 0, 0]) for _ in range(5)]
    assert np.abs(np.array(seen) - [0, 80, 160, 0, 80]).max() < 8  # again from the start
    assert time.monotonic() - start > 0.04  # at its own pace


def test_a_file_is_shown_upright_and_at_once_whenever_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:, :16] = 255
    turn = lambda stream: stream.set_display_rotation(-90.0)  # noqa: E731
    hour = 3600 * 25  # frames
    path = make_video(tmp_path / "12:30.mkv", [picture] * 2, times=[hour, hour + 1], set_up=turn)
    shown = next(read_camera(str(path)))
    assert max(waits, default=0) < 1
    assert shown.shape == (32, 24, 3)
    assert shown[4, 12, 0] > 200 > 60 > shown[28, 12, 0]


def test_a_mac_is_asked_for_its_rate_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Container(nullcontext["Container"]):  # type: ignore[type-arg]
        tries = 0

        def __enter__(self) -> "Container":
            return self

        def decode(self, video: int) -> Iterator[av.VideoFrame]:
            self.tries += 1
            if self.tries < 3:
                raise BlockingIOError
            yield av.VideoFrame.from_ndarray(RED)

    def open_camera(address: str, format: str, options: dict[str, str]) -> Container:
        asked.append({"address": address, "format": format} | options)
        return Container()

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("av.open", open_camera)
    camera = read_camera("0")
    assert (next(camera) == RED).all()
    assert asked == [{"address": "0", "format": "avfoundation", "framerate": "30"}]
    with pytest.raises(RunError, match="webcam:0: the camera was switched off"):
        next(camera)


def test_no_camera_is_one_clear_line(live: Live, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="webcam:77: no picture from there"):
        live.run(read_camera("77"))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    damaged = make_video(tmp_path / "damaged.mkv", [RED] * 2)
    at = damaged.read_bytes().index(bytes.fromhex("1f43b675"))  # the cluster, which holds the frames
    damaged.write_bytes(damaged.read_bytes()[:at])
    for path in (text, damaged):
        with pytest.raises(RunError, match="no picture from there"):
            next(read_camera(str(path)))
