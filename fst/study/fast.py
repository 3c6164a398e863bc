"""A fast cell of a study: a network that `fst train` trains in a process of its own, and the picture it paints."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from fst.checkpoints import checkpoint_of
from fst.errors import RunError
from fst.hydra_app import quote
from fst.images import read_tensor, to_pil, write_image
from fst.inference.stylizer import Stylizer
from fst.signals import StopRequest
from fst.training.module import build_loss, read_style_image

_LOG = "train.log"


def train(overrides: Sequence[str], folder: Path) -> Path:
    """`fst train` with all it writes in `folder`: once, and where it was stopped it goes on.

    Returns:
        The style file's path.

    Raises:
        RunError: it failed; the line it failed with.
        KeyboardInterrupt: stopped by a signal, after its checkpoint was written.
    """
    if not (styles := sorted(folder.glob("*.safetensors"))):
        checkpoint = checkpoint_of(folder)
        again = [f"ckpt_path={quote(checkpoint)}"] if checkpoint else []
        _run(["train", *overrides, f"hydra.run.dir={quote(folder)}", *again], folder / _LOG)
        styles = sorted(folder.glob("*.safetensors"))
    return styles[0]


def _run(arguments: Sequence[str], log: Path) -> None:
    """`fst`, with all it says in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fst.cli", *arguments]
    # In a session of its own Ctrl-C does not reach it twice: a second signal would end it before it has saved.
    with (
        StopRequest() as request,
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True) as process,
    ):
        while process.poll() is None:
            time.sleep(0.1)
            if request.signal:
                process.send_signal(request.signal)
                process.wait()
    if request.signal:
        raise KeyboardInterrupt
    if process.returncode:
        last = log.read_text(errors="replace").splitlines()[-1:]
        raise RunError(f"{''.join(last).removeprefix('fst: ') or 'fst train failed'} ({log})")


@torch.no_grad()
def paint(style: Path, config: DictConfig, picture: Path) -> dict[str, float]:
    """Stylize the photo of `config` into `picture`.

    Returns:
        The terms of its loss, as of the slow method.
    """
    stylizer = Stylizer(style, config.device)
    content = read_tensor(Path(config.content), config.size).to(stylizer.device)
    painted = stylizer(content).clamp(0, 1)
    write_image(to_pil(painted.cpu()), picture)
    loss = build_loss(config, read_style_image(config)).to(stylizer.device)
    return {name: float(term) for name, term in loss(painted, loss.content_targets(content)).items()}
