from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fst.inference.web import site
from scripts import draw_sample as script


def test_the_page_has_the_picture_that_the_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["draw", str(tmp_path / "sample.jpg")])
    script.main()
    drawn, kept = (
        np.asarray(Image.open(path), dtype=float)
        for path in (tmp_path / "sample.jpg", Path(site.__file__).with_name("page") / "sample.jpg")
    )
    assert drawn.shape == kept.shape == (640, 960, 3)
    assert np.abs(drawn - kept).mean() < 2
