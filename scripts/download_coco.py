"""Fetch the COCO 2017 photos that style networks are trained on.

    python scripts/download_coco.py [train2017|val2017] [--root data/coco] [--url BASE] [--keep-archive]

The same command goes on where an earlier one stopped. The photos keep their owners' terms: cocodataset.org/#termsofuse
"""

import argparse
import hashlib
import re
import shlex
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from tqdm import tqdm

from fst.errors import RunError, UserError


class Archive(NamedTuple):
    name: str
    md5: str
    size: int  # bytes
    photos: int


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive("train2017", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798, 118_287),
        Archive("val2017", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330, 5_000),
    )
}
BASE_URL = "http://images.cocodataset.org/zips"  # http: the server's certificate is for another name

TRIES = 5  # in a row without a new byte
WAIT = 2.0  # seconds between tries
TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20
NETWORK_ERRORS = (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


def download(archive: Archive, root: Path, base_url: str = BASE_URL, keep_archive: bool = False) -> Path:
    """The folder of the archive's photos under `root`, fetched and unpacked as far as it is not there yet."""
    folder, packed, part = (root / f"{archive.name}{end}" for end in ("", ".zip", ".zip.part"))
    marker = folder / ".complete"
    # the count too: someone may have deleted the photos and left the hidden marker
    if marker.is_file() and sum(1 for _ in folder.glob("*.jpg")) >= archive.photos:
        print(f"{folder} is already there")
        return folder
    require_writable(root)
    require_space(root, 2 * archive.size, [packed, part, *folder.glob("*.jpg")])
    source = packed if packed.exists() else part
    if source == part:
        fetch(f"{base_url.rstrip('/')}/{packed.name}", part, archive.size)
    check(source, archive.md5)
    source.replace(packed)
    unpack(packed, root, archive)
    marker.touch()
    if not keep_archive:
        packed.unlink()
    return folder


def require_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(f"cannot write in {root} ({error.strerror}); choose another folder with --root") from error


def require_space(root: Path, size: int, there: list[Path]) -> None:
    """Refuse to start on a disk that cannot hold the archive and its photos, less what is there already."""
    needed = 1.02 * size - sum(map(size_of, there))  # 2 % more, as files fill whole blocks
    free = shutil.disk_usage(root).free
    if free < needed:
        raise RunError(f"{root} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; see --root")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def fetch(url: str, part: Path, size: int) -> None:
    """Download `url` into `part` until all `size` bytes are there, trying again after a dropped connection."""
    furthest, failures = size_of(part), 0
    while size_of(part) < size:
        try:
            fetch_rest(url, part, size)
        except ValueError as error:
            raise UserError(f"{url} is not a web address ({error}); see --url") from error
        except NETWORK_ERRORS as error:
            if isinstance(error, HTTPError) and error.code < 500:  # 404, or 416 from a file shorter than the part
                raise RunError(f"{url}: the server answers {error.code} {error.reason}") from error
            failures = failures + 1 if size_of(part) <= furthest else 1
            furthest = max(furthest, size_of(part))
            if failures == TRIES:
                reason = getattr(error, "reason", error)
                raise RunError(
                    f"no connection to {url} ({reason}); the same command goes on where it stopped"
                ) from error
            time.sleep(WAIT)


def fetch_rest(url: str, part: Path, size: int) -> None:
    """Ask once for the bytes that `part` still lacks."""
    there = size_of(part)
    request = Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    with urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206  # a server without Range sends everything again
        start = there if resumed else 0
        offered = start + int(response.headers.get("Content-Length", size - start))
        if offered != size:  # say, a login page: it must not overwrite the part
            raise RunError(f"{url} has {offered} bytes where the COCO archive has {size}")
        with part.open("ab" if resumed else "wb") as file, byte_bar("downloading", size, start) as bar:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if size_of(part) < size:  # http.client ends a dropped body like a whole one
        raise ConnectionError("the server closed the connection")


def byte_bar(label: str, total: int, initial: int = 0) -> tqdm:
    return tqdm(desc=label, total=total, initial=initial, unit="B", unit_scale=True)


def check(path: Path, md5: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, byte_bar("checking", size_of(path)) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != md5:
        path.unlink()
        raise RunError(f"{path} had the wrong checksum ({digest.hexdigest()}, not {md5}) and was removed; try again")


def unpack(packed: Path, root: Path, archive: Archive) -> None:
    """Write the photos that are not there yet, each whole or not at all."""
    with ZipFile(packed) as source:
        photos = photos_in(source, archive)
        (root / archive.name).mkdir(exist_ok=True)
        for member in tqdm(photos, desc="unpacking", unit=" photos"):
            photo = root / member.filename
            if size_of(photo) == member.file_size:
                continue
            unfinished = photo.with_name(f"{photo.name}.part")
            with source.open(member) as compressed, unfinished.open("wb") as file:
                shutil.copyfileobj(compressed, file)
            unfinished.replace(photo)


def photos_in(source: ZipFile, archive: Archive) -> list[ZipInfo]:
    for name in source.namelist():
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise RunError(f"{source.filename} would write outside its folder ({name}); nothing was unpacked")
    layout = re.compile(rf"{archive.name}/[\w-]+\.jpg")
    photos = [member for member in source.infolist() if layout.fullmatch(member.filename)]
    if len(photos) != archive.photos:
        raise RunError(f"{source.filename} holds {len(photos)} photos instead of {archive.photos}")
    return photos


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch the COCO 2017 photos; a second run goes on where one stopped.")
    parser.add_argument("name", nargs="?", choices=ARCHIVES, default="train2017", help="default: %(default)s")
    parser.add_argument("--root", type=Path, default=Path("data/coco"), help="where to (default: %(default)s)")
    parser.add_argument("--url", default=BASE_URL, help="folder of the archives (default: %(default)s)")
    parser.add_argument("--keep-archive", action="store_true", help="keep the zip file after unpacking")
    args = parser.parse_args(argv)
    try:
        folder = download(ARCHIVES[args.name], args.root, args.url, args.keep_archive)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except (OSError, BadZipFile) as error:  # a disk that fills up or fails midway
        print(f"error: {error}", file=sys.stderr)
        return RunError.exit_status
    print(f"fst train data=coco {shlex.quote(f'data.root={folder}')} style.image=PAINTING")
    return 0


if __name__ == "__main__":
    sys.exit(main())
