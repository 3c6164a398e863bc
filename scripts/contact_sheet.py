"""Makes a sheet of photos stylized with several styles: a row for each photo, a column for each style.

python scripts/contact_sheet.py sheet.png --photos FOLDER --styles starry_night udnie --size 512 --count 6
"""

import argparse
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from fst.errors import UserError, run_script
from fst.images import contact_sheet, read_tensor, resize
from fst.inference.stylizer import Stylizer
from fst.pictures import require_images, write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the sheet; a .jpg or .png file")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--styles", nargs="+", required=True, help="names from `fst styles`, or style files")
    parser.add_argument("--size", type=int, default=512, help="longer side in pixels when stylized; default 512")
    parser.add_argument("--shown", type=int, help="longer side in the sheet; default as stylized")
    parser.add_argument(
        "--only", type=int, nargs="+", metavar="NUMBER", help="photos by their number in the folder, from 0"
    )
    parser.add_argument("--count", type=int, default=6, help="number of photos, without --only; default 6")
    parser.add_argument("--painted-only", action="store_true", help="leave out the photos themselves")
    arguments = parser.parse_args()
    photos = require_images(arguments.photos, "--photos ")
    if unknown := [number for number in arguments.only or () if not 0 <= number < len(photos)]:
        raise UserError(f"--only {unknown[0]}: the photos have the numbers 0 to {len(photos) - 1}")
    chosen = photos[: arguments.count] if arguments.only is None else [photos[number] for number in arguments.only]
    stylizers = [Stylizer(style) for style in arguments.styles]
    scale = (arguments.shown or arguments.size) / arguments.size

    def shown(picture: Tensor) -> Tensor:
        height, width = (round(scale * side) for side in picture.shape[-2:])
        return resize(picture, (height, width))

    rows = []
    for path in tqdm(chosen, unit="photo"):
        photo = read_tensor(path, arguments.size)
        row = [stylizer(photo) for stylizer in stylizers]
        row = row if arguments.painted_only else [photo, *row]
        rows.append([shown(picture) for picture in row])
    write_image(contact_sheet(rows), arguments.out)


if __name__ == "__main__":
    run_script(main)
