"""Going on with a training, stopping it at any moment, and what may fail without losing it; tiny networks."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.data import DataLoader

from fst.checkpoints import new_folder
from fst.cli import main as cli
from fst.commands.train import main
from fst.errors import RunError, UserError
from fst.networks.transform import TransformNetwork
from fst.style_file import load_style
from fst.style_info import StyleInfo
from fst.training import callbacks
from fst.training.module import StyleTransferModule
from tests.conftest import TINY, make_picture


@pytest.fixture
def tiny(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a training of a second, in a folder of its own with pictures that a test may change."""
    return prepare(tmp_path, photos, painting, monkeypatch)


def prepare(folder: Path, photos: Path, painting: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(folder)
    shutil.copytree(photos, "photos")
    shutil.copy(painting, "painting.png")
    return ["style.image=painting.png", "data.root=photos", *TINY, "data.val_count=3"]


@pytest.fixture(scope="module")
def finished(photos: Path, painting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of `tiny`, to copy."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        main(prepare(folder, photos, painting, patch))
    return folder


@pytest.fixture
def trained(finished: Path, tiny: list[str]) -> list[str]:
    """As `tiny`, after the run."""
    shutil.copytree(finished / "outputs", "outputs")
    return tiny


def style_file() -> Path:
    (path,) = Path("outputs/painting").glob("*/*.safetensors")
    return path


def info() -> StyleInfo:
    return load_style(style_file())[1]


def checkpoint() -> Path:
    (path,) = Path("outputs/painting").glob("*/checkpoints/last.ckpt")
    return path


def with_another_photo() -> None:
    make_picture(64, 64).save("photos/new.jpg")


def with_another_painting() -> None:
    make_picture(70, 50, seed=7).save("painting.png")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            ["layers=deep", "seed=3", "data.batch_size=1", "loss.weights.style=2"],
            ["seed was 0, is 3", "layers.content.relu", "; and "],
        ),
        (["optimizer=adam"], ["optimizer.algorithm._target_ was pytorch_optimizer.SOAP, is torch.optim.Adam"]),
        (["data.val_count=1"], ["data.val_count was 3, is 1"]),
        (["model.width=8"], ["model.width was 4, is 8"]),
        (["+trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches was not set, is 2"]),
        (with_another_photo, ["data.root was 11 pictures (", "), is 12 pictures ("]),
        (with_another_painting, ["style.image was painting.png (", "), is painting.png ("]),
    ],
)
def test_other_settings_are_refused_and_the_style_file_is_left_alone(
    change: list[str] | Callable[[], None], named: list[str], trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before, more = style_file().read_bytes(), ["ckpt_path=last", "trainer.max_steps=4"]
    if callable(change):
        change()
        change = []
    capsys.readouterr()
    assert cli(["train", *trained, *more, *change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"fst: ckpt_path=outputs/painting/\S+/checkpoints/last.ckpt: made with other settings: ", line)
    assert all(text in line for text in named), line
    assert "init_from=STYLE" in line
    assert style_file().read_bytes() == before


def test_what_does_not_change_the_result_may_change_and_the_file_tells_it(trained: list[str]) -> None:
    Path("photos").rename("elsewhere")
    more = ["ckpt_path=last", "trainer.max_steps=3", "data.root=elsewhere", "logger=none", "data.workers=1"]
    main([*trained, *more, "checkpoint_every=1", "val_every=1", "trainer.log_every_n_steps=7"])
    assert [(run.style, run.steps, run.max_steps) for run in info().history] == [("painting", 2, 2), ("painting", 3, 3)]
    assert info().versions == info().history[-1].versions != {}


def test_the_style_that_it_started_from_is_not_needed_any_more(tiny: list[str], style_file: Path) -> None:
    start = Path(shutil.copy(style_file, "start.safetensors"))
    main([*tiny, f"init_from={start}"])
    start.unlink()
    main([*tiny, f"init_from={start}", "ckpt_path=last", "trainer.max_steps=3"])
    assert info().init_from == "start"
    assert [(run.style, run.steps) for run in info().history] == [("tiny", 0), ("painting", 2), ("painting", 3)]


def test_a_finished_run_trains_nothing_says_so_and_writes_the_same_file(
    trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before, saved = style_file().read_bytes(), checkpoint().stat().st_mtime_ns
    capsys.readouterr()
    main([*trained, "ckpt_path=last"])
    assert re.search(r"nothing left to train: \S+last.ckpt has had 2 of 2 steps", capsys.readouterr().out)
    assert style_file().read_bytes() == before
    assert checkpoint().stat().st_mtime_ns == saved


def test_the_last_checkpoint_damaged_the_one_before_is_gone_on_from(tiny: list[str]) -> None:
    main([*tiny, "trainer.max_steps=4", "checkpoint_every=2"])
    before = style_file().read_bytes()
    checkpoint().write_bytes(checkpoint().read_bytes()[:1000])
    main([*tiny, "trainer.max_steps=4", "checkpoint_every=2", "ckpt_path=last"])
    assert style_file().read_bytes() == before
    checkpoint().write_bytes(b"")
    checkpoint().with_name("previous.ckpt").unlink()
    with pytest.raises(UserError, match=r"last.ckpt: not a checkpoint, or damaged \(it is empty\)"):
        main([*tiny, "trainer.max_steps=4", "ckpt_path=last"])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_rate_of_nan_saves_nothing_that_is_nan(steps: int, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """SOAP only looks at its first step: the weights are NaN after the second, and no loss has seen them."""
    kept = "the last good checkpoint is .*last.ckpt" if steps == 1 else "nothing saved yet"
    monkeypatch.setattr("fst.training.module.learning_rate_factor", lambda *_: float("nan"))  # lr=nan is refused
    with pytest.raises(RunError, match=rf"the loss or the weights became NaN or infinite by step 2; {kept}"):
        main([*tiny, f"checkpoint_every={steps}", "trainer.max_steps=2"])
    assert not list(Path("outputs").rglob("*.safetensors"))


def test_runs_of_one_name_and_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder("outputs", "mine"), range(24)))
    assert len(set(folders)) == 24
    assert all(Path("outputs", folder).is_dir() for folder in folders)
    assert any(re.fullmatch(r"mine/[\d_-]+_2", folder) for folder in folders)


def signal_at(monkeypatch: pytest.MonkeyPatch, validations: int, number: signal.Signals) -> None:
    """A signal during that batch of the validations, counted over all of them."""
    step, seen = StyleTransferModule.validation_step, 0

    def validation_step(*arguments: object) -> object:
        nonlocal seen
        seen += 1
        if seen == validations:
            os.kill(os.getpid(), number)
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StyleTransferModule, "validation_step", validation_step)


VALIDATED = ["trainer.max_steps=3", "val_every=2", "data.batch_size=1", "data.val_root=photos"]


@pytest.fixture(scope="module")
def straight(
    photos: Path, painting: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TransformNetwork, StyleInfo]:
    """What an uninterrupted run makes."""
    with pytest.MonkeyPatch.context() as patch:
        main([*prepare(tmp_path_factory.mktemp("straight"), photos, painting, patch), *VALIDATED])
        return load_style(style_file())


@pytest.mark.parametrize(
    ("number", "batch", "step"),
    [(signal.SIGTERM, 1, 0), (signal.SIGINT, 4, 2), (signal.SIGTERM, 6, 2), (signal.SIGTERM, 9, 3)],
)
def test_a_signal_in_any_validation_saves_and_says_how_to_go_on(
    number: signal.Signals,
    batch: int,
    step: int,
    straight: tuple[TransformNetwork, StyleInfo],
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before the first step, in the middle, after the last; also in the last of its batches."""
    tiny += VALIDATED
    signal_at(monkeypatch, batch, number)
    assert cli(["train", *tiny]) == 128 + number
    printed = capsys.readouterr().out
    assert f"stopped by {number.name} at step {step}; " in printed
    assert ("ckpt_path=last" in printed) == (step > 0)
    if step:
        main([*tiny, "ckpt_path=last"])
        network, known = load_style(style_file())
        assert known.scores == straight[1].scores
        assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in straight[0].state_dict().items())


def points(name: str) -> list[tuple[int, float]]:
    (run,) = Path("outputs/painting").iterdir()
    return [(event.step, event.value) for event in EventAccumulator(str(run)).Reload().Scalars(name)]


def test_gathered_gradients_are_one_step_everywhere(tiny: list[str]) -> None:
    tiny += ["+trainer.accumulate_grad_batches=2", "loss.weights.tv=0", "loss.weights.range=0", "loss.weights.grid=0"]
    tiny += ["checkpoint_every=1", "val_every=2"]
    main([*tiny, "trainer.max_steps=4"])
    loss, content, style = (points(f"train/{name}") for name in ("loss", "content", "style"))
    assert [step for step, _ in loss] == sorted({step for step, _ in points("lr-SOAP")}) == [0, 1, 2, 3]
    assert sorted(path.stem for path in Path("outputs").rglob("*.png")) == ["step_000000", "step_000002", "step_000004"]
    weight = info().loss["weights"]
    for (_, whole), (_, a), (_, b) in zip(loss, content, style, strict=True):
        assert whole == pytest.approx(weight["content"] * a + weight["style"] * b, rel=1e-4)


def fail(kind: int) -> Callable[..., None]:
    def write(*_: object, **__: object) -> None:
        raise OSError(kind, os.strerror(kind))

    return write


def test_curves_and_strips_that_cannot_be_written_stop_nothing(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RecordWriter, "write", fail(errno.ENOSPC))

    def no_strip(image: object, path: Path) -> None:
        raise RunError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(callbacks, "write_image", no_strip)
    assert cli(["train", *tiny, "val_every=1"]) == 0
    printed = "".join(capfd.readouterr())
    assert printed.count("the curves cannot be written any more; the training continues") == 1
    assert printed.count("sample images cannot be written; the training continues") == 1
    assert "Traceback" not in printed
    assert info().steps == 2


@pytest.mark.parametrize("writes", [2, 3])
def test_a_disk_that_fills_ends_in_one_line_with_the_last_good_checkpoint(
    writes: int, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the second checkpoint on, or for the style file alone."""
    save, saved, limits = callbacks.save_checkpoint, 0, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_while_there_is_room(path: Path, state: dict) -> None:
        nonlocal saved
        saved += 1
        if saved == 2 and writes == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        save(path, state)
        if saved == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))

    monkeypatch.setattr(callbacks, "save_checkpoint", save_while_there_is_room)
    try:
        assert cli(["train", *tiny, "checkpoint_every=1", "logger=none"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("fst: "))
    what = "last.ckpt" if writes == 2 else "painting.safetensors"
    assert re.search(rf"{what}: cannot be written: File too large, [\d.]+ MiB needed, [\d.]+ MiB free", line)
    main([*tiny, "ckpt_path=last"])
    assert info().steps == 2
    assert torch.load(checkpoint(), weights_only=True)["global_step"] == 2


def test_without_validation_there_is_a_style_without_scores(tiny: list[str]) -> None:
    main([*tiny, "+trainer.limit_val_batches=0"])
    assert (info().steps, info().scores) == (2, {})


class PlainData(pl.LightningDataModule):
    """Somebody's own: no more than Lightning asks for."""

    def __init__(self, batch_size: int = 2) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8, generator=generator), self.batch_size)

    val_dataloader = train_dataloader


