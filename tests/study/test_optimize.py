"""`fst optimize` on small pictures and a loss network with random weights."""

import itertools
import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from fst.cli import main as fst
from fst.commands.optimize import main
from fst.errors import UserError
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import layer_table
from fst.perceptual import LossWeights, PerceptualLoss
from fst.resources import resource_folder
from fst.signals import Interrupted
from fst.study import optimize as module
from fst.study.gatys import Optimization, start_picture
from tests.conftest import make_picture


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [
        f"content={photos / '00.jpg'}",
        f"style.image={painting}",
        "size=40",
        "style.size=48",
        "loss_network.weights=random",
        "layers=johnson",
        "steps=3",
        "device=cpu",
        "precision=float32",
    ]


def results() -> list[Path]:
    return sorted(Path("outputs").glob("*/*/*.png"))


def make_run(photos: Path, painting: Path, scale: float = 1.0, **options: str) -> Optimization:
    content, style_image = (read_tensor(path) for path in (photos / "00.jpg", painting))
    network = LossNetwork("vgg16", ["relu1_2", "relu2_2"], "random")
    layers = {"relu1_2": 1.0, "relu2_2": 1.0}
    loss = PerceptualLoss(network, style_image, layers, layers, LossWeights(scale, 10.0 * scale))
    return Optimization(loss, content, start_picture("noise", content, seed=0), **options)


def test_the_objective_falls_at_every_iteration_and_pixels_stay_in_range(photos: Path, painting: Path) -> None:
    run = make_run(photos, painting)
    losses = [step.terms["loss"] for step in itertools.islice(run, 40)]  # without a line search it stops at the 13th
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.01 * losses[0]
    assert 0 <= run.pixels.min() <= run.pixels.max() <= 1
    assert run.measure()["loss"] <= losses[-1]


def test_small_weights_do_not_stop_it(photos: Path, painting: Path) -> None:
    run = make_run(photos, painting, scale=1e-6)
    losses = [step.terms["loss"] for step in itertools.islice(run, 40)]
    assert losses[-1] < 0.1 * losses[0]


def test_no_picture_is_measured_twice(photos: Path, painting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, measure, seen = make_run(photos, painting), PerceptualLoss.forward, []

    def note(loss, stylized, targets):
        seen.append(stylized.detach().clone())
        return measure(loss, stylized, targets)

    monkeypatch.setattr(PerceptualLoss, "forward", note)
    losses = [step.terms["loss"] for step in itertools.islice(run, 12)]
    assert 12 < len(seen) < 20
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))
    fresh = [float(run.loss(picture, run.targets)["loss"]) for picture in list(seen)]
    assert all(min(abs(loss - value) for value in fresh) < 1e-4 * loss for loss in losses)


def test_adam_is_the_other_choice_and_no_third(photos: Path, painting: Path) -> None:
    losses = [step.terms["loss"] for step in itertools.islice(make_run(photos, painting, algorithm="adam"), 12)]
    assert losses[-1] < losses[0]
    with pytest.raises(UserError, match="algorithm is 'sgd'; it can be lbfgs or adam"):
        make_run(photos, painting, algorithm="sgd")


def test_the_same_seed_gives_the_same_picture(small: list[str]) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        main([*small, "init=noise", f"seed={seed}", f"name={name}"])
    a, b, c = (path.read_bytes() for path in results())
    assert a == b
    assert a != c


