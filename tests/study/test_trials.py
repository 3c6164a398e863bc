"""The trials of a search, shared by several machines."""

from dataclasses import replace
from pathlib import Path

import pytest

from fst.errors import UserError
from fst.study import trials
from fst.study.criteria import Scores
from fst.study.space import Candidate
from fst.study.trials import Trials

SPACE = {"content": ["relu2_2"], "style": ["relu1_2", "relu2_2"], "weights": [0, 1]}
SPACE |= {"style_weight": [15], "style_scale": [2]}
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


def test_a_named_set_that_has_changed_is_refused(tmp_path: Path) -> None:
    before = open_trials(tmp_path)
    before.claim(1)
    before.finish(scores(0.25), 1.0)
    open_trials(tmp_path)
    with pytest.raises(UserError, match=r"the layer set mine was relu2_2 \| relu1_2 relu2_2 \| .*, and has changed"):
        open_trials(tmp_path, replace(MINE, style={"relu1_2": 1.0}))
    open_trials(tmp_path, replace(MINE, style={"relu1_2": 1.0}, name="other"))


@pytest.mark.parametrize("before", [MINE, replace(MINE, style={"relu4_3": 1.0})])
def test_a_named_set_that_changed_before_it_was_tried_is_tried_as_it_is(before: Candidate, tmp_path: Path) -> None:
    first = replace(MINE, style={"relu3_3": 1.0}, name="first")
    stopped = open_trials(tmp_path, first, before)
    stopped.claim(1)
    stopped.finish(scores(0.25), 1.0)
    now = replace(MINE, style={"relu2_2": 1.0})
    number, candidate = open_trials(tmp_path, first, now).claim(2) or (0, None)
    assert (number > 0, candidate) == (True, now)
