import json
from pathlib import Path

import pytest
import torch

from fst.cli import main as fst
from fst.study.bench import PLAIN, _Case, bench


def test_every_row_is_there_and_the_unit_is_the_plain_network(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "bench.json"
    command = ["bench", "--networks", "realtime,johnson", "--backends", "torch", "--sizes", "33x17"]
    assert fst([*command, "--rounds", "1", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    cells = [(row["network"], row["backend"], row["size"]) for row in rows]
    assert cells == [("johnson", PLAIN, "33x17"), ("realtime", "torch", "33x17"), ("johnson", "torch", "33x17")]
    for row in rows:
        assert row["fps"] == pytest.approx(1000 / row["median_ms"])
        assert row["psnr"] is None or row["psnr"] > 40  # null if equal
        assert row["peak_mib"] > 100
    unit = rows[0]["median_ms"]
    assert [row["ratio"] for row in rows] == pytest.approx([unit / row["median_ms"] for row in rows])
    assert rows[0]["psnr"] is None or rows[0]["psnr"] > 70  # the same network without the fast forms of its layers
    assert "machine" in json.loads(path.read_text())
    assert "33x17" in capsys.readouterr().out


def test_a_style_can_be_measured(style_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    command = ["bench", "--networks", str(style_file), "--backends", "torch", "--sizes", "32x32", "--rounds", "1"]
    assert fst([*command, "--json", str(path)]) == 0
    assert json.loads(path.read_text())["rows"][1]["network"] == str(style_file)


def test_on_a_gpu_no_picture_begins_before_the_last_is_done(style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr("fst.study.bench.pick_device", torch.device)
    monkeypatch.setattr("fst.study.bench._MOMENT", 1e-9)
    monkeypatch.setattr("torch.accelerator.synchronize", lambda device: happened.append("waited"))
    case = _Case("tiny", style_file, "torch", 32, 32, "cuda")
    case.seconds(lambda: happened.append("begun") or torch.empty(0))
    assert happened == 2 * ["begun", "waited"]


def test_what_json_has_no_number_for_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"network": "a", "psnr": float("inf"), "fps": 3.0}
    monkeypatch.setattr("fst.study.bench.bench", lambda *_: {"machine": "this", "rows": [row]})
    monkeypatch.setattr("fst.study.bench.format_rows", str)
    assert fst(["bench", "--sizes", "32x32", "--json", str(tmp_path / "bench.json")]) == 0
    text = (tmp_path / "bench.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["rows"] == [{"network": "a", "psnr": None, "fps": 3.0}]


def test_only_backends_of_the_device_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("fst.study.bench.installed_backends", lambda: ["torch", "compile", "openvino", "onnxruntime"])
    monkeypatch.setattr("fst.study.bench.pick_device", torch.device)
    monkeypatch.setattr("fst.study.bench._machine", lambda device: {})
    monkeypatch.setattr(
        "fst.study.bench._measure", lambda cases, *_: asked.extend(case.backend for case in cases) or []
    )
    for device, expected in (("cuda", [PLAIN, "torch"]), ("cpu", [PLAIN, "torch", "openvino", "onnxruntime"])):
        asked.clear()
        bench(["realtime"], None, [(32, 32)], 1, device)
        assert asked == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "monet"], "no network or style 'monet'"),
        (["--backends", "abacus"], "no backend 'abacus'; installed are"),
        (["--sizes", "12x"], "sizes are WIDTHxHEIGHT"),
        (["--sizes", "8x8"], "sizes are WIDTHxHEIGHT"),
        (["--rounds", "0"], "rounds is 0"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert fst(["bench", "--sizes", "32x32", *arguments]) == 2
    assert message in capsys.readouterr().err
