"""Runs and sweeps that a signal stops, and how they go on."""

import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fst.commands.train import main
from fst.errors import UserError
from fst.signals import Interrupted
from fst.style_file import load_style
from fst.training.data import folder as training_data
from tests.training.runs import start, style_files, wait_for_checkpoint


def terminate_in_step_five(monkeypatch: pytest.MonkeyPatch) -> None:
    read = training_data.read_image
    reads = 0

    def read_and_signal(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        if reads == 12:  # in the fifth or sixth step
            os.kill(os.getpid(), signal.SIGTERM)
        return read(*arguments, **options)

    monkeypatch.setattr(training_data, "read_image", read_and_signal)


def test_a_stopped_and_resumed_run_equals_the_uninterrupted(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small += ["trainer.max_steps=9", "val_every=4", "model.norm=instance"]
    main([*small, "name=straight"])
    terminate_in_step_five(monkeypatch)
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


def test_a_stopped_run_in_a_folder_of_ones_own_says_how_to_go_on(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminate_in_step_five(monkeypatch)
    with pytest.raises(Interrupted):
        main([*small, "trainer.max_steps=9", "hydra.run.dir='my = run'"])
    command = re.search(r"continue with: fst train (.*)", capsys.readouterr().out)
    assert command
    again = [*small, "trainer.max_steps=9", "hydra.run.dir='my = run'"]
    with pytest.raises(UserError, match=r"hydra\.run\.dir=my = run: it holds another run; name another folder"):
        main(again)
    main(shlex.split(command[1]))
    assert load_style(Path("my = run/painting.safetensors"))[1].steps == 9
    shutil.rmtree("my = run/checkpoints")
    with pytest.raises(UserError, match="it holds another run"):
        main(again)
    assert not Path("outputs").exists()


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


def test_a_stopped_sweep_says_how_to_go_on_with_ones_own_layers(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/layers/own.yaml").write_text("content: {relu1_2: 1}\nstyle: {relu1_2: 1}\nsource: mine\n")
    process = start(
        [
            "-m",
            "--config-dir",
            "mine",
            "layers=own",
            *small,
            "checkpoint_every=1",
            "trainer.max_steps=1000000",
            "seed=0,1",
        ]
    )
    wait_for_checkpoint(process, "painting")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    command = re.search(r"stopped by SIGINT at step \d+; continue with: fst train (.*/last\.ckpt.*)", printed)
    assert command, errors
    assert process.returncode == 128 + signal.SIGINT
    assert printed.count("continue with") == 1, "the second does not begin"
    main([*shlex.split(command[1]), "trainer.max_steps=1"])  # it has had more
    assert [path.stem for path in style_files()] == ["painting"]
