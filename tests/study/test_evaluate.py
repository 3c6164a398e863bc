"""`fst evaluate` with a style of one step and a judge with random weights."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fst.cli import main as fst
from fst.commands.train import main as train
from fst.errors import RunError, UserError
from fst.images import read_tensor, to_tensor
from fst.networks.vgg import LossNetwork
from fst.perceptual import LossWeights, PerceptualLoss
from fst.study.evaluate import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    Evaluation,
    evaluate_all,
    format_results,
    similarity,
    slow_curve,
)
from fst.style_info import find_style
from tests.conftest import TINY, make_picture


@pytest.fixture
def style(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A style of two steps, named otherwise than its painting."""
    monkeypatch.chdir(tmp_path)
    train([f"style.image={painting}", f"data.root={photos}", *TINY, "name=mine", "loss_network=vgg19", "logger=none"])
    return "mine"


def test_every_layer_is_measured_and_the_slow_method_overtakes(
    style: str, photos: Path, painting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--photos", str(photos), "--style-images", str(painting.parent), "--weights", "random", "--size", "40"]
    assert (
        fst(["evaluate", style, *options, "--count", "2", "--iterations", "200", "--device", "cpu", "-o", "out"]) == 0
    )
    (result,) = json.loads(Path("out/evaluation.json").read_text())
    assert len(result["content"]) == len(result["style"]) == 16
    assert all(value > 0 for value in [*result["content"].values(), *result["style"].values()])
    curve, goal, iteration = result["curve"], result["objective"]["network"], result["iteration"]
    assert curve[0] == pytest.approx(result["objective"]["photos"], rel=0.02)
    assert curve[iteration] <= goal
    assert all(value > goal for value in curve[:iteration])
    assert result["seconds"] > 0
    with Image.open("out/evaluation.png") as plot:
        assert plot.width > plot.height > 200
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| mine"))
    assert row.endswith(f"| {iteration} |")


def test_the_slow_curve_ends_where_it_reaches_the_goal(photos: Path, painting: Path) -> None:
    content, style_image = (read_tensor(path) for path in (photos / "00.jpg", painting))
    network = LossNetwork("vgg16", ["relu1_2", "relu2_2"], "random")
    loss = PerceptualLoss(network, style_image, {"relu2_2": 1.0}, {"relu1_2": 1.0}, LossWeights(style=50.0))
    start = slow_curve(loss, [content], goal=0.0, iterations=1)[0]
    curve = slow_curve(loss, [content], goal=start / 2, iterations=100)
    assert 1 < len(curve) < 100
    assert curve[-1] <= start / 2 < curve[-2]
    assert slow_curve(loss, [content], goal=0.0, iterations=0) == []


@pytest.mark.parametrize(("curve", "said"), [([5.0, 4.0, 3.0], "> 2"), ([], "–")])
def test_a_goal_that_was_not_reached_is_said_as_far_as_it_was_measured(curve: list[float], said: str) -> None:
    layers = dict.fromkeys([*STYLE_LAYERS, CONTENT_LAYER], 1.0)
    numbers = (layers, layers, 0.1, 0.5, 1.0, 0.1, 100.0, {"network": 1.0, "photos": 5.0}, curve, None)
    assert format_results([Evaluation("mine", *numbers, "vgg19", {}, {})]).endswith(f"| {said} |")


def test_a_picture_is_wholly_similar_to_itself_and_less_to_others() -> None:
    one, other = (to_tensor(make_picture(64, 48, seed)) for seed in (1, 2))
    assert similarity(one, one) == pytest.approx(1, abs=1e-4)
    assert similarity(one, other) < 0.9
    assert similarity(one, (one + 0.02 * torch.randn_like(one)).clamp(0, 1)) > similarity(one, other)


def test_what_is_missing_is_one_line(
    style: str, style_file: Path, photos: Path, painting: Path, tmp_path: Path
) -> None:
    folder = painting.parent
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"mine: name the folder of its style image: --style-images FOLDER"):
        evaluate_all([style], photos, None, "random", tmp_path)
    with pytest.raises(UserError, match=r"mine: no picture named painting in .* \(--style-images\)"):
        evaluate_all([style], photos, photos, "random", tmp_path)
    with pytest.raises(UserError, match=r"--photos .*empty: no pictures in it or below it"):
        evaluate_all([style], tmp_path / "empty", folder, "random", tmp_path)
    with pytest.raises(UserError, match="size is 8; the least is 16"):
        evaluate_all([style], photos, folder, "random", tmp_path, size=8)
    with pytest.raises(UserError, match="--video: two of the clips have the same name; rename one"):
        evaluate_all([style], photos, folder, "random", tmp_path, clips=[Path("a/clip"), Path("b/clip.mp4")])
    (tmp_path / "tiny.png").write_bytes(painting.read_bytes())
    with pytest.raises(UserError, match="tiny: its file does not tell the layers and loss"):
        evaluate_all([str(style_file)], photos, tmp_path, "random", tmp_path, size=32)


