"""Mistakes in the commands that take flags: each is one clear line, found before the work; `fst train` and the other
Hydra applications have tables of their own."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import make_picture
from tests.mistakes import run, run_without_torch

# Command and what the line must name. In the current folder: a.jpg, b.jpg, night.safetensors (a style), empty/,
# full/ (with a.jpg), text.txt, broken.jpg, broken.safetensors, clip.mp4 (no video).
STYLIZE = [
    ("stylize", "INPUT"),
    ("stylize a.jpg", "-s/--style --blend is required"),
    ("stylize -s night.safetensors", "INPUT"),
    ("stylize a.jpg -s", "-s/--style: expected one argument"),
    ("stylize a.jpg -s ''", "no style ''"),
    ("stylize a.jpg -s nope", "no style 'nope'; there are: "),
    ("stylize a.jpg -s nope.safetensors", "nope.safetensors: no such style file"),
    ("stylize a.jpg -s a.jpg", "a.jpg is a picture, not a style; train one from it: fst train style.image=a.jpg"),
    ("stylize a.jpg -s monet.png", "fst train style.image=monet.png"),
    ("stylize a.jpg -s text.txt", "text.txt: damaged, or not a style"),
    ("stylize a.jpg -s broken.safetensors", "broken.safetensors: damaged, or not a style"),
    ("stylize a.jpg -s full", "no style 'full'"),
    ("stylize a.jpg -s udnie -s the_scream -o one.png", "-o one.png is one file for 2 styles; name a folder"),
    ("stylize a.jpg -s udnie --style udnie", "-s/--style: a style is given twice; --blend"),
    ("stylize a.jpg -s udnie --blend udnie:1", "--blend: not allowed with argument -s"),
    ("stylize a.jpg -s udnie --unheard-of", "unknown: --unheard-of; see fst stylize --help"),
    ("stylize a.jpg -s udnie --unheard-of 3", "see fst stylize --help"),
    ("stylize a.jpg -s udnie --keep-colors=yes", "--keep-colors"),
    ("stylize a.jpg --blend udnie", "'udnie' is not a style's share; write A:0.3,B:0.7"),
    ("stylize a.jpg --blend udnie:", "'' is not a style's share"),
    ("stylize a.jpg --blend udnie:much", "'much' is not a style's share"),
    ("stylize a.jpg --blend udnie:1,", "'' is not a style's share"),
    ("stylize a.jpg --blend udnie:-1", "shares of a blend"),
    ("stylize a.jpg --blend udnie:0", "shares of a blend"),
    ("stylize a.jpg --blend udnie:0,the_scream:0", "shares of a blend"),
    ("stylize a.jpg --blend nope:1", "no style 'nope'"),
    ("stylize a.jpg --blend :1", "no style ''"),
    ("stylize missing.jpg -s night.safetensors", "missing.jpg: no such file"),
    ("stylize missing -s night.safetensors", "missing: no such file"),
    ("stylize '' -s night.safetensors", "an input is empty"),
    ("stylize '*.tiff' -s night.safetensors", "*.tiff: matches nothing"),
    ("stylize frames/%05d.png -s night.safetensors", "frames/%05d.png: matches nothing"),
    ("stylize empty -s night.safetensors", "empty: no pictures in it"),
    ("stylize broken.jpg -s night.safetensors", "broken.jpg: not a picture"),
    ("stylize text.txt -s night.safetensors", "text.txt"),
    ("stylize text.txt -s night.safetensors -o new.png", "text.txt is taken for a video, being no picture that fst"),
    ("stylize a.jpg b.jpg -s night.safetensors -o one.png", "-o one.png is one file for 2 inputs"),
    ("stylize a.jpg -s night.safetensors -o b.jpg", "b.jpg exists; --force overwrites it"),
    ("stylize a.jpg -s night.safetensors -o text.txt/new.png", "text.txt/new.png: cannot be written: Not a directory"),
    ("stylize a.jpg -s night.safetensors -o text.txt/deep/new.png", "Not a directory"),
    ("stylize a.jpg -s night.safetensors -o /proc/new.png", "/proc/new.png: cannot be written"),
    ("stylize a.jpg -s night.safetensors -o new/%05d", "-o new/%05d: pictures need a suffix, such as new/%05d.png"),
    ("stylize a.jpg b.jpg -s night.safetensors -o new/%d.txt", "pictures need a suffix, such as new/%d.png"),
    ("stylize a.jpg -s night.safetensors --size 0", "size is 0"),
    ("stylize a.jpg -s night.safetensors --size -5", "size is -5"),
    ("stylize a.jpg -s night.safetensors --size abc", "--size: 'abc' is not a whole number"),
    ("stylize a.jpg -s night.safetensors --size 1.5", "--size: '1.5' is not a whole number"),
    ("stylize a.jpg -s night.safetensors --size 4", "size is 4; it is the longer side in pixels, at least 16"),
    ("stylize a.jpg -s night.safetensors --strength 2", "strength is 2"),
    ("stylize a.jpg -s night.safetensors --strength -0.1", "strength is -0.1"),
    ("stylize a.jpg -s night.safetensors --strength nan", "strength is nan"),
    ("stylize a.jpg -s night.safetensors --strength half", "--strength: 'half' is not a number"),
    ("stylize a.jpg -s night.safetensors --stroke 0", "stroke is 0"),
    ("stylize a.jpg -s night.safetensors --stroke 100", "stroke is 100"),
    ("stylize a.jpg -s night.safetensors --stroke nan", "stroke is nan"),
    ("stylize a.jpg -s night.safetensors --stroke inf", "stroke is inf"),
    ("stylize a.jpg -s night.safetensors --mask missing.png", "missing.png: no such file"),
    ("stylize a.jpg -s night.safetensors --mask text.txt", "text.txt: not a picture"),
    ("stylize a.jpg -s night.safetensors --mask empty", "empty"),
    ("stylize a.jpg -s night.safetensors --memory much", "--memory: 'much' is not a number"),
    ("stylize a.jpg -s night.safetensors --memory 0", "--memory: '0' is not a number above 0"),
    ("stylize a.jpg -s night.safetensors --max-megapixels inf", "--max-megapixels: 'inf' is not a number above 0"),
    ("stylize a.jpg -s night.safetensors --quality best", "--quality: 'best' is not a whole number"),
    ("stylize a.jpg -s night.safetensors --fps fast", "--fps: 'fast' is not a number or a fraction"),
    ("stylize a.jpg -s night.safetensors --device abacus", "no device 'abacus' on this machine; there are auto, cpu"),
    ("stylize a.jpg -s night.safetensors --device mps", "no device 'mps' on this machine; there are auto, cpu"),
    ("stylize a.jpg -s night.safetensors --device cuda:77", "no device 'cuda:77' on this machine; there are auto, cpu"),
    ("stylize a.jpg -s night.safetensors --device meta", "no device 'meta'"),
    ("stylize a.jpg -s night.safetensors --device ''", "no device ''"),
    ("stylize a.jpg -s night.safetensors --backend abacus", "no backend 'abacus'; there are torch"),
    ("stylize a.jpg -s night.safetensors --backend ''", "no backend ''"),
    ("stylize a.jpg -s night.safetensors --suffix -large", "where that begins with -, write --suffix=…"),
    ("stylize a.jpg -s night.safetensors --suffix a/b", "--suffix a/b: a part of a name has no path separators"),
    ("stylize a.jpg b.jpg -s night.safetensors -o -", "-o - is one file for 2 inputs"),
    ("stylize a.jpg -s night.safetensors -s udnie -o -", "-o - is one file for 2 styles"),
    ("stylize a.jpg -s night.safetensors --format png", "--format is for -o -; the suffix of a file names its format"),
    (
        "stylize a.jpg -s night.safetensors -o - --format mkv",
        "--format mkv: pictures can be bmp, jpeg",
    ),
    ("stylize webcam:0 -s night.safetensors -o live.mp4", "one camera and -s STYLE"),
    ("stylize webcam:0 a.jpg -s night.safetensors", "one camera and -s STYLE"),
    ("stylize webcam:0 --blend udnie:1", "one camera and -s STYLE"),
    ("stylize webcam:0 -s udnie -s the_scream", "one -s STYLE"),
    ("stylize webcam:0 -s udnie --fps 5 --codec h264", "webcam:0: one camera and -s STYLE, without --codec, --fps"),
    ("stylize webcam:0 -s udnie --quality 5 --format mkv", "without --quality, --format"),
    ("stylize webcam:0 -s udnie --suffix x --force", "without --suffix, --force"),
    ("stylize webcam:0 -s udnie --max-megapixels 3", "without --max-megapixels"),
    ("stylize webcam:0 -s all", "one -s STYLE"),
    ("stylize webcam:0 -s nope", "no style 'nope'"),
]
OTHERS = [
    ("", "COMMAND; see fst --help"),
    ("paint a.jpg", "invalid choice: 'paint'"),
    ("--unheard-of", "see fst --help"),
    ("styles night", "unknown: night; see fst styles --help"),
    ("styles -o sheet.jpg", "for the sheet of --preview PHOTO"),
    ("styles --preview missing.jpg", "missing.jpg: no such file"),
    ("styles --preview text.txt", "text.txt: not a picture"),
    ("styles --preview a.jpg -o sheet.mp4", "-o sheet.mp4: name a picture, such as sheet.jpg"),
    ("styles --preview a.jpg -o b.jpg", "b.jpg exists; --force overwrites it"),
    ("styles --long", "unknown: --long; see fst styles --help"),
    ("evaluate", "STYLE, --photos"),
    ("evaluate udnie", "--photos; see fst evaluate --help"),
    ("evaluate --photos full", "STYLE"),
    ("evaluate nope --photos full", "no style 'nope'"),
    ("evaluate a.jpg --photos full", "a.jpg is a picture, not a style"),
    ("evaluate night.safetensors --photos full", "tiny: its file does not tell the layers and loss"),
    ("evaluate udnie --photos full", "udnie: name the folder of its style image: --style-images FOLDER"),
    ("evaluate udnie --photos full --style-images missing", "--style-images missing: no such folder"),
    ("evaluate udnie --photos full --style-images empty", "--style-images empty: no pictures in it"),
    ("evaluate udnie --photos full --style-images full", "no picture named udnie in full"),
    ("evaluate udnie --style-images paintings --photos missing", "--photos missing: no such folder"),
    ("evaluate udnie --style-images paintings --photos empty", "--photos empty: no pictures in it"),
    ("evaluate udnie --style-images paintings --photos a.jpg", "--photos a.jpg: no such folder"),
    ("evaluate udnie --style-images paintings --photos full --weights nope.pth", "--weights nope.pth: no such file"),
    ("evaluate udnie --style-images paintings --photos full --weights text.txt", "--weights text.txt: cannot be read"),
    ("evaluate udnie --style-images paintings --photos full --weights bundled", "--weights"),
    ("evaluate udnie --photos full --video missing.mp4", "missing.mp4: no such file"),
    ("evaluate udnie --photos full --video clip.mp4", "clip.mp4: not a video, or damaged"),
    ("evaluate udnie --photos full --video empty", "--video empty: no pictures in it"),
    ("evaluate udnie --photos full --size 0", "size is 0; the least is 16"),
    ("evaluate udnie --photos full --size abc", "--size: 'abc' is not a whole number"),
    ("evaluate udnie --photos full --count 0", "count is 0; the least is 1"),
    ("evaluate udnie --photos full --count -1", "count is -1"),
    ("evaluate udnie --photos full --count few", "--count: 'few' is not a whole number"),
    ("evaluate udnie --photos full --iterations -1", "iterations is -1; the least is 0"),
    ("evaluate udnie --photos full --iterations 1e3", "--iterations: '1e3' is not a whole number"),
    ("evaluate udnie --photos full --device abacus", "no device 'abacus'"),
    ("evaluate udnie --photos full -o text.txt", "text.txt/evaluation.json: cannot be written: Not a directory"),
    ("evaluate udnie --photos full -o done", "done/evaluation.json exists; --force overwrites it"),
    ("evaluate udnie --photos full --unheard-of", "unknown: --unheard-of; see fst evaluate --help"),
    ("export", "STYLE, --to"),
    ("export night.safetensors", "--to; see fst export --help"),
    ("export night.safetensors --to", "--to: expected one argument"),
    ("export night.safetensors --to tflite", "--to: invalid choice: 'tflite' (choose from 'onnx', 'openvino', 'web')"),
    ("export nope --to onnx", "no style 'nope'"),
    ("export a.jpg --to onnx", "a.jpg is a picture, not a style"),
    ("export broken.safetensors --to onnx", "broken.safetensors: damaged"),
    ("export night.safetensors udnie --to onnx", "--to onnx: one style, without --runtime; --to web takes several"),
    ("export night.safetensors --to onnx --runtime full", "--to onnx: one style, without --runtime"),
    ("export night.safetensors --to web --precision fp16", "--to web: without --precision and --photos"),
    (
        "export night.safetensors --to web --runtime missing",
        "--runtime missing: no such file or folder; get it by: npm",
    ),
    ("export night.safetensors --to web --runtime text.txt", "--runtime text.txt: not the npm package onnxruntime-web"),
    ("export night.safetensors --to web --runtime empty", "--runtime empty: not the npm package onnxruntime-web"),
    (
        "export night.safetensors --to web -o full",
        "full holds other files than a site's; name an empty or a new folder",
    ),
    ("export night.safetensors --to web -o full --force", "full holds other files"),
    ("export night.safetensors --to web -o text.txt", "text.txt is a file; name a folder for the site"),
    ("export night.safetensors night.safetensors --to web", "two of the styles have the same name"),
    ("export night.safetensors nope --to web", "no style 'nope'"),
    ("export broken.safetensors --to web", "broken.safetensors: damaged"),
    ("export night.safetensors --to onnx -o model.xml", "model.xml: onnx is written to a .onnx file"),
    ("export night.safetensors --to openvino -o model", "model: openvino is written to a .xml file"),
    ("export night.safetensors --to onnx -o folder.onnx", "folder.onnx"),
    ("export night.safetensors --to onnx -o folder.onnx --force", "folder.onnx is a folder; name a file"),
    ("export night.safetensors --to onnx -o text.txt/m.onnx", "text.txt/m.onnx: cannot be written: Not a directory"),
    ("export night.safetensors --to onnx -o /proc/m.onnx", "/proc/m.onnx: cannot be written"),
    ("export night.safetensors --to onnx -o old.onnx", "old.onnx exists; --force overwrites it"),
    ("export night.safetensors --to onnx --precision fp8", "--precision: invalid choice: 'fp8'"),
    ("export night.safetensors --to onnx --precision int8", "--precision int8 --photos FOLDER"),
    ("export night.safetensors --to onnx --precision int8 --photos full", "int8 is for --to openvino"),
    ("export night.safetensors --to openvino --photos full", "--precision int8 --photos FOLDER"),
    ("export night.safetensors --to openvino --precision int8 --photos missing", "--photos missing: no such folder"),
    ("export night.safetensors --to openvino --precision int8 --photos empty", "--photos empty: no pictures in it"),
    ("web nope", "no style 'nope'"),
    ("web broken.safetensors", "broken.safetensors: damaged"),
    ("web night.safetensors --runtime missing", "--runtime missing: no such file or folder; get it by: npm pack"),
    ("web night.safetensors --port 80", "unknown: --port 80; see fst web --help"),
    ("bench --sizes abc", "sizes are WIDTHxHEIGHT,… of 16 to 16384 pixels a side; this is 'abc'"),
    ("bench --sizes ''", "this is ''"),
    ("bench --sizes 12x", "this is '12x'"),
    ("bench --sizes 0x0", "this is '0x0'"),
    ("bench --sizes -32x32", "--sizes"),
    ("bench --sizes 32x32,", "this is '32x32,'"),
    ("bench --sizes 100000x32", "this is '100000x32'"),
    ("bench --sizes 32x32 --rounds 0", "rounds is 0; the least is 1"),
    ("bench --sizes 32x32 --rounds -2", "rounds is -2"),
    ("bench --sizes 32x32 --rounds 1.5", "--rounds: '1.5' is not a whole number"),
    ("bench --sizes 32x32 --networks monet", "no network or style 'monet'; there are johnson"),
    ("bench --sizes 32x32 --networks johnson,", "no network or style ''"),
    ("bench --sizes 32x32 --networks nope.safetensors", "nope.safetensors: no such style file"),
    ("bench --sizes 32x32 --networks broken.safetensors", "broken.safetensors: damaged"),
    ("bench --sizes 32x32 --backends abacus", "no backend 'abacus'; installed are torch"),
    ("bench --sizes 32x32 --backends ''", "no backend ''"),
    ("bench --sizes 32x32 --device abacus", "no device 'abacus'"),
    ("bench --sizes 32x32 --json text.txt/new.json", "text.txt/new.json: cannot be written: Not a directory"),
    ("bench --sizes 32x32 --json text.txt", "text.txt exists; --force overwrites it"),
    ("bench --sizes 32x32 --json empty", "empty is a folder; name a file"),
    ("bench 32x32", "unknown: 32x32; see fst bench --help"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, style_file: Path) -> Path:
    """The folder that the commands speak of."""
    import fst.inference.batch
    import fst.study.bench
    import fst.study.evaluate  # noqa: F401  # what takes time to import is not the mistake's

    place = tmp_path_factory.mktemp("mistakes")
    for folder in ("empty", "full", "paintings", "done", "folder.onnx"):
        (place / folder).mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", "full/a.jpg", "paintings/udnie.jpg")):
        make_picture(40, 30, number).save(place / name)
    for name in ("text.txt", "broken.jpg", "broken.safetensors", "clip.mp4", "old.onnx", "done/evaluation.json"):
        (place / name).write_text("nothing of the kind")
    (place / "night.safetensors").write_bytes(style_file.read_bytes())
    return place


@pytest.mark.parametrize(("command", "named"), [*STYLIZE, *OTHERS])
def test_each_is_one_clear_line(command: str, named: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "openvino" in command:
        pytest.importorskip("openvino")
    if "onnx" in command:
        pytest.importorskip("onnx")
    monkeypatch.chdir(place)
    before = sorted(path for path in place.rglob("*"))
    outcome = run(command)
    assert outcome.faults() == []
    assert named in outcome.err
    assert sorted(path for path in place.rglob("*")) == before


# What only torch can tell: the devices of this machine; and what a style says of its training, for the work on it.
NEEDS_TORCH = (
    "cuda:77",
    "its file does not tell",
    "name the folder of its style image",
    "no picture named",
    "--weights",
)


def test_they_are_found_before_torch_is_loaded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = [
        (command, named)
        for command, named in [*STYLIZE, *OTHERS]
        if not any(word in command + named for word in NEEDS_TORCH)
        and not any(backend in command and not find_spec(backend) for backend in ("openvino", "onnx"))
    ]
    assert len(found) > 120
    outcomes = run_without_torch([command for command, _ in found])
    answers = zip(outcomes, (named for _, named in found), strict=True)
    assert [outcome for outcome, named in answers if outcome.faults() or named not in outcome.err] == []


def test_there_are_enough_of_them() -> None:
    commands = [command for command, _ in [*STYLIZE, *OTHERS]]
    assert len(set(commands)) == len(commands) > 130
