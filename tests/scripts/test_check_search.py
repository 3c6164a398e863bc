import numpy as np
import pytest

from scripts.check_search import choose, spearman


def trial(number: int, name: str = "") -> dict:
    return {"number": number, "candidate": {"name": name}, "scores": {"style": (number * 3) % 7}}


def test_half_of_the_sets_are_named_and_the_others_spread_over_the_style_distance() -> None:
    trials = [trial(0, "a"), trial(1, "b"), trial(2, "c"), *map(trial, range(3, 10)), {**trial(10), "scores": None}]
    found = choose(trials, 4)
    assert [t["candidate"]["name"] for t in found] == ["a", "b", "", ""]
    assert [t["scores"]["style"] for t in found[2:]] == [0, 6]


def test_a_search_of_named_sets_alone_can_be_checked() -> None:
    trials = [trial(0, "a"), trial(1, "b")]
    assert choose(trials, 8) == trials


def test_equal_values_share_a_rank() -> None:
    assert spearman(np.array([1.0, 1, 2, 3]), np.array([2.0, 2, 5, 9])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 3]), np.ones(3)) == 0
