"""Times the web page in headless Chromium against PyTorch, in turns: frames, time to the first picture, download.

python scripts/benchmark_web.py --runtime onnxruntime-web-1.30.0.tgz
"""

import argparse
import gzip
import shutil
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from playwright.sync_api import sync_playwright

from fst.errors import run_script
from fst.inference.backends import open_backend
from fst.inference.web.runtime import BUILDS, read_runtime
from fst.inference.web.server import SiteServer
from fst.inference.web.site import build_site
from fst.style_info import find_style

SIZES = ((640, 360), (1280, 720))
# Starts a worker of its own, and paints a frame as the page does for the camera; returns milliseconds.
_START = """async style => {
    const { startPainter } = await import("./painter.js");
    const { painter } = await startPainter(await (await fetch("site.json")).json());
    globalThis.paintFrame = async ([width, height]) => {
        const bitmap = await createImageBitmap(new ImageData(width, height));
        const look = { style, second: null, mix: 0, strength: 1, colours: false, stroke: 1 };
        const before = performance.now();
        (await painter.call("paintFrame", { bitmap, width, height, look }, [bitmap])).bitmap.close();
        return performance.now() - before;
    };
}"""


def time_frames(page: Any, style: Path, rounds: int) -> None:
    """Frames by the page and by PyTorch, in turns: what else the machine does slows both."""
    backend = open_backend("torch", style, torch.device("cpu"))
    page.evaluate(_START, style.stem)
    for width, height in SIZES:
        frame = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        times: dict[str, list[float]] = {"page": [], "PyTorch": []}
        for _ in range(rounds + 2):
            times["page"].append(page.evaluate("size => paintFrame(size)", [width, height]))
            before = time.perf_counter()
            backend(frame)
            times["PyTorch"].append(1000 * (time.perf_counter() - before))
        for name, values in times.items():
            values = values[2:]  # the first ones prepare
            print(f"{width}×{height} {name}: median {median(values):.1f} ms, best {min(values):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", type=Path, required=True, help="a copy of onnxruntime-web from npm")
    parser.add_argument("--style", default="bundled:the_scream_realtime")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    style = find_style(options.style)
    site = build_site([style], read_runtime(options.runtime))
    parts = {name: len(data) for name, data in site.items() if not name.startswith("runtime/")}
    print(f"site without the runtime: {sum(parts.values()) / 1e6:.2f} MB")
    for build, files in BUILDS.items():
        data = [site[f"runtime/{name}"] for name in files]
        packed = sum(len(gzip.compress(part)) for part in data)
        print(f"runtime {build}: {sum(map(len, data)) / 1e6:.1f} MB, {packed / 1e6:.1f} MB compressed by gzip")
    with SiteServer(site, is_local=True) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(3):
            page = browser.new_page()
            before = time.perf_counter()
            page.goto(server.address)
            page.wait_for_function("() => document.querySelector('#status').textContent.includes(' ms')")
            print(f"first painted picture after {time.perf_counter() - before:.1f} s: {page.text_content('#status')}")
        print(page.text_content("#backend"))
        time_frames(page, style, options.rounds)
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    run_script(main)
