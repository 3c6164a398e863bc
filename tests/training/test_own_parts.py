"""Training with parts of one's own, those of tests/example, without a change to fst."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fst.cli import main
from fst.hydra_app import configure
from fst.inference.stylizer import Stylizer
from fst.schemas import TRAIN
from fst.style_file import load_style
from fst.style_info import StyleFileError, read_info
from tests.conftest import make_picture
from tests.example.data import Photos
from tests.example.network import Tint
from tests.mistakes import run

OWN_NETWORK = ["model=custom", "model._target_=tests.example.network.Tint", "+model.width=6", "+model.strength=0.5"]
OWN_DATA = ["data=custom", "data._target_=tests.example.data.Photos", "data.batch_size=2"]


@pytest.fixture
def small(painting: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    trainer = ["accelerator=cpu", "precision=32-true", "max_steps=2", "log_every_n_steps=1"]
    choices = [f"trainer.{choice}" for choice in trainer]
    choices += ["loss_network=compact", "logger=none", "style.size=48", "name=mine"]
    return [f"style.image={painting}", "optimizer=adam", *choices]


def folder(photos: Path) -> list[str]:
    keys = [f"root={photos}", "size=32", "batch_size=2", "workers=0", "val_count=1"]
    return [f"data.{key}" for key in keys]


def test_a_network_of_ones_own(small: list[str], photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *small, "name=my own", *folder(photos), *OWN_NETWORK]) == 0
    (path,) = Path("outputs/my own").glob("*/my own.safetensors")
    info = read_info(path)
    assert info.architecture == "tests.example.network.Tint"
    assert dict(info.arguments) == {"width": 6, "strength": 0.5}
    with pytest.raises(StyleFileError, match=r"Stylizer\(path, network=Tint\), or fst stylize --network MODULE:Tint"):
        load_style(path)
    network, _ = load_style(path, Tint)
    photo = torch.rand(1, 3, 20, 30)
    with torch.no_grad():
        expected = network.layers[0](photo).clamp(0, 1)
    stylizer = Stylizer(path, "cpu", network=Tint)
    assert torch.allclose(stylizer(photo), expected, atol=1e-5)
    assert stylizer(np.asarray(make_picture(40, 30))).shape == (30, 40, 3)
    make_picture(40, 30).save("a.png")
    for command in (["stylize", "a.png", "-s", path], ["export", path, "--to", "onnx"], ["bench", "--networks", path]):
        outcome = run([str(argument) for argument in command])
        assert outcome.faults() == []
        assert "its network is of the class tests.example.network.Tint" in outcome.err
    printed = capsys.readouterr().out
    _, *command = shlex.split(printed.partition("use it:  ")[2].splitlines()[0].replace("PHOTO", "a.png"))
    assert command[-2:] == ["--network", "tests.example.network:Tint"]
    assert main([*command, "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (40, 30)
    for flags, named in {
        "--network nowhere:Net": "--network nowhere:Net: ModuleNotFoundError",
        "--network tests.example.data:Photos": "cannot be made",
        "--network builtins:dict": "dict makes a dict; a network is a torch.nn.Module",
    }.items():
        outcome = run(["stylize", "a.png", "-s", "my own", "-o", "c.png", *flags.split()])
        assert outcome.faults() == []
        assert named in outcome.err or named.split(" makes")[-1] in outcome.err


def test_a_network_of_ones_own_starts_from_a_trained_one(small: list[str], photos: Path) -> None:
    command = ["train", *small, *folder(photos), *OWN_NETWORK]
    assert main(command) == 0
    assert main([*command, "name=more", "init_from=mine", "optimizer.algorithm.lr=1e-12"]) == 0
    paths = [next(Path("outputs", name).glob("*/*.safetensors")) for name in ("mine", "more")]
    first, second = (load_style(path, Tint)[0].state_dict() for path in paths)
    assert all(torch.allclose(first[key], second[key]) for key in first), "at such a rate nothing has changed"
    assert read_info(paths[1]).init_from == "mine"
    outcome = run([*command, "init_from=udnie"])
    assert outcome.faults() == []
    assert "init_from=udnie: " in outcome.err


def test_a_network_of_ones_own_is_checked_before_the_training(small: list[str], photos: Path) -> None:
    can_be = "it can be a class or function as MODULE.NAME; PYTHONPATH=. adds this folder"
    for choices, named in {
        ("model=custom",): f"model._target_=null: {can_be}",
        (
            "model=custom",
            "model._target_=nowhere.Net",
        ): f"model._target_=nowhere.Net: {can_be} (ModuleNotFoundError: ",
        (
            "model=custom",
            "model._target_=tests.example.network:Tint",
        ): "model._target_=tests.example.network:Tint: it is written with dots only, as tests.example.network.Tint",
        (
            "model=custom",
            "model._target_=tests.example.network",
        ): "model._target_=tests.example.network: neither a class nor a function",
        (*OWN_NETWORK, "+model.depth=3"): "model.depth=3: no such key of tests.example.network.Tint",
    }.items():
        outcome = run(["train", *small, *folder(photos), *choices])
        assert outcome.faults() == []
        assert named in outcome.err


def test_a_callback_of_ones_own(small: list[str], photos: Path) -> None:
    own = ["+callbacks.bright._target_=tests.example.callback.Brightness", "+callbacks.bright.pictures=1"]
    network = ["model.width=4", "model.blocks=1"]
    assert main(["train", *small, *folder(photos), *network, *own]) == 0
    (path,) = Path("outputs/mine").glob("*/mine.safetensors")
    assert 0 < read_info(path).scores["brightness"] < 1
    outcome = run(["train", *small, *folder(photos), *network, "+callbacks.a._target_=builtins.dict"])
    assert outcome.faults() == []
    assert "callbacks.a: a dict; it can be a pytorch_lightning.Callback" in outcome.err


def test_photos_of_ones_own(small: list[str]) -> None:
    assert main(["train", *small, *OWN_DATA, "model.width=4", "model.blocks=1", "logger=csv"]) == 0
    (path,) = Path("outputs/mine").glob("*/mine.safetensors")
    info = read_info(path)
    assert (info.batch_size, info.steps) == (2, 2)
    assert info.scores["style"] > 0, "validated on them, too"
    head, *rows = (path.parent / "curves/version_0/metrics.csv").read_text().splitlines()
    assert {"train/loss", "val/loss", "val/style/relu2_2"} <= set(head.split(","))
    assert len(rows) >= 2


def test_batches_of_ones_own_need_no_even_shares(small: list[str]) -> None:
    several = [*small, *OWN_DATA, "data.batch_size=3", "trainer.devices=2"]
    assert configure(TRAIN, several).data.batch_size == 3


class Unvalidated(pl.LightningDataModule):
    """The shortest data module: no validation pictures."""

    def __init__(self, batch_size: int = 2) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return Photos(self.batch_size).train_dataloader()


def test_photos_of_ones_own_without_validation(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["data=custom", f"data._target_={__name__}.Unvalidated", "model.width=4", "model.blocks=1"]
    assert main(["train", *small, *own]) == 0
    (path,) = Path("outputs/mine").glob("*/mine.safetensors")
    assert (read_info(path).steps, dict(read_info(path).scores)) == (2, {})
    assert main(["styles"]) == 0
    assert f", 2 steps of 4  {path}" in capsys.readouterr().out, "of no size that is known"


def test_a_loss_term_of_ones_own(small: list[str], photos: Path) -> None:
    own = ["model.width=4", "model.blocks=1", "+loss.terms.edges._target_=tests.example.terms.edges"]
    command = ["train", *small, *folder(photos), *own, "trainer.max_steps=12", "optimizer.algorithm.lr=0.01"]
    scores = {}
    for weight in (0, 1000):
        assert main([*command, f"+loss.terms.edges.weight={weight}", f"name=w{weight}"]) == 0
        (path,) = Path(f"outputs/w{weight}").glob("*/*.safetensors")
        scores[weight] = read_info(path).scores
    assert scores[0]["edges"] > 0, "it has its own curve"
    assert scores[1000]["edges"] < scores[0]["edges"]
    assert scores[1000]["loss"] > 1000 * scores[1000]["edges"]
    for choices, named in {
        ("+loss.terms.edges.weight=1", "+loss.terms.edges.depth=3"): "loss.terms.edges.depth=3: no such key of tests",
        (): "loss.terms.edges.weight is missing",
        ("+loss.terms.edges.weight=1", "+loss.terms.mse={_target_: torch.nn.MSELoss, weight: 1}"): (
            "loss.terms.mse._target_=torch.nn.MSELoss: a class; a loss term is a function"
        ),
        ("+loss.terms.edges.weight=-1",): "loss.terms.edges.weight=-1: it can be",
        ("+loss.terms.edges.weight=1", "+loss.terms.tv={_target_: tests.example.terms.edges, weight: 1}"): (
            "loss.terms: tv is the name of a term of fst; take another"
        ),
    }.items():
        outcome = run([*command, *choices])
        assert outcome.status == 2, outcome.err
        assert named in outcome.err


class Odd(torch.nn.Module):
    """Tied weights, an index, and arguments that are no single numbers."""

    def __init__(self, order: list[int], name: str | None) -> None:
        super().__init__()
        self.first = self.again = torch.nn.Conv2d(3, 3, 1)
        self.register_buffer("order", torch.tensor(order))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.again(self.first(images))[:, self.order]


def test_tied_weights_an_index_and_lists_are_stored(small: list[str], photos: Path) -> None:
    own = ["model=custom", f"model._target_={__name__}.Odd", "+model.order=[2,0,1]", "+model.name=null"]
    command = ["train", *small, *folder(photos), *own]
    assert main(command) == 0
    (path,) = Path("outputs/mine").glob("*/mine.safetensors")
    assert dict(read_info(path).arguments) == {"order": [2, 0, 1], "name": None}
    network = load_style(path, Odd)[0]
    assert network.state_dict()["layers.0.order"].dtype == torch.int64
    assert network(torch.rand(1, 3, 20, 30)).shape == (1, 3, 20, 30)
    assert main([*command, "name=more", "init_from=mine"]) == 0


class Few(pl.LightningDataModule):
    """Fewer photos than a batch."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader([torch.zeros(32, 32, 3, dtype=torch.uint8)] * 3, self.batch_size, drop_last=True)


def test_photos_without_a_batch_make_no_style(small: list[str]) -> None:
    own = ["data=custom", f"data._target_={__name__}.Few", "model.width=4", "model.blocks=1"]
    outcome = run(["train", *small, *own, "data.batch_size=4"])
    assert outcome.status == 2
    assert "data: there is no batch to train on" in outcome.err
    assert not list(Path("outputs").rglob("*.safetensors"))
    outcome = run(["train", *small, *own, "data.batch_size=2", "experiment=small"])
    assert "data.size=192: no such key of" in outcome.err
    assert "~data.size leaves it out" in outcome.err
    assert main(["train", *small, *own, "data.batch_size=2", "experiment=small", "~data.size", "init_from=null"]) == 0


class Keeper(pl.Callback):
    """Its state cannot be read without running code."""

    def state_dict(self) -> dict[str, Path]:
        return {"folder": Path("here")}


def test_a_callback_whose_state_cannot_be_resumed_is_refused(small: list[str], photos: Path) -> None:
    outcome = run(["train", *small, *folder(photos), f"+callbacks.keeper._target_={__name__}.Keeper"])
    assert outcome.status == 2
    assert "callbacks.keeper: state_dict() can hold tensors and plain values only" in outcome.err
