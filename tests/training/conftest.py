"""What all trainings of the tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


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
