"""`fst search`: which layers and which weights suit a painting. Candidates are tried, and scored by criteria that no
loss minimises; the report shows those that no other beats in both style and content."""

import functools
import itertools
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from fst.checkpoints import fingerprint, flat_settings, folder_fingerprint
from fst.errors import RunError, UserError, find_cause
from fst.files import write_atomically
from fst.hardware import fast_dtype, keep_large_blocks, pick_device
from fst.images import from_uint8, read_tensor, to_pil
from fst.inference.stylizer import Stylizer
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.overrides import device_overrides, overrides_of, search_path
from fst.perceptual import LossWeights, PerceptualLoss
from fst.pictures import read_all, write_image
from fst.resources import find_style_image
from fst.signals import StopRequest
from fst.study import fast
from fst.study.criteria import Criteria
from fst.study.front import front_of, recommend
from fst.study.gatys import Optimization
from fst.study.search_config import OTHER_WEIGHTS, photo_files
from fst.study.search_report import Result, photos_file, picture_file, write_report
from fst.study.space import Candidate, describe, layer_set, named_candidates, usable
from fst.study.trials import Trials
from fst.training.data.crops import centre_crop

log = logging.getLogger(__name__)

SCORED_SCALES = (1.0, 1.5, 2.0)  # sizes of the painting that pictures are scored against: the same for all spaces
# What may differ when a search goes on: it decides how many trials there are and which, but not their scores.
_MAY_DIFFER = ("trials", "minutes", "sampler", "first", "name", "config_dir", "seed", "device")


class Workbench:
    """Makes and scores the pictures of candidates."""

    def __init__(self, config: DictConfig, first: Sequence[Candidate]) -> None:
        self._config, self.device = config, pick_device(config.device)
        space = usable(config.space, config.loss_network.architecture)
        layers = {*space["content"], *space["style"]}
        for candidate in first:
            layers.update(candidate.content, candidate.style)
        self._network = LossNetwork(layers=layers, **config.loss_network).to(self.device)
        self._network.use_dtype(fast_dtype(self.device))
        judge = LossNetwork(layers=relu_layers(config.judge.architecture), **config.judge).to(self.device)
        self.criteria = Criteria(judge, [self._style_image(scale) for scale in SCORED_SCALES])
        squares = [centre_crop(photo, config.size) for photo in read_all(photo_files(config))]
        if len(squares) < 2:
            raise UserError(f"photos={config.photos}: too few of its pictures can be read; name another folder")
        photos = from_uint8(torch.stack(squares)).to(self.device)
        self.photos, self.others = photos[::2], photos[1::2]  # for the trials, and to check the result on
        self.photo = self.criteria.score(self.photos, self.photos)  # the scores of photos as they are

    def make(self, candidate: Candidate, photos: Tensor, folder: Path, request: StopRequest) -> Tensor:
        """The candidate's pictures of `(B, 3, H, W)` photos.

        Args:
            folder: for the files of a network that is trained; a finished one is not trained again.
            request: of a stop.

        Raises:
            KeyboardInterrupt: there is a request.
            RunError: the loss became NaN, or the training failed.
        """
        if request.signal:
            raise KeyboardInterrupt
        if self._config.method == "fast":
            style = fast.train(train_overrides(self._config, candidate, folder), folder, folder / "train.log")
            stylizer = Stylizer(style, str(self.device))
            return torch.cat([stylizer(photo).clamp(0, 1) for photo in photos.split(1)])
        weights = LossWeights(**(dict(self._config.loss.weights) | {"style": candidate.style_weight}))
        loss = PerceptualLoss(
            self._network,
            self._style_image(candidate.style_scale),
            candidate.content,
            candidate.style,
            weights,
            self._config.loss.convention,
            self._config.loss.reduction,
        )
        pictures = []
        for photo in photos.split(1):  # one by one: on a CPU as fast as together, and L-BFGS needs fewer iterations
            run = Optimization(loss, photo, photo)
            for _ in itertools.islice(run, self._config.steps):
                if request.signal:
                    raise KeyboardInterrupt
            pictures.append(run.pixels.detach())
        return torch.cat(pictures)

    @functools.cache  # noqa: B019 (one object for each search)
    def _style_image(self, scale: float) -> Tensor:
        size = round(scale * self._config.size)
        return read_tensor(find_style_image(self._config.style.image), size).to(self.device)


def side_by_side(pictures: Tensor) -> Image:
    """`(B, 3, H, W)` pictures in one row."""
    return to_pil(torch.cat(pictures.split(1), 3))


