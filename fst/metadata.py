"""What a photo's file says besides its pixels, to be kept in the stylized picture: EXIF, XMP and the colour profile."""

import io
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageCms, PngImagePlugin

# Not the orientation, which is applied to the pixels, nor the thumbnail, which shows the photo, nor sizes and offsets.
_KEPT = (
    *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit", "Software", "DateTime"),
    *("Artist", "Rating", "XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject", "Copyright"),
)
_DROPPED = {ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifInteroperabilityOffset}
_SRGB = 1  # of the tag ColorSpace
_SEGMENT = 65_000  # bytes, in JPEG
_XMP_IN_TIFF, _XMP_IN_PNG = 700, "XML:com.adobe.xmp"
_ORIENTATION = re.compile(rb'(tiff:Orientation(?:=["\']|>))[2-8]')


class _Text(str):
    """A text that Pillow has read as Latin-1, and writes in the same way; of a plain one it would keep only ASCII."""

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


@dataclass(frozen=True)
class Metadata:
    """Parts of a file, empty where it has none.

    Attributes:
        exif: what the camera and the photographer noted, with the place; see `_KEPT`.
        xmp: a document in XML, with the orientation of an upright picture.
        icc: the profile of the photo's RGB values.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""

    def apply_profile(self, image: Image.Image) -> Image.Image:
        """A picture in sRGB, converted to the photo's profile."""
        if not self.icc:
            return image
        return ImageCms.applyTransform(image, _from_srgb(self.icc, image.mode)) or image

    def save_options(self, image_format: str) -> dict[str, Any]:
        """Arguments for Pillow's `Image.save`; what the format cannot hold is left out."""
        if image_format == "TIFF":
            tags = Image.Exif()
            if self.exif:
                tags.load(self.exif)
                _keep_texts(tags)
            if self.xmp:
                tags[_XMP_IN_TIFF] = self.xmp
            options: dict[str, Any] = {"exif": tags, "icc_profile": self.icc}
        elif image_format == "PNG":
            text = PngImagePlugin.PngInfo()
            if self.xmp:
                text.add_itxt(_XMP_IN_PNG, self.xmp.decode("utf-8", "replace"))
            options = {"exif": self.exif, "pnginfo": text, "icc_profile": self.icc}
        elif image_format in ("JPEG", "WEBP"):
            options = {"exif": self.exif, "xmp": self.xmp, "icc_profile": self.icc}
        else:
            return {}
        if image_format == "JPEG":  # a long profile is divided among several segments
            options = {key: data for key, data in options.items() if key == "icc_profile" or len(data) <= _SEGMENT}
        return {name: data for name, data in options.items() if data}


def read_metadata(image: Image.Image) -> Metadata:
    """Of a picture as Pillow opened it. What cannot be read or copied is left out."""
    xmp = image.info.get("xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    icc = _rgb_profile(image)
    return Metadata(_exif(image, has_profile=bool(icc)), _ORIENTATION.sub(rb"\g<1>1", bytes(xmp)), icc)


def _rgb_profile(image: Image.Image) -> bytes:
    """The profile, if sRGB can be converted to it; so it is one of RGB values."""
    icc = image.info.get("icc_profile") or b""
    with suppress(ImageCms.PyCMSError, OSError):
        if icc and image.mode in ("RGB", "RGBA"):
            _from_srgb(icc, image.mode)
            return icc
    return b""


def _from_srgb(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    target = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.buildTransform(ImageCms.createProfile("sRGB"), target, mode, mode)


def _exif(image: Image.Image, has_profile: bool) -> bytes:
    with suppress(Exception):  # Pillow raises errors of many kinds where tags hold what they should not
        source, kept = image.getexif(), Image.Exif()
        for name in _KEPT:
            if (tag := ExifTags.Base[name].value) in source:
                kept[tag] = source[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = {tag: value for tag, value in source.get_ifd(ifd).items() if tag not in _DROPPED}
            if ifd is ExifTags.IFD.Exif and ExifTags.Base.ColorSpace in entries and not has_profile:
                entries[ExifTags.Base.ColorSpace] = _SRGB
            if entries:
                kept.get_ifd(ifd).update(entries)
                kept[ifd] = kept.get_ifd(ifd)
        if len(kept):
            _keep_texts(kept)
            return kept.tobytes()
    return b""


def _keep_texts(tags: Image.Exif) -> None:
    for entries in (tags, tags.get_ifd(ExifTags.IFD.Exif), tags.get_ifd(ExifTags.IFD.GPSInfo)):
        entries.update({tag: _Text(value) for tag, value in entries.items() if isinstance(value, str)})
