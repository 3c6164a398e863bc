import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fst.networks.transform import build_transform_network
from fst.style_file import load_style, save_style
from fst.style_info import Run, StyleFileError, StyleInfo, read_info

ARGUMENTS = {"width": 4, "blocks": 1, "norm": "instance"}
LOSS = {"convention": "relative", "reduction": "mean", "weights": {"style": 15.0}}
GONE = object()


def description(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["fst"])


def rewrite(source: Path, target: Path, changes: dict) -> Path:
    """The same weights with another description; a change to GONE takes the entry out."""
    document = description(source) | changes
    document = {key: value for key, value in document.items() if value is not GONE}
    with without_limit_of_digits():
        save_file(load_file(source), target, {"fst": json.dumps(document)})
    return target


@contextmanager
def without_limit_of_digits() -> Iterator[None]:
    """Python writes and reads integers of 4300 digits and no more."""
    usual = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(usual)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build_transform_network("johnson", **ARGUMENTS)
    info = StyleInfo(
        name="night",
        architecture="johnson",
        arguments=ARGUMENTS,
        layers={"content": {"relu2_2": 1.0}, "style": {"relu1_2": 0.5}},
        loss=LOSS,
        loss_network={"architecture": "vgg16", "weights": "imagenet", "pooling": "max"},
        steps=7,
        batch_size=4,
        image_size=256,
        style_image="starry_night",
        style_size=512,
        versions={"fst": "1", "torch": "2"},
        history=(Run("older", 9), Run("night", 7, 8, "cpu", "32-true", {"fst": "1", "torch": "2"})),
        scores={"content": 0.1},
    )
    save_style(tmp_path / "night.safetensors", network, info)
    loaded, read = load_style(tmp_path / "night.safetensors")
    assert read == info == read_info(tmp_path / "night.safetensors")
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    images = torch.rand(1, 3, 33, 21)
    assert torch.equal(network.eval()(images), loaded(images))


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    network = build_transform_network("johnson", **ARGUMENTS)
    info = StyleInfo(name="small", architecture="johnson", arguments=ARGUMENTS)
    save_style(tmp_path / "small.safetensors", network, info, torch.float16)
    loaded, _ = load_style(tmp_path / "small.safetensors")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    images = torch.rand(1, 3, 32, 32)
    assert (network.eval()(images) - loaded(images)).abs().max() < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "written in style format 2, this fst reads up to 1; update fst"),
        ({"format_version": "1"}, "update fst"),
        ({"format_version": True}, "format_version"),
        ({"_target_": "os.system"}, "unknown entries: _target_"),
        ({"_target_": None}, "unknown entries: _target_"),
        (
            {"architecture": "os.system"},
            "its network is of the class os.system, which is not fst's; only these can use it: Stylizer",
        ),
        ({"architecture": GONE}, "missing required field `architecture`"),
        ({"name": 5}, r"Expected `str`, got `int` - at `\$.name`"),
        ({"name": ""}, "name='' has 0 bytes"),
        ({"name": "../../x"}, "name='../../x' cannot be a file's"),
        ({"name": "a\\b"}, "cannot be a file's"),
        ({"name": ".."}, "cannot be a file's"),
        ({"name": "night\x1b]0;owned\x07"}, "cannot be a file's"),
        ({"name": "night\nfst: all is well"}, "cannot be a file's"),
        ({"name": "é" * 51}, "102 bytes; it can have 1 to 100"),
        ({"style_image": "../secret"}, "style_image='../secret' is a path"),
        ({"steps": "many"}, r"Expected `int`, got `str` - at `\$.steps`"),
        ({"steps": True}, r"got `bool` - at `\$.steps`"),
        ({"steps": -1}, r">= 0 - at `\$.steps`"),
        ({"steps": 10**5000}, "description is damaged"),
        ({"steps": 10**30}, r"\$.steps"),
        ({"image_size": 1.5}, r"\$.image_size"),
        ({"layers": []}, r"got `array` - at `\$.layers`"),
        ({"layers": {"content": {}}}, "missing required field `style`"),
        ({"layers": {"content": {"relu2_2": "1"}, "style": {}}}, r"\$.layers.content"),
        ({"layers": {"content": {}, "style": {}, "other": {}}}, "unknown entries: layers"),
        ({"loss": {"x": 1}}, "missing required field `convention`"),
        ({"loss": {**LOSS, "x": 1}}, "unknown entries: loss"),
        ({"loss": {**LOSS, "convention": "mine"}}, "'mine'"),
        ({"loss": {**LOSS, "weights": {"style": float("inf")}}}, r"\$.loss.weights"),
        ({"loss": {**LOSS, "weights": {"style": float("nan")}}}, r"\$.loss.weights"),
        ({"loss": {**LOSS, "weights": {"beauty": 1.0}}}, "'beauty'"),
        ({"scores": {"content": None}}, r"\$.scores"),
        ({"versions": {"fst": 1}}, r"\$.versions"),
        ({"arguments": {**ARGUMENTS, "width": 8}}, "has shape"),
        ({"arguments": {**ARGUMENTS, "width": 10**9}}, r"<= 1024 - at `\$.arguments"),
        ({"arguments": {**ARGUMENTS, "width": True}}, r"\$.arguments"),
        ({"arguments": {**ARGUMENTS, "blocks": 2}}, "do not fit its description"),
        ({"arguments": {**ARGUMENTS, "depth": 2}}, "depth"),
        ({"arguments": {**ARGUMENTS, "width": [4]}}, r"got `array` - at `\$.arguments"),
    ],
)
def test_descriptions_that_lie_are_one_clear_line(
    style_file: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    path = rewrite(style_file, tmp_path / "odd.safetensors", changes)
    with pytest.raises(StyleFileError, match=f"odd.safetensors: .*{message}") as caught:
        load_style(path)
    assert "\n" not in str(caught.value)


def test_damaged_and_foreign_files_are_one_clear_line(style_file: Path, tmp_path: Path) -> None:
    whole = style_file.read_bytes()
    files = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "header": whole[:40],
        "text": b"no style at all",
        "giant": b"\xff" * 64,
        "pickle": b"PK\x03\x04" + whole[4:],
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(StyleFileError, match=rf"{name}\.safetensors: ") as caught:
            load_style(path)
        assert "\n" not in str(caught.value)
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(StyleFileError, match="not a style that fst train wrote"):
        load_style(tmp_path / "foreign.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "json.safetensors", {"fst": "{"})
    with pytest.raises(StyleFileError, match="description is damaged"):
        load_style(tmp_path / "json.safetensors")
    with pytest.raises(StyleFileError, match="no such style file"):
        load_style(tmp_path / "missing.safetensors")


def test_spoiled_weights_are_refused(tmp_path: Path) -> None:
    network = build_transform_network("johnson", **ARGUMENTS)
    next(network.parameters()).data[0] = float("nan")
    save_style(tmp_path / "nan.safetensors", network, StyleInfo("nan", "johnson", ARGUMENTS))
    with pytest.raises(StyleFileError, match="NaN"):
        load_style(tmp_path / "nan.safetensors")


def test_a_score_that_is_not_finite_does_not_spoil_the_file(tmp_path: Path) -> None:
    info = StyleInfo("tiny", "johnson", ARGUMENTS, scores={"content": float("nan"), "style": 0.5})
    save_style(tmp_path / "tiny.safetensors", build_transform_network("johnson", **ARGUMENTS), info)
    assert read_info(tmp_path / "tiny.safetensors").scores == {"style": 0.5}


def test_every_field_is_written(style_file: Path) -> None:
    assert set(description(style_file)) == {field.name for field in dataclasses.fields(StyleInfo)}


def test_versions_that_a_file_does_not_tell_are_unknown(style_file: Path, tmp_path: Path) -> None:
    info = read_info(rewrite(style_file, tmp_path / "old.safetensors", {"versions": GONE, "history": GONE}))
    assert (info.versions, info.history) == ({}, ())


def test_bundled_styles_load() -> None:
    from fst.resources import resource_folder

    for path in resource_folder("checkpoints").glob("*.safetensors"):
        network, info = load_style(path)
        assert info.name == path.stem
        assert info.layers["style"].keys() == {"relu1_2", "relu2_2", "relu3_3", "relu4_3"}
        assert info.loss["weights"]["style"] > 0
        assert network(torch.rand(1, 3, 32, 32)).isfinite().all()
