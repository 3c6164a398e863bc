import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fst.errors import RunError, UserError
from fst.images import from_uint8, to_tensor, to_uint8
from fst.inference import backends
from fst.inference.backends import Backend, open_backend
from fst.inference.runtimes import BACKENDS, installed_backends
from fst.inference.stylizer import Stylizer
from fst.resources import resource_folder
from fst.style_file import load_style
from tests.conftest import make_picture

CPU = torch.device("cpu")
BUNDLED = resource_folder("checkpoints") / "starry_night.safetensors"


@pytest.fixture
def exports(tiny_onnx: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The styles exported so far; the cache is empty."""
    done: list[Path] = []
    monkeypatch.setattr(backends, "to_onnx", lambda style: done.append(style) or tiny_onnx)
    monkeypatch.setenv("FST_CACHE", str(tmp_path / "cache"))
    return done


def pictures(height: int, width: int) -> Tensor:
    return torch.cat([to_tensor(make_picture(width, height, seed)) for seed in (1, 2)])


@pytest.mark.parametrize("name", ["torch", "openvino", "onnxruntime"])
def test_every_backend_paints_what_torch_does_in_float32(name: str) -> None:
    if name != "torch":
        pytest.importorskip(name)
        pytest.importorskip("onnxscript")
    backend = open_backend(name, BUNDLED, CPU)
    assert (backend.name, backend.info.name) == (name, "starry_night")
    network, _ = load_style(BUNDLED)
    earlier, copy = torch.zeros(0), torch.zeros(0)
    for size in ((61, 90), (127, 33), (16, 17)):
        images = pictures(*size)
        with torch.inference_mode():
            expected, painted = network(images), backend(images)
        assert (painted.shape, painted.dtype) == (images.shape, torch.float32)
        assert -10 * (painted - expected).square().mean().log10() >= 40, size
        assert torch.equal(earlier, copy), "a later picture was painted over it"
        earlier, copy = painted, painted.clone()
        pixels = backend(to_uint8(images))
        assert (pixels.shape, pixels.dtype) == ((2, *size, 3), torch.uint8)
        assert -10 * (from_uint8(pixels) - expected).square().mean().log10() >= 40, size


def test_pictures_too_small_are_one_clear_line_with_every_runtime(style_file: Path, exports: list[Path]) -> None:
    for name in {"torch", "openvino", "onnxruntime"} & set(installed_backends()):
        with pytest.raises(UserError, match="a 40×15 picture is too small"):
            open_backend(name, style_file, CPU)(torch.rand(1, 3, 15, 40))


def test_exports_are_made_once(style_file: Path, exports: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    images = pictures(20, 30)
    painted = open_backend("onnxruntime", style_file, CPU)(images)
    assert torch.equal(open_backend("onnxruntime", style_file, CPU)(images), painted)
    assert exports == [style_file]
    (cached,) = (tmp_path / "cache").iterdir()
    whole = cached.read_bytes()
    for damaged in (whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        exports.clear()
        cached.write_bytes(damaged)
        assert torch.equal(open_backend("onnxruntime", style_file, CPU)(images), painted)
        assert exports == [style_file]
        assert cached.read_bytes() == whole


def test_a_changed_style_is_exported_anew(style_file: Path, exports: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    changed = tmp_path / style_file.name
    data = style_file.read_bytes()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for style in (style_file, changed, style_file, changed):
        open_backend("onnxruntime", style, CPU)
    assert exports == [style_file, changed]


def test_without_a_cache_it_works_all_the_same(
    style_file: Path, exports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "file").touch()
    monkeypatch.setenv("FST_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert open_backend("onnxruntime", style_file, CPU)(pictures(16, 16)).shape == (2, 3, 16, 16)
    assert len(exports) == 2


def test_the_cache_is_the_users(exports: list[Path], style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    home = Path(backends.os.environ["FST_CACHE"]).parent
    monkeypatch.delenv("FST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    open_backend("onnxruntime", style_file, CPU)
    assert len(list((home / "fst").glob("tiny-*"))) == 1


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxscript", "onnx")]
)
def test_a_missing_extra_is_one_clear_line(
    style_file: Path, name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{extra} needs .*{package}.*: pip install 'fast-style-transfer\[{extra}\]'"):
        open_backend(name, style_file, CPU)
    assert name not in installed_backends()
    assert "torch" in installed_backends()


def test_mistakes_are_one_clear_line(style_file: Path) -> None:
    with pytest.raises(UserError, match=f"no backend 'tensorrt'; there are {', '.join(BACKENDS)}"):
        Stylizer(style_file, "cpu", backend="tensorrt")
    if "openvino" in installed_backends():
        with pytest.raises(UserError, match="openvino works on the CPU only"):
            open_backend("openvino", style_file, torch.device("cuda"))


@pytest.mark.parametrize("name", BACKENDS)
def test_threads_paint_what_one_does(
    name: str, style_file: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in installed_backends():
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # the rest takes a C++ compiler
    stylizer = Stylizer(style_file, "cpu", backend=name)
    photos = [make_picture(48, 32, seed) for seed in range(4)] * 10
    start = Barrier(8)

    def paint(photo: Image.Image) -> tuple[np.ndarray, Tensor]:
        return np.asarray(stylizer(photo)), stylizer(to_tensor(photo))

    if name == "compile":
        paint(photos[0])  # or every thread would trace the network for itself, which takes half a minute
    with ThreadPoolExecutor(8, initializer=start.wait) as threads:  # the first pictures, too, at once
        painted = list(threads.map(paint, photos))
    for (bytes_, floats), photo in zip(painted, photos, strict=True):
        expected = paint(photo)
        assert np.array_equal(bytes_, expected[0])
        assert torch.equal(floats, expected[1])


def test_a_stylizer_paints_through_its_backend(style_file: Path, exports: list[Path]) -> None:
    pytest.importorskip("onnxruntime")
    stylizer = Stylizer(style_file, "cpu", backend="onnxruntime")
    assert exports == [style_file]
    network, _ = load_style(style_file)
    images = pictures(21, 34)
    torch.testing.assert_close(stylizer(images), network(images), rtol=0, atol=1e-4)  # float32: more than bfloat16 has


def test_compiled_for_one_size(style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile captures; the code it makes of that takes a minute and a C++ compiler."""
    compile_, asked = torch.compile, []

    def capture(network: torch.nn.Module, **options: object) -> object:
        asked.append(options)
        return compile_(network, backend="eager", dynamic=False)

    monkeypatch.setattr(torch, "compile", capture)
    images = pictures(18, 25)
    compiled = open_backend("compile", style_file, CPU)(images)
    assert asked == [{"dynamic": False, "mode": None}]
    torch.testing.assert_close(compiled, open_backend("torch", style_file, CPU)(images), rtol=0, atol=0.02)


def test_a_failed_compilation_is_one_clear_line(style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Tensor) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\n\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: failing)
    with pytest.raises(RunError, match=r"^torch.compile failed \(no C\+\+ compiler\); backend torch does without it$"):
        open_backend("compile", style_file, CPU)(pictures(16, 16))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), Exception("std::bad_alloc")]
)
def test_running_out_of_memory_is_one_clear_line_with_every_runtime(style_file: Path, error: Exception) -> None:
    def exhausted(_: Tensor) -> Tensor:
        raise error

    backend = Backend("any", exhausted, *load_style(style_file))
    with pytest.raises(RunError, match="not enough memory for 20×30 pixels"):
        backend(torch.rand(1, 3, 30, 20))
    with pytest.raises(ZeroDivisionError):
        Backend("any", lambda _: 1 / 0, *load_style(style_file))(torch.rand(1, 3, 30, 20))


def test_runtimes_are_imported_only_when_asked_for() -> None:
    program = """
import sys
import fst.inference.backends
print(sorted({"onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "torch._dynamo"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_runtime_reports_to_its_makers(tiny_onnx: bytes, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    program = """
import sys
from pathlib import Path
from fst.inference.backends import load_openvino
load_openvino(Path(sys.argv[1]).read_bytes())
print(sys.modules["openvino_telemetry"])
"""
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx)
    command = [sys.executable, "-c", program, str(tmp_path / "tiny.onnx")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "None"
