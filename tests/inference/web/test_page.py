"""The page in a real browser, its models run by WebAssembly."""

import base64
import functools
import http.server
import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
from PIL import Image

from fst import Stylizer
from fst.inference.web.folder import write_site
from fst.inference.web.runtime import read_runtime
from fst.inference.web.server import SiteServer
from fst.inference.web.site import build_site
from fst.style_info import find_style
from tests.clips import make_video
from tests.conftest import make_picture
from tests.inference.web.conftest import served

REALTIME = "the_scream_realtime"
PATIENCE = 60_000  # milliseconds
WIDTH, HEIGHT = 200, 150


@pytest.fixture(scope="module")
def site(runtime: Path, cells_file: Path, style_file: Path) -> dict[str, bytes]:
    return build_site([find_style(f"bundled:{REALTIME}"), cells_file, style_file], read_runtime(runtime))


@pytest.fixture(scope="module")
def server(site: dict[str, bytes]) -> Iterator[SiteServer]:
    with served(site) as server:
        yield server


class HeldSite(dict[str, bytes]):
    """A site whose file `name` comes only after `release()`."""

    def __init__(self, site: dict[str, bytes], name: str) -> None:
        super().__init__(site)
        self.name = name
        self.released = threading.Event()

    def release(self) -> None:
        self.released.set()

    def __getitem__(self, name: str) -> bytes:
        if name == self.name:
            self.released.wait(60)
        return super().__getitem__(name)


