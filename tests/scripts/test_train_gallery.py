import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fst.hydra_app import configure
from fst.pictures import write_image
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
