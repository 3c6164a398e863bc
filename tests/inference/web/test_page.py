"""The web page in Chromium: its controls and photos, compared with PyTorch."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fst.inference.web.server import SiteServer
from tests.conftest import make_picture
from tests.inference.web.conftest import served
from tests.inference.web.pages import HEIGHT, REALTIME, WIDTH, HeldSite, Page, decibels, paint


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


@pytest.mark.parametrize(("width", "height"), [(3000, 30), (20, 2000)])
def test_a_banner_is_painted_with_the_brush_that_it_gets(page: Page, tmp_path: Path, width: int, height: int) -> None:
    make_picture(width, height).save(tmp_path / "banner.png")
    page.open(tmp_path / "banner.png")
    page.wait_painted(width, height)
    assert not page.tab.is_visible("#message")


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
