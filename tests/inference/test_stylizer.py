from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fst.errors import UserError
from fst.images import to_pil, to_tensor
from fst.inference.stylizer import Stylizer
from fst.pictures import read_image
from fst.style_file import load_style
from tests.conftest import make_picture


def test_the_same_kind_comes_back(stylizer: Stylizer) -> None:
    picture = make_picture(45, 31)
    painted = stylizer(picture)
    assert isinstance(painted, Image.Image)
    assert (painted.mode, painted.size) == ("RGB", (45, 31))
    array = stylizer(np.asarray(picture))
    assert (array.dtype, array.shape) == (np.uint8, (31, 45, 3))
    tensor = stylizer(to_tensor(picture))
    assert (tensor.dtype, tensor.shape) == (torch.float32, (1, 3, 31, 45))
    assert np.array_equal(array, np.asarray(painted))
    assert to_pil(tensor).tobytes() == painted.tobytes()
    assert not np.array_equal(array, np.asarray(picture))


def test_it_is_the_network_as_trained(stylizer: Stylizer, style_file: Path) -> None:
    network, _ = load_style(style_file)
    images = torch.rand(2, 3, 40, 56)
    expected, painted = network(images), stylizer(images)
    psnr = -10 * (expected - painted).square().mean().log10()
    assert psnr > 40  # bfloat16 where that is fast


def test_a_batch_equals_its_pictures(stylizer: Stylizer) -> None:
    images = torch.rand(2, 3, 32, 48)
    alone = torch.cat([stylizer(image) for image in images.split(1)])
    torch.testing.assert_close(stylizer(images), alone, rtol=0, atol=0.02)


def test_transparency_is_kept_and_what_lies_under_it_unseen(stylizer: Stylizer) -> None:
    picture = make_picture(32, 32).convert("RGBA")
    mask = Image.new("L", (32, 32), 255)
    mask.paste(0, (0, 0, 16, 32))
    picture.putalpha(mask)
    hidden = picture.copy()
    hidden.paste((255, 0, 255, 0), (0, 0, 16, 32))
    painted = stylizer(picture)
    assert painted.mode == "RGBA"
    assert painted.getchannel("A").tobytes() == mask.tobytes()
    assert stylizer(hidden).tobytes() == painted.tobytes()


def test_what_is_not_stylized_stays_as_it_is_below_transparency_too(style_file: Path, stylizer: Stylizer) -> None:
    picture = make_picture(32, 32).convert("RGBA")
    picture.putalpha(128)
    black = Image.new("L", (32, 32), 0)
    assert stylizer(picture, black).tobytes() == picture.tobytes()
    assert Stylizer(style_file, device="cpu", strength=0)(picture).tobytes() == picture.tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_float_type_keep_it(dtype: torch.dtype, stylizer: Stylizer) -> None:
    images = torch.rand(1, 3, 32, 32).to(dtype)
    stylized = stylizer(images)
    assert stylized.dtype == dtype
    torch.testing.assert_close(stylized, stylizer(images.float()).to(dtype))


def test_pictures_and_paths_from_python_are_painted_as_files_are(stylizer: Stylizer, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to be seen
    make_picture(40, 24).save(tmp_path / "phone.jpg", exif=exif)
    make_picture(40, 24).convert("L").convert("LA").save(tmp_path / "grey.png")
    palette = make_picture(40, 24).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    deep = np.linspace(0, 65535, 40 * 24).reshape(24, 40).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            painted = stylizer(image)
        expected = stylizer(read_image(path))
        for result in (painted, stylizer(path), stylizer(str(path))):
            assert (result.mode, result.size, result.tobytes()) == (expected.mode, expected.size, expected.tobytes())
    with Image.open(tmp_path / "phone.jpg") as image:
        assert stylizer(image).size == (24, 40)
    with Image.open(tmp_path / "palette.png") as image:
        assert stylizer(image).getchannel("A").getextrema() == (0, 255)
    with Image.open(tmp_path / "deep.png") as image:
        dark = image.crop((0, 0, 40, 16))  # two thirds: as 8 bits nearly all of it would be white
        assert stylizer(dark).tobytes() != stylizer(Image.new("RGB", dark.size, "white")).tobytes()


def test_a_picture_that_is_damaged_where_it_is_decoded_is_one_line(stylizer: Stylizer, tmp_path: Path) -> None:
    make_picture(64, 64).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(UserError, match=r"cut\.png: damaged"):
        stylizer(image)


def test_a_stylizer_leaves_the_process_as_it_is(style_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail(f"asks {name}"))
    Stylizer(style_file, "cpu")(make_picture(32, 32))


def test_tensors_in_other_units_are_refused(stylizer: Stylizer) -> None:
    picture = to_tensor(make_picture(40, 40))
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.48, 0.46, 0.41], [0.23, 0.22, 0.22]))
    for wrong in (picture * 255, (picture - mean) / deviation, picture * float("nan")):
        with pytest.raises(UserError, match="values go from 0 to 1, these from"):
            stylizer(wrong)
    with pytest.raises(UserError, match="float"):
        stylizer(picture[:0])
    assert stylizer(picture * 1.3 - 0.1).shape == picture.shape, "scaling may add as much"


