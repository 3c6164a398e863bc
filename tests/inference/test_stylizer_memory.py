"""What the memory lets a `Stylizer` do: pictures in bands, and one clear line where that is not enough."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fst.errors import RunError
from fst.inference.stylizer import Stylizer
from tests.conftest import make_picture


def test_a_size_too_large_for_the_memory_is_refused_before_scaling_and_says_what_is_needed(
    style_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fst.inference.stylizer.free_memory", lambda: 2**50)
    monkeypatch.setattr("fst.inference.stylizer.resize_longer_side", lambda *_: pytest.fail("scales"))
    options = {"device": "cpu", "size": 20_000}
    with pytest.raises(RunError, match=r"20000×15000 pixels: [\d.]+ GiB are needed, memory is 1; a smaller") as caught:
        Stylizer(style_file, **options, memory=1)(make_picture(400, 300))
    needed = float(str(caught.value).split("pixels: ")[1].split(" GiB")[0])
    Stylizer(style_file, **options, memory=needed).check_size(400, 300)
    with pytest.raises(RunError):
        Stylizer(style_file, **options, memory=needed - 1).check_size(400, 300)
    monkeypatch.setattr("fst.inference.stylizer.free_memory", lambda: 2**30)
    with pytest.raises(RunError, match=r"GiB are needed, 1\.0 are free"):
        Stylizer(style_file, **options).check_size(400, 300)


def test_a_device_with_memory_of_its_own_decides_what_is_done_at_once(
    stylizer: Stylizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stylize_in_bands(_: object, pixels: torch.Tensor, __: object, memory: int, device_memory: int) -> torch.Tensor:
        given.append((memory, device_memory))
        return pixels

    given: list[tuple[int, int]] = []
    monkeypatch.setattr("fst.inference.stylizer.stylize_in_bands", stylize_in_bands)
    monkeypatch.setattr("fst.inference.stylizer.free_memory", lambda: 2**40)
    monkeypatch.setattr("fst.inference.stylizer.free_cuda_memory", lambda _: 1000)
    monkeypatch.setattr(stylizer, "device", torch.device("cuda"))
    stylizer(make_picture(32, 24))
    (memory, device_memory) = given[0]
    assert device_memory == 1000
    assert 2**39 < memory <= 2**40


def test_a_picture_larger_than_the_memory_is_done_in_bands(
    style_file: Path, another_style: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles = {str(style_file): 1, str(another_style): 1}
    picture = make_picture(200, 1100)
    options = {"device": "cpu", "strength": 0.5, "keep_colors": True}
    whole = np.asarray(Stylizer(styles, **options)(picture)).astype(int)
    done = []
    monkeypatch.setattr("fst.inference.bands.MemoryNeed.at_once", lambda *_: done.append(1) or 2**50)
    in_bands = np.asarray(Stylizer(styles, **options)(picture)).astype(int)
    assert done
    assert np.square(whole - in_bands).mean() < 255**2 / 10**4.5  # 45 dB
    with pytest.raises(RunError, match="not enough memory for 200×1100 pixels"):
        Stylizer(styles, **options, memory=0.001)(picture)


def test_running_out_of_memory_is_one_clear_line(stylizer: Stylizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    def broken(_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(stylizer.networks[0], "forward", exhausted)
    with pytest.raises(RunError, match="not enough memory for 20×30 pixels"):
        stylizer(make_picture(20, 30))
    monkeypatch.setattr(stylizer.networks[0], "forward", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        stylizer(make_picture(20, 30))
    monkeypatch.setattr("fst.inference.bands.MemoryNeed.at_once", lambda *_: 2**50)
    monkeypatch.setattr("fst.inference.stylizer.stylize_in_bands", exhausted)
    with pytest.raises(RunError, match="not enough memory for 20×30 pixels"):
        stylizer(make_picture(20, 30))
