"""Whether the sources' claims hold in a study's numbers: computed, so that it can also say no."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

Result = Mapping[str, Any]
Results = Sequence[Result]


def verdict(study: str, results: Results) -> str:
    """What the numbers of the cells that are done say about the source's claim; empty for a list of one's own."""
    done = [result for result in results if "failed" not in result]
    if study not in _VERDICTS:
        return ""
    try:
        said = _VERDICTS[study](done) if done else ""
    except LookupError:
        said = ""
    if not said:
        return f"No verdict: of {len(results)} cells only {len(done)} are done."
    return said if len(done) == len(results) else f"{said} Of {len(results)} cells {len(results) - len(done)} failed."


def _name(result: Result) -> str:
    return result["cell"]["name"]


def _mean(result: Result, term: str) -> float:
    """Over all layers of the judge."""
    errors = list(result["yardstick"][term].values())
    return sum(errors) / len(errors)


def _list(done: Results, value: Callable[[Result], float]) -> str:
    return ", ".join(f"{_name(result)} {value(result):.3f}" for result in done)


def _holds(yes: bool) -> str:
    return "The claim holds" if yes else "The claim does not hold"


def _reconstruction(done: Results) -> str:
    def error(result: Result) -> float:
        return result["yardstick"]["content"]["relu1_1"]

    rises = sum(error(deeper) > error(result) for result, deeper in pairwise(done))
    return (
        f"{_holds(0 < rises == len(done) - 1)}: the error at relu1_1, nearest to the pixels, rises in {rises} of "
        f"{len(done) - 1} steps downwards: {_list(done, error)}."
    )


def _texture(done: Results) -> str:
    growing = [result for result in done if _name(result).startswith("to ")]
    falls = sum(_mean(more, "style") < _mean(less, "style") for less, more in pairwise(growing))
    return (
        f"The mean style error over all layers falls in {falls} of {len(growing) - 1} steps as the set grows: "
        f"{_list(growing, lambda result: _mean(result, 'style'))}."
    )


def _ratio(done: Results) -> str:
    rows: dict[str, list[Result]] = {}
    for result in done:
        rows.setdefault(_name(result).split(" × ")[0], []).append(result)
    pairs = [pair for row in rows.values() for pair in pairwise(row)]
    style = sum(_mean(b, "style") < _mean(a, "style") for a, b in pairs)
    content = sum(_mean(b, "content") > _mean(a, "content") for a, b in pairs)
    return (
        f"{_holds(0 < style == content == len(pairs))}: with more style weight the style error falls in {style} and "
        f"the content error rises in {content} of {len(pairs)} steps."
    )


def _init(done: Results) -> str:
    objective = {(r["cell"]["init"], r["cell"]["style_weight"]): r["terms"]["loss"] for r in done}
    pairs = {weight: (objective["content", weight], objective["noise", weight]) for _, weight in objective}
    lower = sum(photo < noise for photo, noise in pairs.values())
    shown = ", ".join(f"{photo:.3f} against {noise:.3f} ({weight})" for weight, (photo, noise) in pairs.items())
    return (
        f"{_holds(lower == len(pairs))}: from the photo the objective is lower in {lower} of {len(pairs)} style "
        f"weights: {shown}."
    )


def _recipes(done: Results) -> str:
    cells = {_name(result): result for result in done}
    style = {name: _mean(result, "style") for name, result in cells.items()}
    five, sixteen = style["Gatys et al."], style["Novak & Nikulin"]
    best = min(style, key=lambda name: style[name])
    said = [
        f"{_holds(sixteen < five)}: mean style error over all layers {sixteen:.3f} with all 16 convolutions, "
        f"{five:.3f} with the five. The lowest of all has {best}, {style[best]:.3f}."
    ]
    both = ("Johnson et al.", "Johnson et al. on VGG19")
    if all(name in style for name in both):
        said.append(f"Johnson's set on VGG16 gives {style[both[0]]:.3f}, on VGG19 {style[both[1]]:.3f}.")
    content = {name: _mean(result, "content") for name, result in cells.items()}
    for name, summed in ((name, f"{name}, summed") for name in style if f"{name}, summed" in style):
        said.append(
            f"With the layers of {name} summed instead of averaged: style error {style[name]:.3f} → "
            f"{style[summed]:.3f}, content error {content[name]:.3f} → {content[summed]:.3f}."
        )
    for result in done:
        if "gradient_difference" in result:
            said.append(
                "The gradients of separate backward passes, of content and of style, add up to that of a joint one but "
                f"for {result['gradient_difference']:.0e} of its length."
            )
    return "\n".join(said)


def _fast_sets(done: Results) -> str:
    objective = {(_set(result), result["cell"]["method"]): result["terms"]["loss"] for result in done}
    style = {(_set(result), result["cell"]["method"]): _mean(result, "style") for result in done}
    sets = [name for name, method in objective if method == "slow" and (name, "fast") in objective]
    if not sets:
        raise LookupError
    ratios = [objective[name, "fast"] / objective[name, "slow"] for name in sets]
    pairs = list(combinations(sets, 2))
    alike = sum((style[a, "fast"] < style[b, "fast"]) == (style[a, "slow"] < style[b, "slow"]) for a, b in pairs)
    best = {method: min(sets, key=lambda name: style[name, method]) for method in ("fast", "slow")}
    return (
        f"One pass of the networks reaches {min(ratios):.1f} to {max(ratios):.1f} times the slow method's objective. "
        f"By mean style error over all layers both methods put {alike} of {len(pairs)} pairs of sets in the same "
        f"order; the lowest has {best['fast']} ({style[best['fast'], 'fast']:.3f}) among the networks, {best['slow']} "
        f"({style[best['slow'], 'slow']:.3f}) by the slow method."
    )


def _set(result: Result) -> str:
    """A layer set and the network it was measured with: what a fast cell shares with its slow peer."""
    return f"{result['cell']['layers']} on {result['config']['loss_network']['architecture']}"


_VERDICTS: dict[str, Callable[[Results], str]] = {
    "reconstruction": _reconstruction,
    "texture": _texture,
    "ratio": _ratio,
    "init": _init,
    "recipes": _recipes,
    "fast_sets": _fast_sets,
}
