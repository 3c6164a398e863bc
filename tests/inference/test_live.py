import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fst.errors import RunError, UserError
from fst.inference.live import Live, Newest, page_server, read_camera


def frames(count: int = 10_000) -> Iterator[np.ndarray]:
    for number in range(count):
        yield np.full((24, 32, 3), number % 256, dtype=np.uint8)
        time.sleep(0.002)


def open_style(name: str) -> object:
    if name == "damaged":
        raise UserError("damaged")
    return {"plain": lambda frame: frame, "inverted": lambda frame: 255 - frame, "red": lambda frame: RED}[name]


RED = np.zeros((24, 32, 3), dtype=np.uint8) + np.array([200, 0, 0], dtype=np.uint8)


@pytest.fixture
def live() -> Iterator[Live]:
    live = Live(open_style, ["plain", "red", "damaged"], "plain")
    yield live
    live.stop()


@pytest.fixture
def page(live: Live) -> Iterator[HTTPConnection]:
    server = page_server(live)
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
    assert state["styles"] == ["plain", "red", "damaged"]
    assert state["fps"] > 0
    for unknown in ("/style/blue", "/style/damaged"):
        assert ask(page, "POST", unknown)[0] == 404
    assert json.loads(ask(page, "GET", "/state")[1])["style"] == "red"


def test_other_sites_do_not_see_the_camera(page: HTTPConnection) -> None:
    for path in ("/", "/pictures", "/state"):
        assert ask(page, "GET", path, Host="evil.example")[0] == 403
    assert ask(page, "POST", "/style/red", Host="evil.example")[0] == 403


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


def test_no_camera_is_one_clear_line(live: Live, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="webcam:77: no picture from there"):
        live.run(read_camera("77"))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(RunError, match="no picture from there"):
        next(read_camera(str(text)))
