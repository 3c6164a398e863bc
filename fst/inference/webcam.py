"""A camera, stylized live on a web page that only this machine can open. Frames that come too fast are dropped."""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

import av
import numpy as np
from PIL import Image

from fst.errors import RunError, UserError
from fst.inference.loopback import HEARTBEAT, LoopbackPage, LoopbackServer, open_browser
from fst.inference.video.reader import VideoReader

_PAGE = Path(__file__).with_name("webcam.html")
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
_OPTIONS = {"darwin": {"framerate": "30"}}  # FFmpeg asks for 29.97 otherwise, which a Mac's own camera does not have
_JPEG_QUALITY = 85  # of the page's pictures

_HEADERS = {  # no scripts or frames of other sites
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Holds the newest item of a stream. A reader gives the number of its last one and waits for a newer one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._number = 0

    def put(self, item: Item) -> None:
        with self._changed:
            self._item, self._number = item, self._number + 1
            self._changed.notify_all()

    def get(self, seen: int = 0, timeout: float = HEARTBEAT) -> tuple[Item | None, int]:
        """The newest item after number `seen`, and its number; `None` if none came in `timeout` seconds."""
        with self._changed:
            newer = self._changed.wait_for(lambda: self._number > seen, timeout)
            return (self._item, self._number) if newer else (None, seen)


def read_camera(source: str) -> Iterator[np.ndarray]:
    """Frames as uint8 `(H, W, 3)`, for as long as there are any.

    Args:
        source: a camera's number (a name on Windows), or a video file, which is played over and over at its own pace.

    Raises:
        RunError: it cannot be opened, or gives no frames.
    """
    file = Path(source)
    kind, pattern = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    try:
        while file.is_file():
            yield from _play(file)
        with av.open(pattern.format(source), format=kind, options=_OPTIONS.get(sys.platform, {})) as container:
            for frame in _decode(container):
                yield frame.to_ndarray(format="rgb24")
        raise RunError(f"webcam:{source}: the camera was switched off")
    except (av.FFmpegError, OSError, ValueError, IndexError, UserError) as error:
        raise RunError(f"webcam:{source}: no picture from there ({error})") from error


def _play(file: Path) -> Iterator[np.ndarray]:
    with closing(VideoReader(file)) as reader:
        start: float | None = None  # when the moment 0 of the video was
        for frame in reader:
            if frame.picture is not None:
                moment = float(frame.pts * reader.time_base)
                start = time.monotonic() - moment if start is None else start
                time.sleep(max(0.0, start + moment - time.monotonic()))
                yield frame.picture
    if start is None:
        raise ValueError("no frame of it can be decoded")


def _decode(container: Any) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield from container.decode(video=0)
        except BlockingIOError:  # a Mac's camera has no picture yet
            time.sleep(0.01)
        else:
            return


@dataclass
class Live:
    """The loop that stylizes the camera's frames, and the state that the page shows.

    Attributes:
        open_style: makes the function that stylizes a frame, uint8 `(H, W, 3)`, from a style's name.
        styles: names to choose from.
        style: the one in use.
    """

    open_style: Callable[[str], Callable[[np.ndarray], np.ndarray]]
    styles: Sequence[str]
    style: str

    def __post_init__(self) -> None:
        self.pictures: Newest[bytes] = Newest()  # JPEG
        self.latency = 0.0  # seconds from the camera's frame to its picture
        self.error: Exception | None = None
        self.stopped = threading.Event()
        self._frames: Newest[tuple[float, np.ndarray]] = Newest()
        self._done: deque[float] = deque(maxlen=30)  # when the last pictures were
        self._stylize = {self.style: self.open_style(self.style)}

    def run(self, frames: Iterator[np.ndarray]) -> None:
        """Stylize `frames` until `stop`, or until they fail.

        Raises:
            RunError, UserError: the frames', or the style's.
        """
        threading.Thread(target=self._capture, args=(frames,), daemon=True).start()
        seen = 0
        while not self.stopped.is_set():
            taken, seen = self._frames.get(seen)
            if self.error is not None:
                raise self.error
            if taken is None:
                continue
            moment, frame = taken
            buffer = BytesIO()
            Image.fromarray(self._stylize[self.style](frame)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
            self.latency = time.monotonic() - moment
            self._done.append(time.monotonic())
            self.pictures.put(buffer.getvalue())

    def stop(self) -> None:
        self.stopped.set()

    def state(self) -> dict[str, Any]:
        """For the page: style, styles, frames a second, latency in milliseconds."""
        done = list(self._done)
        rate = (len(done) - 1) / (done[-1] - done[0]) if len(done) > 1 else 0.0
        return {
            "style": self.style,
            "styles": list(self.styles),
            "fps": round(rate, 1),
            "latency_ms": round(1000 * self.latency),
        }

    def switch(self, style: str) -> None:
        """Use another style from the next frame on.

        Raises:
            UserError: not one of `styles`, or a damaged file.
        """
        if style not in self.styles:
            raise UserError(f"no style '{style}'; there are {', '.join(self.styles)}")
        if style not in self._stylize:
            self._stylize[style] = self.open_style(style)
        self.style = style

    def _capture(self, frames: Iterator[np.ndarray]) -> None:
        try:
            for frame in frames:
                self._frames.put((time.monotonic(), frame))
                if self.stopped.is_set():
                    return
        except Exception as error:  # `run` raises it
            self.error = error


class Page(LoopbackPage):
    """One request: GET `/`, `/pictures` (MJPEG) or `/state`, HEAD of the same, or POST `/style/NAME`."""

    server: "PageServer"
    headers_of_site = _HEADERS

    def do_GET(self) -> None:  # noqa: N802 (http.server's)
        if self.is_foreign():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/pictures":
            self._stream()
        elif self.path == "/state":
            self.reply("application/json", json.dumps(self.server.live.state()).encode())
        elif self.path == "/":
            self.reply("text/html; charset=utf-8", _PAGE.read_bytes())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:  # noqa: N802 (http.server's)
        folder, _, style = self.path.removeprefix("/").partition("/")
        if self.is_foreign():
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            if folder != "style":
                raise UserError(f"nothing to post to at {self.path}")
            self.server.live.switch(unquote(style))
        except (UserError, RunError):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.reply("application/json", json.dumps(self.server.live.state()).encode())

    def _stream(self) -> None:
        self.start("multipart/x-mixed-replace; boundary=picture", {})
        live, seen = self.server.live, 0
        while self.command != "HEAD" and not live.stopped.is_set():
            picture, seen = live.pictures.get(seen)
            if picture is not None:
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")


class PageServer(LoopbackServer):
    """The page of a camera."""

    def __init__(self, live: Live) -> None:
        super().__init__(Page)
        self.live = live


def show_camera(source: str, live: Live) -> None:
    """Stylize a camera until Ctrl-C and show it on a page, which is opened in a browser if there is one.

    Args:
        source: as of `read_camera`.

    Raises:
        RunError: no picture from the camera.
    """
    server = PageServer(live)
    threading.Thread(target=server.serve_forever, args=(HEARTBEAT,), daemon=True).start()
    print(f"{server.address} shows it; Ctrl-C ends it", flush=True)
    open_browser(server.address)
    try:
        live.run(read_camera(source))
    finally:
        live.stop()
        server.shutdown()
        server.server_close()