def train_overrides(config: DictConfig, candidate: Candidate, folder: Path) -> list[str]:
    """The arguments of `fst train` for a candidate, whose layer set is written into `folder`."""
    network, loss = config.loss_network, config.loss
    text = layer_set(candidate, network.architecture, f"fst search {config.name}")
    write_atomically(folder / "layers" / "candidate.yaml", text.encode())
    values = {
        "experiment": "study",
        "name": "candidate",
        "layers": "candidate",
        "loss_network": network.architecture,
        "loss_network.weights": network.weights,
        "loss_network.pooling": network.pooling,
        "loss": loss.convention,
        "loss.reduction": loss.reduction,
        **{f"loss.weights.{name}": loss.weights[name] for name in OTHER_WEIGHTS},
        "loss.weights.style": candidate.style_weight,
        "style.image": config.style.image,
        "style.size": round(candidate.style_scale * config.size),
        "data": "folder",
        "data.root": config.photos,
        "data.size": config.size,
        "data.val_count": 2 * config.count,
        "trainer.max_steps": config.train_steps,
        "seed": config.seed,
    }
    return [*overrides_of(values), *device_overrides(config.device), *search_path(str(folder))]


def search(config: DictConfig, folder: Path, first: Sequence[Candidate] | None = None) -> str:
    """Run the trials that are left, check the result on other photos, and write page, numbers and layer sets.

    Args:
        config: of `fst search`.
        first: tried before the sampler chooses; `None` means the layer sets that the configuration names.

    Returns:
        The page's path, and the commands that train with the result.

    Raises:
        UserError: the folder holds a search with other settings.
        RunError: all trials failed.
        KeyboardInterrupt: stopped by a signal; what is done is kept, and its page is written.
    """
    keep_large_blocks()
    if first is None:
        first = named_candidates(config)
    space = usable(config.space, config.loss_network.architecture)
    left_out = [name for name in config.first if name not in {candidate.name for candidate in first}]
    left_out += [layer for key in ("content", "style") for layer in config.space[key] if layer not in space[key]]
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        log.info("left out, with layers that %s lacks: %s", config.loss_network.architecture, names)
    trials = Trials(folder, _settings(config), space, first, config.sampler, config.seed)
    workbench = Workbench(config, first)
    write_image(side_by_side(workbench.photos), photos_file(folder))
    try:
        with StopRequest() as request:
            _run(config, folder, trials, workbench, request)
            _check(folder, trials, workbench, request)
    finally:
        with trials.lock:  # of processes that share a search, the last one writes the newest page
            tried = trials.all()
            if front_of(tried):
                result = Result(tried, trials.checks(), trials.importances(), workbench.photo)
                text = write_report(config, result, folder)
    if not front_of(tried):
        raise RunError(f"no trial is done; the first: {next((t.failed for t in tried), 'there was none')}")
    return text


def _run(config: DictConfig, folder: Path, trials: Trials, workbench: Workbench, request: StopRequest) -> None:
    """Try candidates until there are enough, or the time is over."""
    end = time.monotonic() + 60 * (config.minutes or math.inf)
    done = len(trials.all())
    with tqdm(total=max(done, config.trials), initial=done, unit="trial", dynamic_ncols=True) as bar:
        while time.monotonic() < end and (claimed := trials.claim(config.trials)):
            number, candidate = claimed
            start = time.perf_counter()
            try:
                pictures = workbench.make(candidate, workbench.photos, folder / "trained" / f"{number:04}", request)
                write_image(side_by_side(pictures), picture_file(folder, number))
                scores = workbench.criteria.score(workbench.photos, pictures)
            except Exception as error:  # of this candidate: the others go on
                reason = str(find_cause(error) or f"{type(error).__name__}: {error}")
                log.error("trial %d (%s) failed: %s", number, describe(candidate), reason)
                trials.fail(reason)
            else:
                trials.finish(scores, time.perf_counter() - start)
            tried = trials.all()
            bar.n = sum(bool(trial.scores or trial.failed) for trial in tried)
            bar.set_postfix(front=len(front_of(tried)))


def _check(folder: Path, trials: Trials, workbench: Workbench, request: StopRequest) -> None:
    """Score the recommended candidates, and the first of all, on photos that no trial used."""
    front = front_of(trials.all())
    if not front:
        return
    first = [trial for trial in trials.all() if trial.scores][:1]
    left = {
        t.number: t for t in [*recommend(front, workbench.photo).values(), *first] if t.number not in trials.checks()
    }
    for number, trial in tqdm(left.items(), desc="on other photos", unit="set", leave=False):
        pictures = workbench.make(trial.candidate, workbench.others, folder / "trained" / f"{number:04}", request)
        trials.add_check(number, workbench.criteria.score(workbench.others, pictures))


def _settings(config: DictConfig) -> dict[str, Any]:
    """All settings that decide the scores, by dotted key; files and photos are represented by their fingerprints."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    files = {"style.image": find_style_image(config.style.image)}
    files |= {f"{key}.weights": Path(config[key].weights) for key in ("loss_network", "judge")}
    known = {key: fingerprint(path) for key, path in files.items() if path.is_file()}
    known["photos"] = folder_fingerprint(config.photos, photo_files(config))
    seeded = config.method == "fast"  # networks start from random weights, the slow method from the photos
    return flat_settings(plain, tuple(key for key in _MAY_DIFFER if not (seeded and key == "seed"))) | known
