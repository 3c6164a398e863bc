"""The report of a search: a page, the numbers as JSON, the same for TensorBoard, and the recommended layer sets."""

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter

from fst.files import write_atomically
from fst.images import read_tensor
from fst.overrides import quote
from fst.resources import find_style_image, resource_folder
from fst.study.criteria import Scores
from fst.study.front import Tried, distances, front_of, hypervolume, no_farther, recommend
from fst.study.report import colour, inline, template
from fst.study.search_config import OTHER_WEIGHTS
from fst.study.space import Candidate, describe, layer_set

PURPOSES = {"photo": "Nearest to the photo", "balanced": "Balanced", "paint": "Most paint"}
_TRAIN_SIZE = 256  # data.size of fst train
_WIDTH, _HEIGHT = 720, 460  # of the plot
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 704, 16, 408  # edges of its area
_LETTER = 8.5  # width of a letter in the plot


@dataclass(frozen=True)
class Result:
    """What a search has found so far.

    Attributes:
        trials: all that were begun.
        checks: scores on photos that no trial used, by number of the trial.
        importances: as of `Trials.importances`.
        photo: the scores of the photos as they are.
    """

    trials: Sequence[Tried]
    checks: Mapping[int, Scores]
    importances: Mapping[str, Mapping[str, float]]
    photo: Scores


def write_report(config: DictConfig, result: Result, folder: Path) -> str:
    """Write `NAME.html`, `NAME.json`, the folder `tensorboard`, and `layers/NAME_PURPOSE.yaml` for each recommendation.

    Args:
        result: with at least one finished trial.
        folder: of the search, with its pictures.

    Returns:
        The page's path and the command that trains with the balanced set.
    """
    front = front_of(result.trials)
    chosen = recommend(front, result.photo)
    commands = {}
    for purpose, trial in chosen.items():
        source = f"fst search {config.name}, trial {trial.number} of {len(result.trials)} ({purpose})"
        text = layer_set(trial.candidate, config.loss_network.architecture, source)
        write_atomically(folder / "layers" / f"{config.name}_{purpose}.yaml", text.encode())
        commands[purpose] = train_command(config, trial.candidate, f"{config.name}_{purpose}", folder)
    document = {"search": config.name, "front": [trial.number for trial in front]}
    document |= {"recommended": {purpose: trial.number for purpose, trial in chosen.items()}, "commands": commands}
    document |= asdict(result)
    write_atomically(folder / f"{config.name}.json", json.dumps(document, indent=1).encode())
    write_events(result.trials, result.photo, folder)
    path = folder / f"{config.name}.html"
    write_atomically(path, _page(config, result, commands, folder).encode())
    return f"{path}\ntrain with the balanced set:  {commands['balanced']}"


def train_command(config: DictConfig, candidate: Candidate, name: str, folder: Path) -> str:
    """The command that trains a network with a layer set that the search wrote."""
    network, loss = config.loss_network, config.loss
    values: dict[str, Any] = {
        "layers": name,
        "loss.weights.style": f"{candidate.style_weight:.15g}",
        "style.size": round(candidate.style_scale * _TRAIN_SIZE),
        "style.image": config.style.image,
        "data.root": config.photos,
    }
    if network.weights not in ("imagenet", "bundled"):
        values["loss_network.weights"] = network.weights
    if loss.convention != "relative":
        values["loss"] = loss.convention
    usual = OmegaConf.load(resource_folder("conf") / "loss" / f"{loss.convention}.yaml")
    given = {"reduction": loss.reduction} | {f"weights.{name}": loss.weights[name] for name in OTHER_WEIGHTS}
    values |= {f"loss.{key}": value for key, value in given.items() if value != OmegaConf.select(usual, key)}
    if network.pooling != "max":
        values["loss_network.pooling"] = network.pooling
    plain = re.compile(r"[A-Za-z0-9_./+-]+")
    shown = [f"{key}={value if plain.fullmatch(str(value)) else quote(value)}" for key, value in values.items()]
    return shlex.join(["fst", "train", "--config-dir", str(folder), *shown])


