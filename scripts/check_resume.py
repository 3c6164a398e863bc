"""Kills trainings at random moments, resumes them, and compares the weights with those of an uninterrupted training.

    python scripts/check_resume.py --kills 50

Every second kill happens while a checkpoint is being written, with TMPDIR on another file system than the outputs.
The trainings are tiny and forked from this process, so that each takes seconds. The status is 1 if any weight
differs. Linux only.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fst.checkpoints import FOLDER, checkpoint_of, load_checkpoint
from fst.commands.train import main as train
from fst.errors import UserError, run_script
from fst.resources import resource_folder

STEPS = 12
TINY = [
    f"style.image={resource_folder('checkpoints') / 'pictures' / 'woodcut_sea.jpg'}",
    *("style.size=48", "loss_network.weights=random", "model.width=4", "model.blocks=1"),
    *("data=synthetic", "data.size=32", "data.batch_size=1", "data.workers=0", "data.val_count=2"),
    *("trainer.accelerator=cpu", f"trainer.max_steps={STEPS}", "checkpoint_every=1", "val_every=4"),
]


def start(name: str, *more: str) -> int:
    """Start a training in a process of its own; returns its process id."""
    if process := os.fork():
        return process
    with open(f"{name}.log", "ab") as log:  # noqa: PTH123
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    status = 1
    try:
        train([*TINY, f"name={name}", *more])
        status = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(status)


def has_ended(process: int) -> bool:
    return os.waitpid(process, os.WNOHANG)[0] != 0


def kill(process: int, name: str, aimed: bool, seconds: float, rng: random.Random) -> bool:
    """Kill the process while it writes a checkpoint (`aimed`) or within `seconds`; returns whether it still ran."""
    writes, deadline, was_there = rng.randrange(1, STEPS), time.monotonic() + rng.uniform(0, seconds), False
    while not has_ended(process):
        if aimed:
            there = any(Path("outputs", name).glob(f"*/{FOLDER}/.*"))
            writes -= there and not was_there
            was_there = there
            due = writes == 0
        else:
            due = time.monotonic() > deadline
        if due:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.0002)
    return False


def weights(name: str) -> dict[str, Tensor]:
    (path,) = Path("outputs", name).glob("*/*.safetensors")
    return load_file(path)


def state_of(name: str) -> str:
    """What a killed training left: the step of its checkpoint, or what is wrong with it."""
    checkpoints = [found for run in Path("outputs", name).glob("*") if (found := checkpoint_of(run))]
    if not checkpoints:
        return "no checkpoint"
    try:
        return f"step {load_checkpoint(checkpoints[0])['global_step']}"
    except UserError as error:
        return str(error)


def check(name: str, aimed: bool, seconds: float, rng: random.Random, expected: dict[str, Tensor]) -> bool:
    """Kill one training, resume it, and return whether its weights are the expected ones."""
    while not kill(start(name), name, aimed, seconds, rng):  # it was faster
        shutil.rmtree(Path("outputs", name))
    left = state_of(name)
    again = ["ckpt_path=last"] if left != "no checkpoint" else []
    if not again:
        shutil.rmtree(Path("outputs", name), ignore_errors=True)
    _, status = os.waitpid(start(name, *again), 0)
    found = weights(name) if status == 0 else {}
    same = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    where, what = "while writing" if aimed else "anywhere", "the same" if same else "DIFFERENT"
    print(f"{name}: killed {where}, {left}: {what}", flush=True)
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many; default 50")
    parser.add_argument("--folder", type=Path, help="for the runs; default: a temporary one, removed at the end")
    parser.add_argument("--tmpdir", type=Path, default="/dev/shm", help="on another filesystem; default /dev/shm")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        tempfile.TemporaryDirectory(dir=arguments.tmpdir) as elsewhere,
    ):
        if Path(folder).stat().st_dev == Path(elsewhere).stat().st_dev:
            print(f"{folder} and {elsewhere} are on one file system: choose another --tmpdir")
        os.environ["TMPDIR"], tempfile.tempdir = elsewhere, None
        os.chdir(folder)
        torch.set_num_threads(1)
        begin = time.monotonic()
        os.waitpid(start("straight"), 0)
        seconds = time.monotonic() - begin
        expected, rng = weights("straight"), random.Random(arguments.seed)
        results = [check(f"kill_{n}", n % 2 == 0, seconds, rng, expected) for n in range(arguments.kills)]
        left = len(list(Path(elsewhere).iterdir()))
    print(f"{sum(results)} of {len(results)} ended with the same weights; {left} files left in TMPDIR")
    return 0 if all(results) else 1


if __name__ == "__main__":
    run_script(main)
