"""What all trainings of the tests share."""

from pathlib import Path

import pytest

from tests.conftest import TINY


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides that make any configuration run in a second, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return [f"style.image={painting}", f"data.root={photos}", *TINY]
