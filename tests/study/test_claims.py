"""A verdict says yes where the numbers do, and no where they do not."""

from typing import Any

import pytest

from fst.study.claims import verdict


def cell(name: str, style: float = 0.1, content: float = 0.1, loss: float = 1.0, **more: Any) -> dict:
    yardstick = {"style": {"relu1_1": style}, "content": {"relu1_1": content}}
    network = {"loss_network": {"architecture": more.pop("network", "vgg19")}}
    return {"cell": {"name": name, **more}, "yardstick": yardstick, "terms": {"loss": loss}, "config": network}


FAILED = {"cell": {"name": "x"}, "failed": "y"}


def reconstruction(*errors: float) -> list[dict]:
    return [cell(f"conv{block}_1", content=error) for block, error in enumerate(errors, 1)]


def ratio(*errors: tuple[float, float]) -> list[dict]:
    return [cell(f"to conv1_1 × {number}", *pair) for number, pair in enumerate(errors)]


def init(photo: float, noise: float) -> list[dict]:
    both = (("content", photo), ("noise", noise))
    return [cell(f"{start} 15", loss=loss, init=start, style_weight=15) for start, loss in both]


def recipes(five: float, sixteen: float) -> list[dict]:
    return [cell("Gatys et al.", five), cell("Novak & Nikulin", sixteen)]


@pytest.mark.parametrize(
    ("study", "true", "false"),
    [
        ("reconstruction", reconstruction(0.1, 0.2, 0.3), reconstruction(0.1, 0.3, 0.2)),
        ("ratio", ratio((0.3, 0.1), (0.2, 0.2)), ratio((0.3, 0.1), (0.2, 0.05))),
        ("init", init(1.0, 2.0), init(2.0, 1.0)),
        ("recipes", recipes(0.2, 0.1), recipes(0.1, 0.2)),
    ],
)
def test_a_claim_holds_or_not(study: str, true: list[dict], false: list[dict]) -> None:
    assert verdict(study, true).startswith("The claim holds")
    assert verdict(study, false).startswith("The claim does not hold")
    assert verdict(study, [*true, FAILED]) == f"{verdict(study, true)} Of {len(true) + 1} cells 1 failed."
    assert "The claim holds" not in verdict(study, [FAILED])


def test_textures_count_the_growing_sets_only() -> None:
    done = [cell("to conv1_1", 0.3), cell("to conv2_1", 0.2), cell("to conv3_1", 0.25), cell("5-6-7", 0.1)]
    assert "falls in 1 of 2 steps" in verdict("texture", done)


def test_recipes_tell_sum_from_mean_vgg16_from_vgg19_and_gradients_apart() -> None:
    done = [
        *recipes(0.2, 0.1),
        cell("Gatys et al., summed", 0.05, 0.4),
        cell("Johnson et al.", 0.31) | {"gradient_difference": 2e-7},
        cell("Johnson et al. on VGG19", 0.29),
    ]
    said = verdict("recipes", done)
    assert "style error 0.200 → 0.050, content error 0.100 → 0.400" in said
    assert "Johnson's set on VGG16 gives 0.310, on VGG19 0.290" in said
    assert "for 2e-07 of its length" in said
    assert "summed" not in verdict("recipes", recipes(0.2, 0.1)).lower()


def test_networks_are_compared_with_the_slow_method_set_by_set() -> None:
    rows = {("deep", "slow"): (1.0, 0.1), ("deep", "fast"): (3.0, 0.4), ("shallow", "slow"): (2.0, 0.2)}
    rows |= {("shallow", "fast"): (4.0, 0.3), ("gatys", "slow"): (1.0, 0.05)}
    done = [cell(" ".join(k), style, loss=loss, layers=k[0], method=k[1]) for k, (loss, style) in rows.items()]
    said = verdict("fast_sets", done)
    assert "2.0 to 3.0 times" in said
    assert "0 of 1 pairs" in said
    assert "shallow on vgg19 (0.300) among the networks, deep on vgg19 (0.100) by the slow" in said
    assert "No verdict" in verdict("fast_sets", done[:1])


def test_a_list_of_ones_own_has_no_claim() -> None:
    assert verdict("mine", recipes(0.2, 0.1)) == ""
    assert verdict("recipes", [*recipes(0.2, 0.1)[:1], FAILED]) == "No verdict: of 2 cells only 1 are done."
