import sys
from pathlib import Path

import pytest
from PIL import Image

from fst.errors import UserError
from scripts import contact_sheet


def test_photos_and_their_paintings_side_by_side(
    photos: Path, style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {}
    for name, options in {"all": ["--count", "2"], "less": ["--only", "1", "--painted-only", "--shown", "20"]}.items():
        out = tmp_path / f"{name}.png"
        arguments = [str(out), "--photos", str(photos), "--styles", str(style_file), str(style_file), "--size", "40"]
        monkeypatch.setattr(sys, "argv", ["contact_sheet", *arguments, *options])
        contact_sheet.main()
        sizes[name] = Image.open(out).size
    assert sizes["all"][0] > 2.5 * sizes["less"][0] > 0  # three pictures of double size by two, and gaps
    assert sizes["all"][1] > 3 * sizes["less"][1]


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        (["--only", "0", "12"], "--only 12: the photos have the numbers 0 to 11"),
        (["--only", "-1"], "--only -1: the photos have"),
        (["--photos", "nowhere"], "--photos nowhere: no such folder"),
        (["--styles", "nonesuch"], "nonesuch"),
    ],
)
def test_a_mistake_is_named(
    mistake: list[str], line: str, photos: Path, style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(tmp_path / "sheet.png"), "--photos", str(photos), "--styles", str(style_file), *mistake]
    monkeypatch.setattr(sys, "argv", ["contact_sheet", *arguments])
    with pytest.raises(UserError, match=line):
        contact_sheet.main()
