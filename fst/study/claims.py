"""Checks the claim of a study's source against the numbers of its cells."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

Result = Mapping[str, Any]  # of a cell, as `fst.study.compare.read_result` returns it
Results = Sequence[Result]


def verdict(claim: str | None, results: Results) -> str:
    """What the finished cells say about a claim; empty where the study makes none.

    Args:
        claim: one of `CLAIMS`.
        results: of all cells of the study.
    """
    if claim is None:
        return ""
    done = [result for result in results if "failed" not in result]
    try:
        said = CLAIMS[claim](done)
    except (LookupError, ValueError):  # cells that it compares are missing
        return f"No verdict: the cells that it compares are not done ({len(done)} of {len(results)} are)."
    return said if len(done) == len(results) else f"{said} {len(results) - len(done)} of {len(results)} cells failed."


def deeper_layers_lose_pixels(done: Results) -> str:
    """Each cell reconstructs a photo from one layer, in order of depth (Gatys et al. 2016, figure 1)."""

    def error(result: Result) -> float:
        return result["errors"]["content"]["relu1_1"]

    steps = _pairs(done)
    rises = sum(error(deeper) > error(result) for result, deeper in steps)
    return (
        f"{_holds(rises == len(steps))}: the error at relu1_1, the layer closest to the pixels, rises in {rises} of "
        f"{len(steps)} steps to the next deeper layer: {_list(done, error)}."
    )


def larger_sets_lower_style_error(done: Results) -> str:
    """The cells of role `growing` are sets of style layers, each contained in the next."""
    growing = [result for result in done if _role(result) == "growing"]
    steps = _pairs(growing)
    falls = sum(_mean(larger, "style") < _mean(smaller, "style") for smaller, larger in steps)
    return (
        f"The mean style error over all layers falls in {falls} of {len(steps)} steps to the next larger set: "
        f"{_list(growing, lambda result: _mean(result, 'style'))}."
    )


def weight_trades_content_for_style(done: Results) -> str:
    """Cells of one role differ in their style weight, which grows (Gatys et al. 2016, section 3.1)."""
    roles: dict[str, list[Result]] = {}
    for result in done:
        roles.setdefault(_role(result), []).append(result)
    steps = [pair for row in roles.values() for pair in _pairs(row)]
    if not steps:
        raise LookupError
    style = sum(_mean(more, "style") < _mean(less, "style") for less, more in steps)
    content = sum(_mean(more, "content") > _mean(less, "content") for less, more in steps)
    return (
        f"{_holds(style == content == len(steps))}: with more style weight the style error falls in {style} and "
        f"the content error rises in {content} of {len(steps)} steps."
    )


def photo_start_is_lower(done: Results) -> str:
    """Cells come in pairs that start from the photo and from noise, with the same style weight."""
    objective = {(r["cell"]["init"], r["cell"]["style_weight"]): r["terms"]["loss"] for r in done}
    pairs = {weight: (objective["content", weight], objective["noise", weight]) for _, weight in objective}
    if not pairs:
        raise LookupError
    lower = sum(photo < noise for photo, noise in pairs.values())
    shown = ", ".join(f"{photo:.3f} against {noise:.3f} ({weight})" for weight, (photo, noise) in pairs.items())
    return (
        f"{_holds(lower == len(pairs))}: from the photo the objective is lower at {lower} of {len(pairs)} style "
        f"weights: {shown}."
    )


def all_convolutions_lower_style_error(done: Results) -> str:
    """Compares the cells of roles `five` and `sixteen`: style from five convolutions, and from all of VGG19."""
    roles = {_role(result): result for result in done}
    five, sixteen = _mean(roles["five"], "style"), _mean(roles["sixteen"], "style")
    best = min(done, key=lambda result: _mean(result, "style"))
    said = [
        f"{_holds(sixteen < five)}: the mean style error over all layers is {sixteen:.3f} with all 16 convolutions and "
        f"{five:.3f} with five. The lowest is that of {_name(best)}, {_mean(best, 'style'):.3f}."
    ]
    if "vgg16" in roles and "vgg19" in roles:
        vgg16, vgg19 = (_mean(roles[role], "style") for role in ("vgg16", "vgg19"))
        said.append(f"Johnson's set gives {vgg16:.3f} on VGG16 and {vgg19:.3f} on VGG19.")
    return "\n".join([*said, *_sums(done), *_gradients(done)])


def networks_rank_sets_alike(done: Results) -> str:
    """Cells come in pairs of one layer set: a network (`method: fast`) and the slow method."""
    cells = {(_set(result), result["cell"]["method"]): result for result in done}
    sets = [name for name, method in cells if method == "slow" and (name, "fast") in cells]
    style = {key: _mean(result, "style") for key, result in cells.items()}
    ratios = [cells[name, "fast"]["terms"]["loss"] / cells[name, "slow"]["terms"]["loss"] for name in sets]
    pairs = list(combinations(sets, 2))
    alike = sum((style[a, "fast"] < style[b, "fast"]) == (style[a, "slow"] < style[b, "slow"]) for a, b in pairs)
    fast, slow = (min(sets, key=lambda name: style[name, method]) for method in ("fast", "slow"))
    return (
        f"One pass of the networks reaches {min(ratios):.1f} to {max(ratios):.1f} times the slow method's objective. "
        f"By mean style error over all layers both methods put {alike} of {len(pairs)} pairs of sets in the same "
        f"order; the lowest is {fast} ({style[fast, 'fast']:.3f}) among the networks, {slow} "
        f"({style[slow, 'slow']:.3f}) by the slow method."
    )


def best_set_and_its_price(done: Results) -> str:
    """The layer set with the lowest mean style error, and what it costs in content error and time."""
    if len(done) < 2:
        raise LookupError
    by_style = sorted(done, key=lambda result: _mean(result, "style"))
    best = by_style[0]
    nearest = min(done, key=lambda result: _mean(result, "content"))
    quickest = min(done, key=lambda result: result["seconds"])
    content, least = _mean(best, "content"), _mean(nearest, "content")
    errors = _list(by_style, lambda result: _mean(result, "style"))
    said = f"For this painting: {_name(best)}, with the lowest mean style error over all layers ({errors})."
    if nearest is best:
        said += f" It also has the lowest content error, {content:.3f}."
    else:
        said += (
            f" The price: its content error is {content:.3f}, {content / max(least, 1e-9):.2f} times the lowest, "
            f"{least:.3f} ({_name(nearest)})."
        )
    if quickest is not best:
        said += f" It took {best['seconds']:.0f} s, the quickest {quickest['seconds']:.0f} s ({_name(quickest)})."
    return said


CLAIMS: dict[str, Callable[[Results], str]] = {
    check.__name__: check
    for check in (
        deeper_layers_lose_pixels,
        larger_sets_lower_style_error,
        weight_trades_content_for_style,
        photo_start_is_lower,
        all_convolutions_lower_style_error,
        networks_rank_sets_alike,
        best_set_and_its_price,
    )
}


def _sums(done: Results) -> list[str]:
    """A sentence for each cell whose layers are summed where another cell averages the same."""
    averaged = {_set(result): result for result in done if result["cell"]["reduction"] is None}
    pairs = [(averaged[_set(r)], r) for r in done if r["cell"]["reduction"] == "sum" and _set(r) in averaged]
    return [
        f"With the layers of {_name(mean)} summed instead of averaged: style error {_mean(mean, 'style'):.3f} → "
        f"{_mean(total, 'style'):.3f}, content error {_mean(mean, 'content'):.3f} → {_mean(total, 'content'):.3f}."
        for mean, total in pairs
    ]


def _gradients(done: Results) -> list[str]:
    return [
        "The gradients of separate backward passes, of content and of style, add up to that of a joint one except for "
        f"{result['gradient_difference']:.0e} of its length."
        for result in done
        if "gradient_difference" in result
    ]


def _pairs(row: Results) -> list[tuple[Result, Result]]:
    """Each result and the next one; LookupError if there is no pair."""
    if len(row) < 2:
        raise LookupError
    return list(pairwise(row))


def _name(result: Result) -> str:
    return result["cell"]["name"]


def _role(result: Result) -> str:
    return result["cell"]["role"]


def _set(result: Result) -> str:
    """A layer set and the network it was measured with: the same for a fast cell and its slow counterpart."""
    return f"{result['cell']['layers']} on {result['config']['loss_network']['architecture']}"


def _mean(result: Result, term: str) -> float:
    """Mean error over all layers of the judge."""
    errors = list(result["errors"][term].values())
    return sum(errors) / len(errors)


def _list(done: Results, value: Callable[[Result], float]) -> str:
    return ", ".join(f"{_name(result)} {value(result):.3f}" for result in done)


def _holds(yes: bool) -> str:
    return "The claim holds" if yes else "The claim does not hold"
