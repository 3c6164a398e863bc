import gc
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from fst.errors import UserError
from fst.pictures import find_images
from fst.training.data.crops import centre_crop
from fst.training.data.folder import PhotoDataModule, PhotoDataset
from tests.conftest import make_picture


def batches(data: PhotoDataModule, count: int) -> list[torch.Tensor]:
    data.setup("fit")
    stream = iter(data.train_dataloader())
    return [next(stream) for _ in range(count)]


def test_batches_are_uint8_crops(photos: Path) -> None:
    data = PhotoDataModule(str(photos), size=32, batch_size=3, workers=0, val_count=2)
    (batch,) = batches(data, 1)
    assert (batch.shape, batch.dtype) == ((3, 32, 32, 3), torch.uint8)
    assert sum(len(batch) for batch in data.val_dataloader()) == 1  # at most a tenth of the photos is held out


def test_a_damaged_picture_is_not_held_out(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/00.jpg").write_text("damaged")  # the one that would be
    data = PhotoDataModule(str(tmp_path / "photos"), size=32, workers=0)
    with caplog.at_level(logging.WARNING):
        batches(data, 20)
    assert len(list(data.val_dataloader())) == 1
    assert caplog.text.count("00.jpg") == 1


def test_a_line_of_pixels_is_cut_before_it_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    line = make_picture(9000, 30).crop((0, 7, 9000, 8))
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *more, **named: sizes.append(size) or resize(self, size, *more, **named),
    )
    for picture in (line, line.rotate(90, expand=True)):
        crop = centre_crop(picture, 32)
        assert crop.shape == (32, 32, 3)
        assert crop.float().mean((0, 1)).sub(torch.tensor(line.getpixel((4500, 0)))).abs().max() < 40
    assert max(map(max, sizes)) <= 4 * 32


def test_workers_change_nothing_and_seeds_everything(photos: Path) -> None:
    def stream(workers: int, seed: int) -> torch.Tensor:
        return torch.stack(batches(PhotoDataModule(str(photos), 32, 2, seed=seed, workers=workers), 4))

    assert torch.equal(stream(0, 1), stream(2, 1))
    assert not torch.equal(stream(0, 1), stream(0, 2))


