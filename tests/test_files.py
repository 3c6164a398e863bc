import os
import time
from pathlib import Path

import pytest

from fst import files
from fst.errors import RunError, UserError
from fst.files import (
    check_name,
    check_writable,
    expand_user,
    refusal_to_read,
    write_atomically,
    write_errors_of,
    written_atomically,
)


@pytest.mark.parametrize("name", ["night", "starry night", "夜" * 33, ".hidden", "a.b", "-"])
def test_names_that_files_can_have(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\nb", "a\x1bb", "a\x00", "夜" * 34])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^name='") as caught:
        check_name(name)
    assert str(caught.value).isprintable()


def test_a_tilde_stands_for_a_home_or_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "home")
    assert expand_user("~/photo.png") == Path("home/photo.png")
    assert expand_user("~photo.png") == Path("~photo.png")


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    monkeypatch.chdir(tmp_path)
    for name in ("file", "new", "folder/new", "not/yet/there"):
        check_writable(Path(name))
    for name, reason in {
        "folder": "is a folder",
        "pipe": "pipe is a pipe or a device; name a file",
        "link": "link is a pipe or a device; name a file",
        "file/new": "Not a directory",
        "file/new/newer": "Not a directory",
        "n" * 300: "name too long",
        "/proc/new": "cannot be written",
    }.items():
        with pytest.raises(UserError, match=reason):
            check_writable(Path(name))
    assert sorted(os.listdir()) == ["file", "folder", "link", "pipe"]  # noqa: PTH208


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_written_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "file.bin"
    write_atomically(target, b"first")
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(RunError, match=r"file\.bin: cannot be written: No space left"):
        write_atomically(target, b"second")
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"first"]


def test_permissions_follow_the_umask_which_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("changes the process's umask"))
        write_atomically(tmp_path / "file", b"")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_only_errors_of_the_target_are_blamed_on_it(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with pytest.raises(FileNotFoundError, match="missing"), written_atomically(target):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(RunError, match=r"file\.bin: cannot be written: No space"), write_errors_of(target):
        full_disk()
    (tmp_path / "a file").touch()
    with pytest.raises(RunError, match=r"x\.bin: cannot be written"):
        write_atomically(tmp_path / "a file" / "x.bin", b"")
    assert not target.exists()


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for stem in ("n" * 251, "界" * 83):
        write_atomically(tmp_path / f"{stem}.png", b"data")
        assert (tmp_path / f"{stem}.png").read_bytes() == b"data"


def test_what_killed_runs_left_goes_after_a_day(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "a.png") as temporary:
        killed = temporary.with_name(temporary.name.replace("a", "killed", 1))
        killed.touch()
        running = temporary.with_name(temporary.name.replace("a", "running", 1))
        running.touch()
    folder = tmp_path / ".site.0123.fst-tmp"
    folder.mkdir()
    (folder / "page.html").touch()
    foreign = tmp_path / ".hidden.png"
    foreign.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (killed, folder, foreign):
        os.utime(path, (two_days_ago, two_days_ago))
    (tmp_path / "other").mkdir()
    write_atomically(tmp_path / "other" / ".." / "other" / "b.png", b"")
    assert killed.exists(), "another folder's"
    files._remove_abandoned.cache_clear()  # as in a new process
    write_atomically(tmp_path / "b.png", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "other", ".hidden.png", running.name}


def test_pipes_devices_and_folders_are_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert "pipe" in str(refusal_to_read(tmp_path / "pipe"))
    assert "device" in str(refusal_to_read(Path(os.devnull)))
    assert "folder" in str(refusal_to_read(tmp_path))
    assert refusal_to_read(tmp_path / "file") is refusal_to_read(tmp_path / "missing") is None
