"""`fst train` from the command line to the style file, with tiny networks."""

import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fst.commands.train import main
from fst.errors import RunError, UserError
from fst.hydra_app import configure
from fst.motion import Motion
from fst.pictures import ImageError
from fst.schemas import TRAIN
from fst.style_file import load_style
from fst.style_info import read_info
from fst.training import module, train
from fst.training.callbacks import GracefulStop
from fst.training.data import folder
from tests.training.data.test_shards import pack
from tests.training.runs import SGD, only_run, style_files


@pytest.mark.parametrize(
    "choices",
    [
        "data=folder layers=gatys loss=gatys logger=none optimizer=johnson",
        "data=synthetic layers=conv3_1 loss=johnson model=realtime optimizer=adam trainer=ddp",
        "data=webdataset layers=shallow loss_network=compact model=small trainer=sweep",
        "experiment=quickstart",
        "experiment=paper",
    ],
)
def test_choices_of_every_group_run_two_steps(choices: str, small: list[str], photos: Path) -> None:
    """All of them are composed and checked in tests/test_hydra_app.py."""
    if "data=webdataset" in choices:
        pytest.importorskip("webdataset")
        small = [f"data.urls='{pack(photos, Path('shards'))}'", *small]
    if re.search("data=webdataset|data=synthetic|quickstart", choices):
        small = [override for override in small if not override.startswith("data.root")]
    main([*choices.split(), *small])
    (path,) = style_files()
    _, info = load_style(path)
    assert (info.name, info.steps, info.batch_size, info.image_size) == ("painting", 2, 2, 32)
    assert info.scores["style"] > 0
    assert Path("outputs") in path.parents


def test_a_run_writes_curves_strips_checkpoint_and_style(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*small, "trainer.max_steps=4", "val_every=2"])
    run = only_run()
    assert {path.name for path in (run / "samples").iterdir()} == {f"step_{n:06d}.png" for n in (0, 2, 4)}
    kept = {path.name: torch.load(path, weights_only=True) for path in (run / "checkpoints").iterdir()}
    assert {name: state["global_step"] for name, state in kept.items()} == {"last.ckpt": 4, "previous.ckpt": 2}
    events = EventAccumulator(str(run)).Reload()
    scalars = set(events.Tags()["scalars"])
    layers = {"content/relu2_2", "style/relu1_2", "style/relu2_2", "style/relu3_3", "style/relu4_3"}
    for name in {"loss", "content", "style", "tv", "range"} | layers:
        assert f"train/{name}" in scalars
        assert f"val/{name}" in scalars
    assert "train/pictures_per_second" in scalars
    assert any(name.startswith("lr-") for name in scalars)
    assert events.Tags()["images"] == ["val/stylized"]
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
    printed = capsys.readouterr().out
    assert f"fst stylize PHOTO -s {run / 'painting.safetensors'}" in printed


def test_the_loss_network_is_in_no_checkpoint_and_nothing_needs_pickle(small: list[str]) -> None:
    main(small)
    checkpoint = torch.load(only_run() / "checkpoints/last.ckpt", weights_only=True)
    assert all(name.startswith("network.") for name in checkpoint["state_dict"])


def test_going_on_from_a_path_and_with_more_steps(small: list[str]) -> None:
    main(small)
    path = only_run() / "checkpoints/last.ckpt"
    main([*small, f"ckpt_path={path}", "trainer.max_steps=3"])
    assert load_style(only_run() / "painting.safetensors")[1].steps == 3


@pytest.mark.parametrize("damage", ["cut", "foreign", "other optimizer"])
def test_a_checkpoint_that_cannot_be_used_is_one_clear_line(damage: str, small: list[str]) -> None:
    main(small)
    path = only_run() / "checkpoints/last.ckpt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        torch.save({"state_dict": {}}, path)
    else:
        state = torch.load(path, weights_only=True)
        state.pop("fst")  # an older fst wrote it
        torch.save(state, path)
        small += ["optimizer=adam"]
    with pytest.raises(UserError, match=r"ckpt_path=.*last\.ckpt: not a checkpoint"):
        main([*small, "ckpt_path=last", "trainer.max_steps=4"])