def test_the_run_writes_picture_curve_and_terms_of_every_layer(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fst(["optimize", *small, "every=2"]) == 0
    (picture,) = results()
    assert capsys.readouterr().out.strip() == str(picture)
    assert max(Image.open(picture).size) == 40
    document = json.loads(picture.with_suffix(".json").read_text())
    assert len(document["curve"]) == 3
    assert list(document["config"]["layers"]["content"]) == ["relu2_2"]
    assert {"content/relu2_2", "style/relu4_3"} < document["terms"].keys()
    assert document["terms"]["loss"] <= document["curve"][-1]["loss"]
    assert [path.name for path in (picture.parent / "samples").iterdir()] == ["00002.png"]


@pytest.mark.parametrize("steps", [2, 5])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted(
    steps: int, small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small += ["steps=4", "levels=2", "size=72", "logger=none"]
    main([*small, "name=straight"])
    measure = PerceptualLoss.forward
    looks = 0

    def measure_and_signal(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        if looks == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PerceptualLoss, "forward", measure_and_signal)
    with pytest.raises(Interrupted):
        main(["--config-dir", ".", *small, "name=broken"])
    printed = capsys.readouterr().out
    assert re.search(r"continue with: fst optimize .* name=broken .*hydra\.searchpath=.* ckpt_path=last", printed)
    assert [path.stem for path in results()] == ["straight"]
    main([*small, "name=broken", "ckpt_path=last"])
    broken, straight = (path.read_bytes() for path in results())
    assert broken == straight
    assert len(list(Path("outputs/broken").iterdir())) == 1


def test_coarser_levels_that_are_done_are_not_done_again_with_more_steps(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    small += ["levels=2", "size=72", "logger=none"]
    main([*small, "steps=2"])
    main([*small, "steps=2", "ckpt_path=last"])
    assert "coarser levels" not in capsys.readouterr().out
    main([*small, "steps=3", "ckpt_path=last"])
    assert "last.ckpt: its coarser levels had 2 iterations in all; they are not done again" in capsys.readouterr().out
    assert len(json.loads(next(Path("outputs").rglob("transfer.json")).read_text())["curve"]) == 5


def test_a_finished_run_goes_on_with_more_steps(small: list[str]) -> None:
    main(small)
    main([*small, "ckpt_path=last", "steps=5"])
    (path,) = results()
    assert len(json.loads(path.with_suffix(".json").read_text())["curve"]) == 5


def test_a_run_in_a_folder_of_ones_own_is_not_overwritten(small: list[str]) -> None:
    small += ["name=mine", "hydra.run.dir=mine"]
    main(small)
    before = Path("mine/mine.png").read_bytes()
    with pytest.raises(UserError, match=r"hydra\.run\.dir=mine: it holds another run; name another folder"):
        main([*small, "seed=1"])
    assert Path("mine/mine.png").read_bytes() == before
    main([*small, "steps=4", "ckpt_path=mine/checkpoints/last.ckpt"])
    assert Path("mine/mine.png").read_bytes() != before


def test_each_task_needs_only_what_it_uses(small: list[str]) -> None:
    main([override for override in small if not override.startswith("style.image")] + ["task=reconstruct"])
    main([override for override in small if not override.startswith("content")] + ["task=texture"])
    reconstruct, texture = (json.loads(path.with_suffix(".json").read_text())["terms"] for path in results())
    assert reconstruct["style"] == 0 < reconstruct["content"]
    assert texture["content"] == 0 < texture["style"]


def test_every_layer_set_is_the_same_for_the_slow_method_as_for_training() -> None:
    conf = resource_folder("conf")
    with initialize_config_dir(str(conf), version_base="1.3"):
        for path in sorted((conf / "layers").glob("*.yaml")):
            slow, fast = (compose(command, [f"layers={path.stem}"]) for command in ("optimize", "train"))
            assert slow.layers == fast.layers
            known = {layer.name for layer in layer_table(slow.loss_network.architecture)}
            assert {*slow.layers.content, *slow.layers.style} <= known
            assert len(path.read_text().splitlines()) < 15
        for layer in ("conv1_1", "relu4_3", "conv5_4"):
            alone = compose("optimize", [f"layers={layer}"]).layers
            assert alone == {"content": {layer: 1.0}, "style": {layer: 1.0}}


def test_any_picture_can_be_the_start(small: list[str], painting: Path) -> None:
    main([*small, "steps=1", f"init={painting}"])
    (picture,) = results()
    assert max(Image.open(picture).size) == 40


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("precision=bf16", "precision=bf16: it can be float32 or auto"),
        ("task=paint", "task=paint: it can be transfer, reconstruct or texture"),
        (
            "content=???",
            "content is missing; it can be a picture file, as in: fst optimize content=PHOTO",
        ),
        ("init=nowhere.png", "nowhere.png: no such file"),
        ("levels=3", "levels=3 begins with .* pixels, fewer than 16 a side; take fewer levels or a larger size"),
        ("content=narrow.png", r"levels=1 begins with .* pixels, fewer than 16 a side; take a larger size$"),
        ("ckpt_path=last", "no run of 'transfer' below outputs has a checkpoint"),
        ("+layers.style.relu9_9=1", "vgg19 has no layer relu9_9"),
    ],
)
def test_a_mistake_is_one_line(override: str, line: str, small: list[str]) -> None:
    make_picture(90, 10).save("narrow.png")
    with pytest.raises(UserError, match=line):
        main([*small, override])


def test_a_run_goes_on_with_its_own_settings_only(
    small: list[str], photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main([*small, "every=1"])
    (before,) = results()
    again = [*small, "ckpt_path=last"]
    for change, named in (
        (["lr=0.5"], r"lr was 0.02, is 0.5"),
        ([f"content={photos / 'nested/01.jpg'}"], r"content was 00.jpg \(\w+\), is 01.jpg \(\w+\)"),
        (
            ["layers=shallow", "loss.weights.style=2"],
            r"loss.weights.style was 15.0, is 2; layers.style.relu3_3 was 1.0, is not set; and 1 more; to change",
        ),
    ):
        with pytest.raises(UserError, match=f"last.ckpt: made with other settings: .*{named}"):
            main([*again, *change])
    main([*again, "steps=4", "every=2", "logger=none"])
    assert results() == [before], "its own folder"
    assert len(json.loads(before.with_suffix(".json").read_text())["curve"]) == 4


def test_a_damaged_checkpoint_is_not_gone_on_from(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*small, "every=1"])
    (picture,) = results()
    before, last = picture.read_bytes(), picture.parent / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    main([*small, "ckpt_path=last"])
    assert "resuming from the previous one" in capsys.readouterr().out
    assert picture.read_bytes() == before
    torch.save({"state_dict": {}}, last)
    with pytest.raises(UserError, match=r"last\.ckpt: not a checkpoint of fst optimize"):
        main([*small, "ckpt_path=last"])


def test_a_checkpoint_that_is_none_is_one_line(small: list[str]) -> None:
    Path("broken.ckpt").write_bytes(b"no")
    with pytest.raises(UserError, match=r"ckpt_path=broken.ckpt: not a checkpoint"):
        main([*small, "ckpt_path=broken.ckpt"])
    assert module.pyramid((64, 64), 2) == [(32, 32), (64, 64)]
