"""Picture files: finding, reading, scaling and writing them with Pillow, without torch, so that mistakes in their names
are found at once. `fst.images` has the tensors."""

import io
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageCms, ImageOps, features

from fst.errors import RunError, UserError
from fst.files import expand_user, refusal_to_read, write_errors_of, written_atomically
from fst.metadata import Metadata, read_metadata

_AVIF = features.check("avif")  # not every build of Pillow reads it
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jfif"}) | (
    {".avif"} if _AVIF else frozenset()
)
WRITABLE_PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
LEAST_SIDE = 16  # pixels of a picture to stylize; below it the networks' reflection paddings no longer fit
# Only these formats are read, whatever a file's suffix: for PostScript, for example, Pillow would run Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP") + (("AVIF",) if _AVIF else ())
_OPAQUE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".bmp", ".ppm"})  # these cannot hold an alpha channel
_JPEG_QUALITY = 95
_MOST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels that Pillow writes; other formats have no such limit

log = logging.getLogger(__name__)


class ImageError(UserError):
    """A picture that cannot be read; the message names the file and the reason."""


def allow_megapixels(most: float) -> None:
    """Let Pillow read pictures of up to this many million pixels; 179 is its own limit.

    It holds for the whole process, so it is for commands, whose user names the files.

    Raises:
        UserError: not a number above 0.
    """
    if not 0 < most < math.inf:
        raise UserError(f"max-megapixels is {most}; it is in millions of pixels, above 0")
    Image.MAX_IMAGE_PIXELS = max(1, round(most * 10**6 / 2))  # Pillow refuses what is more than twice as large


def _warn(error: OSError) -> None:
    log.warning("left out: %s: %s", error.filename, error.strerror)


def find_images(
    root: Path, suffixes: Set[str] = PICTURE_SUFFIXES, on_error: Callable[[OSError], None] = _warn
) -> list[Path]:
    """All pictures (or other `suffixes`) below `root`, nested folders too, in a fixed order; what is hidden (its name
    begins with a dot), files and folders, is left out, and so are links to folders, which may lead in circles.

    Args:
        on_error: called for each folder that cannot be listed.
    """
    found = []
    for folder, folders, names in os.walk(root, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]  # os.walk goes into these
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in suffixes and refusal_to_read(path) is None]
    return sorted(found)


def by_number(path: Path) -> list[list[str | int]]:
    """Sorts frames: `2.png` before `10.png`."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


def require_images(folder: str | Path, name: str) -> list[Path]:
    """As `find_images`.

    Args:
        name: what the user gave the folder by, for the message: a flag and a space, or a key and its "=".

    Raises:
        UserError: no such folder, or no pictures in it.
    """
    root = expand_user(folder)
    if not root.is_dir():
        raise UserError(f"{name}{folder}: no such folder")
    if not (found := find_images(root)):
        raise UserError(f"{name}{folder}: no pictures in it or below it")
    return found


def read_image(
    path: Path,
    at_least: int | None = None,
    file: BinaryIO | None = None,
    check_size: Callable[[int, int], None] | None = None,
) -> Image.Image:
    """Read any picture as 8-bit sRGB: mode "RGB", or "RGBA" where it has transparency; see `to_srgb`.

    Args:
        at_least: decode a JPEG at 1/2, 1/4 or 1/8 of its size as long as both sides stay at least this many
            pixels (several times faster for large photos).
        file: read from this, and use `path` for messages only.
        check_size: called with the width and height that will be decoded, before they are; its errors pass through.

    Raises:
        ImageError: not a picture, damaged, or cut short.
    """
    with _opened(path, at_least, file, check_size) as image:
        return to_srgb(image)


def read_all(paths: Iterable[Path], at_least: int | None = None) -> Iterator[Image.Image]:
    """The pictures that can be read, over white; a warning names each of the others."""
    for path in paths:
        try:
            yield flatten_alpha(read_image(path, at_least))
        except ImageError as error:
            log.warning("left out: %s", error)


def read_photo(
    path: Path,
    at_least: int | None = None,
    file: BinaryIO | None = None,
    check_size: Callable[[int, int], None] | None = None,
) -> tuple[Image.Image, Metadata]:
    """As `read_image`, with what else is in the file. A warning says if there are more pictures in it."""
    with _opened(path, at_least, file, check_size) as image:
        if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with previews in it
            log.warning("%s: only the first of its pictures is read", path)
        metadata = read_metadata(image)
        return to_srgb(image), metadata


@contextmanager
def _opened(
    path: Path,
    at_least: int | None,
    file: BinaryIO | None,
    check_size: Callable[[int, int], None] | None,
) -> Iterator[Image.Image]:
    with _image_errors(path), _open(path, file) as image:
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        if check_size is not None:
            check_size(*image.size)
        yield image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height as stored; nothing is decoded.

    Raises:
        ImageError: the file does not begin as a picture does.
    """
    with _image_errors(path), _open(path) as image:
        return image.size


