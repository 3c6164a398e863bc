"""What all trainings of the tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Overrides that make any configuration run in a second, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    yield [f"style.image={painting}", f"data.root={photos}", *TINY]
    # trainer=ddp leaves its process group and LOCAL_RANK behind: the next run would wait for others.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)
