"""Training photos from tar shards (webdataset), for collections too large for one disk or folder."""

import functools
import io
import itertools
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fst.errors import UserError
from fst.pictures import PICTURE_SUFFIXES, ImageError, flatten_alpha, read_all, read_image, require_images
from fst.training.data.crops import CropDataModule, random_crop
from fst.values import expand_shards

log = logging.getLogger(__name__)

_SHUFFLED = 1000  # pictures, still compressed, from which the next one is drawn at random


class ShardStream(IterableDataset[Tensor]):
    """An endless stream of random crops: shards are drawn at random, and their pictures shuffled within a window.

    Every worker of every process has a stream of its own, decided by `seed` and the worker's number. A shard or
    picture that cannot be read is named in a warning and left out.

    Args:
        urls: the shards.
        size: side of the square crops, in pixels.
        seed: decides everything random.
        held_out: (URL of the shard, name) of the pictures that are left out for validation.
    """

    def __init__(self, urls: list[str], size: int, seed: tuple[int, ...], held_out: set[tuple[str, str]]) -> None:
        self.urls, self.size, self.seed, self.held_out = urls, size, seed, held_out
        self._drawn = 0  # shards since the last picture that could be read

    def __iter__(self) -> Iterator[Tensor]:
        import webdataset as wds

        worker = get_worker_info()
        seed = (*self.seed, 0 if worker is None else worker.id)
        rng = random.Random(repr(seed))
        pictures = filter(self._is_free, _pictures(self._draw_shards(rng)))
        number = itertools.count()
        for url, name, data in wds.filters.shuffle(_SHUFFLED, initial=1, rng=rng)(pictures):
            if (image := _decode(url, name, data, 2 * self.size)) is not None:
                self._drawn = 0
                yield random_crop(image, self.size, (*seed, next(number)))

    def _is_free(self, picture: tuple[str, str, bytes]) -> bool:
        return picture[:2] not in self.held_out

    def _draw_shards(self, rng: random.Random) -> Iterator[dict[str, str]]:
        while True:
            self._drawn += 1
            if self._drawn > 10 * len(self.urls):
                left = ", and is not held out for validation (data.val_root, or a smaller data.val_count)"
                raise UserError(f"no shard has a picture that can be read{left if self.held_out else ''} (data.urls)")
            yield {"url": rng.choice(self.urls)}


def _pictures(shards: Iterator[dict[str, str]]) -> Iterator[tuple[str, str, bytes]]:
    """(URL of the shard, name, content) of every picture in the shards."""
    from webdataset.tariterators import tar_file_expander, url_opener

    for member in tar_file_expander(url_opener(shards, handler=_warn), handler=_warn):
        # webdataset marks a shard's end by a member without a name
        if Path(member.get("fname", "")).suffix.lower() in PICTURE_SUFFIXES:
            yield member["__url__"], member["fname"], member["data"]


def _decode(url: str, name: str, data: bytes, at_least: int) -> Image | None:
    try:
        return flatten_alpha(read_image(Path(url, name), at_least, io.BytesIO(data)))
    except ImageError as error:
        log.warning("left out: %s", error)
        return None


def _warn(error: Exception) -> bool:
    """A webdataset handler: log the error and continue."""
    _warn_once(f"{error.args[-1]} ({type(error).__name__})")
    return True


@functools.cache  # a shard is drawn many times, but reported once
def _warn_once(error: str) -> None:
    log.warning("left out a shard, or the rest of it: %s", error)


class ShardDataModule(CropDataModule):
    """Training crops from tar shards, as `(B, H, W, 3)` uint8 batches; `scripts/pack_photos.py` makes such shards.

    The order depends on the seed, the number of processes and workers, and the step at which the run starts, so a
    resumed run sees other pictures than an uninterrupted one would.

    Args:
        urls: the shards, with braces: `photos-{0000..0099}.tar`, `https://…`, or S3 through `pipe:`.
        seed: decides the order and the crops.
        val_root: folder of validation pictures; `None` holds out the first pictures that can be read.
        crops: the arguments of `CropDataModule`.

    Raises:
        UserError: webdataset is not installed, or no picture can be read.
    """

    def __init__(self, urls: str, seed: int = 0, val_root: str | None = None, **crops: Any) -> None:
        super().__init__(**crops)
        self.urls = expand_shards(urls)
        self.seed, self.val_root = seed, val_root
        self._held_out: set[tuple[str, str]] = set()

    def validation_images(self) -> Iterator[Image]:
        if self.val_root is not None:
            yield from read_all(require_images(self.val_root, "data.val_root="), self.size)
            return
        for url, name, data in _pictures({"url": url} for url in self.urls):
            if (image := _decode(url, name, data, self.size)) is not None:
                self._held_out.add((url, name))
                yield image

    def train_dataloader(self) -> DataLoader:
        batch, rank, share = self.position()
        stream = ShardStream(self.urls, self.size, (self.seed, batch, rank), self._held_out)
        next(iter(stream))  # shards without a readable picture fail here, not in a worker
        return self.make_loader(stream, batch_size=share)