def test_divergence_stops_with_advice_and_keeps_the_last_good_checkpoint(small: list[str]) -> None:
    small += ["checkpoint_every=1", "trainer.max_steps=50", "optimizer=johnson", "trainer.log_every_n_steps=5"]
    main([*small, "trainer.max_steps=2"])
    path = only_run() / "checkpoints/last.ckpt"
    good = torch.load(path, weights_only=True)
    good["optimizer_states"][0]["param_groups"][0]["lr"] = float("nan")
    good["lr_schedulers"][0]["base_lrs"] = [float("nan")]
    torch.save(good, path)
    with pytest.raises(
        RunError, match=r"NaN or infinite.*last good checkpoint is .*last\.ckpt.*optimizer\.algorithm\.lr"
    ):
        main([*small, "ckpt_path=last"])
    kept = torch.load(path, weights_only=True)
    assert kept["global_step"] <= 3
    assert style_files()[0].stat().st_mtime <= path.stat().st_mtime


def test_a_loss_that_is_nan_from_the_first_step_is_one_line(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fst.perceptual.range_excess", lambda images: images.mean() * float("nan"))
    with pytest.raises(RunError, match="the loss or the weights became NaN or infinite by step 0; nothing saved yet"):
        main(small)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=nowhere"], "data.root=nowhere: no such folder"),
        (["style.image=nowhere.png"], "nowhere.png: no such file"),
        (["ckpt_path=last"], "no run of 'painting'"),
    ],
)
def test_mistakes_are_one_line_and_status_two(
    overrides: list[str], message: str, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from fst.cli import main as cli

    assert cli(["train", *small, *overrides]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert message in lines[0]
    assert not style_files()


def test_missing_values_are_named(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from fst.cli import main as cli

    for key in ("style.image", "data.root"):
        assert cli(["train", *(override for override in small if not override.startswith(key))]) == 2
        assert key in capsys.readouterr().err


def test_a_run_starts_from_another_style_of_the_same_network(small: list[str]) -> None:
    main([*small, "name=v1.5"])
    trained = load_file(style_files()[0])
    still = ["optimizer.algorithm.lr=1e-30", "name=second"]
    main([*small, *still, "init_from=v1.5"])
    path = next(path for path in style_files() if path.stem == "second")
    info = load_style(path)[1]
    assert info.init_from == "v1.5"
    assert "init_from" not in info.arguments
    assert all(torch.equal(tensor, trained[name]) for name, tensor in load_file(path).items())
    with pytest.raises(UserError, match=r"another network, johnson with .*; choose the model that it has"):
        main([*small, "init_from=v1.5", "model.width=8"])
    with pytest.raises(UserError, match="no style 'nobody'"):
        main([*small, "init_from=nobody"])


def test_a_light_network_imitates_another_before_the_loss_looks(small: list[str]) -> None:
    main(small)
    (teacher,) = style_files()
    taught = ["model=realtime", f"teacher.style={teacher}", "name=light", "trainer.max_steps=20", "data.batch_size=4"]
    taught += ["optimizer=adam", "optimizer.algorithm.lr=0.01"]
    main([*small, *taught, "teacher.imitation_ratio=0.9"])
    path = next(path for path in style_files() if path.stem == "light")
    assert load_style(path)[1].teacher == "painting"
    events = EventAccumulator(str(path.parent)).Reload()
    assert [event.step for event in events.Scalars("train/style")] == [18, 19]
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses[17] < 0.8 * losses[0]
    checkpoint = torch.load(path.parent / "checkpoints/last.ckpt", weights_only=True)
    assert all(name.startswith("network.") for name in checkpoint["state_dict"])
    with pytest.raises(UserError, match="no style 'nobody'"):
        main([*small, "teacher.style=nobody"])


@pytest.mark.parametrize("experiment", ["small", "realtime"])
def test_a_light_network_starts_from_the_bundled_one(small: list[str], experiment: str) -> None:
    smaller = [override for override in small if not override.startswith(("init_from", "model."))]
    main([*smaller, f"experiment={experiment}"])
    (path,) = style_files()
    info = read_info(path)
    assert info.init_from == f"the_scream_{experiment}"
    assert info.teacher == ""
    assert info.loss["weights"]["temporal"] > 0


def test_the_rate_grows_with_the_root_of_the_batch(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {}

    def note(config: DictConfig, folder: Path) -> train.Trained:
        network = train.build_module(config, torch.rand(1, 3, 48, 48))
        optimizer = network._make_optimizer(network.parameters())
        rates[config.name] = optimizer.param_groups[0]["lr"]
        return train.Trained(folder, {})

    monkeypatch.setattr(train, "train", note)
    for optimizer in ("adam", "johnson"):
        for batch in (4, 16):
            choices = [f"optimizer={optimizer}", "optimizer.algorithm.lr=1e-4", f"data.batch_size={batch}"]
            main([*small, *choices, f"name={optimizer}_{batch}"])
    expected = {"adam_4": 1e-4, "adam_16": 2e-4, "johnson_4": 1e-4, "johnson_16": 1e-4}
    assert rates == pytest.approx(expected)


def test_a_compiled_run_learns_the_same_and_writes_the_same_file(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch.compile captures, backward pass and all; the code it makes of that takes minutes and a compiler."""
    asked = []

    def capture(module: nn.Module, **options: object) -> None:
        asked.append(options)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", capture)
    main([*small, *SGD, "name=plain"])
    assert not asked
    main([*small, *SGD, "name=compiled", "compile=true"])
    assert asked == 2 * [{"dynamic": False}]  # sizes that vary would be captured in a form that cannot be compiled
    compiled, plain = (load_file(path) for path in style_files())
    assert compiled.keys() == plain.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=5e-4)


def test_what_goes_wrong_in_a_worker_is_one_clear_line(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    here, read_image = os.getpid(), folder.read_image

    def gone(path: Path, **options: Any) -> Image.Image:
        if os.getpid() != here:
            raise ImageError(f"{path}: no such file")
        return read_image(path, **options)

    monkeypatch.setattr(folder, "read_image", gone)
    with pytest.raises(UserError, match=r"^none of the pictures can be read any more \(data.root\)$"):
        main([*small, "data.workers=1"])


def test_training_from_a_notebook_or_script(small: list[str]) -> None:
    """As `conf/README.md` shows it."""
    config = configure(TRAIN, [*small, "name=mine"])
    path, scores = train.train(config, Path("results/mine"))
    assert path == Path("results/mine/mine.safetensors")
    assert {f"val/{name}": score for name, score in read_info(path).scores.items()} == scores
    assert scores["val/loss"] > 0
    assert list(Path("results/mine").glob("events.out*")), "curves lie there, too"
    assert not Path("outputs").exists()
    with pytest.raises(UserError, match=r"seed=-1: it can be a whole number from 0"):
        configure(TRAIN, [*small, "seed=-1"])


def test_ones_own_layer_set_is_one_file(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/layers/edges.yaml").write_text("content: {relu1_1: 1.0}\nstyle: {conv1_2: 1.0, relu2_1: 0.5}\n")
    main(["--config-dir", "mine", "layers=edges", *small])
    info = load_style(style_files()[0])[1]
    assert info.layers == {"content": {"relu1_1": 1.0}, "style": {"conv1_2": 1.0, "relu2_1": 0.5}}
    assert {name for name in info.scores if "/" in name} == {"content/relu1_1", "style/conv1_2", "style/relu2_1"}


def weights_of(style: Path) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in load_file(style).values()])


def test_the_temporal_term_is_trained_and_depends_on_the_seed_alone(small: list[str]) -> None:
    for name in ("one", "same"):
        main([*small, f"name={name}", "loss.weights.temporal=500"])
    one, same = (load_style(path) for path in style_files())
    assert one[1].scores["temporal"] > 0
    assert one[1].scores == same[1].scores
    assert one[1].loss["weights"]["temporal"] == 500
    main([*small, "name=without"])
    assert not torch.equal(weights_of(style_files()[2]), weights_of(style_files()[0]))


def test_batches_of_one_step_move_differently(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, random_motion = [], module.random_motion

    def note(count: int, height: int, width: int, generator: torch.Generator, *places: Any) -> Motion:
        seeds.append(generator.initial_seed())
        return random_motion(count, height, width, generator, *places)

    monkeypatch.setattr(module, "random_motion", note)
    main([*small, "loss.weights.temporal=1", "+trainer.accumulate_grad_batches=2", "trainer.max_steps=2"])
    assert sorted(seeds) == [0, 0, 1, 2, 3, 4]  # the first and the last are of validations


def test_a_style_counts_all_pictures_of_its_steps(small: list[str]) -> None:
    main([*small, "data.batch_size=2", "+trainer.accumulate_grad_batches=3"])
    assert read_info(style_files()[0]).batch_size == 6


def test_the_last_checkpoint_is_written_after_the_network_has_left_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step Lightning moves the network to the CPU; the losses were on the GPU."""
    checked: list[Tensor] = []
    monkeypatch.setattr(GracefulStop, "_require_finite", lambda self, trainer, finite: checked.append(finite))
    stop = GracefulStop(tmp_path / "last.ckpt", Mock(), save_every=1, validate_every=1, check_every=1)
    with FakeTensorMode():  # a GPU without a GPU: shapes and devices, but no values
        losses = {"loss": torch.empty((), device="cuda")}
        stop.on_train_batch_end(Mock(global_step=0), Mock(), losses, torch.empty(0), 0)
        stop.on_save_checkpoint(Mock(), Mock(), {"state_dict": {"weight": torch.empty(2)}})
    assert checked[0].device.type == "cpu"
