"""Training photos from a folder of pictures, in an endless order that can be resumed at any step."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fst.checkpoints import folder_fingerprint
from fst.errors import UserError
from fst.pictures import ImageError, flatten_alpha, read_all, read_image, require_images
from fst.training.data.crops import CropDataModule, random_crop

log = logging.getLogger(__name__)


class PhotoDataset(Dataset[Tensor]):
    """Random crops by position in an endless shuffled stream.

    The crop at a position depends on `seed` and the position alone, so any number of workers and any resumed run
    see the same pictures in the same order. A file that cannot be read is named once in a warning and replaced by the
    next one in the folder.

    Args:
        paths: picture files that `fst.pictures` can read.
        size: side of the square crops, in pixels.
        seed: decides the order and the crops.
    """

    def __init__(self, paths: list[Path], size: int, seed: int) -> None:
        self.paths, self.size, self.seed = paths, size, seed
        # In memory that the workers share, so that a bad file is named once, not by each worker in each epoch.
        self.unreadable = torch.zeros(len(paths), dtype=torch.bool).share_memory_()
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, position: int) -> Tensor:
        """The `(size, size, 3)` uint8 crop at `position`, any number from 0 up."""
        epoch, place = divmod(position, len(self.paths))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.paths), generator=generator)
        first = int(self._order[place])
        for offset in range(len(self.paths)):
            index = (first + offset) % len(self.paths)
            if self.unreadable[index]:
                continue
            try:
                image = flatten_alpha(read_image(self.paths[index], at_least=2 * self.size))
            except ImageError as error:
                self.unreadable[index] = True
                log.warning("left out: %s", error)
                continue
            return random_crop(image, self.size, (self.seed, position))
        raise UserError("none of the pictures can be read any more (data.root)")


class PhotoDataModule(CropDataModule):
    """Training crops and fixed validation crops from folders of pictures, as `(B, H, W, 3)` uint8 batches.

    Args:
        root: folder of training pictures; nested folders are searched.
        seed: decides the order and the crops.
        val_root: folder of validation pictures; `None` holds out some of the training pictures.
        size, batch_size, workers, val_count: see `CropDataModule`.

    Raises:
        UserError: a folder is missing or holds no picture that can be read.
    """

    def __init__(
        self,
        root: str,
        size: int = 256,
        batch_size: int = 4,
        seed: int = 0,
        workers: int | None = None,
        val_root: str | None = None,
        val_count: int = 8,
    ) -> None:
        super().__init__(size, batch_size, workers, val_count)
        paths = require_images(root, "data.root=")
        if val_root is None:
            held_out = max(1, min(val_count, len(paths) // 10))
            step = max(1, len(paths) // held_out)
            val_paths = [_first_readable(paths[start : start + step], size) for start in range(0, len(paths), step)]
            val_paths = val_paths[:held_out]
            held_paths = set(val_paths)
            paths = [path for path in paths if path not in held_paths] or paths
        else:
            val_paths = require_images(val_root, "data.val_root=")
        self.photos = PhotoDataset(paths, size, seed)
        self._val_paths = val_paths
        self._roots = root, val_root

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.photos[0]  # a folder with only damaged files fails here, not in a worker

    def validation_images(self) -> Iterator[Image]:
        return read_all(self._val_paths, self.size)

    def train_dataloader(self) -> DataLoader:
        return self.make_loader(self.photos, batch_sampler=self.batches())

    def fingerprints(self) -> dict[str, str]:
        root, val_root = self._roots
        found = {"root": folder_fingerprint(root, self.photos.paths)}
        return found if val_root is None else found | {"val_root": folder_fingerprint(val_root, self._val_paths)}

    def report_unreadable(self) -> None:
        if count := int(self.photos.unreadable.sum()):
            log.warning("%d of %d pictures could not be read and were left out", count, len(self.photos.paths))


def _first_readable(paths: list[Path], size: int) -> Path:
    """The first of some pictures that can be read; the first of all if none can."""
    for path in paths:
        with suppress(ImageError):
            read_image(path, at_least=size)
            return path
    return paths[0]
