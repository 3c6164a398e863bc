"""The web page in Chromium: the camera, videos and recordings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fst.inference.web.server import SiteServer
from tests.clips import make_video
from tests.conftest import make_picture
from tests.inference.web.conftest import served
from tests.inference.web.pages import REALTIME, HeldSite, Page


def test_moving_pictures_wait_for_a_style_and_say_so(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    held = HeldSite(site, "styles/cells.weights")
    with served(held) as server:
        page = visit(server.address)
        page.tab.click("#camera")
        page.wait("document.querySelector('#status').textContent.includes('frames a second')")
        page.choose("cells")
        page.tab.wait_for_timeout(1000)
        assert page.text("status") == "Painting…"
        held.release()
        page.wait("document.querySelector('#status').textContent.includes('frames a second')")


def test_moving_pictures_of_the_camera(page: Page) -> None:
    page.tab.click("#camera")
    page.wait("document.querySelector('#status').textContent.includes('frames a second')")
    page.tab.select_option("#size", "320")
    page.wait("document.querySelector('#after').width === 320")
    width, height = page.tab.evaluate(
        "() => [document.querySelector('#after').width, document.querySelector('#after').height]"
    )
    first = page.painted(width, height)
    page.wait("document.querySelector('#status').textContent.match(/([0-9.]+) frames a second · [0-9]+ ms/)")
    page.tab.wait_for_timeout(500)
    assert (first != page.painted(width, height)).any(), "it moves"
    page.tab.click("#shoot")
    page.wait("document.body.dataset.source === 'photo' && !document.querySelector('#save').disabled")
    assert "ms" in page.text("status")
    assert not page.tab.is_visible("#record")
    assert page.tab.evaluate("() => document.querySelector('#video').srcObject") is None, "the camera is off"
    assert page.tab.evaluate("() => document.activeElement.id") == "camera", "its button has gone"


def test_a_video_that_cannot_be_played_leaves_the_camera_on(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    page.tab.click("#camera")
    page.wait("document.querySelector('#status').textContent.includes('frames a second')")
    page.open(tmp_path / "text.mp4")
    assert page.wait_said() == "This browser cannot play text.mp4."
    began = page.tab.evaluate("() => document.querySelector('#video').currentTime")
    page.wait(f"document.querySelector('#video').currentTime > {began}")
    assert page.tab.evaluate("() => document.querySelector('#video').srcObject.active")
    assert page.tab.is_visible("#message")


TURNING_CAMERA = """() => {
    const canvas = self.camera = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
    const context = canvas.getContext("2d");
    setInterval(() => {
        context.fillStyle = `rgb(0 0 ${Date.now() % 256})`;
        context.fillRect(0, 0, canvas.width, canvas.height);
    }, 40);
    navigator.mediaDevices.getUserMedia = async ({ video }) => {
        if (video) return canvas.captureStream();
        throw new DOMException("", "NotFoundError"); // no microphone
    };
}"""


def test_a_turned_camera_is_not_squeezed_and_a_recording_ends_there(page: Page) -> None:
    page.tab.evaluate(TURNING_CAMERA)
    page.tab.click("#camera")
    page.wait_painted(320, 240)
    page.tab.click("#record")
    page.wait("document.querySelector('#record').textContent === 'Stop recording'")
    page.tab.wait_for_timeout(1000)
    with page.tab.expect_download():
        page.tab.evaluate("() => Object.assign(self.camera, { width: 240, height: 320 })")
    page.wait_painted(240, 320)
    assert page.tab.evaluate("() => document.querySelector('#stage').style.getPropertyValue('--ratio')") == "0.75"
    page.wait("document.querySelector('#status').textContent.startsWith('240 × 320 · ')")


SLOW_MICROPHONE = """() => {
    const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    self.microphones = [];
    navigator.mediaDevices.getUserMedia = async wanted => {
        if (wanted.audio) await new Promise(allow => { self.allow = allow; });
        const stream = await get(wanted);
        if (wanted.audio) self.microphones.push(...stream.getTracks());
        return stream;
    };
}"""


@pytest.mark.parametrize("then", ["click", "open a photo"])
def test_no_microphone_stays_on_after_a_recording_that_was_given_up(page: Page, photo: Path, then: str) -> None:
    downloads: list[Any] = []
    page.tab.on("download", lambda download: downloads.append(download))
    page.tab.evaluate(SLOW_MICROPHONE)
    page.tab.click("#camera")
    page.wait("document.querySelector('#status').textContent.includes('frames a second')")
    page.tab.click("#record")
    page.wait("self.allow")
    if then == "click":
        page.tab.click("#record")
    else:
        page.open(photo)
        page.painted()
    page.tab.evaluate("() => self.allow()")
    page.wait("self.microphones.length && self.microphones.every(track => track.readyState === 'ended')")
    page.wait("document.querySelector('#record').textContent === 'Record'")
    assert page.tab.evaluate("() => self.microphones.length") == 1
    assert downloads == []
    assert not page.tab.is_visible("#message")


def test_a_video_of_one_frame_is_painted(visit: Callable[..., Page], server: SiteServer, tmp_path: Path) -> None:
    film = make_video(tmp_path / "one.mp4", [np.asarray(make_picture(96, 64))])
    page = visit(server.address)
    page.wait("document.querySelector('input[name=style]')")
    page.open(film)
    page.wait_painted(96, 64)
    assert not page.tab.is_visible("#message")
    assert "96 × 64 · " in page.text("status")
    page.tab.click("#record")
    page.wait("document.querySelector('#record').textContent === 'Stop recording'")
    page.tab.wait_for_timeout(500)
    page.tab.click("#record")
    assert page.wait_said() == "Nothing was recorded: the video did not play."
    page.wait("document.querySelector('#record').textContent === 'Record'")


def test_a_video_is_painted_and_recorded_with_its_sound(page: Page, tmp_path: Path) -> None:
    film = make_video(tmp_path / "clip.mp4", [np.asarray(make_picture(96, 64, n)) for n in range(100)], tone=True)
    page.open(film)
    page.wait("document.querySelector('#status').textContent.includes('96 × 64 · ')")
    assert not page.tab.is_visible("#message")
    width = page.tab.locator("#record").bounding_box()["width"]
    page.tab.click("#record")
    page.wait("document.querySelector('#record').textContent === 'Stop recording'")
    assert page.tab.locator("#record").bounding_box()["width"] == width, "the row stays as it is"
    assert page.tab.is_disabled("#size"), "a recording has one size"
    page.tab.wait_for_timeout(1500)
    with page.tab.expect_download() as download:
        page.tab.click("#record")
    name = download.value.suggested_filename
    assert name.startswith(f"clip-{REALTIME}.")
    page.wait("!document.querySelector('#size').disabled")
    download.value.save_as(tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        sound = [frame.to_ndarray() for frame in container.decode(audio=0)]
    with av.open(str(tmp_path / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) >= 2
    assert frames[0].shape == (64, 96, 3)
    assert max(np.abs(part.astype(float)).max() for part in sound) > 0.01, "not silent"
    page.tab.click("#play")
    page.wait("document.querySelector('#play').textContent === 'Play' || document.querySelector('#video').ended")


def test_a_video_is_recorded_where_sound_never_starts(page: Page, tmp_path: Path) -> None:
    page.tab.evaluate("() => { AudioContext.prototype.resume = () => new Promise(() => {}); }")  # as in Firefox
    film = make_video(tmp_path / "clip.mp4", [np.asarray(make_picture(96, 64, n)) for n in range(200)], tone=True)
    page.open(film)
    page.wait("document.querySelector('#status').textContent.includes('96 × 64 · ')")
    page.tab.click("#record")
    page.tab.wait_for_timeout(4500)
    with page.tab.expect_download():
        page.tab.click("#record")
    assert page.wait_said() == "The recording has no sound: no microphone or sound device could be used."


def test_the_brush_is_for_the_frames_as_they_are_painted(page: Page, tmp_path: Path) -> None:
    page.tab.evaluate(
        """() => {
            const post = Worker.prototype.postMessage;
            self.asked = [];
            Worker.prototype.postMessage = function (message, ...more) {
                if (message.name === "paintFrame") self.asked.push(message.argument.look.stroke);
                return post.call(this, message, ...more);
            };
        }"""
    )
    page.choose("tiny")
    page.open(make_video(tmp_path / "large.mp4", [np.asarray(make_picture(2240, 1200))] * 3))  # no room for all of it
    page.wait("self.asked.length")
    assert set(page.tab.evaluate("() => self.asked")) == {1}


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        ("NotAllowedError", "The camera is not allowed for this page; the browser’s settings change that."),
        ("NotFoundError", "No camera was found."),
        ("NotReadableError", "The camera cannot be opened; another program may be using it."),
    ],
)
def test_no_camera_is_said_in_a_sentence(
    visit: Callable[..., Page], server: SiteServer, failure: str, sentence: str
) -> None:
    refuse = f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{failure}'))"
    page = visit(server.address, lambda tab: tab.add_init_script(refuse))
    page.wait("document.querySelector('input[name=style]')")
    page.tab.click("#camera")
    assert page.wait_said() == sentence