@dataclass
class Page:
    """The page in a tab, and what a visitor does there."""

    tab: Any
    errors: list[str]

    def wait(self, condition: str) -> None:
        self.tab.wait_for_function(f"() => {condition}", timeout=PATIENCE)

    def wait_painted(self, width: int, height: int) -> None:
        self.wait(
            f"document.querySelector('#after').width === {width}"
            f" && document.querySelector('#after').height === {height}"
            " && !document.querySelector('[aria-busy]') && !document.querySelector('#save').disabled"
        )

    def wait_said(self) -> str:
        self.wait("!document.querySelector('#message').hidden")
        return self.text("message")

    def open(self, *files: Path) -> None:
        self.tab.set_input_files("#file", files)

    def text(self, name: str) -> str:
        return self.tab.text_content(f"#{name}")

    def set(self, name: str, value: float) -> None:
        """Move a slider."""
        self.tab.evaluate(
            """([name, value]) => {
                const slider = document.getElementById(name);
                slider.value = value;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            [name, value],
        )

    def choose(self, style: str) -> None:
        self.tab.check(f"input[value={style}]", force=True)

    def painted(self, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
        """The painted picture `(H, W, 3)`, once it is there."""
        self.wait_painted(width, height)
        url = self.tab.evaluate("() => document.querySelector('#after').toDataURL('image/png')")
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert picture.getextrema()[-1] == (255, 255) or picture.mode == "RGB", "opaque"
        return np.asarray(picture.convert("RGB"))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Page]]:
    contexts = []

    def visit(address: str, prepare: Callable[[Any], None] = lambda tab: None, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = Page(context.new_page(), [])
        page.tab.on("pageerror", lambda error: page.errors.append(str(error)))
        page.tab.on("console", lambda line: page.errors.append(line.text) if "Security Policy" in line.text else None)
        prepare(page.tab)
        page.tab.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Callable[..., Page], server: SiteServer) -> Iterator[Page]:
    """The page after the sample has been painted."""
    page = visit(server.address)
    page.wait_painted(*Image.open(io.BytesIO(server.site["sample.jpg"])).size)
    yield page
    assert page.errors == []


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    make_picture(WIDTH, HEIGHT, seed=4).save(path)
    return path


def paint(photo: Path, style: str | Path | dict[str, float], **look: Any) -> np.ndarray:
    return np.asarray(Stylizer(style, device="cpu", **look)(Image.open(photo)))


def decibels(picture: np.ndarray, reference: np.ndarray) -> float:
    difference = picture.astype(float) - reference
    return float(10 * np.log10(255**2 / max(1e-9, np.square(difference).mean())))


def test_a_photo_is_painted_as_by_the_stylizer(
    page: Page, photo: Path, cells_file: Path, style_file: Path, tmp_path: Path
) -> None:
    assert "WebAssembly" in page.text("backend")
    assert "threads" in page.text("backend")
    assert "PyTorch" in page.text("backend")
    page.open(photo)
    expected = paint(photo, f"bundled:{REALTIME}")
    assert decibels(page.painted(), expected) > 40
    assert f"{WIDTH} × {HEIGHT} in " in page.text("status")
    with page.tab.expect_download() as download:
        page.tab.click("#save")
    assert download.value.suggested_filename == f"photo-{REALTIME}.jpg"
    download.value.save_as(tmp_path / "saved.jpg")
    assert decibels(np.asarray(Image.open(tmp_path / "saved.jpg")), expected) > 25
    for style, path in (("cells", cells_file), ("tiny", style_file)):
        page.choose(style)
        assert decibels(page.painted(), paint(photo, path)) > 40


def test_every_control_does_as_in_the_stylizer(page: Page, photo: Path, cells_file: Path, style_file: Path) -> None:
    page.open(photo)
    style = f"bundled:{REALTIME}"
    content = np.asarray(Image.open(photo))
    assert decibels(page.painted(), content) < 25
    page.set("strength", 0)
    assert decibels(page.painted(), content) > 60
    page.set("strength", 40)
    assert page.text("controls output[for=strength]") == "40 %"
    assert page.tab.get_attribute("#strength", "aria-valuetext") == "40 %"
    assert decibels(page.painted(), paint(photo, style, strength=0.4)) > 40
    assert page.text("status") == f"{WIDTH} × {HEIGHT}", "nothing was painted anew, which would take time"
    page.set("strength", 100)
    page.tab.check("#colours")
    assert decibels(page.painted(), paint(photo, style, keep_colors=True)) > 40
    page.tab.uncheck("#colours")
    page.tab.select_option("#second", "cells")
    assert page.tab.input_value("#mix") == "50"
    page.choose("cells")
    assert page.tab.is_disabled("#mix"), "with itself"
    page.choose(REALTIME)
    page.set("mix", 30)
    assert decibels(page.painted(), paint(photo, {style: 0.7, str(cells_file): 0.3})) > 40
    page.tab.select_option("#second", "")
    assert page.tab.is_disabled("#mix")
    for exponent in (1, -1):  # scaled by another filter than Pillow's
        page.set("stroke", exponent)
        assert decibels(page.painted(), paint(photo, style, stroke=2**exponent)) > 25
        factor = 2**-exponent
        assert f"painted at {round(WIDTH * factor)} × {round(HEIGHT * factor)}" in page.text("status")


def test_the_brush_that_is_shown_is_the_one_that_paints(page: Page, tmp_path: Path) -> None:
    make_picture(2000, 1500).save(tmp_path / "large.png")  # too many pixels for this style
    page.choose("tiny")
    page.open(tmp_path / "large.png")
    page.wait_painted(2000, 1500)
    page.set("stroke", -1)
    assert page.text("controls output[for=stroke]") == f"× {(2000 * 1500 / 2.5e6) ** 0.5:.2f}"


def test_the_picture_before_is_shown_on_white_as_it_is_painted(page: Page, tmp_path: Path) -> None:
    Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    page.open(tmp_path / "clear.png")
    page.painted()
    stage = Image.open(io.BytesIO(page.tab.locator("#stage").screenshot()))
    assert stage.convert("RGB").getpixel((stage.width // 4, stage.height // 4)) == (255, 255, 255)


def test_the_divider_is_moved_by_pointer_and_keys(page: Page) -> None:
    def share() -> float:
        return float(page.tab.evaluate("() => parseFloat(getComputedStyle(after).clipPath.split(' ').at(-1))"))

    box = page.tab.locator("#stage").bounding_box()
    page.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60)
    page.tab.mouse.up()
    assert share() == pytest.approx(25, abs=2)
    page.tab.focus("#divider")
    page.tab.keyboard.press("End")
    assert share() == 100
    page.tab.keyboard.press("ArrowLeft")
    assert 98 < share() < 100


def test_the_keyboard_reaches_every_control_and_each_has_a_name(page: Page) -> None:
    reached = set()
    for _ in range(30):
        page.tab.keyboard.press("Tab")
        reached.add(page.tab.evaluate("() => document.activeElement.id || document.activeElement.name"))
    assert {"divider", "save", "file", "camera", "style", "strength", "stroke", "second", "colours"} <= reached
    page.tab.focus(f"input[value={REALTIME}]")
    page.tab.keyboard.press("ArrowRight")
    assert page.tab.evaluate("() => document.activeElement.value") == "cells"
    nameless = page.tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, img:not([alt=''])")].filter(element => {
            const labels = [...element.labels ?? []].map(label => label.textContent.trim());
            return !(element.ariaLabel || element.textContent.trim() || labels.some(Boolean));
        }).map(element => element.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_photos_are_dropped_and_pasted(page: Page, photo: Path, way: str) -> None:
    page.tab.evaluate(
        """([data, way]) => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            document.body.dispatchEvent(way === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        [base64.b64encode(photo.read_bytes()).decode(), way],
    )
    assert decibels(page.painted(), paint(photo, f"bundled:{REALTIME}")) > 40


def test_a_file_over_the_window_is_marked_until_it_leaves_or_drops(page: Page) -> None:
    def after(event: str, target: str = "null") -> bool:
        return page.tab.evaluate(
            f"""() => {{
                const event = new DragEvent("{event}", {{
                    bubbles: true, cancelable: true, relatedTarget: {target}, dataTransfer: new DataTransfer(),
                }});
                document.body.dispatchEvent(event);
                return document.body.classList.contains("dropping");
            }}"""
        )

    assert after("dragover")
    assert after("dragleave", "document.querySelector('main')"), "to another part of the page"
    assert not after("dragleave")
    assert after("dragover")
    assert not after("drop")


SLOW_FILE = """() => {
    const make = createImageBitmap;
    self.createImageBitmap = async (image, ...more) => {
        if (image.name === "slow.png") await new Promise(go => { self.go = go; });
        return make(image, ...more);
    };
}"""


def test_an_older_photo_never_replaces_a_newer_one(page: Page, photo: Path, tmp_path: Path) -> None:
    make_picture(90, 60).save(tmp_path / "slow.png")
    (tmp_path / "bad.png").write_text("no picture")
    page.tab.evaluate(SLOW_FILE)
    page.open(tmp_path / "slow.png")
    page.wait("self.go")
    page.open(photo)
    page.painted()
    page.tab.evaluate("() => self.go()")
    page.tab.wait_for_timeout(500)
    page.painted()
    page.tab.evaluate("() => { self.go = null; }")
    page.open(tmp_path / "slow.png")
    page.wait("self.go")
    page.open(tmp_path / "bad.png")
    page.wait_said()
    page.tab.evaluate("() => self.go()")
    page.painted(90, 60)  # a bad file cancels nothing


def test_the_sample_never_replaces_a_photo(visit: Callable[..., Page], site: dict[str, bytes], photo: Path) -> None:
    held = HeldSite(site, "sample.jpg")
    with served(held) as server:
        page = visit(server.address)
        page.wait("document.querySelector('input[name=style]')")
        page.open(photo)
        page.painted()
        with page.tab.expect_response("**/sample.jpg"):
            held.release()
        page.tab.wait_for_timeout(500)
        page.painted()


def test_a_style_that_is_on_its_way_is_neither_saved_nor_timed(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path
) -> None:
    held = HeldSite(site, "styles/cells.weights")
    with served(held) as server:
        page = visit(server.address)
        page.open(photo)
        page.painted()
        page.choose("cells")
        with page.tab.expect_download() as download:
            page.tab.click("#save")
        assert download.value.suggested_filename == f"photo-{REALTIME}.jpg"
        page.tab.wait_for_timeout(4000)
        held.release()
        page.painted()
        assert int(re.search(r" in (\d+) ms", page.text("status"))[1]) < 3000
        with page.tab.expect_download() as download:
            page.tab.click("#save")
        assert download.value.suggested_filename == "photo-cells.jpg"


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


def test_what_cannot_be_painted_is_said_in_a_sentence_and_the_page_goes_on(
    page: Page, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"/>')
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:60])
    for name, sentence in {
        "text.jpg": "text.jpg is not a picture or video that this browser can read.",
        "text.mp4": "This browser cannot play text.mp4.",
        "drawing.svg": "drawing.svg is not a picture or video that this browser can read.",
        "dot.png": "dot.png has 1 × 1 pixels; it needs 16 × 16.",
    }.items():
        page.open(tmp_path / name)
        page.wait(f"document.querySelector('#message').textContent === {sentence!r}")
    page.open(tmp_path / "cut.png")
    assert "cut.png" in page.wait_said()
    page.open(photo)
    page.painted()
    assert not page.tab.is_visible("#message")
    page.set("stroke", 3)  # 25 × 19, then smaller
    page.painted()
    Image.new("RGB", (40, 30)).save(tmp_path / "small.png")
    page.open(tmp_path / "small.png")
    assert page.wait_said() == ("The picture has 40 × 30 pixels, 5 × 4 for this brush; it needs at least 16 × 16.")


