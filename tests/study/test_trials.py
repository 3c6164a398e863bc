"""The trials of a search, shared by several machines."""

from pathlib import Path

import pytest

from fst.study import trials
from fst.study.criteria import Scores
from fst.study.space import Candidate
from fst.study.trials import Trials

SPACE = {"content": ["relu2_2"], "style": ["relu1_2"], "weights": [0, 1], "style_weight": [15], "style_scale": [2]}
MINE = Candidate({"relu2_2": 1.0}, {"relu1_2": 1.0, "relu2_2": 1.0}, 15.0, 2.0, "mine")


def open_trials(folder: Path, *first: Candidate) -> Trials:
    return Trials(folder, {}, SPACE, first or [MINE], "tpe", 0)


def scores(style: float) -> Scores:
    return Scores(style, 0.5, 0.0, 0.0, 0.0, {}, {})


def test_a_trial_that_another_machine_has_finished_keeps_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = open_trials(tmp_path)
    assert slow.claim(1) == (0, MINE)
    monkeypatch.setattr("socket.gethostname", lambda: "other")
    monkeypatch.setattr(trials, "_LOST_AFTER", -1)
    other = open_trials(tmp_path)
    assert other.claim(1) == (0, MINE), "it was taken for lost"
    other.finish(scores(0.25), 1.0)
    slow.finish(scores(0.75), 1.0)
    slow.fail("out of memory")
    (tried,) = slow.all()
    assert (tried.scores, tried.failed) == (scores(0.25), "")
