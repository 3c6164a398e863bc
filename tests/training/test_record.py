"""What a checkpoint records of its run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from fst.errors import UserError
from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import Run, StyleInfo
from fst.training.record import Record

DATA: Any = SimpleNamespace()  # somebody's own module: nothing is known of its pictures


def make(painting: Path, *, precision: str = "32-true", **keys: Any) -> Record:
    config = OmegaConf.create(
        {
            "name": "mine",
            "style": {"image": str(painting)},
            "loss_network": {"weights": "random"},
            "teacher": {"style": None},
            "init_from": None,
            "trainer": {"max_steps": 10},
            "ckpt_path": None,
        }
    )
    for key, value in keys.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(max_steps=config.trainer.max_steps, precision=precision, strategy=strategy)
    return Record(config, DATA, trainer)


def saved(record: Record, steps: int) -> dict[str, Any]:
    state: dict[str, Any] = {"global_step": steps}
    record.write(state, steps)
    return state


def parts(record: Record, steps: int) -> list[tuple[str, int, int]]:
    return [(run.style, run.steps, run.max_steps) for run in record.history(steps)]


def test_a_run_that_was_only_stopped_is_one_part(painting: Path) -> None:
    first, second = make(painting), make(painting)
    second.resume(Path("x"), saved(first, 4))
    assert parts(second, 10) == [("mine", 10, 10)]


def test_another_length_is_another_part_unless_nothing_is_trained(painting: Path) -> None:
    first, second, third = make(painting), make(painting, trainer__max_steps=20), make(painting, trainer__max_steps=5)
    second.resume(Path("x"), saved(first, 10))
    assert parts(second, 20) == [("mine", 10, 10), ("mine", 20, 20)]
    third.resume(Path("x"), saved(second, 20))
    assert parts(third, 20) == [("mine", 10, 10), ("mine", 20, 20)]
    assert {"fst", "torch"} == third.history(20)[-1].versions.keys()


def test_the_history_of_the_style_it_started_from_comes_first(painting: Path, tmp_path: Path) -> None:
    network = build_transform_network("johnson", width=4, blocks=1, norm="instance")
    arguments = {"width": 4, "blocks": 1, "norm": "instance"}
    old = StyleInfo("old", "johnson", arguments, steps=7, versions={"fst": "0.1"})
    save_style(tmp_path / "old.safetensors", network, old)
    first = make(painting, init_from=str(tmp_path / "old.safetensors"))
    assert first.history(10)[0] == Run("old", 7, versions={"fst": "0.1"})
    new = StyleInfo("new", "johnson", arguments, history=first.history(10))
    save_style(tmp_path / "new.safetensors", network, new)
    second = make(painting, init_from=str(tmp_path / "new.safetensors"))
    assert parts(second, 3) == [("old", 7, 0), ("mine", 10, 10), ("mine", 3, 10)]
    resumed = make(painting, init_from=str(tmp_path / "new.safetensors"), ckpt_path="last")
    resumed.resume(Path("x"), saved(second, 3))
    assert parts(resumed, 10) == [("old", 7, 0), ("mine", 10, 10), ("mine", 10, 10)]
    for moved in ("bundled:new", "gone/new.safetensors"):
        make(painting, init_from=moved, ckpt_path="last").resume(Path("x"), saved(second, 3))
    with pytest.raises(UserError, match=r"init_from was new, is null"):
        make(painting, ckpt_path="last").resume(Path("x"), saved(second, 3))


def test_what_changes_the_result_is_refused_and_the_rest_may_change(painting: Path, tmp_path: Path) -> None:
    state = saved(make(painting), 4)
    make(painting, name="other", compile=True, trainer__devices=2, data__workers=3).resume(Path("x"), state)
    copy = tmp_path / painting.name
    copy.write_bytes(painting.read_bytes())
    make(copy).resume(Path("x"), state)
    copy.write_bytes(painting.read_bytes() + b" ")
    for record in (make(copy), make(painting, precision="bf16-mixed"), make(painting, trainer__gradient_clip_val=1)):
        with pytest.raises(UserError, match=r"made with other settings: \S+ was .*, is .*init_from=STYLE"):
            record.resume(Path("x"), state)


def test_a_checkpoint_of_an_older_version_is_taken_with_a_warning(
    painting: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = make(painting)
    record.resume(Path("x.ckpt"), {"global_step": 4})
    (line,) = caplog.messages
    assert line == "x.ckpt: written by an older fst without its settings; assuming that they are the same"
    assert parts(record, 10) == [("mine", 4, 0), ("mine", 10, 10)]