def test_a_giant_picture_is_scaled_and_the_page_says_so(page: Page, tmp_path: Path) -> None:
    giant = tmp_path / "giant.jpg"
    Image.linear_gradient("L").resize((12_000, 9_000)).save(giant, quality=50)
    page.open(giant)
    page.wait_painted(4619, 3464)
    assert page.text("status").startswith(
        "giant.jpg is too large for a browser (12000 × 9000 pixels); it is scaled to 4619 × 3464, painted at "
    )
    page.set("strength", 50)
    page.wait_painted(4619, 3464)
    assert "it is scaled to 4619 × 3464, painted at " in page.text("status")
    assert not page.tab.is_visible("#message"), "it is no error"


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


def test_a_broken_model_is_said_and_another_can_be_chosen(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path
) -> None:
    wrong = np.frombuffer(site["styles/tiny.weights"], np.float16).copy()
    wrong[::7] *= -1
    broken = site | {"styles/cells.onnx": b"no model", "styles/tiny.weights": wrong.tobytes()}
    with served(broken) as server:
        page = visit(server.address)
        page.open(photo)
        before = page.painted()
        page.choose("cells")
        assert page.wait_said() == "Cells could not be loaded; choose another style."
        page.choose("tiny")
        page.wait("document.querySelector('#message').textContent.includes('Tiny is not painted as by PyTorch')")
        page.choose(REALTIME)
        assert decibels(page.painted(), before) > 60
        assert not page.tab.is_visible("#message")


