"""Packs a folder of photos into tar shards of smaller JPEGs, for data=webdataset.

    python scripts/pack_photos.py PHOTOS data/packed [--side 384] [--per-shard 1000]

Large photos are then decoded only once. The same command continues a stopped one: shards that exist are not written
again, and an unfinished one ends in .part. Other photos or sizes need another folder.
"""

import argparse
import io
import math
import os
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from fst.checkpoints import folder_fingerprint
from fst.errors import run_script
from fst.files import write_atomically
from fst.pictures import ImageError, find_images, flatten_alpha, read_image

_QUALITY = 92


def pack(arguments: tuple[Path, list[Path], int]) -> list[str]:
    """Write one shard from (its path, photos, shorter side); returns an error for each photo that cannot be read."""
    shard, paths, side = arguments
    if shard.exists():
        return []
    unreadable = []
    partial = shard.with_suffix(".part")
    with tarfile.open(partial, "w") as tar:
        for number, path in enumerate(paths):
            try:
                image = flatten_alpha(read_image(path, at_least=side))
            except ImageError as error:
                unreadable.append(str(error))
                continue
            factor = side / min(image.size)
            if factor < 1:
                image = image.resize((round(image.width * factor), round(image.height * factor)))
            content = io.BytesIO()
            image.save(content, "JPEG", quality=_QUALITY)
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = content.tell()
            content.seek(0)
            tar.addfile(member, content)
    partial.replace(shard)
    return unreadable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of pictures, flat or nested")
    parser.add_argument("out", type=Path, help="folder for photos-000000.tar, photos-000001.tar, …")
    parser.add_argument(
        "--side", type=int, default=384, help="shorter side in pixels; default 384, half as much again as crops"
    )
    parser.add_argument("--per-shard", type=int, default=1000, help="pictures a shard; default 1000")
    arguments = parser.parse_args()
    if min(arguments.side, arguments.per_shard) < 1:
        parser.error("--side and --per-shard are at least 1")
    paths = find_images(arguments.photos)
    if not paths:
        parser.error(f"{arguments.photos}: no pictures in it or below it")
    arguments.out.mkdir(parents=True, exist_ok=True)
    pictures = folder_fingerprint(arguments.photos, paths)
    made_of, note = f"{pictures}, side {arguments.side}, {arguments.per_shard} a shard", arguments.out / "photos.txt"
    if not note.exists():
        write_atomically(note, made_of.encode())
    elif (before := note.read_text()) != made_of:
        parser.error(f"{arguments.out} has shards of {before}; these are {made_of}: name another folder")
    count = math.ceil(len(paths) / arguments.per_shard)
    # Every count-th photo, so that a shard holds photos of many folders.
    jobs = [(arguments.out / f"photos-{i:06d}.tar", paths[i::count], arguments.side) for i in range(count)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for unreadable in tqdm(pool.map(pack, jobs), total=count, unit="shard"):
            for reason in unreadable:
                tqdm.write(f"left out: {reason}")
    braces = f"photos-{{000000..{count - 1:06d}}}.tar" if count > 1 else "photos-000000.tar"
    print(f"packed; train on them: fst train data=webdataset \"data.urls='{arguments.out}/{braces}'\" …")


if __name__ == "__main__":
    run_script(main)
