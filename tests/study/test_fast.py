"""Cells of a study that train a network: small crops, the full network, a few steps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

import fst
from fst.commands.compare import _plan, main
from fst.errors import RunError
from fst.hydra_app import compose_config, composing
from fst.images import read_tensor, to_pil
from fst.inference.stylizer import Stylizer
from fst.overrides import read_arguments
from fst.study import fast
from fst.study.cells import COMPARE, cells_of, compose_cell
from fst.style_info import read_info

STUDY = Path("outputs/compare/fast_sets")
FAST = "{name: fast, layers: shallow, method: fast, style_weight: 7}"
SLOW = "{name: slow, layers: shallow, style_weight: 7}"


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pictures = [f"content={photos / '00.jpg'}", f"style.image={painting}", "size=48", "style.size=48", "steps=1"]
    return ["study=fast_sets", *pictures, "train_steps=2", "weights.vgg19=random", "device=cpu", f"photos={photos}"]


def cells() -> list[dict]:
    return json.loads((STUDY / "fast_sets.json").read_text())["cells"]


def style() -> Path:
    (path,) = STUDY.glob("styles/*/shallow.safetensors")
    return path


def test_a_network_is_trained_once_with_the_loss_of_its_slow_peer(small: list[str], photos: Path) -> None:
    main([f"study.cells=[{SLOW}, {FAST}]", *small])
    slow, fast = cells()
    info = read_info(style())
    assert (info.steps, info.image_size, info.style_size) == (2, 24, 48)
    assert info.layers == {term: slow["config"]["layers"][term] for term in ("content", "style")}
    assert info.loss["weights"]["style"] == 7
    assert info.loss_network["architecture"] == slow["config"]["loss_network"]["architecture"] == "vgg19"
    painted = Image.open(Path(fast["folder"], fast["picture"]))
    expected = Stylizer(style(), "cpu")(read_tensor(photos / "00.jpg", 48))
    assert max(high for _, high in ImageChops.difference(painted, to_pil(expected)).getextrema()) <= 1
    assert fast["terms"]["loss"] > 0
    assert fast["seconds"] > 1
    page = (STUDY / "fast_sets.html").read_text()
    assert "2 steps of training" in page
    assert page.count("trained in") == page.count("optimised in") == 1

    written = style().stat().st_mtime_ns
    main([f"study.cells=[{SLOW}, {FAST}]", *small, f"content={photos / 'nested/01.jpg'}"])
    assert style().stat().st_mtime_ns == written, "another photo needs no other network"
    assert cells()[1]["terms"] != fast["terms"]


def test_it_trains_with_the_pooling_of_its_slow_peer(small: list[str]) -> None:
    Path("mine/loss_network").mkdir(parents=True)
    Path("mine/layers").mkdir()
    Path("mine/loss_network/soft.yaml").write_text("architecture: vgg19\nweights: random\npooling: average\n")
    Path("mine/layers/own.yaml").write_text(
        "defaults: [override /loss_network@_global_.loss_network: soft]\ncontent: {relu1_2: 1}\nstyle: {relu2_2: 1}\n"
    )
    options = read_arguments(
        COMPARE, ["--config-dir=mine", "study.cells=[{name: a, layers: own, method: fast}]", *small]
    )
    with composing(COMPARE):
        config = compose_config(COMPARE, options.overrides)
        slow, training = compose_cell(config, cells_of(config)[0])
    assert training is not None
    assert slow.loss_network == training.loss_network
    assert slow.loss_network.pooling == "average"


def test_a_style_that_is_being_written_is_not_taken_for_a_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".a.0123.fst-tmp.safetensors").touch()
    monkeypatch.setattr(fast, "_launch", lambda *_: (tmp_path / "a.safetensors").touch())
    assert fast.train([], tmp_path).name == "a.safetensors"


def test_every_network_of_the_study_has_a_slow_peer(photos: Path) -> None:
    command = ["study=fast_sets", f"content={photos / '00.jpg'}", "style.image=pointillism"]  # and none needs photos
    _, cells = _plan(read_arguments(COMPARE, command))
    assert len({folder for folder, _ in cells.values()}) == len(cells)
    pairs = {method: [(c.layers, c.network) for c in cells if c.method == method] for method in ("slow", "fast")}
    assert pairs["slow"] == pairs["fast"]


def test_a_training_that_fails_spoils_no_other_cell(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("damaged").mkdir()
    Path("damaged/a.jpg").write_text("no picture")
    with pytest.raises(RunError, match="1 of 2 cells failed; fast: none of the validation pictures"):
        main([f"study.cells=[{FAST}, {SLOW}]", *small, "photos=damaged"])
    assert "1 of 2 cells done" in capsys.readouterr().out
    assert re.fullmatch(r"none of the validation pictures.*train\.log\)", cells()[0]["failed"])


def test_an_interrupted_training_goes_on_from_its_checkpoint(small: list[str]) -> None:
    command = [f"study.cells=[{FAST}]", *small, "train_steps=33"]
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "fst.cli", "compare", *command], env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while not (found := list(STUDY.glob("styles/*/checkpoints/last.ckpt"))):
        assert process.poll() is None, "ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    run = found[0].parents[1]
    assert 25 <= torch.load(found[0], weights_only=True)["global_step"] < 33
    assert not list(run.glob("*.safetensors"))
    before = run / "samples" / "step_000000.png"  # what a fresh training draws first
    before.unlink()
    main(command)
    assert not before.exists()
    assert read_info(style()).steps == 33
    assert "failed" not in cells()[0]
