"""What `fst search` can choose: candidates from a space (conf/space), and the named layer sets that are tried first."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from hydra import compose
from hydra.errors import HydraException
from msgspec import Meta
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fst.errors import UserError
from fst.hydra_app import config_error
from fst.networks.vgg_layers import LOSS_NETWORKS, layer_table, refuse_unknown_layers
from fst.overrides import search_path
from fst.rules import require_weight
from fst.schemas import OPTIMIZE, Layers
from fst.typed import check, show
from fst.values import Text, Weight

STYLE_SCALE = 2.0  # of named layer sets, as in `fst train` by default: a style image of 512 px, crops of 256 px
Params = dict[str, int]  # for each choice, the number of the value that is chosen
Choose = Callable[[str, Sequence[Any]], int]  # returns the number of one of a choice's values


@dataclass(frozen=True)
class Candidate:
    """What one trial tries.

    Attributes:
        content, style: names of layers and their weights, as in `conf/layers`.
        style_weight: of the style term.
        style_scale: longer side of the style image, divided by the side of the photos.
        name: of the layer set, if it is a named one.
    """

    content: dict[str, float]
    style: dict[str, float]
    style_weight: float
    style_scale: float
    name: str = ""


@dataclass
class Space:
    """conf/space: the values that can be chosen."""

    content: list[Text]
    style: list[Text]
    weights: list[Weight]
    style_weight: list[Annotated[float, Meta(gt=0, le=1e15)]]
    style_scale: list[Annotated[float, Meta(ge=0.25, le=8)]]

    @staticmethod
    def rule(space: DictConfig) -> None:
        for key in map(str, space):
            values = list(space[key])
            if not values:
                raise UserError(f"space.{key}=[]: nothing to choose from; it can be a list with at least one value")
            if twice := {show(value) for value in values if values.count(value) > 1}:
                raise UserError(f"space.{key}: {min(twice)} is there twice")
        if not any(space.weights):
            raise UserError("space.weights: at least one must be above 0")


def usable(space: DictConfig, architecture: str) -> dict[str, list[Any]]:
    """The choices of a space and their values, numbers in order. Layers that another loss network has, but not this
    one, are left out, so that one space suits all.

    Raises:
        UserError: a layer that no loss network has, or none is left.
    """
    found: dict[str, list[Any]] = {}
    for key in ("content", "style"):
        found[key] = [layer for layer in space[key] if _has_layers(architecture, [layer], f"space.{key}")]
        if not found[key]:
            raise UserError(f"space.{key}={show(list(space[key]))}: {architecture} has none of these layers")
    return found | {key: sorted(space[key]) for key in ("weights", "style_weight", "style_scale")}


def _has_layers(architecture: str, layers: Sequence[str], key: str) -> bool:
    """Whether the loss network has these layers; a layer that none has is refused."""
    unknown = set(layers).difference(layer.name for layer in layer_table(architecture))
    elsewhere = {layer.name for other in LOSS_NETWORKS for layer in layer_table(other)}
    refuse_unknown_layers(architecture, unknown - elsewhere, key)
    return not unknown


def draw(space: Mapping[str, Sequence[Any]], choose: Choose) -> Candidate:
    """A candidate by the numbers that `choose` returns; without style layers if all are off."""
    content = space["content"][choose("content", space["content"])]
    weights = {layer: space["weights"][choose(layer, space["weights"])] for layer in space["style"]}
    style = {layer: float(weight) for layer, weight in weights.items() if weight}
    weight, scale = (float(space[key][choose(key, space[key])]) for key in ("style_weight", "style_scale"))
    return Candidate({content: 1.0}, style, weight, scale)


def params_of(space: Mapping[str, Sequence[Any]], candidate: Candidate) -> Params:
    """The choices that make up a candidate; empty if it is not in the space."""
    weights = {layer: candidate.style.get(layer, 0) for layer in space["style"]}
    wanted = {"content": next(iter(candidate.content)), **weights}
    wanted |= {"style_weight": candidate.style_weight, "style_scale": candidate.style_scale}
    values = {key: list(space["weights"] if key in weights else space[key]) for key in wanted}
    inside = set(candidate.style) <= set(weights) and list(candidate.content.values()) == [1.0]
    if not inside or any(value not in values[key] for key, value in wanted.items()):
        return {}
    return {key: values[key].index(value) for key, value in wanted.items()}


def named_candidates(config: DictConfig) -> list[Candidate]:
    """The layer sets in `first`, with the style weight of `loss` and the size of style image that `fst train` has by
    default. Left out are those with layers that another loss network has, but not this one.

    Raises:
        UserError: no such layer set, one with a layer that no loss network has, or one without content or style layers.
    """
    found = []
    for name in dict.fromkeys(config.first):
        layers = _layers_of(name, config.config_dir)
        if _has_layers(config.loss_network.architecture, [*layers["content"], *layers["style"]], f"first: {name}"):
            content, style = ({n: w for n, w in layers[term].items() if w} for term in ("content", "style"))
            found.append(Candidate(content, style, config.loss.weights.style, STYLE_SCALE, name))
    return found


@functools.cache  # a command asks three times
def _layers_of(name: str, config_dir: str | None) -> dict[str, dict[str, float]]:
    try:
        layers = compose("optimize", [f"layers={name}", "logger=none", *search_path(config_dir)]).layers
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"first: {config_error(OPTIMIZE, error)}") from error
    try:
        check(layers, Layers, "layers.")
        for term in ("content", "style"):
            require_weight(layers, term)
    except UserError as error:
        raise UserError(f"first: {show(name)}: {error}") from error
    return msgspec.convert({term: {**layers[term]} for term in ("content", "style")}, dict[str, dict[str, float]])


def describe(candidate: Candidate) -> str:
    """A candidate in one line: `relu2_2 | relu1_2 relu3_3×0.3 | style weight 15, scale 1`."""
    style = " ".join(layer if weight == 1 else f"{layer}×{weight:g}" for layer, weight in candidate.style.items())
    rest = f"style weight {candidate.style_weight:g}, style scale {candidate.style_scale:g}"
    return f"{' '.join(candidate.content)} | {style} | {rest}"


def layer_set(candidate: Candidate, architecture: str, source: str) -> str:
    """A candidate as a file for `conf/layers`; `source` says where it came from."""
    content, style = (
        ", ".join(f"{layer}: {weight:.15g}" for layer, weight in layers.items())
        for layers in (candidate.content, candidate.style)
    )
    return (
        f"# {source}: to be used with loss.weights.style={candidate.style_weight:.15g} and a style image of "
        f"{candidate.style_scale:g} times the photos' side.\n"
        f"defaults:\n  - override /loss_network@_global_.loss_network: {architecture}\n"
        f"content: {{ {content} }}\nstyle: {{ {style} }}\nsource: {json.dumps(source, ensure_ascii=False)}\n"
    )
