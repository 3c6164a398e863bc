import io
import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fst.errors import RunError, UserError
from fst.pictures import (
    FORMATS,
    PICTURE_SUFFIXES,
    ImageError,
    allow_megapixels,
    find_images,
    flatten_alpha,
    read_image,
    resize_longer_side,
    to_srgb,
    write_image,
)
from tests.conftest import make_picture

RED, BLUE = (200, 30, 20), (20, 30, 200)


def mean_color(image: Image.Image) -> tuple[float, ...]:
    return tuple(np.asarray(image, dtype=float).mean(axis=(0, 1)))


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_greyscale_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = read_image(saved(tmp_path, Image.new("L", (9, 7), 128), "grey.png"))
    assert (grey.mode, grey.size, grey.getpixel((0, 0))) == ("RGB", (9, 7), (128, 128, 128))
    cmyk = read_image(saved(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "cmyk.jpg", quality=95))
    assert cmyk.mode == "RGB"
    assert mean_color(cmyk) == pytest.approx(RED, abs=6)
    bits = read_image(saved(tmp_path, Image.new("1", (9, 7), 1), "bits.png"))
    assert bits.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (32768, 128), (65535, 255)])
def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path, value: int, expected: int) -> None:
    pixels = np.full((8, 8), 65535, dtype=np.uint16)
    pixels[:4] = value
    path = saved(tmp_path, Image.fromarray(pixels), "deep.png")
    assert read_image(path).getpixel((0, 0))[0] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("value", [1, 200])
def test_a_dark_16_bit_picture_stays_dark(tmp_path: Path, value: int) -> None:
    path = saved(tmp_path, Image.fromarray(np.full((8, 8), value, np.uint16)), "dark.png")
    assert read_image(path).getpixel((0, 0))[0] <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1.2, -0.2])
def test_an_odd_value_in_a_float_picture_costs_its_pixel_only(tmp_path: Path, odd: float) -> None:
    values = np.full((4, 6), 0.5, np.float32)
    values[1, 2] = odd
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = np.asarray(read_image(tmp_path / "a.tif"))
    assert pixels[1, 2].tolist() == [255 if odd > 1 else 0] * 3
    assert (np.delete(pixels.reshape(-1, 3), 8, 0) == 128).all()


def test_palette_and_transparency(tmp_path: Path) -> None:
    palette = Image.new("RGB", (8, 8), RED).quantize(4)
    assert mean_color(read_image(saved(tmp_path, palette, "palette.png"))) == pytest.approx(RED, abs=3)
    clear = read_image(saved(tmp_path, palette, "clear.png", transparency=palette.getpixel((0, 0))))
    assert clear.mode == "RGBA"
    assert clear.getpixel((0, 0))[3] == 0
    assert flatten_alpha(clear).getpixel((0, 0)) == (255, 255, 255)
    two = read_image(saved(tmp_path, Image.new("LA", (8, 8), (40, 128)), "la.png"))
    assert two.getpixel((0, 0)) == (40, 40, 40, 128)


def test_grey_that_is_premultiplied_by_its_alpha_is_read() -> None:
    converted = to_srgb(Image.new("LA", (8, 8), (40, 128)).convert("La"))
    assert converted.getpixel((0, 0)) == pytest.approx((40, 40, 40, 128), abs=1)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 16), BLUE)
    picture.paste(RED, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise to be seen: left becomes top
    upright = read_image(saved(tmp_path, picture, "turned.jpg", exif=exif, quality=95))
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 4)) == pytest.approx(RED, abs=12)
    assert upright.getpixel((8, 28)) == pytest.approx(BLUE, abs=12)


