from pathlib import Path

import numpy as np
import pytest
import torch

from fst.errors import UserError
from fst.training.data.synthetic import SceneDataset, SyntheticDataModule, texture_bank


def test_scenes_are_their_seeds_and_positions() -> None:
    scenes = SceneDataset(48, seed=0)
    assert (scenes[0].shape, scenes[0].dtype) == ((48, 48, 3), torch.uint8)
    assert torch.equal(scenes[7], SceneDataset(48, seed=0)[7])
    assert not torch.equal(scenes[7], scenes[8])
    assert not torch.equal(scenes[7], SceneDataset(48, seed=1)[7])


def test_scenes_have_the_spectrum_of_photos() -> None:
    """Power falls with about the square of the frequency (Field 1987): photos lie between 1.5 and 2.7."""
    scenes = SceneDataset(128, seed=0)
    power = np.zeros((128, 128))
    for position in range(24):
        grey = scenes[position].double().mean(2).numpy()
        window = np.outer(np.hanning(128), np.hanning(128))
        power += np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.fft.fftfreq(128) * 128
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    rings = [power[(radius >= r) & (radius < 1.4 * r)].mean() for r in (3, 6, 12, 24)]
    slope = -np.polyfit(np.log([3, 6, 12, 24]), np.log(rings), 1)[0]
    assert 1.5 < slope < 2.9


def test_scenes_use_the_whole_range_and_differ_in_brightness() -> None:
    scenes = torch.stack([SceneDataset(64, seed=3)[position] for position in range(16)]).float()
    assert scenes.min() < 5
    assert scenes.max() > 250
    assert scenes.mean((1, 2, 3)).std() > 10


def test_textures_repeat_without_seams() -> None:
    bank = texture_bank(0)
    inside = np.abs(np.diff(bank, axis=2)).mean()
    assert np.abs(bank[:, :, 0] - bank[:, :, -1]).mean() < 1.2 * inside


def test_validation_scenes_are_never_trained_on_and_workers_change_nothing(tmp_path: Path) -> None:
    def stream(workers: int) -> torch.Tensor:
        data = SyntheticDataModule(size=32, batch_size=2, workers=workers)
        data.setup("fit")
        batches = iter(data.train_dataloader())
        return torch.stack([next(batches) for _ in range(3)])

    assert torch.equal(stream(0), stream(1))
    data = SyntheticDataModule(size=32, val_count=5)
    data.setup("fit")
    validation = torch.cat(list(data.val_dataloader()))
    assert len(validation) == 5
    trained = torch.stack([data.scenes[position] for position in range(20)])
    assert not any((trained == picture).flatten(1).all(1).any() for picture in validation)
    with pytest.raises(UserError, match=r"data\.val_root=nowhere: no such folder"):
        SyntheticDataModule(val_root="nowhere")
