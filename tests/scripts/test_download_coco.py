"""The COCO download against a server on this machine."""

import hashlib
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fst.errors import RunError, UserError
from scripts import download_coco

PHOTOS = {f"val2017/{number:012}.jpg": bytes([number]) * (2000 + number) for number in range(1, 13)}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in PHOTOS.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves the archive from the byte that is asked for."""

    body = zipped()
    ranges: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.end_headers()
        self.wfile.write(self.body[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(download_coco.MD5, "val2017", hashlib.md5(Handler.body).hexdigest())
    monkeypatch.setitem(download_coco.BYTES, "val2017", len(Handler.body))
    monkeypatch.setattr(Handler, "ranges", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def photos_in(folder: Path) -> dict[str, bytes]:
    return {f"val2017/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_all_photos_arrive_and_nothing_else_is_left(url: str, tmp_path: Path) -> None:
    folder = download_coco.download("val2017", tmp_path / "coco", url)
    assert photos_in(folder) == PHOTOS
    assert list((tmp_path / "coco").iterdir()) == [folder]
    assert download_coco.download("val2017", tmp_path / "coco", url) == folder
    assert len(Handler.ranges) == 1  # the second call found them


def test_a_download_goes_on_where_it_stopped(url: str, tmp_path: Path) -> None:
    (tmp_path / "val2017.zip").write_bytes(Handler.body[:1000])
    (tmp_path / "val2017.part").mkdir()
    assert photos_in(download_coco.download("val2017", tmp_path, url)) == PHOTOS
    assert Handler.ranges == ["bytes=1000-"]


def test_a_damaged_archive_is_removed(url: str, tmp_path: Path) -> None:
    (tmp_path / "val2017.zip").write_bytes(b"x" + Handler.body[1:])
    with pytest.raises(RunError, match="damaged and has been removed"):
        download_coco.download("val2017", tmp_path, url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_the_part_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "val2017.zip").write_bytes(b"begun")
    failed = type("Failed", (), {"returncode": 7})
    monkeypatch.setattr(download_coco.subprocess, "run", lambda command: failed)
    with pytest.raises(RunError, match="the same command continues"):
        download_coco.download("val2017", tmp_path)
    assert (tmp_path / "val2017.zip").read_bytes() == b"begun"


def test_a_small_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(download_coco.BYTES, "val2017", 10**18)
    with pytest.raises(UserError, match=r"GB free and .* GB are needed"):
        download_coco.download("val2017", tmp_path)
