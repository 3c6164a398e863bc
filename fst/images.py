"""Reading, writing, resizing and converting pictures.

Between modules a picture is a `(B, 3, H, W)` float tensor, RGB in [0, 1]; `PIL.Image` and uint8 exist only
where pictures are read and written.
"""

import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from fst.errors import RunError, UserError
from fst.files import refusal_to_read, write_errors_of, written_atomically

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jfif"})
WRITABLE_PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# Only these formats are read, whatever a file's suffix: for PostScript, for example, Pillow would run Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_OPAQUE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".bmp", ".ppm"})  # these cannot hold an alpha channel
_JPEG_QUALITY = 95

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
    """All pictures (or other `suffixes`) below `root`, nested folders too, hidden files left out, in a fixed order.

    Args:
        on_error: called for each folder that cannot be listed.
    """
    return sorted(
        path
        for folder, _, names in os.walk(root, onerror=on_error)
        for name in names
        if not name.startswith(".")
        and (path := Path(folder, name)).suffix.lower() in suffixes
        and refusal_to_read(path) is None
    )


def require_images(folder: str | Path, name: str) -> list[Path]:
    """As `find_images`.

    Args:
        name: what the user gave the folder by, for the message: a flag and a space, or a key and its "=".

    Raises:
        UserError: no such folder, or no pictures in it.
    """
    root = Path(folder).expanduser()
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
    with _image_errors(path), _open(path, file) as image:
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        if check_size is not None:
            check_size(*image.size)
        return to_srgb(image)


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks about odd metadata; damage raises
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
            reason = f"not a picture ({', '.join(_FORMATS)}), or damaged"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
        raise ImageError(f"{name}: {reason}") from error


def _open(path: Path, file: BinaryIO | None = None) -> Image.Image:
    if file is None and (refusal := refusal_to_read(path)):
        raise ImageError(f"{path} {refusal}")
    Image.preinit()  # otherwise the first file whose suffix is wrong makes Pillow load all its formats
    return Image.open(file or path, formats=_FORMATS)


def _convert(image: Image.Image) -> Image.Image:
    """8-bit sRGB, "RGB" or "RGBA", from whatever Pillow decoded: a new picture."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale; Pillow's own conversion clips it
        values = np.array(image, dtype=np.float32)
        values *= 255.0 if values.max(initial=0) <= 1 else 1.0 if values.max(initial=0) <= 255 else 1 / 257
        return Image.fromarray(values.clip(0, 255, values).round(out=values).astype(np.uint8)).convert("RGB")
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


def flatten_alpha(image: Image.Image) -> Image.Image:
    """Lay the picture over white, as "RGB": colours under full transparency are arbitrary."""
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def resize_longer_side(image: Image.Image, size: int | None) -> Image.Image:
    """Scale so that the longer side has `size` pixels, keeping proportions; `None` leaves the picture as it is."""
    new_size = scaled_size(*image.size, size)
    return image if new_size == image.size else image.resize(new_size, Image.Resampling.LANCZOS)


def scaled_size(width: int, height: int, longer: int | None) -> tuple[int, int]:
    """Width and height in the same proportions, the longer one being `longer`; `None` leaves them."""
    if longer is None:
        return width, height
    factor = longer / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, 3, H, W)` in [0, 1] at another height and width, by antialiased bicubic interpolation."""
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """An "RGB" picture as a `(1, 3, H, W)` float tensor in [0, 1], channels last in memory."""
    return from_uint8(torch.from_numpy(np.array(image, dtype=np.uint8))[None])


def read_tensor(path: Path, size: int | None = None) -> Tensor:
    """A picture file over white as a `(1, 3, H, W)` float tensor in [0, 1].

    Args:
        size: of the longer side in pixels; `None` keeps the picture's own.

    Raises:
        ImageError: it cannot be read.
    """
    return to_tensor(resize_longer_side(flatten_alpha(read_image(path.expanduser())), size))


def from_uint8(pixels: Tensor) -> Tensor:
    """`(B, H, W, 3)` uint8 to `(B, 3, H, W)` float in [0, 1]; channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """`(B, 3, H, W)` float to `(B, H, W, 3)` uint8, rounded and clamped; the inverse of `from_uint8`."""
    pixels = images.detach().float().mul(255).round_().clamp_(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_pil(images: Tensor) -> Image.Image:
    """A `(1, 3, H, W)` tensor in [0, 1] as a picture."""
    return Image.fromarray(to_uint8(images)[0].cpu().numpy())


def psnr(images: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]; infinite if both are equal."""
    return float(-10 * (images - reference).square().mean().log10())  # torchmetrics has it, but takes 8 s to import


def contact_sheet(rows: Iterable[Iterable[Tensor]], gap: int = 8) -> Tensor:
    """Pictures `(1, 3, H, W)` in rows on white, each scaled to the height of the first of its row: `(1, 3, H', W')`."""
    strips = []
    for row in rows:
        pictures = [to_pil(picture) for picture in row]
        height = pictures[0].height
        pictures = [p.resize((max(1, round(p.width * height / p.height)), height)) for p in pictures]
        strip = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, height), "white")
        left = 0
        for picture in pictures:
            strip.paste(picture, (left, 0))
            left += picture.width + gap
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height + gap for s in strips) - gap), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + gap
    return to_tensor(sheet)


def keep_colors(stylized: Tensor, content: Tensor) -> Tensor:
    """The luminance of `stylized` with the colours of `content`, both `(B, 3, H, W)` in [0, 1].

    Gatys et al. 2016, "Preserving color in neural artistic style transfer", section 3.2 (luminance-only transfer),
    with the luma of ITU-R BT.601: adding a luma difference to all three channels leaves chroma as it is.
    """
    weights = stylized.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma_difference = ((stylized - content) * weights).sum(1, keepdim=True)
    return (content + luma_difference).clamp(0, 1)


def write_image(image: Image.Image, path: Path) -> None:
    """Encode by the suffix and write atomically; alpha is laid over white where the format cannot hold it.

    Raises:
        UserError: the suffix names no picture format that can be written.
        RunError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    image_format = Image.registered_extensions().get(suffix)
    if image_format not in Image.SAVE:
        raise UserError(f"{path}: cannot write '{suffix}' pictures; use .png, .jpg or .webp")
    if suffix in _OPAQUE_SUFFIXES:
        image = flatten_alpha(image)
    options = {"quality": _JPEG_QUALITY, "subsampling": 0} if image_format == "JPEG" else {}
    with written_atomically(path) as temporary, write_errors_of(path):
        image.save(temporary, format=image_format, **options)
