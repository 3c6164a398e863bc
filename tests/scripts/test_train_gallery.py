import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fst.images import write_image
from scripts import train_gallery
from tests.conftest import make_picture

TINY = [
    "style.size=48",
    "data.size=32",
    "data.batch_size=2",
    "data.workers=0",
    "data.val_count=1",
    "loss_network.weights=random",
    "model.width=4",
    "model.blocks=1",
    "init_from=null",
    "trainer.accelerator=cpu",
    "trainer.max_steps=1",
    "val_every=9",
    "logger=none",
]


def test_a_gallery_goes_on_with_what_is_missing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_gallery, "STYLES", {"one": [], "two_light": ["model=realtime"]})
    for name in ("one", "two"):
        write_image(make_picture(64, 48), Path("paintings", f"{name}.jpg"))
    command = ["train_gallery", "styles", "--paintings", "paintings", "--photos", str(photos), "--val", str(photos)]
    monkeypatch.setattr(sys, "argv", [*command, "--only", "two_light", "--overrides", *TINY])
    train_gallery.main()
    first = Path("styles/two_light.safetensors").read_bytes()
    assert {tensor.dtype for tensor in load_file("styles/two_light.safetensors").values()} == {torch.float16}
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", [*command, "--overrides", *TINY])
    train_gallery.main()
    assert "two_light.safetensors is there" in capfd.readouterr().out
    assert Path("styles/two_light.safetensors").read_bytes() == first
    assert Path("styles/one.safetensors").exists()
