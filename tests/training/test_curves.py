"""Loggers: several at once, what each of them gets, and hyperparameters beside the final scores."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fst.errors import UserError
from fst.hydra_app import configure
from fst.schemas import TRAIN
from fst.training.curves import Curves, build_loggers
from fst.training.train import Trained, train


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of two steps, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    data = [f"root={photos}", "size=32", "batch_size=2", "workers=0", "val_count=1"]
    trainer = ["accelerator=cpu", "precision=32-true", "max_steps=2", "log_every_n_steps=1"]
    keys = [*(f"data.{key}" for key in data), *(f"trainer.{key}" for key in trainer)]
    network = ["loss_network=compact", "model.width=4", "model.blocks=1", "optimizer=adam"]
    return [f"style.image={painting}", "style.size=48", *keys, *network, "val_every=1", "name=mine"]


def run(overrides: list[str]) -> Trained:
    return train(configure(TRAIN, overrides), Path("run"))


def test_tensorboard_and_csv_at_once(small: list[str]) -> None:
    _, scores = run([*small, "logger=[tensorboard,csv]"])
    (events,) = Path("run").glob("events.out*")
    board = EventAccumulator(str(events)).Reload()
    assert {event.step for event in board.Images("val/stylized")} == {0, 1, 2}
    assert [event.step for event in board.Scalars("train/loss")] == [0, 1]
    head, *rows = Path("run/curves/version_0/metrics.csv").read_text().splitlines()
    assert {"train/loss", "val/loss"} <= set(head.split(","))
    assert len(rows) >= 4

    plugin = board.summary_metadata  # the HParams page: hyperparameters, and the scores by their names
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(plugin)
    start = plugin["_hparams_/session_start_info"].plugin_data.content
    for text in (b"model.width", b"optimizer.algorithm.lr", b"compact"):
        assert text in start
    assert b"final/loss" in plugin["_hparams_/experiment"].plugin_data.content
    for name, score in scores.items():
        (final,) = board.Scalars(name.replace("val/", "final/"))
        assert (final.step, final.value) == (2, pytest.approx(score))


def test_strips_go_to_every_logger_that_takes_pictures(tmp_path: Path) -> None:
    class Takes:
        def log_image(self, key: str, images: list[np.ndarray], step: int) -> None:
            seen.append((key, images[0].shape, step))

    seen: list[tuple] = []
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    for logger in (Takes(), object()):
        Curves(logger).log_image("strip", picture, 7)  # type: ignore[arg-type]
    assert seen == [("strip", (4, 6, 3), 7)]


def test_a_callback_of_ones_own_reaches_what_the_logger_writes_with(tmp_path: Path) -> None:
    config = OmegaConf.create({"mine": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "save_dir": None}})
    (logger,) = build_loggers(config, tmp_path)
    logger.experiment.add_scalar("mine", 3.0, 1)
    logger.close("success")
    (events,) = tmp_path.rglob("events.out*")
    assert [event.value for event in EventAccumulator(str(events)).Reload().Scalars("mine")] == [3.0]


def test_a_logger_without_such_an_object_is_written_to_all_the_same() -> None:
    class Plain:
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            seen.append((metrics, step))

    seen: list[tuple] = []
    curves = Curves(Plain())  # type: ignore[arg-type]
    assert not hasattr(curves, "experiment"), "which Lightning asks before the training"
    curves.log_metrics({"train/loss": 2.0}, 1)
    assert seen == [({"train/loss": 2.0}, 1)]


def test_what_a_broken_logger_writes_with_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = OmegaConf.create({"mine": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "save_dir": None}})
    (logger,) = build_loggers(config, tmp_path / "file")  # a folder cannot be made there
    logger.experiment.add_scalar("mine", 3.0, 1)
    logger.close("failed")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_logger_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    config = OmegaConf.create({"mine": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": 3, "depth": 1}})
    with pytest.raises(UserError, match=r"^logger\.mine: .*unexpected keyword argument 'depth'[^\n]*$"):
        build_loggers(config, tmp_path)


def test_mlflow_in_a_local_file(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _, scores = run([*small, "logger=mlflow"])
    client = tracking.MlflowClient("sqlite:///mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("fst").experiment_id])
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert found.data.params["model.width"] == "4"
    assert found.data.metrics["val/loss"] == pytest.approx(scores["val/loss"])
    assert any(file.path.endswith(".png") for file in client.list_artifacts(found.info.run_id, "images"))


def test_wandb_offline(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    run([*small, "logger=wandb", "logger.wandb.offline=true"])
    assert wandb.run is None, "the next run of a sweep begins its own"
    (folder,) = Path("run/wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert list(folder.rglob("*.png"))
