"""Photos to train on: a folder of pictures, nested or flat, in an endless order that any step can be resumed from."""

import atexit
import functools
import hashlib
import itertools
import logging
import multiprocessing
import os
import signal
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from fst.errors import UserError
from fst.images import ImageError, find_images, flatten_alpha, read_image

log = logging.getLogger(__name__)

# Crops cover from a third of the photo to all of it: at the small end they show what larger pictures look like.
_CROP_AREA, _CROP_RATIO = (0.33, 1.0), (0.8, 1.25)
_MOST_WORKERS = 8


class PhotoDataset(Dataset[Tensor]):
    """Random crops by position in an endless shuffled stream.

    The crop at a position depends on `seed` and the position alone, so any number of workers and any resumed run
    see the same pictures in the same order. A file that cannot be read is named once in a warning, and the next
    one in the folder takes its place.

    Args:
        paths: pictures of any kind `fst.images` reads.
        size: side of the square crops, in pixels.
    """

    def __init__(self, paths: list[Path], size: int, seed: int) -> None:
        self.paths, self.size, self.seed = paths, size, seed
        # Shared with the workers, so that a bad file is tried and named once, not once a worker and epoch.
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


class CropDataModule(pl.LightningDataModule):
    """What photos from a folder and from shards share: fixed validation crops, and batches shared out to processes.

    Args:
        size: side of the crops, in pixels.
        batch_size: pictures a step, over all devices.
        workers: processes that decode; `None` for half of the cores, at most eight.
        val_count: how many validation pictures.
    """

    def __init__(self, size: int = 256, batch_size: int = 4, workers: int | None = None, val_count: int = 8) -> None:
        super().__init__()
        self.size, self.batch_size, self.val_count = size, batch_size, val_count
        self.workers = min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) // 2)) if workers is None else workers
        self._validation: TensorDataset | None = None

    def validation_images(self) -> Iterator[Image]:
        """Pictures that are never trained on, in a fixed order."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        if self._validation is None:
            images = itertools.islice(self.validation_images(), self.val_count)
            if not (crops := [_centre_crop(image, self.size) for image in images]):
                raise UserError("none of the validation pictures can be read (data.val_root, or the data without it)")
            self._validation = TensorDataset(torch.stack(crops))

    def val_dataloader(self) -> DataLoader:
        assert self._validation is not None, "setup() comes first"
        return DataLoader(self._validation, self.batch_size, collate_fn=lambda rows: torch.stack([r[0] for r in rows]))

    def report_unreadable(self) -> None:
        """Say how many pictures were left out, if that is known."""

    def fingerprints(self) -> dict[str, str]:
        """What stands for folders among the data's settings when a run goes on: which pictures are in them, by key."""
        return {}

    def make_loader(self, dataset: Dataset[Tensor], **options: Any) -> DataLoader:
        process_ids = torch.zeros(self.workers, dtype=torch.int64).share_memory_()  # each worker fills in its own
        atexit.register(_end_workers, process_ids)
        return DataLoader(
            dataset,
            num_workers=self.workers,
            worker_init_fn=functools.partial(_start_worker, process_ids),
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def position(self) -> tuple[int, int, int]:
        """The batch that comes next (a resumed run's is not 0), this process's rank, and its share of a batch."""
        batch, rank, processes = 0, 0, 1
        if self.trainer is not None:
            batch = self.trainer.global_step * self.trainer.accumulate_grad_batches
            rank, processes = self.trainer.global_rank, self.trainer.world_size
        share, rest = divmod(self.batch_size, processes)
        if rest:
            raise UserError(f"data.batch_size={self.batch_size} cannot be shared out evenly to {processes} processes")
        return batch, rank, share

    def batches(self) -> Iterator[list[int]]:
        """Positions of this process's share of each batch."""
        first_batch, rank, share = self.position()
        for batch in itertools.count(first_batch):
            first = batch * self.batch_size + rank * share
            yield list(range(first, first + share))


class PhotoDataModule(CropDataModule):
    """Training crops and fixed validation crops from folders of pictures, as `(B, H, W, 3)` uint8 batches.

    Args:
        root: folder of training pictures; nested folders are searched.
        seed: of the order and the crops.
        val_root: folder of validation pictures; `None` holds some of the training pictures out.
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
        paths = find_photos("data.root", root)
        if val_root is None:
            held_out = max(1, min(val_count, len(paths) // 10))
            val_paths = paths[:: max(1, len(paths) // held_out)][:held_out]
            held_paths = set(val_paths)
            paths = [path for path in paths if path not in held_paths] or paths
        else:
            val_paths = find_photos("data.val_root", val_root)
        self.photos = PhotoDataset(paths, size, seed)
        self._val_paths = val_paths
        self._roots = root, val_root

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.photos[0]  # a folder of nothing but damaged files ends here, not in a worker

    def validation_images(self) -> Iterator[Image]:
        return read_all(self._val_paths, self.size)

    def train_dataloader(self) -> DataLoader:
        return self.make_loader(self.photos, batch_sampler=self.batches())

    def fingerprints(self) -> dict[str, str]:
        root, val_root = self._roots
        found = {"root": fingerprint(root, self.photos.paths)}
        return found if val_root is None else found | {"val_root": fingerprint(val_root, self._val_paths)}

    def report_unreadable(self) -> None:
        if count := int(self.photos.unreadable.sum()):
            log.warning("%d of %d pictures could not be read and were left out", count, len(self.photos.paths))


def read_all(paths: Iterable[Path], size: int) -> Iterator[Image]:
    """The pictures that can be read, a warning for each of the others."""
    for path in paths:
        try:
            yield flatten_alpha(read_image(path, at_least=size))
        except ImageError as error:
            log.warning("left out of validation: %s", error)


def random_crop(image: Image, size: int, seed: Hashable) -> Tensor:
    """The `(size, size, 3)` uint8 crop that belongs to `seed`: of random size and shape, half of them mirrored."""
    augment = v2.Compose([v2.RandomResizedCrop(size, scale=_CROP_AREA, ratio=_CROP_RATIO), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash(seed))
        return v2.functional.pil_to_tensor(augment(image)).permute(1, 2, 0)


def _centre_crop(image: Image, size: int) -> Tensor:
    crop = v2.functional.center_crop(v2.functional.resize(image, [size]), [size])
    return v2.functional.pil_to_tensor(crop).permute(1, 2, 0).contiguous()


def _start_worker(process_ids: Tensor, worker: int) -> None:
    """Terminals and job managers signal the whole group; a worker that dies of it takes the checkpoint with it."""
    process_ids[worker] = os.getpid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_workers(process_ids: Tensor) -> None:
    """Python ends what is left at its exit by the SIGTERM that workers ignore, and waits for them for ever."""
    ours = set(process_ids.tolist())
    workers = [child for child in multiprocessing.active_children() if child.pid in ours]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would complain of the loss
    for worker in workers:
        worker.kill()


def fingerprint(folder: str, paths: list[Path]) -> str:
    """How many pictures of a folder, and a hash of their names and sizes: the same wherever the folder lies."""
    root, digest = Path(folder).expanduser(), hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\n{path.stat().st_size}\n".encode(errors="surrogateescape"))
    return f"{len(paths)} pictures ({digest.hexdigest()[:8]})"


def find_photos(key: str, folder: str) -> list[Path]:
    """All pictures of a folder that the configuration names at `key`; UserError if there are none."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{key}={folder}: no such folder; name a folder of photos, or get scripts/download_coco.py's")
    if not (paths := find_images(root)):
        raise UserError(f"{key}={folder}: no pictures in it or below it")
    return paths
