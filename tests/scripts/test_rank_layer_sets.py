"""Sets over several style weights; a second run goes on with another set."""

import json
from pathlib import Path

import numpy as np
import pytest

from fst.errors import UserError
from fst.study.search import Workbench
from scripts.rank_layer_sets import change, main, show


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
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["shallow"]
    assert made[:4] == ["johnson 5", "johnson 50", "shallow 5", "shallow 50"]
    made.clear()
    run(monkeypatch, photos, "johnson", "relu2_2", "johnson_code")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["relu2_2", "johnson_code"]
    assert "woodcut_sea " in lines[0]
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
    assert change(one, one * [0.5, 1], 0) == pytest.approx(-0.5)
    assert change(one, one[:2] * [1, 0.5], 1) == pytest.approx(-0.5), "the third is out of reach"
    assert np.isnan(change(one, one * [100, 100], 0))


def test_a_painting_where_curves_do_not_meet_is_left_out_of_the_mean() -> None:
    curves = {
        "a": {"one": [[4.0, 1.0], [2.0, 2.0]], "other": [[2.0, 1.0], [1.0, 2.0]]},
        "b": {"one": [[4.0, 1.0], [2.0, 2.0]], "other": [[40.0, 10.0], [20.0, 20.0]]},
    }
    assert show("other", "one", curves) == "other: a -50.0% -50.0%, b — —, mean -50.0% -50.0%"


def test_a_set_whose_trials_all_failed_has_no_figures() -> None:
    curve = [[4.0, 1.0], [2.0, 2.0]]
    assert show("other", "one", {"a": {"one": curve, "other": []}}) == "other: a — —, mean — —"
    assert show("other", "one", {"a": {"one": [], "other": curve}}) == "other: a — —, mean — —"


def test_a_set_that_the_loss_network_lacks_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="novak_all: compact lacks a layer of it; leave it out"):
        run(monkeypatch, photos, "johnson", "novak_all")