def is_animated(path: Path) -> bool:
    """Whether a picture file is an animation.

    Raises:
        ImageError: not a picture.
    """
    with _image_errors(path), _open(path) as image:
        return getattr(image, "is_animated", False)


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit sRGB without metadata: "RGB", or "RGBA" if there is transparency.

    The picture is turned upright by its EXIF orientation. CMYK, palette, greyscale, 16-bit and embedded colour profiles
    are converted. A picture that needs none of it is returned itself.

    Raises:
        ImageError: the picture's file, which is decoded here, is damaged.
    """
    if type(image) is Image.Image and image.mode in ("RGB", "RGBA") and not image.info:
        return image
    with _image_errors(getattr(image, "filename", "") or "the picture"):
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = _convert(image)
    image.info = {}  # profile and orientation are applied, and must not be applied again
    return image


@contextmanager
def _image_errors(name: str | Path) -> Iterator[None]:
    """Turn what Pillow raises, errors of any kind for a damaged file, into an `ImageError`."""
    try:
        yield
    except (UserError, RunError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 10**6
        advice = "fst stylize --max-megapixels raises the limit"
        raise ImageError(f"{name}: more than {most:g} megapixels; {advice}") from error
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            reason = "no such file"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = f"not a picture ({', '.join(FORMATS)}), or damaged"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
        raise ImageError(f"{name}: {reason}") from error


def _open(path: Path, file: BinaryIO | None = None) -> Image.Image:
    if file is None and (refusal := refusal_to_read(path)):
        raise ImageError(f"{path} {refusal}")
    Image.preinit()  # otherwise the first file whose suffix is wrong makes Pillow load all its formats
    return Image.open(file or path, formats=FORMATS)


def _convert(image: Image.Image) -> Image.Image:
    """8-bit sRGB, "RGB" or "RGBA", from whatever Pillow decoded: a new picture."""
    if image.mode.startswith("I") or image.mode == "F":
        # Greyscale of 16 bits or more; Pillow's own conversion clips it. Only "I;16" tells which value is white.
        import numpy as np

        values = np.array(image, dtype=np.float32)
        most = 65535 if image.mode.startswith("I;16") else values.max(initial=0, where=np.isfinite(values))
        values *= 255.0 if most < 1.5 else 1.0 if most <= 255 else 1 / 257  # resizing can overshoot [0, 1]
        np.nan_to_num(values.clip(0, 255, values), copy=False)  # what is no number, such as a gap in a map, is black
        return Image.fromarray(values.round(out=values).astype(np.uint8)).convert("RGB")
    if image.mode in ("L", "LA", "La") and image.has_transparency_data:  # profiles of grey values know no alpha
        grey, cover = image.convert("LA").split()
        grey.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
        opaque = _convert(grey)
        opaque.putalpha(cover)
        return opaque
    target = "RGBA" if image.has_transparency_data else "RGB"
    converted = image
    if image.mode not in ("CMYK", "L", target):  # the profiles of these are for their own mode
        converted = image.convert(target)
    if profile := image.info.get("icc_profile"):
        try:
            source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            done = ImageCms.profileToProfile(converted, source, srgb, outputMode=target)
            return done or converted.convert(target)
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one for another mode: it is ignored
    return converted.convert(target)


def flatten_alpha(image: Image.Image, over: str = "white") -> Image.Image:
    """Lay the picture over a colour, as "RGB": colours under full transparency are arbitrary."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, over)
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def to_mask(image: Image.Image) -> Image.Image:
    """A picture of any mode as a mask, "L": upright, and black where it is transparent."""
    return flatten_alpha(to_srgb(image), "black").convert("L")


def resize_longer_side(image: Image.Image, size: int | None) -> Image.Image:
    """Scale so that the longer side has `size` pixels, keeping proportions; `None` leaves the picture as it is."""
    new_size = scaled_size(*image.size, size)
    return image if new_size == image.size else image.resize(new_size, Image.Resampling.LANCZOS)


def scaled_size(width: int, height: int, longer: int | None) -> tuple[int, int]:
    """Width and height in the same proportions, the longer one being `longer`; `None` leaves them."""
    if longer is None:
        return width, height
    factor = longer / max(width, height, 1)  # a PIL image can be empty
    return max(1, round(width * factor)), max(1, round(height * factor))


def refuse_too_large(width: int, height: int, suffix: str) -> None:
    """Raises a `UserError` for a picture with more pixels a side than files with this suffix can have."""
    most = _MOST_SIDE.get(Image.registered_extensions()[suffix])
    if most is not None and max(width, height) > most:
        raise UserError(f"{width}×{height} pixels; a {suffix} file has at most {most} a side: use .png, or --size")


def write_image(image: Image.Image, path: Path, metadata: Metadata | None = None) -> None:
    """Encode by the suffix and write atomically; alpha is laid over white where the format cannot hold it.

    Args:
        metadata: of a photo, to be kept as far as the format holds it.

    Raises:
        UserError: the suffix names no picture format that can be written.
        RunError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise UserError(f"{path}: cannot write '{suffix}' pictures; use .png, .jpg or .webp")
    with written_atomically(path) as temporary, write_errors_of(path), temporary.open("wb") as file:
        encode_image(image, file, suffix, metadata)


def encode_image(image: Image.Image, file: BinaryIO, suffix: str, metadata: Metadata | None = None) -> None:
    """As `write_image`, into an open file; `suffix` is one of `WRITABLE_PICTURE_SUFFIXES`."""
    image_format = Image.registered_extensions()[suffix]
    if suffix in _OPAQUE_SUFFIXES:
        image = flatten_alpha(image)
    options: dict[str, Any] = {"quality": _JPEG_QUALITY, "subsampling": 0} if image_format == "JPEG" else {}
    if metadata is not None and (kept := metadata.save_options(image_format)):
        image, options = metadata.apply_profile(image), options | kept
    image.save(file, format=image_format, **options)
