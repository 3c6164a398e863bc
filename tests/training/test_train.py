"""`fst train` from the command line to the style file, with tiny networks."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import fst
from fst.errors import RunError, UserError
from fst.hydra_app import configure
from fst.schemas import TRAIN
from fst.signals import Interrupted
from fst.style_file import load_style
from fst.style_info import read_info
from fst.training import train
from fst.training.data import folder as training_data
from fst.training.train import main
from tests.training.data.test_shards import pack

# Where two ways of computing the same are compared: Adam's first steps are signs of gradients, which rounding flips.
SGD = [
    "optimizer=johnson",
    "optimizer.algorithm._target_=torch.optim.SGD",
    "~optimizer.algorithm.betas",
    "optimizer.algorithm.lr=1e-5",
    "trainer.gradient_clip_val=null",
]


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Overrides that make any configuration run in a second, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    yield [
        f"style.image={painting}",
        "style.size=48",
        f"data.root={photos}",
        "data.size=32",
        "data.batch_size=2",
        "data.workers=0",
        "data.val_count=1",
        "loss_network.weights=random",
        "model.width=4",
        "model.blocks=1",
        "init_from=null",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=2",
        "trainer.log_every_n_steps=1",
        "val_every=100",
        "checkpoint_every=100",
    ]
    # trainer=ddp leaves its process group and LOCAL_RANK behind: the next run would wait for others.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)


def style_files() -> list[Path]:
    return sorted(Path("outputs").glob("*/*/*.safetensors"))


def only_run() -> Path:
    (run,) = Path("outputs", "painting").iterdir()
    return run


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


def test_a_stopped_and_resumed_run_equals_the_uninterrupted(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small += ["trainer.max_steps=9", "val_every=4", "model.norm=instance"]
    main([*small, "name=straight"])
    read = training_data.read_image
    reads = 0

    def read_and_signal(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        if reads == 12:  # in the fifth or sixth step
            os.kill(os.getpid(), signal.SIGTERM)
        return read(*arguments, **options)

    monkeypatch.setattr(training_data, "read_image", read_and_signal)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stop:
        main([*small, "name=broken"])
    assert stop.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert "ckpt_path=last" in capsys.readouterr().out
    assert [path.stem for path in style_files()] == ["straight"]
    main([*small, "name=broken", "ckpt_path=last"])
    assert len(list(Path("outputs/broken").iterdir())) == 1, "a resumed run writes to its own folder"
    broken, straight = (load_file(path) for path in style_files())
    for name, tensor in straight.items():
        assert torch.equal(tensor, broken[name]), name


def start(overrides: list[str], launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """`fst train` in a process group of its own, as a shell starts it."""
    command = [sys.executable, *launcher, "-m", "fst.cli", "train", *overrides]
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_checkpoint(process: subprocess.Popen, name: str) -> Path:
    deadline = time.monotonic() + 120
    while not (found := list(Path("outputs").glob(f"{name}/*/checkpoints/last.ckpt"))):
        assert process.poll() is None, "ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found[0]


def test_a_signal_to_the_whole_group_saves_and_says_how_to_go_on(small: list[str]) -> None:
    overrides = [override for override in small if not override.startswith("data.workers")]
    overrides += ["data.workers=1", "checkpoint_every=1", "trainer.max_steps=100000"]
    process = start(overrides)
    wait_for_checkpoint(process, "painting")
    os.killpg(process.pid, signal.SIGINT)  # terminals and job managers signal the workers, too
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, errors
    assert re.search(r"stopped by SIGINT at step \d+; continue with: fst train .* ckpt_path=last", printed)
    assert "Traceback" not in errors
    assert "Error" not in errors


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
    main(small)
    trained = load_file(style_files()[0])
    still = ["optimizer.algorithm.lr=1e-30", "name=second"]
    main([*small, *still, "init_from=painting"])
    path = next(path for path in style_files() if path.stem == "second")
    info = load_style(path)[1]
    assert info.init_from == "painting"
    assert "init_from" not in info.arguments
    assert all(torch.equal(tensor, trained[name]) for name, tensor in load_file(path).items())
    with pytest.raises(UserError, match=r"init_from=painting: .* has another network, johnson with"):
        main([*small, "init_from=painting", "model.width=8"])
    with pytest.raises(UserError, match="no style 'nobody'"):
        main([*small, "init_from=nobody"])


def test_a_light_network_imitates_another_before_the_loss_looks(small: list[str]) -> None:
    main(small)
    taught = ["model=realtime", "teacher.style=painting", "name=light", "trainer.max_steps=20", "data.batch_size=4"]
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


def test_one_command_trains_the_teacher_and_then_the_light_network(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    light = ["experiment=realtime", "teacher.train.model.width=4", "teacher.train.model.blocks=1"]
    light += ["teacher.train.init_from=null", "teacher.train.data.size=32", "teacher.train.trainer.max_steps=3"]
    command = [*small, *light, "loss_network=vgg16", "data.size=48"]
    main(command)
    (path,) = style_files()
    (teacher,) = path.parent.glob("teacher/*.safetensors")
    student, full = read_info(path), read_info(teacher)
    assert student.teacher == full.name == "painting_teacher"
    assert (student.architecture, student.steps, student.image_size) == ("unshuffle", 2, 48)
    assert (full.architecture, full.steps, full.image_size) == ("johnson", 3, 32)
    assert (student.loss["weights"]["style"], full.loss["weights"]["style"]) == (5, 15)
    assert list((path.parent / "teacher").glob("events.out*"))

    weights = load_file(path)
    for file in (path, *path.parent.glob("checkpoints/*")):  # as if it had been killed after the teacher's training
        file.unlink()
    with pytest.raises(UserError, match=r"data.size was 32, is 64"):
        main([*command, "teacher.train.data.size=64", "ckpt_path=last"])
    main([*command, "ckpt_path=last"])
    assert "nothing left to train" in capsys.readouterr().out
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(path).items())


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


@pytest.fixture
def first_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = train._fit

    def fails_once(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(train, "_fit", fit)
        raise UserError("no such luck")

    monkeypatch.setattr(train, "_fit", fails_once)


def test_a_sweep_does_its_other_runs_when_one_fails(small: list[str], first_run_fails: None) -> None:
    with pytest.raises(UserError, match="no such luck"):
        main(["-m", *small, "layers.style.relu1_2=2,1"])
    assert [path.stem for path in style_files()] == ["painting"]


class Given(Callback):
    """Keeps what the runs of a sweep return to Hydra."""

    values: ClassVar[list[float]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: object) -> None:
        if job_return.status is JobStatus.COMPLETED:
            self.values.append(job_return.return_value)


def test_a_sweep_ends_with_one_table_and_gives_the_validation_loss_to_its_sweeper(
    small: list[str], first_run_fails: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="no such luck"):
        main(["-m", *small, "loss.weights.style=1,300,20", f"+hydra.callbacks.given._target_={__name__}.Given"])
    head, *rows = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert head.split() == ["val/loss", "val/content", "val/style", "loss.weights.style", "result"]
    scores = {str(path): read_info(path).scores["loss"] for path in style_files()}
    best, worst, failed = (row.split(maxsplit=4) for row in rows)
    assert [best[3], worst[3], failed[3]] == ["20", "300", "1"]
    assert {best[4]: float(best[0]), worst[4]: float(worst[0])} == pytest.approx(scores, abs=1e-4)
    assert failed == ["-", "-", "-", "1", "failed: no such luck"]
    assert sorted(Given.values) == pytest.approx(sorted(scores.values()))
    assert {path.name for path in Path().iterdir()} == {"outputs"}


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


def test_a_sweep_over_a_folder_of_paintings(small: list[str], painting: Path) -> None:
    Path("paintings").mkdir()
    for name in ("first", "it's (a) second"):
        shutil.copy(painting, f"paintings/{name}.png")
    small = [override for override in small if not override.startswith("style.image")]
    main(["-m", *small, "style.image=glob(paintings/*.png)"])
    assert [path.stem for path in style_files()] == ["first", "it's (a) second"]
    with pytest.raises(UserError, match=r"glob\(none/\*\): no such files"):
        main(["-m", *small, "style.image=glob(none/*)"])


def test_a_sweep_in_several_processes_does_its_other_runs_when_one_fails(small: list[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    Path("damaged").mkdir()
    Path("damaged/a.jpg").write_text("no picture")
    roots = "data.val_root=damaged,null"
    process = start(["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *small, "data.workers=1", roots])
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 2, errors
    assert "none of the validation pictures can be read" in errors
    table = printed.partition("\n\n")[2].splitlines()
    assert len(table) == 3, "what each process noted"
    assert "failed: " in table[-1]
    assert printed.count("use it:") == len(style_files()) == 1


def test_ones_own_layer_set_is_one_file(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/layers/edges.yaml").write_text("content: {relu1_1: 1.0}\nstyle: {conv1_2: 1.0, relu2_1: 0.5}\n")
    main(["--config-dir", "mine", "layers=edges", *small])
    info = load_style(style_files()[0])[1]
    assert info.layers == {"content": {"relu1_1": 1.0}, "style": {"conv1_2": 1.0, "relu2_1": 0.5}}
    assert {name for name in info.scores if "/" in name} == {"content/relu1_1", "style/conv1_2", "style/relu2_1"}


def curve(run: Path, name: str = "train/loss") -> list[float]:
    return [event.value for event in EventAccumulator(str(run)).Reload().Scalars(name)]


def test_two_processes_learn_what_one_does(small: list[str]) -> None:
    """The same global batch, shared out: the same curve, one output folder, and resume goes on from either; started
    by Lightning first, then by torchrun."""
    small += [*SGD, "data.batch_size=4"]
    main([*small, "name=one", "trainer.max_steps=6"])
    ddp = [*small, "name=two", "trainer=ddp", "trainer.devices=2"]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for length, launcher in (["trainer.max_steps=3"], ()), (["trainer.max_steps=6", "ckpt_path=last"], torchrun):
        process = start([*ddp, *length], launcher)
        printed, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert printed.count("use it:") == 1
    (one,), (two,) = (list(Path("outputs", name).iterdir()) for name in ("one", "two"))
    assert {path.name for path in Path().iterdir()} == {"outputs"}
    assert len(curve(two)) == 6
    assert curve(two) == pytest.approx(curve(one), rel=1e-3)
    assert curve(two, "val/style")[-1] == pytest.approx(curve(one, "val/style")[-1], rel=1e-3)
    assert curve(one)[-1] < 0.9 * curve(one)[0]
    first, second = (load_file(path) for path in style_files())
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=5e-4)


def test_the_temporal_term_is_trained_and_depends_on_the_seed_alone(small: list[str]) -> None:
    for name in ("one", "same"):
        main([*small, f"name={name}", "loss.weights.temporal=500"])
    one, same = (load_style(path) for path in style_files())
    assert one[1].scores["temporal"] > 0
    assert one[1].scores == same[1].scores
    assert one[1].loss["weights"]["temporal"] == 500
