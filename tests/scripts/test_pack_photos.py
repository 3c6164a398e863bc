import sys
from pathlib import Path

import pytest

from scripts import pack_photos
from tests.conftest import make_picture


def test_shards_of_other_photos_or_sizes_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, packed = tmp_path / "photos", tmp_path / "packed"
    photos.mkdir()

    def pack(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["pack_photos", str(photos), str(packed), "--per-shard", "2", *options])
        pack_photos.main()

    for number in range(4):
        make_picture(48, 32, number).save(photos / f"{number}.jpg")
    pack()
    next(packed.glob("*.tar")).unlink()
    pack()  # goes on
    shards = sorted(packed.glob("*.tar"))
    assert len(shards) == 2
    with pytest.raises(SystemExit):
        pack("--side", "16")
    assert "packed has shards of 4 pictures (" in capsys.readouterr().err
    make_picture(48, 32, 4).save(photos / "4.jpg")
    with pytest.raises(SystemExit):
        pack()
    assert ", side 384, 2 a shard: name another folder" in capsys.readouterr().err
    assert sorted(packed.glob("*.tar")) == shards


@pytest.mark.parametrize("option", ["--side", "--per-shard"])
def test_a_side_or_a_shard_of_nothing_is_refused(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_picture(48, 32).save(tmp_path / "photo.jpg")
    monkeypatch.setattr(sys, "argv", ["pack_photos", str(tmp_path), str(tmp_path / "packed"), option, "0"])
    with pytest.raises(SystemExit):
        pack_photos.main()
    assert "error: --side and --per-shard are at least 1" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
