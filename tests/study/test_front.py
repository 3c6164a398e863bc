"""The front of a search and the recommendations on trials with known scores."""

import pytest

from fst.study.criteria import Scores
from fst.study.front import Tried, front_of, hypervolume, no_farther, recommend
from fst.study.space import Candidate


def tried(number: int, content: float, style: float) -> Tried:
    scores = Scores(style, content, 0, 0, 0, {}, {})
    return Tried(number, Candidate({"relu2_2": 1.0}, {"relu1_2": 1.0}, 15, 1), scores)


RUNNING = Tried(9, Candidate({}, {}, 1, 1))
TRIALS = [tried(0, 0.5, 0.2), tried(1, 0.1, 0.9), tried(2, 0.2, 0.4), tried(3, 0.3, 0.5), tried(4, 0.2, 0.4), RUNNING]
PHOTO = Scores(1.0, 0.0, 0, 0, 0, {}, {})


def numbers(trials: list[Tried]) -> list[int]:
    return [trial.number for trial in trials]


def test_the_front_holds_what_no_trial_beats_in_both() -> None:
    assert numbers(front_of(TRIALS)) == [1, 2, 0]
    assert front_of([RUNNING]) == []


def test_recommendations_are_the_ends_and_the_knee_without_what_is_hardly_painted() -> None:
    front = front_of([*TRIALS, tried(5, 0.12, 0.75)])
    found = {purpose: trial.number for purpose, trial in recommend(front, PHOTO).items()}
    assert found == {"photo": 5, "balanced": 2, "paint": 0}, "trial 1 is an eighth of the way to the painting"
    assert {trial.number for trial in recommend(front_of([TRIALS[0]]), PHOTO).values()} == {0}
    worse = Scores(0.1, 0.0, 0, 0, 0, {}, {})
    assert {trial.number for trial in recommend(front, worse).values()} == {0}, "nothing is nearer than the photo"


def test_hypervolume_is_the_area_of_what_is_beaten() -> None:
    front = front_of(TRIALS)
    assert hypervolume(front, (1.0, 1.0)) == pytest.approx(0.9 * 0.1 + 0.8 * 0.5 + 0.5 * 0.2)
    assert hypervolume(front, (0.15, 0.95)) == pytest.approx(0.05 * 0.05)
    assert hypervolume(front, (0.1, 0.1)) == 0


def test_what_is_no_farther_than_a_trial() -> None:
    front = front_of(TRIALS)
    assert numbers([trial for trial in no_farther(front, 0.3, 0.5) if trial]) == [2, 2]
    assert numbers([trial for trial in no_farther(front, 0.1, 0.95) if trial]) == [1, 1]
    assert no_farther(front, 0.05, 0.1) == (None, None)
