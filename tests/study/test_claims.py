"""A verdict says yes where the numbers do, and no where they do not."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from fst.resources import resource_folder
from fst.study.claims import CLAIMS, verdict


def cell(name: str, style: float = 0.1, content: float = 0.1, loss: float = 1.0, **more: Any) -> dict:
    errors = {"style": {"relu1_1": style}, "content": {"relu1_1": content}}
    network = {"loss_network": {"architecture": more.pop("network", "vgg19")}}
    seconds = more.pop("seconds", 1.0)
    known = {"name": name, "role": None, "layers": name, "reduction": None}
    return {"cell": known | more, "errors": errors, "terms": {"loss": loss}, "config": network, "seconds": seconds}


FAILED = {"cell": {"name": "x"}, "failed": "y"}


def reconstruction(*errors: float) -> list[dict]:
    return [cell(f"conv{block}_1", content=error) for block, error in enumerate(errors, 1)]


def ratio(*errors: tuple[float, float]) -> list[dict]:
    return [cell(f"× {number}", *pair, role="conv1_1") for number, pair in enumerate(errors)]


def init(photo: float, noise: float) -> list[dict]:
    both = (("content", photo), ("noise", noise))
    return [cell(start, loss=loss, init=start, style_weight=15) for start, loss in both]


def recipes(five: float, sixteen: float) -> list[dict]:
    return [cell("gatys", five, role="five"), cell("novak", sixteen, role="sixteen")]


@pytest.mark.parametrize(
    ("claim", "true", "false"),
    [
        ("deeper_layers_lose_pixels", reconstruction(0.1, 0.2, 0.3), reconstruction(0.1, 0.3, 0.2)),
        ("weight_trades_content_for_style", ratio((0.3, 0.1), (0.2, 0.2)), ratio((0.3, 0.1), (0.2, 0.05))),
        ("photo_start_is_lower", init(1.0, 2.0), init(2.0, 1.0)),
        ("all_convolutions_lower_style_error", recipes(0.2, 0.1), recipes(0.1, 0.2)),
    ],
)
def test_a_claim_holds_or_not(claim: str, true: list[dict], false: list[dict]) -> None:
    assert verdict(claim, true).startswith("The claim holds")
    assert verdict(claim, false).startswith("The claim does not hold")
    assert verdict(claim, [*true, FAILED]) == f"{verdict(claim, true)} 1 of {len(true) + 1} cells failed."


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_the_cells_that_it_compares_there_is_no_verdict(claim: str) -> None:
    assert "No verdict: the cells that it compares are not done (0 of 1 are)." in verdict(claim, [FAILED])
    assert "No verdict" in verdict(claim, [cell("a", role="five", init="content", style_weight=3, method="slow")])


def test_textures_count_the_growing_sets_only() -> None:
    growing = [cell(name, style, role="growing") for name, style in (("a", 0.3), ("b", 0.2), ("c", 0.25))]
    assert "falls in 1 of 2 steps" in verdict("larger_sets_lower_style_error", [*growing, cell("5-6-7", 0.1)])


def test_recipes_tell_sum_from_mean_vgg16_from_vgg19_and_gradients_apart() -> None:
    done = [
        *recipes(0.2, 0.1),
        cell("gatys, summed", 0.05, 0.4, layers="gatys", reduction="sum"),
        cell("Johnson et al.", 0.31, role="vgg16") | {"gradient_difference": 2e-7},
        cell("Johnson et al. on VGG19", 0.29, role="vgg19"),
    ]
    said = verdict("all_convolutions_lower_style_error", done)
    assert "of gatys summed instead of averaged: style error 0.200 → 0.050, content error 0.100 → 0.400" in said
    assert "Johnson's set gives 0.310 on VGG16 and 0.290 on VGG19" in said
    assert "for 2e-07 of its length" in said
    assert "summed" not in verdict("all_convolutions_lower_style_error", recipes(0.2, 0.1))


def test_networks_are_compared_with_the_slow_method_set_by_set() -> None:
    rows = {("deep", "slow"): (1.0, 0.1), ("deep", "fast"): (3.0, 0.4), ("shallow", "slow"): (2.0, 0.2)}
    rows |= {("shallow", "fast"): (4.0, 0.3), ("gatys", "slow"): (1.0, 0.05)}
    done = [cell(" ".join(k), style, loss=loss, layers=k[0], method=k[1]) for k, (loss, style) in rows.items()]
    said = verdict("networks_rank_sets_alike", done)
    assert "2.0 to 3.0 times" in said
    assert "0 of 1 pairs" in said
    assert "shallow on vgg19 (0.300) among the networks, deep on vgg19 (0.100) by the slow" in said


def test_the_best_set_for_a_painting_and_its_price() -> None:
    cells = [cell("few", 0.3, 0.1), cell("many", 0.1, 0.4, seconds=3.0), cell("some", 0.2, 0.2, seconds=2.0)]
    said = verdict("best_set_and_its_price", cells)
    assert said.startswith("For this painting: many, with the lowest mean style error")
    assert "many 0.100, some 0.200, few 0.300" in said
    assert "The price: its content error is 0.400, 4.00 times the lowest, 0.100 (few)." in said
    assert said.endswith("It took 3 s, the quickest 1 s (few).")
    free = verdict("best_set_and_its_price", [cell("a", 0.1, 0.1), cell("b", 0.2, 0.2, seconds=2.0)])
    assert free.endswith("It also has the lowest content error, 0.100.")


def test_every_study_has_a_claim() -> None:
    studies = {path.stem: OmegaConf.load(path) for path in (resource_folder("conf") / "study").glob("*.yaml")}
    assert {study.get("claim") for study in studies.values()} == {*CLAIMS}
    assert verdict(None, recipes(0.2, 0.1)) == ""
