from pathlib import Path

import pytest

from fst.style_file import load_style
from fst.style_info import StyleFileError, find_style, list_styles

ARGUMENTS = {"width": 4, "blocks": 1, "norm": "instance"}
LOSS = {"convention": "relative", "reduction": "mean", "weights": {"style": 15.0}}
GONE = object()


def test_a_painting_or_other_file_in_place_of_a_style_says_what_to_do(
    painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (painting, Path("night.JPG")):
        with pytest.raises(StyleFileError, match=r"is a picture, not a style; train one .* style\.image="):
            find_style(path)
    text = tmp_path / "style.pth"
    text.write_bytes(b"\x80\x04 some pickle, perhaps")
    with pytest.raises(StyleFileError, match=r"style\.pth: damaged, or not a style: those are \.safetensors files"):
        load_style(find_style(text))


def test_names_are_found_among_bundled_and_trained_styles(
    style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "tiny.safetensors").write_bytes(style_file.read_bytes())
    monkeypatch.setattr("fst.style_info.resource_folder", lambda name: bundled)
    monkeypatch.chdir(tmp_path)
    assert find_style("tiny") == bundled / "tiny.safetensors"
    for stamp in (2, 1):
        run = Path("outputs", "tiny", f"run{stamp}")
        run.mkdir(parents=True)
        (run / "tiny.safetensors").write_bytes(style_file.read_bytes())
        import os

        os.utime(run / "tiny.safetensors", (stamp, stamp))
    assert find_style("tiny") == Path("outputs/tiny/run2/tiny.safetensors"), "the newest of one's own goes first"
    (run / ".half.safetensors").write_bytes(b"")  # hidden, as what is being written
    (run / "gone.safetensors").symlink_to("nothing")
    assert list(list_styles()) == ["tiny"]
    assert find_style(style_file) == style_file
    with pytest.raises(StyleFileError, match="no style 'nope'; there are: tiny"):
        find_style("nope")
