"""The commands that need neither Lightning nor Hydra; `fst train` is in training/test_train.py."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import fst
from fst.cli import main
from fst.pictures import read_photo
from fst.resources import resource_folder
from fst.style_file import load_style, save_style
from fst.style_info import read_info
from tests.conftest import make_picture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with some pictures in `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "nested").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "nested/a.jpg"):
        make_picture(40, 30, seed=len(name)).save(tmp_path / "in" / name)
    return tmp_path


def test_one_picture(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "in/a.jpg", "-s", str(style_file)]) == 0
    assert capsys.readouterr().out.strip() == "a-tiny.jpg"
    assert Image.open("a-tiny.jpg").size == (40, 30)
    assert main(["stylize", "in/a.jpg", "-s", str(style_file), "-o", "new/painted.png", "--size", "24"]) == 0
    assert Image.open("new/painted.png").size == (24, 18)
    assert main(["stylize", "in/a.jpg", "-s", str(style_file), "-o", "somewhere"]) == 0
    assert Path("somewhere/a-tiny.jpg").is_file()


def test_a_home_folder_in_a_flag_is_found(folder: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(folder / "home"))
    Image.new("L", (40, 30), 255).save("home/mask.png")
    command = ["stylize", "in/a.jpg", "-s", str(style_file), "--mask=~/mask.png", "--output=~/painted.png"]
    assert main(command) == 0  # the shell leaves ~ alone after a =
    assert Image.open("home/painted.png").size == (40, 30)


def test_several_styles_in_one_pass(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("outputs/tiny/run/own.safetensors")
    own.parent.mkdir(parents=True)
    network, info = load_style(style_file)
    save_style(own, network, dataclasses.replace(info, name="own"))
    own.with_name("broken.safetensors").write_bytes(b"")
    monkeypatch.setattr("fst.style_info.bundled_styles", lambda: [])
    reads: list[Path] = []
    monkeypatch.setattr("fst.inference.batch.read_photo", lambda path, **_: reads.append(path) or read_photo(path))
    assert main(["stylize", "in", "-s", str(style_file), "-s", "own", "-o", "two"]) == 0
    assert {path.name for path in Path("two").glob("*.*")} == {"a-tiny.jpg", "b-tiny.png", "a-own.jpg", "b-own.png"}
    assert len(reads) == 3, "each photo is read once"
    assert "6 stylized, 0 failed" in capsys.readouterr().out
    assert main(["stylize", "in/b.png", "-s", str(style_file), "-o", "alone.png"]) == 0
    assert Path("alone.png").read_bytes() == Path("two/b-tiny.png").read_bytes() == Path("two/b-own.png").read_bytes()
    assert main(["stylize", "in/b.png", "-s", "all", "-o", "all"]) == 0
    assert [path.name for path in Path("all").iterdir()] == ["b-own.png"]
    assert "left out: outputs/tiny/run/broken.safetensors: damaged" in capsys.readouterr().err
    assert main(["stylize", "in/b.png", "-s", "all", "-s", "own", "-o", "twice"]) == 2
    own.with_name("same.safetensors").write_bytes(own.read_bytes())
    capsys.readouterr()
    assert main(["stylize", "in/b.png", "-s", "own", "-s", str(own.with_name("same.safetensors")), "-o", "twice"]) == 2
    assert "two of them are called own, and so are their outputs" in capsys.readouterr().err
    assert not Path("twice").exists(), "one would be lost"
    assert main(["stylize", "in/b.png", "-s", "all", "-o", "all", "--force"]) == 0
    captured = capsys.readouterr()
    assert "it is called own, as outputs/tiny/run/" in captured.err
    assert captured.out.strip() == "all/b-own.png"


def test_a_sheet_of_all_styles(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(style_file.read_bytes()[:-1])
    monkeypatch.setattr("fst.style_info.bundled_styles", lambda: [style_file])
    assert main(["styles", "--preview", "in/a.jpg"]) == 0
    assert capsys.readouterr().out == "a-styles.jpg\n"
    with Image.open("a-styles.jpg") as sheet:
        assert sheet.size == (2 * (384 + 12) + 12, 288 + 24 + 2 * 12)
        painted = np.asarray(sheet.crop((408, 12, 792, 300)), dtype=float)
        assert np.abs(painted - np.asarray(sheet.crop((12, 12, 396, 300)), dtype=float)).mean() > 5
        assert np.asarray(sheet.crop((408, 300, 792, 330))).min() < 100, "a name below it"
    assert main(["styles", "--preview", "in/a.jpg"]) == 2
    monkeypatch.setattr("fst.style_info.bundled_styles", lambda: [style_file, damaged])
    assert main(["styles", "--preview", "in/a.jpg", "-o", "sheet.png"]) == 1
    assert "damaged.safetensors: damaged" in capsys.readouterr().err
    assert Path("sheet.png").exists(), "a damaged style costs only itself"


def test_remarks_of_pillow_are_left_out(
    folder: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        read_photo(Path("in/a.jpg"))  # 1,200 pixels
    assert main(["stylize", "in/a.jpg", "-s", str(style_file), "--max-megapixels", "0.002"]) == 0
    assert not recwarn.list


def test_variants_do_not_collide(folder: Path, style_file: Path) -> None:
    for flags in (
        [],
        ["--size", "24"],
        ["--strength", "0.5", "--keep-colours"],
        ["--stroke", "0.5"],
        ["--suffix", "_b"],
    ):
        assert main(["stylize", "in/a.jpg", "-s", str(style_file), "-o", "out", *flags]) == 0
    found = {path.name for path in Path("out").iterdir()}
    assert found == {f"a-tiny{end}.jpg" for end in ("", "-24px", "-strength0.5-colors", "-stroke0.5", "_b")}


def test_existing_outputs_need_force(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.png").write_bytes(b"precious")
    command = ["stylize", "in/a.jpg", "-s", str(style_file), "-o", "out.png"]
    assert main(command) == 2
    assert capsys.readouterr().err.strip() == "fst: out.png exists; --force overwrites it, -o NAME keeps both"
    assert Path("out.png").read_bytes() == b"precious"
    assert main([*command, "--force"]) == 0
    assert Image.open("out.png").size == (40, 30)


def test_folders_keep_their_tree_and_globs_work(folder: Path, style_file: Path) -> None:
    assert main(["stylize", "in", "-s", str(style_file), "-o", "out"]) == 0
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert found == {"a-tiny.jpg", "b-tiny.png", "nested/a-tiny.jpg"}
    assert main(["stylize", "in/*.png", "-s", str(style_file), "-o", "globbed"]) == 0
    assert [path.name for path in Path("globbed").iterdir()] == ["b-tiny.png"]


def test_one_bad_picture_does_not_spoil_the_others(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/bad.jpg").write_bytes(b"no picture")
    Image.new("RGB", (1, 1)).save("in/one.png")
    make_picture(20, 20).save("in/movie.gif")
    assert main(["stylize", "in", "missing.jpg", "-s", str(style_file), "-o", "out"]) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("fst: ")]
    assert len(errors) == 3
    assert "bad.jpg: not a picture" in errors[0]
    assert "one.png: a 1×1 picture is too small" in errors[1]
    assert "missing.jpg: no such file" in errors[2]
    assert "4 stylized, 3 failed" in captured.out
    assert Path("out/movie-tiny.png").is_file(), "what cannot be written as it was becomes a PNG"
    assert not list(Path("out").glob(".*")), "no leftovers"


def test_two_inputs_never_share_an_output(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "in/a.jpg", "in/nested/a.jpg", "-s", str(style_file), "-o", "out"]) == 1
    assert "already another input's output" in capsys.readouterr().err
    assert len(list(Path("out").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "missing.jpg: no such file"),
        (["in/*.tiff"], "in/*.tiff: matches nothing"),
        (["empty"], "empty: no pictures in it"),
        (["in/a.jpg", "in/b.png", "-o", "one.png"], "-o one.png is one file for 2 inputs"),
        (["in/a.jpg", "-o", "a.jpg/b.png"], "cannot be written"),
        (["in/a.jpg", "--strength", "2"], "strength is 2"),
        (["in/a.jpg", "--device", "abacus"], "no device 'abacus'"),
        (["in/a.jpg", "-s", "nope"], "no style 'nope'"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("empty").mkdir()
    Path("a.jpg").touch()
    style = [] if "-s" in arguments else ["-s", str(style_file)]
    assert main(["stylize", *style, *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("fst: ")
    assert message in line


def test_the_looks(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (8, 8)).save("black.png")
    assert main(["stylize", "in/b.png", "-s", str(style_file), "--mask", "black.png", "-o", "masked.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("masked.png")), np.asarray(Image.open("in/b.png")))
    assert main(["stylize", "in/b.png", "--blend", f"{style_file}:1,{style_file}:2", "-o", "blend.png"]) == 0
    assert main(["stylize", "in/b.png", "-s", str(style_file), "-o", "one.png"]) == 0
    assert np.abs(np.asarray(Image.open("blend.png")).astype(int) - np.asarray(Image.open("one.png"))).max() <= 1
    look = ["--stroke", "1.5", "--strength", "0.5", "--keep-colors", "--memory", "8"]
    assert main(["stylize", "in/b.png", "-s", str(style_file), *look, "-o", "look.png"]) == 0
    assert Image.open("look.png").size == (40, 30)
    assert "backend: torch on " in capsys.readouterr().err


def test_a_camera_that_is_not_there_is_one_line(
    folder: Path, style_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    assert main(["stylize", "webcam:77", "-s", str(style_file)]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("http://127.0.0.1:")
    assert output.err.startswith("fst: webcam:77: no picture from there")
    assert main(["stylize", "webcam:0", "-s", str(style_file), "-o", "live.mp4"]) == 2
    assert "one camera and -s STYLE" in capsys.readouterr().err


def test_styles_lists_names(folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("outputs/tiny/run")
    run.mkdir(parents=True)
    (run / "tiny.safetensors").write_bytes(style_file.read_bytes())
    network, info = load_style(style_file)
    save_style(run / "udnie.safetensors", network, dataclasses.replace(info, name="udnie"))  # hides the bundled one
    (run / "broken.safetensors").write_bytes(b"")
    assert main(["styles"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "johnson (width 4, blocks 1, norm instance)" in lines["tiny"]
    assert "damaged" in lines["broken"]
    assert "as udnie; johnson (width 4" in lines["udnie"]
    assert "orange and dark blue" in lines["the_scream_small"]
    assert "many ringed yellow stars" in lines["starry_night_stars"]
    assert "from starry_night_stars, 750 steps of 4" in lines["starry_night_stars"]
    assert "from" not in lines["tiny"]
    known = set(yaml.safe_load((resource_folder("checkpoints") / "looks.yaml").read_text()))
    infos = [read_info(path) for path in (resource_folder("checkpoints")).glob("*.safetensors")]
    assert known == {info.name if info.name in known else info.style_image or info.name for info in infos}


def test_version_and_unexpected_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, style_file: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"fst {fst.__version__}"

    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("fst.style_info.list_styles", broken)
    assert main(["styles"]) == 1
    assert capsys.readouterr().err == "fst: ZeroDivisionError: oops (--debug shows where)\n"
    with pytest.raises(ZeroDivisionError):
        main(["styles", "--debug"])


def test_what_nobody_takes_is_dropped_and_a_full_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    source, target = os.pipe()
    os.close(source)
    full = "fst: standard output: cannot be written: No space left on device\n"
    for file, status, message in ((target, 0, ""), (os.open("/dev/full", os.O_WRONLY), 1, full)):
        with os.fdopen(file, "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert main(["styles"]) == status
            monkeypatch.undo()
        assert capsys.readouterr().err == message


def run_process(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])} | environment
    command = [sys.executable, "-m", "fst.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_terminal_that_shows_ascii_only(folder: Path) -> None:
    for arguments in (["--help"], ["stylize", "--help"], ["stylize", "…", "--size", "×", "-s", "udnie"]):
        done = run_process(arguments, PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
        assert "Unicode" not in done.stderr
        assert done.returncode == (0 if "--help" in arguments else 2)
        assert done.stdout.startswith("usage: fst") or done.stderr == (
            r"fst: argument --size: '\xd7' is not a whole number; see fst stylize --help" + "\n"
        )


def test_help_and_mistaken_flags_do_not_wait_for_torch() -> None:
    program = """
