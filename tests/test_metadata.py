"""What a photo's file says is kept in its stylized picture."""

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from fst.cli import main
from fst.metadata import Metadata, read_metadata
from fst.pictures import read_image, read_photo, write_image
from tests.conftest import make_picture

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" dc:creator="me"/></x:xmpmeta>'
TAKEN, WIDTH, COLOR_SPACE = (ExifTags.Base[name] for name in ("DateTimeOriginal", "ExifImageWidth", "ColorSpace"))


@functools.cache  # it holds the time at which it is made
def wide_profile() -> bytes:
    """sRGB with red and blue exchanged: a profile that shows in the values."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def photo(path: Path, icc: bytes = b"") -> Path:
    """A turned photo with everything that a camera writes, a thumbnail too."""
    picture = make_picture(48, 32)
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Camera"
    exif[ExifTags.Base.Copyright] = "© Zoë".encode()  # as programs write it
    exif.get_ifd(ExifTags.IFD.Exif).update({TAKEN: "2020:02:03 04:05:06", WIDTH: 48, COLOR_SPACE: 65535})
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "50 mm ????"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    exif.get_ifd(ExifTags.IFD.IFD1)[ExifTags.Base.Artist] = "the thumbnail's"
    data = exif.tobytes().replace(b"????", "éé".encode())
    picture.save(path, exif=data, xmp=XMP, icc_profile=icc, quality=95)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_a_stylized_photo_keeps_them(tmp_path: Path, style_file: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    command = ["stylize", str(photo(tmp_path / "in.jpg", wide_profile())), "-s", str(style_file), "-o", str(out)]
    assert main(command) == 0
    with Image.open(out) as image:
        assert image.size == (32, 48), "upright"
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Camera"
        assert exif[ExifTags.Base.Copyright].encode("latin-1") == "© Zoë".encode()
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        entries = exif.get_ifd(ExifTags.IFD.Exif)
        assert entries[TAKEN] == "2020:02:03 04:05:06"
        assert entries[ExifTags.Base.LensModel].encode("latin-1") == "50 mm éé".encode()
        assert WIDTH not in entries
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert not exif.get_ifd(ExifTags.IFD.IFD1), "the thumbnail shows the photo as it was"
        xmp = image.info["xmp"]
        assert XMP.replace(b"6", b"1") in (xmp.encode() if isinstance(xmp, str) else xmp)
        assert image.info["icc_profile"] == wide_profile()


def test_the_colours_stay_what_they_are_in_the_photos_profile(tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    make_picture(40, 30).save(source, icc_profile=wide_profile())
    image, metadata = read_photo(source)
    write_image(image, tmp_path / "with.png", metadata)
    with Image.open(source) as before, Image.open(tmp_path / "with.png") as after:
        assert np.abs(np.asarray(before).astype(int) - np.asarray(after)).max() <= 6, "as stored"
    again = np.asarray(read_image(tmp_path / "with.png")).astype(int)
    assert np.abs(again - np.asarray(image)).mean() < 1, "as seen"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(make_picture(40, 30))).mean() > 5, "the profile matters"


def test_what_the_result_cannot_have_is_left_out(tmp_path: Path) -> None:
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with Image.open(photo(tmp_path / "odd.jpg", grey)) as image:
        metadata = read_metadata(image)
    assert metadata.icc == b""
    assert metadata.exif
    write_image(make_picture(20, 20), tmp_path / "out.jpg", metadata)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[COLOR_SPACE] == 1, "sRGB"
    for name in ("out.bmp", "long.jpg"):
        write_image(make_picture(20, 20), tmp_path / name, Metadata(metadata.exif, b"x" * 70_000))
        with Image.open(tmp_path / name) as image:
            assert "xmp" not in image.info
    profile = wide_profile().replace(b"para", b"none")  # the curves
    assert ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.is_intent_supported(0, 1), "it says so, wrongly"
    with Image.open(photo(tmp_path / "half.jpg", bytes(profile))) as image:
        assert read_metadata(image).icc == b""
    broken = io.BytesIO()
    make_picture(20, 20).save(broken, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20), icc_profile=b"none")
    with Image.open(broken) as image:
        assert read_metadata(image).icc == b""
