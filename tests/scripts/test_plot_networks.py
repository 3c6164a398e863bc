import json
import sys
from pathlib import Path

import pytest

from scripts import plot_networks as script


def test_what_was_measured_both_ways_is_in_the_table_and_the_plot(
    style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    layers = dict.fromkeys((*script.STYLE_LAYERS, script.CONTENT_LAYER), 0.5)
    (tmp_path / "evaluation.json").write_text(json.dumps([{"name": "tiny", "style": layers, "content": layers}]))
    row = {"network": str(style_file), "size": "100x50", "median_ms": 2.0, "ratio": 3.0}
    rows = [{**row, "backend": backend} for backend in (script.PLAIN, "torch")]
    (tmp_path / "bench.json").write_text(json.dumps({"rows": rows}))
    paths = [str(tmp_path / name) for name in ("evaluation.json", "bench.json")]
    monkeypatch.setattr(sys, "argv", ["plot", *paths, "--plot", str(tmp_path / "plot.png")])
    script.main()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny"))
    assert "| torch |" in line
    assert line.endswith("| 2.0 | 3.0× | 0.500 | 0.50 |")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_cost_is_counted_without_the_frame_that_is_cut_off(style_file: Path) -> None:
    parameters, flop = script.cost(style_file)
    assert parameters > 1000
    # Width 4: 9×9×3×4 products at the first layer and 9×9×4×3 at the last are two thirds of a pixel's.
    assert 2 * 2 * 972 < flop < 1.6 * 2 * 2 * 972