def picture_file(folder: Path, number: int) -> Path:
    """Where the pictures of a trial lie, side by side."""
    return folder / "pictures" / f"{number:04}.jpg"


def photos_file(folder: Path) -> Path:
    """Where the photos of the trials lie, side by side."""
    return folder / "pictures" / "photos.jpg"


def write_events(trials: Sequence[Tried], photo: Scores, folder: Path) -> None:
    """A TensorBoard run: over the trials, their scores and the hypervolume of the front, against the photo as it is in
    style and 1 in content; and the pictures of the front."""
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    done = [trial for trial in trials if trial.scores]
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for place, trial in enumerate(done, 1):
            for name in ("style", "content", "color", "grid", "weave"):
                writer.add_scalar(name, getattr(trial.scores, name), trial.number)
            writer.add_scalar("hypervolume", hypervolume(front_of(done[:place]), (1.0, photo.style)), trial.number)
        for trial in front_of(done):
            picture = read_tensor(picture_file(folder, trial.number))[0]
            writer.add_image(f"front/{describe(trial.candidate)}", picture, trial.number)


def _page(config: DictConfig, result: Result, commands: Mapping[str, str], folder: Path) -> str:
    front = front_of(result.trials)
    chosen = recommend(front, result.photo)
    done = [trial for trial in result.trials if trial.scores]
    named = [trial for trial in done if trial.candidate.name]
    ranges = _ranges(done)
    return template("search.html").render(
        title=f"Layer sets for {config.name}",
        config=config,
        sources=[
            ("style image", inline(find_style_image(config.style.image))),
            ("photos", inline(photos_file(folder))),
        ],
        recommended=[(PURPOSES[purpose], trial.number, commands[purpose]) for purpose, trial in chosen.items()],
        front=[trial.number for trial in front],
        named=[_against(front, trial) for trial in named],
        trials={trial.number: _show(trial, result.checks, ranges, folder) for trial in done},
        failed=[(t.number, describe(t.candidate), t.failed) for t in result.trials if t.failed],
        importances=result.importances,
        plot=_plot(done, front, chosen, result.photo),
        photo=result.photo,
        layers=list(result.photo.style_layers),
        networks=[config[key].architecture.replace("vgg", "VGG") for key in ("loss_network", "judge")],
    )


def _against(front: Sequence[Tried], named: Tried) -> dict[str, Any]:
    """A named set, and what the search found that is no farther from the photo, and no farther from the painting."""
    content, style = distances(named)
    by_content, by_style = (trial or named for trial in no_farther(front, content, style))
    nearest, smallest = distances(by_content)[1], distances(by_style)[0]
    return {
        "name": named.candidate.name,
        "number": named.number,
        "scores": named.scores,
        "style": (by_content.number, nearest, (style - nearest) / (style or 1)),
        "content": (by_style.number, smallest, (content - smallest) / (content or 1)),
    }


def _by_layer(scores: Scores) -> dict[str, Mapping[str, float]]:
    return {"style": scores.style_layers, "content": scores.content_layers}


def _ranges(done: Sequence[Tried]) -> dict[tuple[str, str], tuple[float, float]]:
    """The smallest and largest distance among the trials, by objective and layer."""
    by_layer = [_by_layer(trial.scores) for trial in done if trial.scores]
    return {
        (term, layer): (min(found), max(found))
        for term, layers in by_layer[0].items()
        for layer in layers
        if (found := [row[term][layer] for row in by_layer])
    }


def _show(
    trial: Tried,
    checks: Mapping[int, Scores],
    ranges: Mapping[tuple[str, str], tuple[float, float]],
    folder: Path,
) -> dict[str, Any]:
    """A finished trial's values for the template."""
    assert trial.scores
    return {
        "name": trial.candidate.name or f"trial {trial.number}",
        "candidate": trial.candidate,
        "sets": {
            term: ", ".join(layer if weight == 1 else f"{layer} × {weight:g}" for layer, weight in layers.items())
            for term, layers in (("content", trial.candidate.content), ("style", trial.candidate.style))
        },
        "picture": inline(picture_file(folder, trial.number)),
        "scores": trial.scores,
        "check": checks.get(trial.number),
        "seconds": trial.seconds,
        "heat": {
            term: [
                (layer, values[layer], colour(values[layer], *ranges[term, layer])) if layer in values else None
                for layer in trial.scores.style_layers
            ]
            for term, values in _by_layer(trial.scores).items()
        },
    }


