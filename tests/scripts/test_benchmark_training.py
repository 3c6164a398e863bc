import json
import sys
from pathlib import Path

import pytest

from scripts import benchmark_training


@pytest.mark.parametrize("network", ["johnson", "realtime"])
def test_gradients_of_each_network_are_measured_by_trained_weights_and_a_picture(
    network: str,
    tmp_path: Path,
    painting: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for slow in ("measure_memory", "measure_peak", "measure_update", "measure_loader"):
        monkeypatch.setattr(benchmark_training, slow, lambda *_: 1.0)
    out = tmp_path / "training.json"
    options = ["--network", network, "--photos", str(photos), "--style", str(painting), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options, "--size", "32", "--batch", "1", "--rounds", "1"])
    benchmark_training.main()
    result = json.loads(out.read_text())
    assert result["network"] == network
    assert result["gradients_by"] == f"compact bundled, {painting}, {photos}"
    assert result["rows"][0]["gradient_cosine"] == pytest.approx(1)
    assert 0.9 < result["gradient_cosine"] <= 1 + 1e-9
    assert f"network {network}, cosines by compact" in capsys.readouterr().out
