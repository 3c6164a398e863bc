import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fst.hydra_app import configure
from fst.overrides import quote
from fst.pictures import read_image, write_image
from fst.schemas import TRAIN
from fst.style_info import read_info
from scripts import train_gallery
from tests.conftest import TINY, make_picture


def test_a_gallery_trains_what_is_missing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_gallery, "STYLES", {"one": [[], ["loss.weights.style=2"]], "two": [[]]})
    write_image(make_picture(64, 48), Path("paintings", "one.jpg"))
    Path("styles").mkdir()
    Path("styles/two.safetensors").touch()
    command = ["train_gallery", "styles", "--paintings", "paintings", "--photos", str(photos), "--val", str(photos)]
    monkeypatch.setattr(sys, "argv", [*command, "--overrides", *TINY])
    train_gallery.main()
    assert "two.safetensors exists" in capfd.readouterr().out
    assert {tensor.dtype for tensor in load_file("styles/one.safetensors").values()} == {torch.float16}
    info = read_info(Path("styles/one.safetensors"))
    assert (info.loss["weights"]["style"], info.init_from, len(info.history)) == (2, "one", 2)


@pytest.mark.parametrize("name", train_gallery.STYLES)
def test_every_training_composes(name: str, photos: Path, painting: Path) -> None:
    files = [f"style.image={painting}", f"data.root={photos}", "loss_network.weights=random"]
    start: list[str] = []
    for overrides in train_gallery.STYLES[name]:
        configure(TRAIN, [*train_gallery.with_experiment(overrides), *files, *start])
        start = [f"init_from=bundled:{name}"]


def test_smoothing_takes_the_grain_and_keeps_the_edges(tmp_path: Path) -> None:
    pixels = np.full((64, 512, 3), 60, np.uint8)
    pixels[:, 256:] = 200
    grain = np.random.default_rng(0).integers(-5, 6, pixels.shape)
    write_image(Image.fromarray((pixels + grain).astype(np.uint8)), tmp_path / "one.png")
    override = train_gallery.smoothed(tmp_path / "one.png", tmp_path, f"{train_gallery.SMOOTHED}30")
    target = tmp_path / "smoothed_30" / "one.png"
    assert override == f"style.image={quote(target)}"
    smooth = np.array(read_image(target)).astype(int)
    assert np.abs(smooth - pixels).std() < 0.4 * grain.std()
    assert (smooth[:, 257] - smooth[:, 254]).min() > 130
