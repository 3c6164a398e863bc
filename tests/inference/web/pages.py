"""The web page in a tab of Chromium, and what a visitor does there."""

import base64
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fst import Stylizer

REALTIME = "the_scream_realtime"
PATIENCE = 60_000  # milliseconds
WIDTH, HEIGHT = 200, 150


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


def paint(photo: Path, style: str | Path | dict[str, float], **look: Any) -> np.ndarray:
    return np.asarray(Stylizer(style, device="cpu", **look)(Image.open(photo)))


def decibels(picture: np.ndarray, reference: np.ndarray) -> float:
    difference = picture.astype(float) - reference
    return float(10 * np.log10(255**2 / max(1e-9, np.square(difference).mean())))
