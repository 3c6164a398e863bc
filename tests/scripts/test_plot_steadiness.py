import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fst.style_file import load_style, save_style
from scripts import plot_steadiness as script


def test_each_weight_is_in_the_table_and_the_plot(
    style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    network, info = load_style(style_file)
    layers = dict.fromkeys((*script.STYLE_LAYERS, script.CONTENT_LAYER), 0.5)
    rows = []
    for weight in (200, 0):
        name = f"w{weight}"
        (path := Path("outputs", name, "run")).mkdir(parents=True)
        loss = {"convention": "relative", "reduction": "mean", "weights": {"temporal": weight}}
        save_style(path / f"{name}.safetensors", network, replace(info, name=name, loss=loss))
        steadiness = {"motion": 20.0 - weight / 20, "noise": 1.0}
        rows.append({"name": name, "style": layers, "content": layers, "steadiness": steadiness})
    Path("evaluation.json").write_text(json.dumps([*rows, {**rows[0], "steadiness": {}}]))
    monkeypatch.setattr(sys, "argv", ["plot", "evaluation.json", "--plot", "plot.png"])
    script.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| 0 | 0.500 | 0.50 | 20.0 | 1.00 |",
        "| 200 | 0.500 | 0.50 | 10.0 | 1.00 |",
    ]
    assert Path("plot.png").stat().st_size > 1000
