import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fst.cli import main
from fst.errors import UserError
from fst.hydra_app import configure
from fst.overrides import quote
from fst.pictures import read_image, write_image
from fst.schemas import TRAIN
from fst.study import fast
from fst.style_file import load_style, save_style
from fst.style_info import read_info
from scripts import train_gallery
from tests.conftest import TINY, make_picture

STEPS = {"one": [[], ["loss.weights.style=2"], train_gallery.Mean(1, 0.5)], "two": [[]]}


def test_a_gallery_trains_what_is_missing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_gallery, "STYLES", STEPS)
    monkeypatch.setattr(fast, "_launch", lambda arguments, log: main(arguments))  # here, which saves its start
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


@pytest.mark.parametrize("names", [["painting"], ["udnie", "udn"]])
def test_a_painting_that_is_missing_or_not_the_only_one_is_named(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        write_image(make_picture(64, 48), tmp_path / f"{name}.jpg")
    folders = ["--paintings", str(tmp_path), "--photos", "photos", "--val", "photos"]
    monkeypatch.setattr(sys, "argv", ["train_gallery", str(tmp_path / "styles"), *folders, "--only", "udnie"])
    with pytest.raises(UserError, match=r"[02] pictures whose name udnie begins with"):
        train_gallery.main()


@pytest.mark.parametrize("name", train_gallery.STYLES)
def test_every_training_composes(name: str, photos: Path, painting: Path) -> None:
    files = [f"style.image={painting}", f"data.root={photos}", "loss_network.weights=random"]
    start: list[str] = []
    for number, step in enumerate(train_gallery.STYLES[name], 1):
        if isinstance(step, train_gallery.Mean):
            assert 0 < step.step < number - 1
            assert 0 < abs(step.share) < 1
            continue
        configure(TRAIN, [*train_gallery.with_experiment(step), *files, *start])
        start = [f"init_from=bundled:{name}"]


@pytest.mark.parametrize(("share", "added"), [(0.25, 0.75), (-0.5, 1.5)])
def test_a_mean_lies_between_two_trainings_or_beyond(
    share: float, added: float, style_file: Path, tmp_path: Path
) -> None:
    network, info = load_style(style_file)
    for weight in network.parameters():
        weight.add_(1)
    save_style(tmp_path / "later.safetensors", network, info)
    mixed = load_file(train_gallery.mean(tmp_path / "later.safetensors", style_file, share, tmp_path / "mean"))
    for key, tensor in load_file(style_file).items():
        torch.testing.assert_close(mixed[key], tensor + added)


def test_smoothing_takes_the_grain_and_keeps_the_edges(tmp_path: Path) -> None:
    pixels = np.full((64, 512, 3), 60, np.uint8)
    pixels[:, 256:] = 200
    grain = np.random.default_rng(0).integers(-5, 6, pixels.shape)
    write_image(Image.fromarray((pixels + grain).astype(np.uint8)), tmp_path / "one.png")
    override = train_gallery.with_copy(tmp_path / "one.png", tmp_path, f"{train_gallery.SMOOTHED}30")
    target = tmp_path / "smoothed_30" / "one.png"
    assert override == f"style.image={quote(target)}"
    smooth = np.array(read_image(target)).astype(int)
    assert np.abs(smooth - pixels).std() < 0.4 * grain.std()
    assert (smooth[:, 257] - smooth[:, 254]).min() > 130


def test_a_cropped_painting_loses_its_right(tmp_path: Path) -> None:
    write_image(make_picture(64, 48), tmp_path / "one.png")
    override = train_gallery.with_copy(tmp_path / "one.png", tmp_path, f"{train_gallery.CROPPED}10")
    target = tmp_path / "cropped_10" / "one.png"
    assert override == f"style.image={quote(target)}"
    assert np.array_equal(read_image(target), np.array(make_picture(64, 48))[:, :54])
    assert train_gallery.with_copy(tmp_path / "one.png", tmp_path, "seed=1") == "seed=1"
