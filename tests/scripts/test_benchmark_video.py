import json
import sys
from pathlib import Path

import pytest

from scripts import benchmark_video


def test_each_stage_and_the_whole_are_timed(
    tmp_path: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "video.json"
    command = ["benchmark_video.py", str(style_file), "--size", "64x48", "--frames", "10", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    benchmark_video.main()
    result = json.loads(out.read_text())
    assert set(result["fps"]) == {"decode", "network", "encode", "whole"}
    assert result["fps"]["whole"] == pytest.approx(1000 / result["milliseconds"]["whole"], rel=0.05)
    assert 0 < result["ratio"] < 3
    assert "frames/s" in capsys.readouterr().out
