import itertools
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fst.errors import UserError

pytest.importorskip("webdataset")

from fst.training.data import shards
from fst.training.data.shards import ShardDataModule

ROOT = Path(__file__).parents[3]


def pack(photos: Path, out: Path) -> str:
    """Two shards of six pictures, by the script; returns them as `data.urls`."""
    run_script(photos, out)
    return f"{out}/photos-{{000000..000001}}.tar"


def run_script(photos: Path, out: Path) -> str:
    command = [sys.executable, ROOT / "scripts/pack_photos.py", photos, out, "--per-shard", "6", "--side", "48"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def urls(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pack(photos, tmp_path_factory.mktemp("shards"))


def batches(data: ShardDataModule, count: int) -> torch.Tensor:
    data.setup("fit")
    stream = iter(data.train_dataloader())
    return torch.stack([next(stream) for _ in range(count)])


def test_batches_are_uint8_crops_without_end(urls: str) -> None:
    data = ShardDataModule(urls, size=32, batch_size=3, workers=0, val_count=2)
    crops = batches(data, 12)
    assert (crops.shape, crops.dtype) == ((12, 3, 32, 32, 3), torch.uint8)
    assert sum(len(batch) for batch in data.val_dataloader()) == 2
    assert len(torch.unique(crops.flatten(0, 1), dim=0)) == 36, "crops differ"


def test_the_stream_is_the_seeds_and_each_processs_own(urls: str) -> None:
    def stream(seed: int = 0, rank: int = 0, step: int = 0, workers: int = 0) -> torch.Tensor:
        data = ShardDataModule(urls, size=32, batch_size=4, seed=seed, workers=workers)
        data.trainer = SimpleNamespace(global_step=step, accumulate_grad_batches=1, global_rank=rank, world_size=2)
        return batches(data, 3)

    first = stream()
    assert first.shape == (3, 2, 32, 32, 3), "each of two processes takes half of a batch"
    assert torch.equal(first, stream())
    assert torch.equal(stream(workers=1), stream(workers=1))
    for other in (stream(seed=1), stream(rank=1), stream(step=5)):
        assert not torch.equal(first, other)


def test_validation_pictures_are_never_trained_on(urls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ShardDataModule(urls, size=32, workers=0, val_count=4)
    data.setup("fit")
    stream = data.train_dataloader().dataset
    names = {(url, name) for url in data.urls for name in (f"{number:06d}.jpg" for number in range(6))}
    assert len(stream.held_out) == 4
    assert stream.held_out < names
    decode, drawn = shards._decode, set()

    def note(url: str, name: str, *options: object) -> object:
        drawn.add((url, name))
        return decode(url, name, *options)

    monkeypatch.setattr(shards, "_decode", note)
    for _ in itertools.islice(stream, 200):
        pass
    assert drawn == names - stream.held_out


def test_damaged_shards_and_pictures_never_end_a_run(
    urls: str, tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(photos, tmp_path)
    cut, _ = sorted(tmp_path.glob("*.tar"))
    cut.write_bytes(cut.read_bytes()[:700])
    urls = f"{tmp_path}/{{photos-000000.tar,missing.tar,photos-000001.tar}}"
    for options in {"val_root": str(photos)}, {"val_count": 2}:
        data = ShardDataModule(urls, size=32, workers=0, **options)
        with caplog.at_level(logging.WARNING):
            assert len(batches(data, 20)) == 20
    assert "missing.tar" in caplog.text
    assert "photos-000000.tar" in caplog.text


def test_pictures_that_are_all_held_out_are_one_clear_line(urls: str) -> None:
    data = ShardDataModule(urls, size=32, workers=0, val_count=12)
    data.setup("fit")
    with pytest.raises(UserError, match=r"and is not held out for validation \(data.val_root, or a smaller"):
        data.train_dataloader()


def test_hopeless_shards_are_one_clear_line(tmp_path: Path, photos: Path) -> None:
    data = ShardDataModule(f"{tmp_path}/none-{{0..3}}.tar", size=32, workers=0, val_root=str(photos))
    data.setup("fit")
    with pytest.raises(UserError, match=r"no shard has a picture that can be read \(data.urls\)"):
        data.train_dataloader()


def test_packing_again_writes_nothing_and_damaged_photos_are_named(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/damaged.jpg").write_bytes(b"no picture")
    out = tmp_path / "packed"
    assert f"left out: {tmp_path / 'photos/damaged.jpg'}: " in run_script(tmp_path / "photos", out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(path.name for path in before) == [*(f"photos-{number:06d}.tar" for number in range(3)), "photos.txt"]
    run_script(tmp_path / "photos", out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
