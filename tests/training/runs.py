"""Runs of `fst train` in processes of their own, and what they leave behind in `outputs/`."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fst

# Where two ways of computing the same are compared: Adam's first steps are signs of gradients, which rounding flips.
SGD = [
    "optimizer=johnson",
    "optimizer.algorithm._target_=torch.optim.SGD",
    "~optimizer.algorithm.betas",
    "optimizer.algorithm.lr=1e-5",
    "trainer.gradient_clip_val=null",
]


def style_files() -> list[Path]:
    return sorted(Path("outputs").glob("*/*/*.safetensors"))


def only_run() -> Path:
    (run,) = Path("outputs", "painting").iterdir()
    return run


def start(overrides: list[str], launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """`fst train` in a process group of its own, as a shell starts it; it can import from the current folder."""
    command = [sys.executable, *launcher, "-m", "fst.cli", "train", *overrides]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(fst.__file__).parents[1]), str(Path.cwd())])}
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


def curve(run: Path, name: str = "train/loss") -> list[float]:
    return [event.value for event in EventAccumulator(str(run)).Reload().Scalars(name)]