def test_other_modes_are_converted(stylizer: Stylizer) -> None:
    assert stylizer(make_picture(20, 20).convert("L")).mode == "RGB"


def test_size_scales_the_longer_side(style_file: Path) -> None:
    small = Stylizer(style_file, "cpu", size=24)
    assert small(make_picture(96, 64)).size == (24, 16)
    assert small(torch.rand(1, 3, 64, 96)).shape == (1, 3, 16, 24)


def test_strength_blends(style_file: Path, stylizer: Stylizer) -> None:
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(Stylizer(style_file, "cpu", strength=0)(images), images)
    half = Stylizer(style_file, "cpu", strength=0.5)(images)
    torch.testing.assert_close(half, (images + stylizer(images)) / 2)


def test_kept_colours_are_the_pictures(style_file: Path) -> None:
    images = torch.rand(1, 3, 32, 32) * 0.1 + 0.45
    painted = Stylizer(style_file, "cpu", keep_colors=True)(images)
    chroma = images - images.mean(1, keepdim=True)
    inside = ((painted > 0) & (painted < 1)).all(1, keepdim=True)
    assert inside.any()
    difference = (painted - painted.mean(1, keepdim=True) - chroma) * inside
    assert difference.abs().max() < 1e-5


def test_a_stylized_tensor_has_no_gradient_and_can_be_what_a_training_compares_with(stylizer: Stylizer) -> None:
    stylized = stylizer(torch.rand(1, 3, 32, 32))
    assert not stylized.requires_grad
    own = torch.ones(1, requires_grad=True)
    (own * stylized).sum().backward()
    assert own.grad is not None


def test_a_blend_is_between_its_styles(style_file: Path, another_style: Path, stylizer: Stylizer) -> None:
    images = torch.rand(1, 3, 32, 48)
    blend = Stylizer({str(style_file): 1, str(another_style): 3}, "cpu")  # shares are relative
    expected = 0.25 * stylizer(images) + 0.75 * Stylizer(another_style, "cpu")(images)
    torch.testing.assert_close(blend(images), expected)
    assert blend.name == "tiny+another"
    assert (to_tensor(blend(to_pil(images))) - expected).abs().max() < 0.02


def test_the_stroke_is_the_scale_it_is_painted_at(style_file: Path, stylizer: Stylizer) -> None:
    picture = make_picture(64, 48)
    broad = Stylizer(style_file, "cpu", stroke=2)(picture)
    small = stylizer(picture.resize((32, 24), Image.Resampling.LANCZOS))
    assert broad.size == (64, 48)
    assert broad.tobytes() == small.resize((64, 48), Image.Resampling.LANCZOS).tobytes()
    tensor = Stylizer(style_file, "cpu", stroke=2)(to_tensor(picture))
    assert tensor.shape == (1, 3, 48, 64)
    assert (tensor - to_tensor(broad)).abs().mean() < 0.02
    with pytest.raises(UserError, match="a 13×10 picture is too small"):
        Stylizer(style_file, "cpu", stroke=5)(picture)


