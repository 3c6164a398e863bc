"""Types of configuration values: numbers with ranges, names from tables, files that must exist.

Here, in `fst.schemas` and `fst.rules`, torch is loaded only by the checks that need it, so that mistakes are found at
once.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from fst.errors import UserError
from fst.files import check_name, expand_user
from fst.networks.vgg_layers import LOSS_NETWORKS
from fst.pictures import LEAST_SIDE, PICTURE_SUFFIXES, read_image
from fst.resources import find_style_image
from fst.style_info import check_style_name, find_style, read_info
from fst.typed import Check, one_of, show


def _read_picture(value: str) -> None:
    read_image(Path(value), at_least=1)


def _read_style_image(value: str) -> None:
    read_image(find_style_image(value), at_least=1)


def _check_photos(value: str) -> None:
    folder = expand_user(value)
    if not folder.is_dir():
        raise UserError("no such folder; name a folder of photos, or download COCO with scripts/download_coco.py")
    if not any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.rglob("*")):
        raise UserError("no pictures in it or below it")


def expand_shards(urls: str) -> list[str]:
    """The tar files or URLs that a pattern with braces names. Raises a `UserError` if webdataset is not installed."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise UserError("data=webdataset needs an extra: pip install 'fast-style-transfer[webdataset]'") from error
    return expand_urls(urls)


def _check_shards(value: str) -> None:
    for url in expand_shards(value):
        if ":" not in url and not Path(url).is_file():
            raise UserError(f"{show(url)} is not a file")


def _check_weights(value: str) -> None:
    if value not in ("imagenet", "bundled", "random") and not Path(value).is_file():
        raise UserError("no such file; it can be imagenet, bundled (compact only), random or a file's path")


def _load_style(value: str) -> None:
    path = find_style(value)
    read_info(path)
    from fst.style_file import load_style  # only now what loads torch

    load_style(path)


def _check_device(value: str) -> None:
    if value not in ("auto", "cpu"):
        from fst.hardware import pick_device  # likewise

        pick_device(value)


Count = Annotated[int, Meta(ge=1, le=10**9)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]  # NumPy's range
Side = Annotated[int, Meta(ge=LEAST_SIDE, le=16384)]  # pixels
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e15)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Channels = Annotated[int, Meta(ge=1, le=512)]
Blocks = Annotated[int, Meta(ge=1, le=64)]
Text = Annotated[str, Meta(min_length=1, description="text")]
Name = Annotated[str, Check(check_name, "text that can name a file")]
StyleName = Annotated[str, Check(check_style_name, "text that can name a file")]
Picture = Annotated[str, Check(_read_picture, "a picture file")]
StylePicture = Annotated[str, Check(_read_style_image, "a picture file or the name of a bundled picture")]
Photos = Annotated[str, Check(_check_photos, "a folder of photos")]
Shards = Annotated[str, Check(_check_shards, "tar files or URLs")]
Weights = Annotated[str, Check(_check_weights, "imagenet, bundled, random or a file")]
Style = Annotated[str, Check(_load_style, "a trained style's name or file")]
# `check_start` reads its weights: that may take the class that is being trained.
Start = Annotated[str, Check(lambda value: read_info(find_style(value)), "a trained style's name or file")]
Device = Annotated[str, Check(_check_device, "auto, cpu, cuda, cuda:1 or mps")]
SlowAlgorithm = Literal["lbfgs", "adam"]  # of the slow method
Norm = Literal["instance", "batch"]  # the keys of `fst.networks.transform.NORMS`
Architecture = Annotated[str, one_of(LOSS_NETWORKS)]
Method = Literal["slow", "fast"]
Task = Literal["transfer", "reconstruct", "texture"]
