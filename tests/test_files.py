import os
from pathlib import Path

import pytest

from fst.errors import UserError
from fst.files import check_name, check_writable


@pytest.mark.parametrize("name", ["night", "starry night", "夜" * 33, ".hidden", "a.b", "-"])
def test_names_that_files_can_have(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\nb", "a\x1bb", "a\x00", "夜" * 34])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^name='") as caught:
        check_name(name)
    assert str(caught.value).isprintable()


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("file", "new", "folder/new", "not/yet/there"):
        check_writable(Path(name))
    for name, reason in {
        "folder": "is a folder",
        "file/new": "Not a directory",
        "file/new/newer": "Not a directory",
        "n" * 300: "name too long",
        "/proc/new": "cannot be written",
    }.items():
        with pytest.raises(UserError, match=reason):
            check_writable(Path(name))
    assert sorted(os.listdir()) == ["file", "folder"]  # noqa: PTH208