def test_colour_profiles_are_converted(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGB", (8, 8), RED)
    same = read_image(saved(tmp_path, picture, "srgb.png", icc_profile=srgb))
    assert same.getpixel((0, 0)) == pytest.approx(RED, abs=1)
    # A colour space whose red is sRGB's blue: rename the two primaries in the profile.
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    other = read_image(saved(tmp_path, picture, "swapped.png", icc_profile=swapped))
    assert other.getpixel((0, 0)) == pytest.approx(RED[::-1], abs=2)
    broken = read_image(saved(tmp_path, picture, "broken.png", icc_profile=b"no profile"))
    assert broken.getpixel((0, 0)) == RED


def test_a_profile_does_not_cost_the_transparency(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    image = read_image(saved(tmp_path, Image.new("RGBA", (8, 8), (*RED, 77)), "alpha.png", icc_profile=swapped))
    assert image.getpixel((0, 0)) == pytest.approx((*RED[::-1], 77), abs=2)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_neither_does_that_of_a_grey_picture(tmp_path: Path, mode: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = int.from_bytes(srgb[srgb.index(b"rTRC") + 4 :][:4])
    linear = b"para" + bytes(8) + (1 << 16).to_bytes(4)  # the power of 1
    grey = (srgb[:16] + b"GRAY" + srgb[20:curve] + linear + srgb[curve + 16 :]).replace(b"rTRC", b"kTRC")
    picture = Image.new(mode, (2, 1), 100 if mode == "L" else (100, 255))
    picture.putpixel((0, 0), 7 if mode == "L" else (7, 0))
    options = {"transparency": 7} if mode == "L" else {}
    image = read_image(saved(tmp_path, picture, "grey.png", icc_profile=grey, **options))
    assert [image.getpixel((x, 0))[3] for x in (0, 1)] == [0, 255]
    assert image.getpixel((1, 0))[:3] == pytest.approx(3 * (168,), abs=1)


def test_reduced_decoding_keeps_at_least_the_size_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, make_picture(640, 480), "large.jpg")
    small = read_image(path, at_least=100)
    assert small.size == (160, 120)
    assert read_image(path, at_least=481).size == (640, 480)
    assert mean_color(small) == pytest.approx(mean_color(read_image(path)), abs=2)


def test_one_pixel(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, Image.new("RGB", (1, 1), RED), "one.png")).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "not a picture"),
        ("text.png", b"this is no picture", "not a picture"),
        ("missing.png", None, "no such file"),
        ("cut.jpg", "half", "truncated"),
        ("cut.png", "half", ""),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes | str, reason: str) -> None:
    path = tmp_path / name
    if content == "half":
        make_picture(64, 64).save(path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=f"{name}: .*{reason}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n%%EOF\n"


def test_formats_that_no_suffix_names_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(FORMATS) == {Image.registered_extensions()[suffix] for suffix in PICTURE_SUFFIXES}
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("runs Ghostscript"))
    (tmp_path / "script.jpg").write_bytes(POSTSCRIPT)
    Image.new("RGB", (8, 8)).save(tmp_path / "other.jpg", "DDS")
    (tmp_path / "worse.jpg").write_bytes(b"BLP2" + b"\xff" * 200)
    for name in ("script.jpg", "other.jpg", "worse.jpg"):
        with pytest.raises(ImageError, match=f"{name}: not a picture .JPEG, PNG"):
            read_image(tmp_path / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "misnamed.jpg", "WEBP")
    assert read_image(tmp_path / "misnamed.jpg").size == (8, 8)


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow does not read AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path, Image.new("RGB", (32, 16), RED), "photo.avif"))
    assert image.size == (32, 16)
    assert mean_color(image) == pytest.approx(RED, abs=6)


@pytest.mark.parametrize(
    "error", [KeyError(0), struct.error("short"), RuntimeError("two\nlines"), AssertionError(), AttributeError("x")]
)
def test_whatever_a_damaged_file_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(_: object) -> None:
        raise error

    path = saved(tmp_path, Image.new("RGB", (8, 8)), "bad.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match=r"bad\.png: damaged \(.+\)$") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise MemoryError

    path = saved(tmp_path, Image.new("RGB", (8, 8)), "good.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        read_image(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (("pipe.jpg", "is a pipe"), (".", "is a folder")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)
    assert find_images(tmp_path) == []


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_limit_of_pixels_that_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # puts back what it was
    path = saved(tmp_path, Image.new("RGB", (2000, 1000)), "large.png")
    with pytest.raises(ImageError, match=r"large\.png: more than 0.002 megapixels; fst stylize --max-megapixels"):
        read_image(path)
    allow_megapixels(2)
    assert read_image(path).size == (2000, 1000)
    allow_megapixels(1.9)
    with pytest.raises(ImageError):
        read_image(path)
    for count in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="megapixels"):
            allow_megapixels(count)


def test_the_size_is_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, make_picture(64, 48), "cut.png")
    path.write_bytes(path.read_bytes()[:100])

    def refuse(width: int, height: int) -> None:
        raise RunError(f"{width}×{height}")

    with pytest.raises(RunError, match=r"^64×48$"):
        read_image(path, check_size=refuse)


def test_what_was_converted_is_not_converted_again(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(saved(tmp_path, make_picture(9, 7), "photo.png", icc_profile=swapped, exif=exif))
    assert image.size == (7, 9)
    assert to_srgb(image) is image
    assert to_srgb(image.copy()).tobytes() == image.tobytes()


def test_a_folder_that_cannot_be_listed_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        assert find_images(tmp_path) == [tmp_path / "a.jpg"]
    assert caplog.messages == [f"left out: {tmp_path / 'locked'}: Permission denied"]


def test_find_images_is_ordered_nested_and_skips_the_rest(tmp_path: Path) -> None:
    for folder in ("b", ".thumbnails", "b/.git/deep"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("b/2.PNG", "a.jpg", "notes.txt", ".hidden.jpg", ".thumbnails/a.jpg", "b/.git/deep/a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)] == ["a.jpg", "b/2.PNG"]


def test_resize_keeps_proportions() -> None:
    assert resize_longer_side(make_picture(200, 100), 50).size == (50, 25)
    assert resize_longer_side(make_picture(300, 1), 30).size == (30, 1)
    assert resize_longer_side(Image.new("RGB", (0, 0)), 30).size == (1, 1)  # and is refused as too small
    image = make_picture(20, 10)
    assert resize_longer_side(image, None) is image


def test_written_pictures_keep_or_flatten_alpha(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (*RED, 0))
    write_image(clear, tmp_path / "clear.png")
    assert Image.open(tmp_path / "clear.png").getpixel((0, 0))[3] == 0
    write_image(clear, tmp_path / "white.jpg")
    assert Image.open(tmp_path / "white.jpg").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(UserError, match=r"use \.png"):
        write_image(clear, tmp_path / "picture.xyz")


def test_a_picture_in_memory_is_what_was_written(tmp_path: Path) -> None:
    image = make_picture(33, 21)
    write_image(image, tmp_path / "exact.png")
    assert Image.open(io.BytesIO((tmp_path / "exact.png").read_bytes())).tobytes() == image.tobytes()