@pytest.mark.parametrize("kind", ["I;16", "F", "transparent", "turned"])
def test_masks_of_any_kind_are_read_like_photos(stylizer: Stylizer, kind: str) -> None:
    plain = Image.new("L", (64, 48), 128)
    plain.paste(0, (0, 0, 64, 24))
    values = np.asarray(plain)
    if kind == "I;16":
        mask = Image.fromarray(values.astype(np.uint16) * 257)
    elif kind == "F":
        mask = Image.fromarray(values.astype(np.float32) / 255)
    elif kind == "transparent":
        mask = Image.new("RGBA", plain.size, "white")
        mask.putalpha(plain)
    else:
        mask = plain.transpose(Image.Transpose.ROTATE_90)
        mask.getexif()[ExifTags.Base.Orientation] = 6
    picture = make_picture(64, 48)
    expected, seen = (np.asarray(stylizer(picture, mask=m)).astype(int) for m in (plain, mask))
    assert abs(seen - expected).max() <= 1


@pytest.mark.parametrize("mask", ["mask.png", np.zeros((48, 64), np.uint8)])
def test_a_mask_that_is_no_pil_image_is_refused(stylizer: Stylizer, mask: Any) -> None:
    with pytest.raises(UserError, match=r"a mask must be a PIL image, this is a \w+; Image.open\(PATH\) opens one"):
        stylizer(make_picture(64, 48), mask)


def test_only_what_the_mask_shows_is_stylized(stylizer: Stylizer) -> None:
    picture, mask = make_picture(64, 48), Image.new("L", (32, 24))
    mask.paste(255, (16, 0, 32, 24))
    painted, masked = np.asarray(stylizer(picture)), np.asarray(stylizer(picture, mask=mask))
    assert np.array_equal(masked[:, :28], np.asarray(picture)[:, :28])  # left of the edge, which scaling softens
    assert np.array_equal(masked[:, 36:], painted[:, 36:])
    tensor = stylizer(to_tensor(picture), mask=mask)
    assert np.abs(np.asarray(to_pil(tensor)).astype(int) - masked).max() <= 1  # rounded once, not twice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5"),
        ({"size": 0}, "size is 0"),
        ({"stroke": 0}, "stroke is 0"),
        ({"memory": float("nan")}, "memory is nan"),
        ({"memory": float("inf")}, "memory is inf"),
        ({"memory": 0}, "memory is 0"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"device": "cuda:77"}, "no device 'cuda:77'"),
    ],
)
def test_bad_options_are_one_clear_line(style_file: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Stylizer(style_file, **options)


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -1, 0])
def test_bad_shares_are_one_clear_line(style_file: Path, share: float) -> None:
    with pytest.raises(UserError, match=r"shares of a blend are \["):
        Stylizer({str(style_file): share}, "cpu")


def test_bad_pictures_are_one_clear_line(stylizer: Stylizer) -> None:
    with pytest.raises(UserError, match="a 9×40 picture is too small"):
        stylizer(make_picture(9, 40))
    with pytest.raises(UserError, match="uint8"):
        stylizer(np.zeros((20, 20, 3), dtype=np.float32))
    with pytest.raises(UserError, match="float"):
        stylizer(torch.zeros(3, 20, 20))
    with pytest.raises(UserError, match="cannot stylize a bytes"):
        stylizer(b"photo.jpg")
    with pytest.raises(UserError, match=r"photo\.jpg: no such file"):
        stylizer("photo.jpg")


def test_several_pictures_at_once(style_file: Path, tmp_path: Path) -> None:
    stylizer = Stylizer(style_file, "cpu")
    pictures = [make_picture(40, 30, seed) for seed in range(5)]
    pictures[3].save(path := tmp_path / "photo.png")
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    alone = [np.asarray(stylizer(picture)) for picture in pictures]
    threads = torch.get_num_threads()
    together = stylizer([pictures[0], arrays[1], to_tensor(pictures[2]), path, str(path)])
    assert [type(result) for result in together] == [Image.Image, np.ndarray, torch.Tensor, Image.Image, Image.Image]
    for number, result in enumerate([*map(np.asarray, together[:2]), *map(np.asarray, together[3:])]):
        assert np.abs(result.astype(int) - alone[(0, 1, 3, 3)[number]]).max() <= 1
    batch = stylizer(arrays)
    assert (batch.shape, batch.dtype) == (arrays.shape, np.uint8)
    assert np.abs(batch.astype(int) - np.stack(alone)).max() <= 1
    assert torch.get_num_threads() == threads
    assert stylizer([]) == []
    with pytest.raises(UserError, match=r"nope.png: no such file"):
        stylizer([pictures[0], tmp_path / "nope.png"])
    with pytest.raises(UserError, match=r"uint8 \(H, W, 3\) or \(B, H, W, 3\)"):
        stylizer(arrays.astype(float))