def test_a_first_model_that_is_broken_leaves_the_others(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path, cells_file: Path
) -> None:
    with served(site | {f"styles/{REALTIME}.weights": b"short"}) as server:
        page = visit(server.address)
        assert page.wait_said() == "The Scream could not be loaded; choose another style."
        page.open(photo)
        page.choose("cells")
        assert decibels(page.painted(), paint(photo, cells_file)) > 40
        assert not page.tab.is_visible("#message")


def test_a_site_whose_models_are_all_wrong_says_so(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    wrong = {name: bytes(len(data)) for name, data in site.items() if name.endswith(".check")}
    assert len(wrong) == 3
    with served(site | wrong) as server:
        page = visit(server.address)
        assert page.wait_said() == "No backend of this browser paints as PyTorch does."
        assert page.text("status") == "", "no longer loading"


def test_a_site_without_models_does_not_blame_the_browser(visit: Callable[..., Page], site: dict[str, bytes]) -> None:
    with served({name: data for name, data in site.items() if not name.endswith(".onnx")}) as server:
        said = visit(server.address).wait_said()
        assert said.startswith("No style could be loaded. ")
        assert "styles/tiny.onnx: 404" in said


def test_without_javascript_the_page_says_what_it_needs(visit: Callable[..., Page], server: SiteServer) -> None:
    page = visit(server.address, java_script_enabled=False)
    assert page.tab.is_visible("noscript p")
    assert page.tab.title() == "fst – photos, videos and the camera as paintings"
    assert not page.tab.is_visible("#status")
    assert not page.tab.is_visible("#controls")


def test_any_web_server_will_do_and_the_page_says_what_it_lacks(
    visit: Callable[..., Page], site: dict[str, bytes], photo: Path, tmp_path: Path
) -> None:
    write_site(site, tmp_path / "site")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_port}/")
        page.open(photo)
        assert decibels(page.painted(), paint(photo, f"bundled:{REALTIME}")) > 40
        assert "WebAssembly, one thread" in page.text("backend")
        assert "Threads are off" in page.text("backend")
        server.shutdown()


