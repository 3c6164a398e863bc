"""The COCO download against a server on this machine, with every way a long download goes wrong."""

import hashlib
import importlib.util
import io
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "download_coco.py"
NAME = "val2017"
PHOTOS = {f"{NAME}/{number:012}.jpg": bytes([number]) * (2000 + number) for number in range(1, 13)}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{NAME}/", b"")
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `body` as val2017.zip and notes of every request the Range asked for and the bytes sent."""

    daemon_threads = True
    body = b""
    ranges = True  # off: always the whole file
    shown_size: int | None = None  # another Content-Length than the body's
    interrupt: Path | None = None  # Ctrl-C as soon as this file is there

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []  # the connection drops after so many bytes, one entry per request
        self.errors: list[int] = []  # statuses answered first, one per request
        self.requests: list[tuple[str | None, int]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/zips"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        status = 206 if start else 200
        if self.path != f"/zips/{NAME}.zip":
            status = 404
        elif server.errors:
            status = server.errors.pop(0)
        elif start >= len(server.body):
            status = 416
        rest = server.body[start:] if status < 400 else b""
        sent = rest[: server.cuts.pop(0)] if server.cuts else rest
        server.requests.append((asked, len(sent)))
        self.send_response(status)
        self.send_header("Content-Length", str(server.shown_size or len(rest)))
        self.end_headers()
        self.wfile.write(sent)
        if server.interrupt:
            while not server.interrupt.exists():
                time.sleep(0.001)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        server.body = zipped(PHOTOS)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def script(server: Server, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("download_coco", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WAIT", 0.0)
    expect(module, server.body)
    return module


def expect(script: ModuleType, body: bytes, photos: int = len(PHOTOS)) -> None:
    """Make `body` the archive that the script takes for the right one."""
    script.ARCHIVES[NAME] = script.Archive(NAME, hashlib.md5(body).hexdigest(), len(body), photos)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "coco"


def run(script: ModuleType, server: Server, root: Path, *more: str) -> int:
    return script.main([NAME, "--root", str(root), "--url", server.url, *more])


def assert_complete(root: Path) -> None:
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {**PHOTOS, f"{NAME}/.complete": b""}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error line: the only thing on stderr besides progress bars."""
    lines = [line for line in capsys.readouterr().err.split("\n") if line and "\r" not in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_fresh(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script, server, root) == 0
    assert_complete(root)
    assert server.requests == [(None, len(server.body))]
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == f"fst train data=coco data.root={root / NAME} style.image=PAINTING"
    assert all(f"{label}: 100%" in output.err for label in ("downloading", "checking", "unpacking"))


def test_already_there(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(script, server, root)
    server.requests.clear()
    capsys.readouterr()
    assert run(script, server, root) == 0
    assert server.requests == []
    assert "already there" in capsys.readouterr().out


def test_marker_without_photos_is_not_taken_for_a_finished_folder(
    script: ModuleType, server: Server, root: Path
) -> None:
    run(script, server, root)
    for photo in (root / NAME).glob("*.jpg"):
        photo.unlink()
    assert run(script, server, root) == 0
    assert_complete(root)


def test_kept_archive(script: ModuleType, server: Server, root: Path) -> None:
    assert run(script, server, root, "--keep-archive") == 0
    assert (root / f"{NAME}.zip").read_bytes() == server.body


def test_dropped_connection_is_resumed_in_the_same_run(script: ModuleType, server: Server, root: Path) -> None:
    server.cuts = [9000]
    assert run(script, server, root) == 0
    assert server.requests == [(None, 9000), ("bytes=9000-", len(server.body) - 9000)]
    assert_complete(root)


def test_next_run_resumes(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.cuts = [9000] + [0] * script.TRIES
    assert run(script, server, root) == 1
    assert "goes on where it stopped" in one_line(capsys)
    assert [path.name for path in root.iterdir()] == [f"{NAME}.zip.part"]
    server.cuts.clear()
    server.requests.clear()
    assert run(script, server, root) == 0
    assert server.requests == [("bytes=9000-", len(server.body) - 9000)]
    assert_complete(root)


def test_drops_are_forgiven_while_bytes_come(script: ModuleType, server: Server, root: Path) -> None:
    server.cuts = [2000] * (2 * script.TRIES)
    assert run(script, server, root) == 0
    assert len(server.requests) > 2 * script.TRIES
    assert_complete(root)


def test_busy_server_is_asked_again(script: ModuleType, server: Server, root: Path) -> None:
    server.errors = [503]
    assert run(script, server, root) == 0
    assert len(server.requests) == 2
    assert_complete(root)


def test_complete_part_is_not_asked_for_again(script: ModuleType, server: Server, root: Path) -> None:
    root.mkdir(parents=True)
    (root / f"{NAME}.zip.part").write_bytes(server.body)
    assert run(script, server, root) == 0
    assert server.requests == []
    assert_complete(root)


def test_416_from_a_file_shorter_than_the_part(
    script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.mkdir(parents=True)
    part = root / f"{NAME}.zip.part"
    part.write_bytes(server.body[:9000])
    server.body = server.body[:5000]
    assert run(script, server, root) == 1
    assert "416" in one_line(capsys)
    assert part.stat().st_size == 9000


def test_server_without_range_starts_over(script: ModuleType, server: Server, root: Path) -> None:
    server.ranges = False
    server.cuts = [9000]
    assert run(script, server, root) == 0
    assert server.requests == [(None, 9000), ("bytes=9000-", len(server.body))]
    assert_complete(root)


def test_server_without_range_that_always_drops_is_given_up(script: ModuleType, server: Server, root: Path) -> None:
    server.ranges = False
    server.cuts = [9000] * 20
    assert run(script, server, root) == 1
    assert len(server.requests) == script.TRIES


def test_other_file_does_not_overwrite_the_part(
    script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.mkdir(parents=True)
    part = root / f"{NAME}.zip.part"
    part.write_bytes(server.body[:9000])
    whole, server.body, server.ranges = server.body, b"<html>please log in</html>", False
    assert run(script, server, root) == 1
    assert f"has 26 bytes where the COCO archive has {len(whole)}" in one_line(capsys)
    assert part.read_bytes() == whole[:9000]


def test_corrupted_archive_is_removed(
    script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = server.body
    server.body = sound[:5000] + bytes([sound[5000] ^ 1]) + sound[5001:]
    assert run(script, server, root) == 1
    assert "wrong checksum" in one_line(capsys)
    assert list(root.iterdir()) == []
    server.body = sound
    assert run(script, server, root) == 0
    assert_complete(root)


def test_corrupted_archive_from_elsewhere_is_removed(script: ModuleType, server: Server, root: Path) -> None:
    root.mkdir(parents=True)
    (root / f"{NAME}.zip").write_bytes(server.body[:-1])
    assert run(script, server, root) == 1
    assert list(root.iterdir()) == []


def test_interrupted_unpacking_is_resumed(
    script: ModuleType, server: Server, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = script.shutil.copyfileobj
    copied: list[io.BufferedIOBase] = []

    def stop_within_the_fourth(source: io.BufferedIOBase, file: io.BufferedIOBase) -> None:
        if len(copied) == 3:
            file.write(source.read(100))
            raise KeyboardInterrupt
        copied.append(source)
        copy(source, file)

    with monkeypatch.context() as patch:
        patch.setattr(script.shutil, "copyfileobj", stop_within_the_fourth)
        assert run(script, server, root) == 130
    assert "goes on where it stopped" in one_line(capsys)
    first = {path: path.stat().st_mtime_ns for path in (root / NAME).glob("*.jpg")}
    assert sorted(f"{NAME}/{path.name}" for path in first) == sorted(PHOTOS)[:3]
    assert all(path.read_bytes() == PHOTOS[f"{NAME}/{path.name}"] for path in first)
    torn = min(first)
    torn.write_bytes(b"half")  # of the wrong size: written anew
    server.requests.clear()
    assert run(script, server, root) == 0
    assert server.requests == []
    assert_complete(root)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items() if path != torn)


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """A job in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")
@pytest.mark.usefixtures("heard_ctrl_c")
def test_ctrl_c_while_downloading(
    script: ModuleType, server: Server, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.cuts, server.interrupt = [9000], root / f"{NAME}.zip.part"
    monkeypatch.setattr(script, "WAIT", 5.0)  # the interrupt comes at the latest while waiting to try again
    assert run(script, server, root) == 130
    assert "goes on where it stopped" in one_line(capsys)
    assert not (root / f"{NAME}.zip").exists()
    server.interrupt = None
    assert run(script, server, root) == 0
    assert_complete(root)


@pytest.mark.parametrize("evil", ["../evil.jpg", f"{NAME}/../../evil.jpg", "/evil.jpg", f"{NAME}/..\\evil.jpg"])
def test_path_traversal_is_refused(
    script: ModuleType, server: Server, root: Path, evil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.body = zipped({**PHOTOS, evil: b"evil"})
    expect(script, server.body)
    assert run(script, server, root) == 1
    assert evil in one_line(capsys)
    assert [path.name for path in root.parents[1].rglob("*")] == ["data", "coco", f"{NAME}.zip"]


def test_only_photos_are_unpacked(script: ModuleType, server: Server, root: Path) -> None:
    others = ["README.txt", f"{NAME}/notes.txt", f"{NAME}/deep/1.jpg", "train2017/1.jpg", f"{NAME}/.hidden.jpg"]
    server.body = zipped({**PHOTOS, **dict.fromkeys(others, b"other")})
    expect(script, server.body)
    assert run(script, server, root) == 0
    assert_complete(root)


def test_missing_photos(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expect(script, server.body, photos=13)
    assert run(script, server, root) == 1
    assert "holds 12 photos instead of 13" in one_line(capsys)


def test_not_found(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script, server, root, "--url", server.url + "/elsewhere") == 1
    assert "404" in one_line(capsys)
    assert len(server.requests) == 1
    assert list(root.iterdir()) == []


def test_no_network(script: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server() as gone:
        pass
    assert run(script, gone, root) == 1
    assert "no connection to" in one_line(capsys)


def test_malformed_url(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script, server, root, "--url", "elsewhere") == 2
    assert "not a web address" in one_line(capsys)


def test_unwritable_root(
    script: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(script, server, tmp_path / "file" / "coco") == 2
    assert "cannot write in" in one_line(capsys)
    assert server.requests == []


def test_full_disk(script: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.ARCHIVES[NAME] = script.ARCHIVES[NAME]._replace(size=10**18)
    assert run(script, server, root) == 1
    assert "2040000000.0 GB are needed" in one_line(capsys)
    assert server.requests == []