def test_a_data_module_of_ones_own_works(tiny: list[str]) -> None:
    Path("mine/data").mkdir(parents=True)
    Path("mine/data/plain.yaml").write_text(f"_target_: {__name__}.PlainData\nbatch_size: 2\n")
    tiny = [override for override in tiny if not override.startswith("data.")]
    tiny = ["--config-dir", "mine", "data=plain", *tiny]
    main(tiny)
    assert (info().steps, info().batch_size, info().image_size) == (2, 2, 0)
    main([*tiny, "trainer.max_steps=3", "ckpt_path=last"])
    assert info().steps == 3


def test_a_last_validation_that_fails_leaves_the_style(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = StyleTransferModule.validation_step

    def validation_step(module: StyleTransferModule, *arguments: object) -> object:
        if module.global_step == 2:
            raise RuntimeError("no such luck")
        return step(module, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StyleTransferModule, "validation_step", validation_step)
    with pytest.raises(RunError, match=r"trained, and \S+painting.safetensors is written, but .* no such luck"):
        main(tiny)
    assert info().steps == 2


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second filesystem known")
def test_killed_trainings_go_on_to_the_same_weights(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "check_resume.py"
    command = [sys.executable, str(script), "--kills", "2", "--folder", str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert printed.returncode == 0, printed.stdout + printed.stderr
    assert "2 of 2 ended with the same weights; 0 files left in TMPDIR" in printed.stdout