class Cdn(http.server.BaseHTTPRequestHandler):
    """Stands in for the CDN: another origin, which allows every site to read its files."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        name = self.path.removeprefix("/dist/")
        self.send_response(200)
        self.send_header("Content-Type", "application/wasm" if name.endswith(".wasm") else "text/javascript")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(self.files[name])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("cdn", ["right", "tampered", "away"])
def test_the_runtime_of_the_cdn_is_used_only_with_the_right_hash(
    visit: Callable[..., Page],
    runtime: Path,
    cells_file: Path,
    photo: Path,
    cdn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = b" " if cdn == "tampered" else b""
    monkeypatch.setattr(Cdn, "files", {name: data + more for name, data in read_runtime(runtime).items()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cdn) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, args=(0.05,), daemon=True).start()
        port = elsewhere.server_port if cdn != "away" else 9  # where nothing listens
        for module in ("runtime", "site"):
            monkeypatch.setattr(f"fst.inference.web.{module}.CDN", f"http://127.0.0.1:{port}/dist/")
        with served(build_site([cells_file]), is_local=False) as server:
            page = visit(server.address)
            page.open(photo)
            if cdn == "right":
                assert decibels(page.painted(), paint(photo, cells_file)) > 40
                assert "threads" in page.text("backend")
                assert page.errors == []
            else:
                said = page.wait_said()
                assert said.startswith(f"The runtime could not be loaded from 127.0.0.1:{port}; without a connection,")
                assert "npm pack onnxruntime-web@" in said
        elsewhere.shutdown()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(visit: Callable[..., Page], server: SiteServer, width: int, scheme: str) -> None:
    page = visit(server.address, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.wait("document.querySelector('#styles img')")
    assert page.tab.evaluate("() => document.documentElement.scrollWidth") <= width
    background = page.tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) > 382) == (scheme == "light")
    for button in page.tab.query_selector_all("button:visible, label.button"):
        assert button.bounding_box()["height"] >= 44, "large enough for a finger"


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_the_picture_is_in_sight_at_every_control(
    visit: Callable[..., Page], server: SiteServer, size: tuple[int, int]
) -> None:
    page = visit(server.address, viewport=dict(zip(("width", "height"), size, strict=True)))
    page.wait("document.querySelector('#save:enabled')")
    for control in ("strength", "stroke", "mix", "colours"):
        page.tab.locator(f"#{control}").scroll_into_view_if_needed()
        stage, box = (page.tab.locator(f"#{name}").bounding_box() for name in ("stage", control))
        assert 0 <= stage["y"] <= size[1] - stage["height"]
        assert box["y"] >= stage["y"] + stage["height"] or box["x"] >= stage["x"] + stage["width"], "not behind it"