def test_a_worker_frees_nothing_that_it_inherited(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video decoder, freed there, would wait for ever for threads that are in the parent alone."""

    class Decoder:
        def __init__(self) -> None:
            self.itself = self  # so that only the garbage collector frees it

        def __del__(self) -> None:
            (tmp_path / str(os.getpid())).touch()

    def read(*arguments: object) -> torch.Tensor:
        if multiprocessing.parent_process():
            gc.collect()
        return torch.zeros(32, 32, 3, dtype=torch.uint8)

    monkeypatch.setattr(PhotoDataset, "__getitem__", read)
    gc.disable()
    try:
        Decoder()
        batches(PhotoDataModule(str(photos), size=32, batch_size=2, workers=1), 1)
    finally:
        gc.enable()
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


def test_a_script_that_still_holds_a_stream_ends(photos: Path) -> None:
    script = f"""
from fst.training.data.crops import centre_crop
from fst.training.data.folder import PhotoDataModule
data = PhotoDataModule({str(photos)!r}, 32, 2, workers=1)
data.setup("fit")
stream = iter(data.train_dataloader())
next(stream)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=100, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_only_its_own_workers_are_ended_at_exit(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", lambda end, *options: at_exit.append(partial(end, *options)))
    handler = signal.getsignal(signal.SIGCHLD)  # torch's would raise when its worker is killed
    data = PhotoDataModule(str(photos), 32, 2, workers=1)
    data.setup("fit")
    before = set(multiprocessing.active_children())
    stream = iter(data.train_dataloader())
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - before
    other = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    other.start()
    for end in at_exit:
        end()
    worker.join(10)
    assert not worker.is_alive()
    other.join(0.3)
    assert other.is_alive(), "somebody else's"
    other.kill()
    other.join(10)
    del stream
    signal.signal(signal.SIGCHLD, handler)


def test_an_epoch_shows_every_photo_once_and_the_next_in_another_order(photos: Path) -> None:
    dataset = PhotoDataset(find_images(photos), 32, seed=0)
    count = len(dataset.paths)
    orders = []
    for epoch in range(2):
        dataset[epoch * count]
        orders.append(dataset._order.tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(count))
    assert orders[0] != orders[1]


def test_crops_differ_between_epochs_but_not_between_readings(photos: Path) -> None:
    dataset = PhotoDataset(find_images(photos)[:1], 32, seed=0)
    assert torch.equal(dataset[5], dataset[5])
    assert not torch.equal(dataset[5], dataset[6])


def test_the_dataset_leaves_the_global_random_state_alone(photos: Path) -> None:
    dataset = PhotoDataset(find_images(photos), 32, seed=0)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    dataset[0]
    assert torch.equal(torch.rand(1), expected)


def test_validation_photos_are_held_out_or_come_from_their_own_folder(photos: Path, tmp_path: Path) -> None:
    data = PhotoDataModule(str(photos), 32)
    assert len(data.photos.paths) == 11
    shutil.copytree(photos, tmp_path / "val")
    data = PhotoDataModule(str(photos), 32, val_root=str(tmp_path / "val"), val_count=5)
    data.setup("fit")
    assert len(data.photos.paths) == 12
    assert sum(len(batch) for batch in data.val_dataloader()) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_odd_and_damaged_pictures_never_end_a_run(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    good = make_picture(48, 40)
    good.save(tmp_path / "a_good.jpg")
    good.convert("L").save(tmp_path / "grey.jpg")
    good.convert("CMYK").save(tmp_path / "cmyk.jpg")
    good.quantize(8).save(tmp_path / "palette.png")
    Image.new("RGBA", (30, 30), (9, 9, 9, 9)).save(tmp_path / "alpha.png")
    Image.new("I;16", (30, 30), 40000).save(tmp_path / "deep.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    Image.new("RGB", (400, 2)).save(tmp_path / "line.png")
    (tmp_path / "bad_cut.jpg").write_bytes((tmp_path / "a_good.jpg").read_bytes()[:700])
    (tmp_path / "bad_empty.png").touch()
    (tmp_path / "bad_text.jpg").write_text("no picture")
    data = PhotoDataModule(str(tmp_path), 32, 4, workers=workers, val_count=1)
    with caplog.at_level(logging.WARNING):
        for batch in batches(data, 11):  # four epochs
            assert batch.shape == (4, 32, 32, 3)
        data.report_unreadable()
    assert int(data.photos.unreadable.sum()) == 3
    assert "3 of 10 pictures could not be read" in caplog.text
    if workers == 0:  # with workers, the lines come from other processes
        for name in ("bad_cut.jpg", "bad_empty.png", "bad_text.jpg"):
            assert sum(name in line.getMessage() for line in caplog.records) == 1
    else:
        assert capfd.readouterr().err.count("bad_empty.png") <= 1


def test_a_bad_file_gives_its_place_to_the_next(photos: Path, tmp_path: Path) -> None:
    shutil.copy(find_images(photos)[0], tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").touch()
    dataset = PhotoDataset(find_images(tmp_path), 32, seed=0)
    assert all(dataset[position].shape == (32, 32, 3) for position in range(4))


def test_processes_share_out_each_batch(photos: Path) -> None:
    def stream(rank: int, processes: int) -> list[torch.Tensor]:
        data = PhotoDataModule(str(photos), 32, batch_size=4, workers=0)
        data.trainer = SimpleNamespace(global_step=3, accumulate_grad_batches=1, global_rank=rank, world_size=processes)
        return batches(data, 3)

    for whole, first, second in zip(stream(0, 1), stream(0, 2), stream(1, 2), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))
    with pytest.raises(UserError, match="batch_size=4 cannot be divided evenly between 3 processes"):
        stream(0, 3)


def test_missing_empty_and_hopeless_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=nowhere: no such folder"):
        PhotoDataModule("nowhere")
    with pytest.raises(UserError, match="no pictures in it"):
        PhotoDataModule(str(tmp_path))
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(UserError, match="can be read"):
        PhotoDataModule(str(tmp_path)).setup("fit")
