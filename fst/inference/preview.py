"""One sheet that shows a photo in several styles."""

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

SIDE = 384  # longer side of each picture, in pixels
_COLUMNS, _GAP, _LABEL = 3, 12, 24  # of the sheet: pictures in a row, pixels between them, pixels for a name


def sheet(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures of one size in rows on white, each above its name."""
    width, height = next(iter(pictures.values())).size
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    step_x, step_y = width + _GAP, height + _LABEL + _GAP
    page = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=15)
    for place, (name, picture) in enumerate(pictures.items()):
        left, top = _GAP + place % columns * step_x, _GAP + place // columns * step_y
        page.paste(picture, (left, top))
        draw.text((left, top + height + 4), name, fill="black", font=font)
    return page
