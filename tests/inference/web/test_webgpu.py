"""The web page in Chromium on a graphics processor, which SwiftShader computes on the processor."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import do_without, make_picture
from tests.inference.web.conftest import served
from tests.inference.web.pages import REALTIME, Page, decibels, paint


@pytest.mark.parametrize("build", ["jspi", "asyncify"])
def test_a_graphics_processor_paints_what_pytorch_does(
    visit: Callable[..., Page], site: dict[str, bytes], style_file: Path, build: str, tmp_path: Path
) -> None:
    worker = site["worker.js"]
    for old, new in (
        (b"!adapter.info?.isFallbackAdapter", b"true"),  # the page takes no simulated one
        (b'[{ provider: "wasm", half: false }]', b"[]"),  # which is faster here
        (b'"Suspending" in WebAssembly', str(build == "jspi").lower().encode()),
    ):
        assert worker.count(old) == 1
        worker = worker.replace(old, new)
    sample = tmp_path / "sample.png"
    make_picture(48, 32).save(sample)
    with served(site | {"worker.js": worker, "sample.jpg": sample.read_bytes()}) as server:
        page = visit(server.address)
        if not page.tab.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            do_without("this browser cannot simulate WebGPU")
        for style, path in ((REALTIME, f"bundled:{REALTIME}"), ("tiny", style_file)):
            page.choose(style)
            assert decibels(page.painted(48, 32), paint(sample, path)) > 40
        assert page.text("backend").startswith("WebGPU, single precision: ")
