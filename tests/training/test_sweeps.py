"""Several runs by one command, and one run by several processes."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from safetensors.torch import load_file

from fst.commands.train import main
from fst.errors import UserError
from fst.hydra_app import check_jobs
from fst.overrides import read_arguments
from fst.schemas import TRAIN
from fst.style_info import read_info
from fst.training import train
from tests.training.runs import SGD, curve, start, style_files, wait_for_checkpoint


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


def test_ctrl_c_stops_a_sweep_in_several_processes_without_loss(small: list[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    names = "name=one,two,three"
    options = ["checkpoint_every=1", "trainer.max_steps=1000000"]
    process = start(["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *small, *options, names])
    for name in ("one", "two"):
        wait_for_checkpoint(process, name)
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, errors
    steps = [int(step) for step in re.findall(r"stopped by SIGINT at step (\d+); continue with: fst train", printed)]
    saved = [torch.load(path, weights_only=True)["global_step"] for path in Path("outputs").glob("*/*/*/last.ckpt")]
    assert sorted(saved) == sorted(steps)
    assert len(steps) == 2, "the third has not begun"


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


def test_two_processes_see_different_pictures_of_ones_own(small: list[str]) -> None:
    Path("numbered.py").write_text(
        "import pathlib, pytorch_lightning, torch\n"
        "class Numbered(pytorch_lightning.LightningDataModule):\n"
        "    def __init__(self, batch_size):\n"
        "        super().__init__()\n"
        "    def train_dataloader(self):\n"
        "        pictures = [torch.full((32, 32, 3), number, dtype=torch.uint8) for number in range(8)]\n"
        "        return torch.utils.data.DataLoader(pictures, 1, shuffle=True)\n"
        "class Note(pytorch_lightning.Callback):\n"
        "    def on_train_batch_start(self, trainer, module, batch, index):\n"
        "        pathlib.Path('seen', str(int(batch[0, 0, 0, 0]))).touch()\n"
    )
    Path("seen").mkdir()
    small = [override for override in small if not override.startswith("data")]
    own = [
        "data=custom",
        "data._target_=numbered.Numbered",
        "data.batch_size=2",
        "+callbacks.note._target_=numbered.Note",
    ]
    process = start([*small, "trainer=ddp", "trainer.devices=2", "trainer.max_steps=4", *own])
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert len(list(Path("seen").iterdir())) == 8


def test_a_sweep_of_shared_runs_is_only_for_jobs_of_a_cluster(small: list[str]) -> None:
    sweep = ["-m", *small, "seed=0,1", "trainer=ddp", "trainer.devices=2"]
    with pytest.raises(UserError, match="trainer: -m is not for runs on several devices each"):
        main(sweep)
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    check_jobs(TRAIN, read_arguments(TRAIN, [*sweep, "hydra/launcher=submitit_slurm"]))