def _plot(done: Sequence[Tried], front: Sequence[Tried], chosen: Mapping[str, Tried], photo: Scores) -> dict[str, Any]:
    """Places, labels and ticks of the plot: content from left to right, style from bottom to top."""
    right = 1.08 * max(t.scores.content for t in done if t.scores) or 1.0
    low = 0.92 * min(t.scores.style for t in done if t.scores)
    high = 1.04 * max(photo.style, *(t.scores.style for t in done if t.scores)) or 1.0

    def place(content: float, style: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * content / right
        return round(x, 1), round(_TOP + (_BOTTOM - _TOP) * (high - style) / (high - low), 1)

    places = {t.number: place(t.scores.content, t.scores.style) for t in done if t.scores}
    recommended = {trial.number: purpose for purpose, trial in reversed(list(chosen.items()))}
    on_front = {trial.number for trial in front}
    texts = {t.number: recommended.get(t.number, t.candidate.name) for t in done}
    order = sorted(places, key=lambda number: (number not in recommended, number not in on_front, number))
    labels = _labels([(places[number], texts[number]) for number in order if texts[number]], list(places.values()))
    points = [
        {
            "number": trial.number,
            "place": places[trial.number],
            "kind": "chosen" if trial.number in recommended else "named" if trial.candidate.name else "other",
            "text": describe(trial.candidate),
        }
        for trial in done
    ]
    return {
        "size": (_WIDTH, _HEIGHT),
        "edges": {"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM},
        "points": sorted(points, key=lambda point: ("other", "named", "chosen").index(point["kind"])),
        "labels": labels,
        "line": " ".join(f"{x},{y}" for x, y in (places[trial.number] for trial in front)),
        "photo": place(0, photo.style),
        "x_ticks": [(place(value, low)[0], f"{value:.3g}") for value in _ticks(0, right)],
        "y_ticks": [(place(0, value)[1], f"{value:.3g}") for value in _ticks(low, high)],
    }


def _labels(
    wanted: Sequence[tuple[tuple[float, float], str]], points: Sequence[tuple[float, float]]
) -> list[tuple[float, float, str, str]]:
    """Left end and base line of each text: where neither another text nor a point is, beside its own point or, with a
    line to it (its ends; "" if there is none), farther away; else nowhere."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found = []
    for (x, y), text in wanted:
        width = _LETTER * len(text)
        beside = (
            (x + 9, y + 5),
            (x - 9 - width, y + 5),
            (x - width / 2, y - 11),
            (x - width / 2, y + 21),
            (x + 9, y - 9),
            (x + 9, y + 19),
        )
        away = [
            (left, y + 5 + down)
            for down in (-30, 30, -55, 55, -80, 80)
            for left in (x + 9, x - width, x + 40, x - 40 - width)
        ]
        for left, base in (*beside, *away):
            box = (left, base - 13, left + width, base + 3)
            inside = left > _LEFT and left + width < _WIDTH and 0 < base < _BOTTOM
            if inside and not any(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
            ):
                taken.append(box)
                end = f"{min(max(left, x), left + width):.1f},{base + (3 if base < y else -13):.1f}"
                found.append((round(left, 1), round(base, 1), text, "" if (left, base) in beside else f"{x},{y} {end}"))
                break
    return found


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    step = next(
        step for step in (n * 10.0**power for power in range(-5, 6) for n in (1, 2, 5)) if (high - low) / step <= 6
    )
    first = int(low / step) + (low > 0)
    return [step * number for number in range(first, int(high / step) + 1)]
