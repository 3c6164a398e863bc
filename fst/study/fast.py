"""A fast cell of a study: a network that `fst train` trains in its own process, and the picture that it stylizes."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from omegaconf import DictConfig

from fst.checkpoints import checkpoint_of
from fst.errors import RunError
from fst.images import read_tensor, to_pil
from fst.inference.stylizer import Stylizer
from fst.overrides import quote
from fst.pictures import write_image
from fst.signals import StopRequest
from fst.training.module import build_loss, read_style_image


def train(overrides: Sequence[str], folder: Path, log: Path | None = None) -> Path:
    """Run `fst train` in its own process, with all files in `folder`. A stopped run is resumed, a finished one is not
    run again.

    Args:
        log: file for its output; `None` for the terminal.

    Returns:
        The style file's path.

    Raises:
        RunError: it failed; with the last line of its log.
        KeyboardInterrupt: stopped by a signal, after its checkpoint was written.
    """
    if not (styles := _finished(folder)):
        checkpoint = checkpoint_of(folder)
        resume = [f"ckpt_path={quote(checkpoint)}"] if checkpoint else []
        _launch(["train", *overrides, f"hydra.run.dir={quote(folder)}", *resume], log)
        styles = _finished(folder)
    return styles[0]


def _finished(folder: Path) -> list[Path]:
    """The style files of a folder, without hidden ones, which are being written."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def _launch(arguments: Sequence[str], log: Path | None) -> None:
    """Run `fst` with these arguments."""
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    # In its own session it gets Ctrl-C only once, from here: a second signal would end it before it has saved.
    with (
        StopRequest() as request,
        log.open("wb") if log else nullcontext() as out,
        subprocess.Popen(
            [sys.executable, "-m", "fst.cli", *arguments], stdout=out, stderr=out, start_new_session=True
        ) as process,
    ):
        while process.poll() is None:
            time.sleep(0.1)
            if request.signal:
                process.send_signal(request.signal)
                process.wait()
    if request.signal:
        raise KeyboardInterrupt
    if process.returncode:
        last = log.read_text(errors="replace").splitlines()[-1:] if log else []
        raise RunError(f"{''.join(last).removeprefix('fst: ') or 'fst train failed'} ({log or process.returncode})")


@torch.no_grad()
def stylize(style: Path, config: DictConfig, picture: Path) -> dict[str, float]:
    """Stylize the photo of `config` into `picture`.

    Returns:
        The terms of its loss, as of the slow method.
    """
    stylizer = Stylizer(style, config.device)
    content = read_tensor(Path(config.content), config.size).to(stylizer.device)
    stylized = stylizer(content).clamp(0, 1)
    write_image(to_pil(stylized.cpu()), picture)
    loss = build_loss(config, read_style_image(config)).to(stylizer.device)
    return {name: float(term) for name, term in loss(stylized, loss.content_targets(content)).items()}
