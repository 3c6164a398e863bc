"""Sets over several style weights; a second run goes on with another set."""

import json
from pathlib import Path

import numpy as np
import pytest

from fst.errors import UserError
from fst.study.search import Workbench
from scripts.rank_layer_sets import Distances, change, distances, main, show


def run(monkeypatch: pytest.MonkeyPatch, photos: Path, *sets: str) -> None:
    command = ["rank", *sets, "--paintings", "woodcut_sea", "--style-weights", "5", "50", "--overrides"]
    small = ["size=32", "steps=2", "loss_network=compact", f"photos={photos}"]
    monkeypatch.setattr("sys.argv", [*command, *small])
    main()


def test_sets_are_compared_with_the_first_and_more_can_be_added(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made: list[str] = []
    make = Workbench.make
    monkeypatch.setattr(Workbench, "make", lambda self, c, *rest: made.append(c.name) or make(self, c, *rest))
    run(monkeypatch, photos, "johnson", "shallow")
    (title, *rows) = capsys.readouterr().out.splitlines()
    assert title == "shallow against johnson: woodcut_sea, mean"
    blocks = [f"block {number}" for number in range(1, 5)]
    assert [row.rsplit(maxsplit=2)[0].strip() for row in rows] == ["style", *blocks, "colors", "content"]
    assert made[:4] == ["johnson 5", "johnson 50", "shallow 5", "shallow 50"]
    made.clear()
    run(monkeypatch, photos, "johnson", "relu2_2", "johnson_code")
    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert titles == [f"{name} against johnson: woodcut_sea, mean" for name in ("relu2_2", "johnson_code")]
    assert made[:4] == ["relu2_2 5", "relu2_2 50", "johnson_code 5", "johnson_code 50"], "the others are done"
    assert Path("outputs/rank/woodcut_sea/woodcut_sea.html").is_file()


def test_a_set_whose_trial_was_stopped_can_be_left_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make = Workbench.make

    def stops_at_shallow(workbench, candidate, *rest):
        if candidate.name == "shallow 50":
            raise KeyboardInterrupt
        return make(workbench, candidate, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "make", stops_at_shallow)
        with pytest.raises(KeyboardInterrupt):
            run(patch, photos, "johnson", "shallow")
    run(monkeypatch, photos, "johnson", "relu2_2")
    trials = json.loads(Path("outputs/rank/woodcut_sea/woodcut_sea.json").read_text())["trials"]
    names = [trial["candidate"]["name"] for trial in trials]
    assert names == ["johnson 5", "johnson 50", "shallow 5", "relu2_2 5", "relu2_2 50"], "the sampler chose none"


def test_curves_are_compared_where_both_have_points() -> None:
    one = np.array([[4.0, 1.0], [2.0, 2.0], [1.0, 4.0]])
    assert change(one, one * [0.5, 1]) == pytest.approx(-0.5)
    assert change(one[:, ::-1], one[:2, ::-1] * [0.5, 1]) == pytest.approx(-0.5), "the third is out of reach"
    assert np.isnan(change(one, one * [100, 100]))


def curve(factor: float, *colors: float) -> list[Distances]:
    points = zip([4.0, 2.0], [1.0, 2.0], colors or (1.0, 1.0), strict=True)
    return [{"style": factor * style, "colors": color, "content": factor * content} for style, content, color in points]


def test_a_painting_where_curves_do_not_meet_is_left_out_of_the_mean() -> None:
    other = [point | {"content": content} for point, content in zip(curve(0.5, 2.0, 2.0), [1.0, 2.0], strict=True)]
    curves = {"a": {"one": curve(1), "other": other}, "b": {"one": curve(1), "other": curve(10)}}
    style, colors, content = "  style -50.0% — -50.0%", "  colors +100.0% — +100.0%", "  content -50.0% — -50.0%"
    assert show("other", "one", curves).splitlines() == ["other against one: a, b, mean", style, colors, content]


def test_a_set_whose_trials_all_failed_has_no_figures() -> None:
    for curves in ({"one": curve(1), "other": []}, {"one": [], "other": curve(1)}):
        assert show("other", "one", {"a": curves}).splitlines()[1:] == ["  style — —", "  colors — —", "  content — —"]
    assert show("other", "one", {"a": {"one": [], "other": []}}).splitlines()[1:] == ["  style — —", "  content — —"]


def test_distances_are_the_means_of_the_blocks() -> None:
    layers = {"relu1_1": 1.0, "relu1_2": 2.0, "relu3_3": 4.0}
    scores = {"style": 3.0, "content": 0.5, "color": 0.25, "grid": 0.0, "style_layers": layers}
    wanted = {"style": 3.0, "block 1": 1.5, "block 3": 4.0, "colors": 0.25, "content": 0.5}
    assert distances(scores) == wanted


def test_a_set_that_the_loss_network_lacks_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="novak_all: compact lacks a layer of it; leave it out"):
        run(monkeypatch, photos, "johnson", "novak_all")
