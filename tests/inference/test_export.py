import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fst
from fst.cli import main
from fst.inference import export
from fst.style_file import load_style
from tests.conftest import make_picture

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def folder(tmp_path: Path, tiny_onnx: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; exporting takes no time."""
    monkeypatch.setattr(export, "to_onnx", lambda _: tiny_onnx)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def printed_psnr(text: str) -> list[float]:
    line = next(line for line in text.splitlines() if line.startswith("PSNR to PyTorch: "))
    return [float(part.split()[0]) for part in line.removeprefix("PSNR to PyTorch: ").split(", ")]


def test_onnx(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(style_file), "--to", "onnx"]) == 0
    assert names(folder) == ["tiny.onnx"]
    printed = capsys.readouterr().out
    assert printed.startswith("tiny.onnx\n")
    assert len(printed_psnr(printed)) == 3
    assert min(printed_psnr(printed)) > 80
    session = onnxruntime.InferenceSession("tiny.onnx")
    (images,), (stylized,) = session.get_inputs(), session.get_outputs()
    assert (images.name, stylized.name) == ("images", "stylized")
    assert images.shape == stylized.shape == ["batch", 3, "height", "width"]
    description = session.get_modelmeta().custom_metadata_map
    assert description["style"] == "tiny"
    assert description["fst"] == fst.__version__
    assert description["images"] == "float32 (batch, 3, height, width), RGB in [0, 1], sides from 16 pixels up"
    network, _ = load_style(style_file)
    for shape in ((1, 3, 16, 16), (3, 3, 61, 90), (1, 3, 64, 64), (2, 3, 127, 33)):
        pictures = torch.rand(shape)
        (painted,) = session.run(None, {"images": pictures.numpy()})
        np.testing.assert_allclose(painted, network(pictures), rtol=0, atol=1e-4)


def test_nothing_of_this_machine_is_in_the_file(tiny_onnx: bytes) -> None:
    for word in (str(Path(fst.__file__).parent), "site-packages", "stack_trace", "transform.py"):
        assert word.encode() not in tiny_onnx


def test_float16_halves_the_file(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(style_file), "--to", "onnx", "--precision", "fp16", "-o", "half.onnx"]) == 0
    assert 40 < min(printed_psnr(capsys.readouterr().out)) < 100
    kinds = {tensor.data_type for tensor in onnx.load("half.onnx").graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert onnxruntime.InferenceSession("half.onnx").get_inputs()[0].type == "tensor(float)"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino(folder: Path, style_file: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    openvino = pytest.importorskip("openvino")
    command = ["export", str(style_file), "--to", "openvino", "-o", "out/painter.xml", "--precision", precision]
    assert main(command) == 0
    assert names(folder / "out") == ["painter.bin", "painter.xml"]
    psnr = min(printed_psnr(capsys.readouterr().out))
    assert psnr > 80 if precision == "fp32" else 40 < psnr < 100
    model = openvino.Core().read_model("out/painter.xml")
    assert model.get_rt_info(["framework", "style"]).value == "tiny"
    assert "RGB in [0, 1]" in model.get_rt_info(["framework", "images"]).value
    assert str(model.input("images").partial_shape) == "[?,3,?,?]"
    assert str(model.output("stylized").partial_shape) == "[?,3,?,?]"
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    weights = {
        op.get_element_type().to_string() for op in constants if len(op.shape) == 4 and op.shape[2] == op.shape[3] > 1
    }
    assert weights == {"f32" if precision == "fp32" else "f16"}


def test_int8(folder: Path, style_file: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    command = ["export", str(style_file), "--to", "openvino", "--precision", "int8", "-o", "small.xml"]
    assert main([*command, "--photos", str(photos)]) == 0
    assert 30 < min(printed_psnr(capsys.readouterr().out)) < 80
    kinds = [op.get_type_name() for op in openvino.Core().read_model("small.xml").get_ops()]
    assert "FakeQuantize" in kinds
    (folder / "some").mkdir()
    (folder / "some/a.jpg").write_bytes(b"no picture")
    capsys.readouterr()
    assert main([*command, "--photos", "some", "--force"]) == 2
    assert capsys.readouterr().err == "fst: --photos: none of the pictures can be read; name another folder\n"
    make_picture(90, 70).save("some/b.png")
    assert main([*command, "--photos", "some", "--force"]) == 0
    (folder / "empty").mkdir()
    capsys.readouterr()
    assert main([*command, "--photos", "empty", "--force"]) == 2
    assert capsys.readouterr().err == "fst: --photos empty: no pictures in it or below it\n"


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_wrong_export_is_not_left_behind(
    folder: Path, style_file: Path, to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(to)
    monkeypatch.setattr(export, f"load_{to}", lambda *_: lambda images: images)
    assert main(["export", str(style_file), "--to", to]) == 1
    assert "not written: in fp32 it differs too much from PyTorch" in capsys.readouterr().err
    monkeypatch.setattr(export, f"load_{to}", lambda *_: lambda images: images * float("nan"))
    assert main(["export", str(style_file), "--to", to]) == 1
    assert names(folder) == []


def test_existing_files_need_force(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    Path("tiny.bin").write_bytes(b"precious")
    assert main(["export", str(style_file), "--to", "openvino"]) == 2
    assert capsys.readouterr().err == "fst: tiny.bin exists; --force overwrites it\n"
    assert names(folder) == ["tiny.bin"]
    assert main(["export", str(style_file), "--to", "openvino", "--force"]) == 0
    assert Path("tiny.bin").read_bytes() != b"precious"


def test_both_files_or_none(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(
        "fst.inference.export_check.check_writable", lambda *_: None
    )  # as if the folder came during the work
    Path("tiny.xml").write_text("precious")
    Path("tiny.bin").mkdir()  # cannot be replaced by a file
    assert main(["export", str(style_file), "--to", "openvino", "--force"]) == 1
    assert "tiny.bin: cannot be written" in capsys.readouterr().err
    assert Path("tiny.xml").read_text() == "precious"
    assert names(folder) == ["tiny.bin", "tiny.xml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope", "--to", "onnx"], "no style 'nope'"),
        (["STYLE", "--to", "onnx", "-o", "model.xml"], "model.xml: onnx is written to a .onnx file"),
        (["STYLE", "--to", "openvino", "-o", "model"], "model: openvino is written to a .xml file"),
        (["STYLE", "--to", "openvino", "--precision", "int8"], "--precision int8 --photos FOLDER"),
        (["STYLE", "--to", "onnx", "--photos", "."], "--precision int8 --photos FOLDER"),
        (["STYLE", "--to", "onnx", "--precision", "int8", "--photos", "."], "int8 is for --to openvino"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, style_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    assert main(["export", *(str(style_file) if text == "STYLE" else text for text in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert names(folder) == []


def test_a_missing_extra_is_one_clear_line(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    int8 = ["--to", "openvino", "--precision", "int8", "--photos", "."]
    for package, extra, options in (("nncf", "int8", int8), ("openvino", "openvino", ["--to", "openvino"])):
        monkeypatch.setitem(sys.modules, package, None)
        assert main(["export", str(style_file), *options]) == 2
        assert capsys.readouterr().err == f"fst: {extra} needs {package}: pip install 'fast-style-transfer[{extra}]'\n"
    assert names(folder) == []
