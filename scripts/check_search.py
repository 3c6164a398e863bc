"""Does `fst search` predict trained networks? Trains a network for sets of a finished search, and compares the scores.

    python scripts/check_search.py outputs/search/starry_night --photos TRAINING_PHOTOS --val OTHER_PHOTOS

The sets are the named ones and others spread evenly over the trials by their style distance. Each network is trained as
`fst compare study=fast_sets` does and scored by the criteria of the search on photos that neither saw. The rank
correlation (Spearman) of both scores is printed with an interval: the middle 95% over 2,000 samples of the sets, drawn
with replacement. Finished networks are not trained again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.regression import spearman_corrcoef

from fst.checkpoints import checkpoint_of
from fst.cli import main as fst
from fst.errors import run_script
from fst.images import from_uint8, read_tensor
from fst.inference.stylizer import Stylizer
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.overrides import overrides_of
from fst.pictures import flatten_alpha, read_image, require_images
from fst.resources import find_style_image
from fst.study.criteria import Criteria
from fst.study.search import SCORED_SCALES
from fst.study.space import Candidate, layer_set
from fst.study.trials import OBJECTIVES
from fst.training.data.crops import centre_crop


def choose(trials: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The named sets, at most half of `count`, and other finished trials spread evenly over the style distance."""
    done = [trial for trial in trials if trial["scores"]]
    named = [trial for trial in done if trial["candidate"]["name"]][: count // 2]
    others = sorted((t for t in done if not t["candidate"]["name"]), key=lambda trial: trial["scores"]["style"])
    places = np.linspace(0, len(others) - 1, count - len(named)).round().astype(int)
    return named + [others[place] for place in dict.fromkeys(places) if others]


def train(trial: dict[str, Any], folder: Path, options: argparse.Namespace) -> Path:
    """The style file of a network that is trained with the trial's layer set."""
    candidate = Candidate(**trial["candidate"])
    name = f"trial_{trial['number']}"
    if not (style := folder / name / f"{name}.safetensors").is_file():
        text = layer_set(candidate, options.network, f"trial {trial['number']}")
        (folder / "layers").mkdir(parents=True, exist_ok=True)
        (folder / "layers" / f"{name}.yaml").write_text(text)
        values: dict[str, Any] = {"experiment": "study", "layers": name, "name": name, "data": "folder"}
        values |= {"loss.weights.style": candidate.style_weight, "style.image": options.style}
        values |= {"style.size": round(candidate.style_scale * options.size), "data.size": options.size}
        values |= {"data.root": str(options.photos), "hydra.run.dir": str(folder / name)}
        values |= {"ckpt_path": str(stopped)} if (stopped := checkpoint_of(folder / name)) else {}
        if fst(["train", "--config-dir", str(folder), *overrides_of(values), *options.train]):
            raise SystemExit(f"{name}: not trained")
    return style


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of the ranks; 0 if all values of one are equal."""
    return float(spearman_corrcoef(torch.from_numpy(one), torch.from_numpy(other)))


def interval(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Of the correlation, over sets drawn with replacement."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(one), len(one)) for _ in range(2000))
    low, high = np.quantile([spearman(one[draw], other[draw]) for draw in draws], (0.025, 0.975))
    return float(low), float(high)


@torch.no_grad()
def check(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The scores of each chosen set by the search and by its network."""
    document = json.loads((options.search / f"{options.search.name}.json").read_text())
    judge = LossNetwork(options.judge, relu_layers(options.judge), options.judge_weights)
    painting = find_style_image(options.style)
    criteria = Criteria(judge, [read_tensor(painting, round(scale * options.size)) for scale in SCORED_SCALES])
    paths = require_images(options.val, "--val ")[: options.count]
    squares = [centre_crop(flatten_alpha(read_image(path)), options.size) for path in paths]
    photos = from_uint8(torch.stack(squares))
    rows = []
    for trial in choose(document["trials"], options.sets):
        stylizer = Stylizer(str(train(trial, options.search / "networks", options)), "cpu")
        scores = criteria.score(photos, torch.cat([stylizer(photo).clamp(0, 1) for photo in photos.split(1)]))
        name = trial["candidate"]["name"] or f"trial {trial['number']}"
        rows.append({"set": name, "number": trial["number"]})
        for key in OBJECTIVES:
            rows[-1] |= {f"{key} of the search": trial["scores"][key], f"{key} of the network": getattr(scores, key)}
        print("  ".join(f"{k}: {v:.3f}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="folder of a finished search")
    parser.add_argument("--style", required=True, help="its style image")
    parser.add_argument("--photos", required=True, help="folder of training photos")
    parser.add_argument("--val", required=True, help="folder of photos that neither search nor networks saw")
    parser.add_argument("--count", type=int, default=8, help="of those photos; default 8")
    parser.add_argument("--sets", type=int, default=8, help="networks to train; default 8")
    parser.add_argument("--size", type=int, default=128, help="side of crops and photos in pixels; default 128")
    parser.add_argument("--network", default="vgg19", help="loss network of the search; default vgg19")
    parser.add_argument("--judge", default="vgg19", help="network that scores; default vgg19")
    parser.add_argument("--judge-weights", default="imagenet", help="its weights")
    parser.add_argument("--train", nargs="+", default=[], help="overrides of fst train: trainer.max_steps=500")
    options = parser.parse_args()
    rows = check(options)
    (options.search / "networks" / "scores.json").write_text(json.dumps(rows, indent=1))
    for key in OBJECTIVES:
        search, network = (np.array([row[f"{key} of the {who}"] for row in rows]) for who in ("search", "network"))
        low, high = interval(search, network)
        print(f"{key}: Spearman {spearman(search, network):.2f} ({low:.2f} to {high:.2f}) over {len(rows)} sets")


if __name__ == "__main__":
    run_script(main)
