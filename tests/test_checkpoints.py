"""Checkpoints on disk: whole, checked, and refused where the settings differ."""

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fst import checkpoints
from fst.checkpoints import (
    LAST,
    PREVIOUS,
    CheckpointError,
    find_checkpoint,
    fingerprint,
    folder_fingerprint,
    load_checkpoint,
    new_folder,
    read_checkpoint,
    refuse_changes,
    save_checkpoint,
)
from fst.errors import RunError, UserError


def state(number: int) -> dict[str, object]:
    return {"number": number, "tensor": torch.full((5000,), float(number))}


def save(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        save_checkpoint(folder / LAST, state(number))
    return folder / LAST


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the tensor
    path.write_bytes(data)


@contextmanager
def disk_that_fills_after(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    path = save(tmp_path, 1, 2, 3)
    assert load_checkpoint(path)["number"] == 3
    assert load_checkpoint(tmp_path / PREVIOUS)["number"] == 2
    assert {file.name for file in tmp_path.iterdir()} == {LAST, PREVIOUS}


def test_it_is_written_beside_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(file.name for file in tmp_path.iterdir()))
    save(tmp_path, 1)
    assert len(seen) == 1
    assert seen[0].startswith(".last.")


def test_a_kill_at_any_moment_of_a_write_leaves_one_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the folder is the last one, in turn."""
    for number, (owner, name) in enumerate([(Path, "write_bytes"), (os, "fsync"), (Path, "replace")]):
        for late in (False, True):
            folder = tmp_path / f"{number}{late}"
            save(folder, 1)
            original = getattr(owner, name)

            def killed(*arguments: object, late: bool = late, original=original) -> None:
                if late:
                    original(*arguments)
                raise SystemExit

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, killed)
                with pytest.raises(SystemExit):
                    save(folder, 2)
            assert read_checkpoint(folder / LAST)[1]["number"] == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_a_damaged_one_is_found_out_and_the_one_before_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, 1, 2)
    if damage == "flipped":
        flip_a_bit(path)
        assert torch.load(path)["number"] == 2, "torch itself does not see it"
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "cut" else 0])
    with caplog.at_level(logging.WARNING):
        taken, found = read_checkpoint(path)
    assert (taken.name, found["number"]) == (PREVIOUS, 1)
    reason = {"flipped": "checksum", "cut": "not a zip file", "empty": "it is empty", "missing": "no such file"}[damage]
    (line,) = caplog.messages
    assert f"{path}: not a checkpoint, or damaged" in line
    assert reason in line
    assert f"resuming from the previous one, {taken}" in line
    save(tmp_path, 3)
    assert load_checkpoint(tmp_path / PREVIOUS)["number"] == 1, "a damaged one never takes the place of a whole one"


def test_without_one_before_the_damage_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    flip_a_bit(path)
    with pytest.raises(CheckpointError, match=r"ckpt_path=.*last.ckpt: not a checkpoint, or damaged \(the checksum"):
        read_checkpoint(path)


def test_code_is_not_read_and_nobody_advises_to(tmp_path: Path) -> None:
    torch.save({"state": print}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="more than tensors and plain values, and was not read") as refused:
        load_checkpoint(tmp_path / "evil.ckpt")
    assert "weights_only" not in str(refused.value)


def test_a_disk_that_fills_leaves_the_last_good_one_and_says_what_was_needed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with (
        disk_that_fills_after(4096),
        pytest.raises(RunError, match=r"last.ckpt: cannot be written: .*, 0\.02 MiB needed, [\d.]+ MiB free"),
    ):
        save(tmp_path, 2)
    assert load_checkpoint(path)["number"] == 1
    assert [file.name for file in tmp_path.iterdir()] == [LAST]


def test_the_newest_run_is_found_by_either_of_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run of 'a' below outputs has a checkpoint"):
        find_checkpoint("a", "last")
    for age, run in ((200, "old"), (100, "new")):
        path = save(Path("outputs/a") / run / checkpoints.FOLDER, 1)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    path.rename(path.with_name(PREVIOUS))
    assert find_checkpoint("a", "last") == path
    assert find_checkpoint("a", str(path)) == path
    with pytest.raises(UserError, match=r"ckpt_path=.*other.ckpt: no such checkpoint"):
        find_checkpoint("a", str(path.with_name("other.ckpt")))


def test_settings_that_differ_are_named_with_both_values() -> None:
    before = {"lr": None, "layers": ["a"], "gone": 1, "same": 2}
    refuse_changes(Path("x.ckpt"), before, dict(before), "never")
    with pytest.raises(UserError) as refused:
        refuse_changes(Path("x.ckpt"), before, {"lr": 2.0, "layers": ["b"], "same": 2, "new": "n" * 99}, "begin anew")
    line = str(refused.value)  # with the values as they are typed
    assert line.startswith("ckpt_path=x.ckpt: made with other settings: lr was null, is 2.0; layers was [a], is [b]")
    assert line.endswith("; and 2 more; begin anew")


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    one = fingerprint(tmp_path / "a.png")
    assert one.startswith("a.png (")
    (tmp_path / "a.png").write_bytes(b"two")
    assert fingerprint(tmp_path / "a.png") != one


def test_a_folder_is_known_by_its_files_even_where_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").symlink_to("nowhere.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    broken = folder_fingerprint(str(tmp_path), paths)
    assert broken.startswith("2 pictures (")
    (tmp_path / "nowhere.png").write_bytes(b"")
    assert folder_fingerprint(str(tmp_path), paths) != broken


@pytest.mark.parametrize("link", ["outputs", "outputs/mine"])
def test_a_link_to_a_disk_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to(tmp_path / "disk")
    with pytest.raises(RunError, match=r"outputs/mine/.*: cannot be created: File exists"):
        new_folder("outputs", "mine")