import sys
from fst.cli import main
for arguments in (["--help"], ["stylize", "x", "--foo"], ["bench", "--rounds", "x"]):
    try:
        main(arguments)
    except SystemExit:
        pass
print("imported:", sorted({"torch", "numpy", "PIL", "hydra", "msgspec"} & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert len(done.stderr.splitlines()) == 2


def test_names_from_elsewhere_do_not_act_on_the_terminal(
    folder: Path, style_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "\x1b[2J\x07\nfst: all is well"
    Path("odd").mkdir()
    Path("odd", f"{odd}.jpg").write_bytes(b"no picture")
    Path("odd", "b.jpg").write_bytes(b"no picture")
    make_picture(20, 20).save(f"{odd}.png")
    run = Path("outputs/tiny/run")
    run.mkdir(parents=True)
    (run / f"{odd}.safetensors").write_bytes(style_file.read_bytes())
    commands = {
        "styles": 0,
        f"stylize in/a.jpg -s {odd}x": 2,
        "stylize odd -s STYLE -o out": 1,
        f"stylize {odd}.png -s STYLE": 0,
        f"stylize in/a.jpg -s STYLE --size {odd}": 2,
        f"stylize in/a.jpg -s STYLE {odd}.gif --{odd}": 2,
    }
    for command, status in commands.items():
        words = [odd.join(word.split("ODD")) for word in command.replace(odd, "ODD").split(" ")]
        assert main([str(style_file) if word == "STYLE" else word for word in words]) == status
        captured = capsys.readouterr()
        printed = captured.out + "".join(line for line in captured.err.splitlines(True) if "file/s" not in line)
        assert "\x1b" not in printed
        assert "\x07" not in printed
        assert not any(line.startswith("fst: all is well") for line in printed.splitlines())
        assert r"\x1b[2J\x07 fst: all is well" in printed


def test_stylize_imports_neither_lightning_nor_hydra(folder: Path, style_file: Path) -> None:
    program = """
import sys
from fst.cli import main
assert main(["stylize", "in/a.jpg", "-s", sys.argv[1]]) == 0
heavy = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "torchvision", "tensorboard", "av"}
print("imported:", sorted(heavy & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(style_file)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.splitlines()[-1] == "imported: []"
