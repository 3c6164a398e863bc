from pathlib import Path

import pytest
from PIL import Image

from fst.errors import UserError
from fst.resources import find_style_image, resource_folder


@pytest.mark.parametrize("path", sorted((resource_folder("checkpoints") / "pictures").iterdir()), ids=lambda p: p.stem)
def test_a_bundled_picture_is_found_by_its_name(path: Path) -> None:
    assert find_style_image(path.stem) == path
    with Image.open(path) as image:
        assert min(image.size) >= 512


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stained_glass").touch()
    assert find_style_image("stained_glass") == Path("stained_glass")
    assert find_style_image("missing.png") == Path("missing.png")  # whoever reads it says so


def test_a_folder_of_that_name_hides_no_bundled_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stained_glass").mkdir()
    assert find_style_image("stained_glass").is_file()


def test_an_unknown_name_lists_the_bundled_ones() -> None:
    with pytest.raises(UserError, match=r"style\.image=nothing: .* pointillism, stained_glass, woodcut_sea"):
        find_style_image("nothing")
