"""Using styles where what training needs is not installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fst.images import read_tensor, to_uint8
from fst.style_file import load_style
from tests.conftest import make_picture

ROOT = Path(__file__).resolve().parents[2]
TRAINING = (
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "hydra", "omegaconf", "antlr4"),
    *("tensorboard", "torchmetrics", "torchvision", "pytorch_optimizer", "jinja2"),
)
PRELUDE = "import sys\nfor name in {names!r}:\n    sys.modules[name] = None  # importing it fails\n"


def run_without(names: tuple[str, ...], program: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PRELUDE.format(names=names) + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_styles_are_used_without_the_training_stack(
    tmp_path: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    make_picture(40, 30).save("a.png")
    program = """
import pkgutil
import fst.inference
import fst.style_import
import fst.study.bench  # its measurements run in processes of their own
from fst.cli import main
for module in pkgutil.walk_packages(fst.inference.__path__, "fst.inference."):
    __import__(module.name)
for command in (
    ["stylize", "a.png", "-s", sys.argv[1], "-o", "b.png"],
    ["styles"],
    ["export", sys.argv[1], "--to", "onnx"],
    ["export", sys.argv[1], "--to", "web"],
):
    assert main(command) == 0, command
"""
    out = run_without(TRAINING, program, str(style_file))
    assert "the_scream" in out
    assert Image.open("b.png").size == (40, 30)
    assert Path("tiny.onnx").exists()


def test_an_export_needs_onnx_runtime_only(tmp_path: Path, tiny_onnx: bytes, style_file: Path) -> None:
    pytest.importorskip("onnxruntime")
    (program,) = re.findall(
        r'```python\n("""python stylize_onnx.py.*?)```', (ROOT / "checkpoints/README.md").read_text(), re.S
    )
    assert len(program.splitlines()) <= 30
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx)
    make_picture(40, 30).save(tmp_path / "a.png")
    files = (str(tmp_path / name) for name in ("tiny.onnx", "a.png", "b.png"))
    run_without(("torch", "fst", "onnx"), program, *files)
    with torch.no_grad():  # in float32, as ONNX Runtime computes
        expected = load_style(style_file)[0].eval()(read_tensor(tmp_path / "a.png"))
    expected = to_uint8(expected)[0].numpy().astype(int)
    assert np.abs(np.asarray(Image.open(tmp_path / "b.png")) - expected).max() <= 2
