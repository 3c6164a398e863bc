"""The configuration of `fst search`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from omegaconf import DictConfig

from fst.errors import UserError
from fst.inference.runtimes import require
from fst.pictures import LEAST_SIDE, require_images
from fst.schemas import Application, Loss, Network
from fst.study.space import Space, named_candidates, usable
from fst.values import Count, Device, Method, Name, Photos, Seed, StylePicture, Text

OTHER_WEIGHTS = ("content", "coarse_style", "tv")  # of the search's loss; a candidate's training has them as well


@dataclass
class Painting:
    image: StylePicture


@dataclass
class Search:
    """conf/search.yaml"""

    style: Painting
    photos: Photos
    count: Annotated[int, Meta(ge=1, le=64)]
    size: Annotated[int, Meta(ge=2 * LEAST_SIDE, le=4096)]
    method: Method
    steps: Count
    train_steps: Count
    trials: Count
    minutes: Annotated[float, Meta(gt=0, le=1e6)] | None
    sampler: Literal["tpe", "random"]
    first: list[Text]
    loss_network: Network
    loss: Loss
    space: Space
    judge: Network
    name: Name
    config_dir: str | None
    seed: Seed
    device: Device

    @staticmethod
    def rule(config: DictConfig) -> None:
        require("search")
        if not config.loss.weights.style:
            raise UserError("loss.weights.style=0: it can be a number above 0, the style weight of the named sets")
        usable(config.space, config.loss_network.architecture)
        named_candidates(config)
        photo_files(config)
        if config.loss.terms:
            raise UserError("loss.terms: fst search has the built-in terms only; leave them out")


SEARCH = Application("search", Search, "fst search style.image=PAINTING photos=FOLDER")


def photo_files(config: DictConfig) -> list[Path]:
    """Twice `count` photos, evenly spaced in the folder: those that `PhotoDataModule` never trains on.

    Raises:
        UserError: too few photos.
    """
    paths = require_images(config.photos, "photos=")
    wanted = 2 * config.count
    least = 10 * wanted if config.method == "fast" else wanted  # of fewer, the data module would hold out fewer
    if len(paths) < least:
        raise UserError(
            f"photos={config.photos}: {len(paths)} photos; count={config.count}, method={config.method} need {least}"
        )
    return paths[:: len(paths) // wanted][:wanted]
