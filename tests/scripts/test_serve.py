"""The service on loopback: many clients at a time, and what it refuses."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from fst.errors import run_script
from fst.inference.stylizer import Stylizer
from tests.conftest import make_picture

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
from scripts.serve import Service, main  # noqa: E402 (needs the extra)

MOST_PIXELS = 10_000


class SlowStylizer(Stylizer):
    """Waits for a second where the picture is square."""

    def __call__(self, image: Image.Image, mask: Image.Image | None = None) -> Image.Image:  # type: ignore[override]
        if image.width == image.height:
            time.sleep(1)
        return super().__call__(image, mask)


@contextmanager
def serving(style_file: Path, patience: float) -> Iterator[int]:
    """The port of a service."""
    service = Service({"tiny": SlowStylizer(style_file, "cpu")}, 50_000, MOST_PIXELS, waiting=8, patience=patience)
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def ask(port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    return response.status, response.read()


def upload(width: int, height: int) -> bytes:
    make_picture(width, height).save(buffer := io.BytesIO(), "JPEG")
    return buffer.getvalue()


def test_clients_at_the_same_time_get_their_own_pictures(style_file: Path) -> None:
    sizes = [(20 + number, 50) for number in range(8)]
    with serving(style_file, patience=60) as port:
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda size: ask(port, "/stylize?style=tiny", upload(*size)), sizes))
        assert [status for status, _ in answers] == [200] * 8
        assert [Image.open(io.BytesIO(body)).size for _, body in answers] == sizes
        assert json.loads(ask(port, "/styles")[1]) == ["tiny"]
        assert ask(port, "/health") == (200, b'{"waiting":0}')
        assert b'fst_requests_total{status="200"} 8' in ask(port, "/metrics")[1]


def test_what_it_refuses(style_file: Path) -> None:
    with serving(style_file, patience=60) as port:
        for path, body, status, reason in (
            ("/stylize?style=nope", upload(20, 30), 404, "no style 'nope'; there are tiny"),
            ("/stylize?style=tiny", b"no picture", 422, "the upload: not a picture"),
            ("/stylize?style=tiny", upload(8, 9), 422, "too small"),
            ("/stylize?style=tiny", upload(200, 100), 422, "200×100 pixels; the most are 10000"),
            ("/stylize?style=tiny", bytes(60_000), 413, "more than 50000 bytes"),
        ):
            answer = ask(port, path, body)
            assert answer[0] == status
            assert reason in json.loads(answer[1])["error"]


def test_what_takes_too_long_or_is_too_much(style_file: Path) -> None:
    with serving(style_file, patience=0.5) as port, ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: ask(port, "/stylize?style=tiny", upload(40, 40))[0], range(16)))
    assert set(answers) == {503, 504}, "no more than 8 wait"


def test_a_client_that_goes_away_is_counted(style_file: Path) -> None:
    with serving(style_file, patience=60) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /stylize?style=tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nfirst")
            time.sleep(0.3)
        end = time.monotonic() + 20
        while b'fst_requests_total{status="499"} 1' not in ask(port, "/metrics")[1]:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert ask(port, "/health") == (200, b'{"waiting":0}')


@pytest.mark.parametrize(
    ("arguments", "named"), [(["nope"], "no style 'nope'"), (["udnie", "--device", "cuda:77"], "cuda:77")]
)
def test_mistakes_in_its_command_are_one_line(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["serve.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        run_script(main)
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