def test_a_damaged_or_narrow_photo_is_left_out_and_named(
    style: str,
    photos: Path,
    painting: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    measured: list[list[Tensor]] = []

    def measure(_: str, pictures: list[Tensor], *__: object) -> Evaluation:
        measured.append(pictures)
        return Evaluation(style, {}, {}, 0.1, 0.5, 1.0, 0.1, 100.0, {}, [], None, "vgg19", {}, {})

    monkeypatch.setattr("fst.study.evaluate.evaluate", measure)
    monkeypatch.setattr("fst.study.evaluate.LossNetwork", lambda *_: None)
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "0.jpg").write_bytes((photos / "00.jpg").read_bytes()[:400])
    make_picture(90, 10).save(folder / "1.png")
    with pytest.raises(UserError, match=r"--photos .*some: none of its pictures can be stylized"):
        evaluate_all([style], folder, painting.parent, "random", tmp_path, size=32)
    caplog.clear()
    for number in (2, 3, 4):
        make_picture(40, 30, number).save(folder / f"{number}.png")
    evaluate_all([style], folder, painting.parent, "random", tmp_path, size=32, count=2, iterations=0)
    assert [picture.shape for picture in measured[0]] == [(1, 3, 24, 32)] * 2
    damaged, narrow = caplog.messages
    assert damaged.startswith(f"left out: {folder / '0.jpg'}: ")
    assert narrow == f"left out: {folder / '1.png'}: a 32×4 picture is too small to stylize: at least 16×16"


def test_a_clip_that_cannot_be_measured_is_found_first(
    style: str, photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(clip: Path) -> None:
        evaluate_all([style], photos, painting.parent, "random", tmp_path, size=32, clips=[clip])

    monkeypatch.setattr("fst.study.evaluate.LossNetwork", lambda *_: pytest.fail("too late"))
    with monkeypatch.context() as without_opencv:
        without_opencv.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match="optical flow needs OpenCV"):
            measure(photos)
    pytest.importorskip("cv2")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "frame.png").write_bytes(painting.read_bytes())
    with pytest.raises(UserError, match="--video: one has less than two frames; name another clip"):
        measure(tmp_path / "one")
    Image.open(painting).resize((40, 90)).save(tmp_path / "one" / "narrow.png")
    with pytest.raises(UserError, match="--video: the frames of one are not all of one size; name another clip"):
        measure(tmp_path / "one")


def test_photos_that_are_too_small_for_steadiness_are_found_before_the_slow_method(
    style: str, photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fst.study.evaluate.slow_curve", lambda *_: pytest.fail("too late"))
    with pytest.raises(UserError, match="too small to measure steadiness on; take a larger size"):
        evaluate_all([style], photos, painting.parent, "random", tmp_path, size=32, with_steadiness=True)


def test_the_figures_of_a_style_are_kept_if_the_next_one_fails(
    style: str, photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(one: str, *_: object) -> Evaluation:
        if one != style:
            raise RunError("not enough memory")
        return Evaluation(style, {}, {}, 0.1, 0.5, 1.0, 0.1, 100.0, {}, [], None, "vgg19", {}, {})

    monkeypatch.setattr("fst.study.evaluate.evaluate", measure)
    with pytest.raises(RunError, match="not enough memory"):
        evaluate_all([style, str(find_style(style))], photos, painting.parent, "random", tmp_path / "out", size=32)
    (result,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["name"] == style
