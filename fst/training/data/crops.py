"""What the sources of training pictures share: random crops, fixed validation crops, workers, batches."""

import atexit
import functools
import gc
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Hashable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from fst.errors import UserError

# A crop covers a third of the photo to all of it. Small crops show what larger pictures look like.
_CROP_AREA, _CROP_RATIO = (0.33, 1.0), (0.8, 1.25)
_MOST_WORKERS = 8


class CropDataModule(pl.LightningDataModule):
    """Base class of the data modules: fixed validation crops, and batches divided between processes.

    A subclass has `validation_images` and `train_dataloader`, which gives `(B, H, W, 3)` uint8 batches; `make_loader`,
    `position` and `batches` are for the latter.

    Args:
        size: side of the square crops, in pixels.
        batch_size: pictures per step, over all devices.
        workers: processes that decode; `None` for half of the cores, at most eight.
        val_count: the number of validation pictures.
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
            if not (crops := [centre_crop(image, self.size) for image in images]):
                raise UserError("none of the validation pictures can be read (data.val_root, or the data without it)")
            self._validation = TensorDataset(torch.stack(crops))

    def val_dataloader(self) -> DataLoader:
        assert self._validation is not None, "setup() comes first"
        return DataLoader(self._validation, self.batch_size, collate_fn=lambda rows: torch.stack([r[0] for r in rows]))

    def report_unreadable(self) -> None:
        """Log how many pictures could not be read, if that is known."""

    def fingerprints(self) -> dict[str, str]:
        """By key, a hash of the pictures in each folder; compared in place of its path when a run is resumed."""
        return {}

    def make_loader(self, dataset: Dataset[Tensor], **options: Any) -> DataLoader:
        """Batches of a data set's `(size, size, 3)` uint8 crops, made in `workers` processes.

        Args:
            options: of PyTorch's `DataLoader`: what makes batches of the crops.
        """
        process_ids = torch.zeros(self.workers, dtype=torch.int64).share_memory_()  # each worker writes its own
        atexit.register(_end_workers, process_ids)
        return DataLoader(
            dataset,
            num_workers=self.workers,
            worker_init_fn=functools.partial(_start_worker, process_ids),
            persistent_workers=self.workers > 0,
            # In the processes of a sweep joblib has changed the default, to one that cannot start workers.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def position(self) -> tuple[int, int, int]:
        """The number of the next batch (not 0 in a resumed run), this process's rank, and its pictures per batch."""
        batch, rank, processes = 0, 0, 1
        if self.trainer is not None:
            batch = self.trainer.global_step * self.trainer.accumulate_grad_batches
            rank, processes = self.trainer.global_rank, self.trainer.world_size
        share, rest = divmod(self.batch_size, processes)
        if rest:
            raise UserError(f"data.batch_size={self.batch_size} cannot be divided evenly between {processes} processes")
        return batch, rank, share

    def batches(self) -> Iterator[list[int]]:
        """The positions in the stream of this process's part of each batch."""
        first_batch, rank, share = self.position()
        for batch in itertools.count(first_batch):
            first = batch * self.batch_size + rank * share
            yield list(range(first, first + share))


def random_crop(image: Image, size: int, seed: Hashable) -> Tensor:
    """A `(size, size, 3)` uint8 crop; `seed` decides its place, area and aspect ratio, and whether it is mirrored."""
    augment = v2.Compose([v2.RandomResizedCrop(size, scale=_CROP_AREA, ratio=_CROP_RATIO), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash(seed))
        return v2.functional.pil_to_tensor(augment(image)).permute(1, 2, 0)


def centre_crop(image: Image, size: int) -> Tensor:
    """The `(size, size, 3)` uint8 square from the middle of a picture, as high or wide as the picture."""
    most = 4 * min(image.size)  # a line of pixels, scaled as a whole, would take gigabytes
    if max(image.size) > most:
        image = v2.functional.center_crop(image, [min(side, most) for side in (image.height, image.width)])
    crop = v2.functional.center_crop(v2.functional.resize(image, [size]), [size])
    return v2.functional.pil_to_tensor(crop).permute(1, 2, 0).contiguous()


def _start_worker(process_ids: Tensor, worker: int) -> None:
    """Ignore the signals that terminals and job managers send to all processes of a group, and leave what is inherited.

    A worker that dies of a signal would end the training before it has saved its checkpoint. One that frees a video
    decoder would wait for ever for its threads, which are in the parent alone.
    """
    gc.freeze()
    process_ids[worker] = os.getpid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_workers(process_ids: Tensor) -> None:
    """Kill the workers when Python exits: it would send the SIGTERM that they ignore, and wait for them for ever."""
    ours = set(process_ids.tolist())
    workers = [child for child in multiprocessing.active_children() if child.pid in ours]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error
    for worker in workers:
        worker.kill()
