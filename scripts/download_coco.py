"""Downloads the COCO 2017 photos with curl, checks and unpacks them. The same command continues a stopped download.

    python scripts/download_coco.py [train2017|val2017] [--root data/coco]

The photos keep their owners' terms: cocodataset.org/#termsofuse
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

from fst.errors import RunError, UserError, run_script

MD5 = {"train2017": "cced6f7f71b7629ddf16f17bbcfab6b2", "val2017": "442b8da7639aecaf257c1dceb8ba8c80"}
BYTES = {"train2017": 19_336_861_798, "val2017": 815_585_330}
BASE_URL = "http://images.cocodataset.org/zips"  # http: the server's certificate is for another name


def download(name: str, root: Path, base_url: str = BASE_URL) -> Path:
    """Download to the folder `root/name`, which appears when it is complete.

    Raises:
        UserError: curl is missing, or the disk is too small.
        RunError: no connection, or a damaged archive.
    """
    folder, archive = root / name, root / f"{name}.zip"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    there = archive.stat().st_size if archive.exists() else 0
    if there < BYTES[name]:
        fetch(f"{base_url}/{archive.name}", archive, 2 * BYTES[name] - there)
    print("checking", archive)
    if not check_integrity(archive, MD5[name]):
        archive.unlink()
        raise RunError(f"{archive} was damaged and has been removed; run the same command again")
    unpack(archive, folder)
    archive.unlink()
    return folder


def fetch(url: str, archive: Path, needed: int) -> None:
    """Download the rest of `archive`."""
    if shutil.which("curl") is None:
        raise UserError("curl is not installed; it does the download")
    if (free := shutil.disk_usage(archive.parent).free) < needed:
        raise UserError(
            f"{archive.parent} has {free / 1e9:.0f} GB free and {needed / 1e9:.0f} GB are needed; see --root"
        )
    options = ["--fail", "--location", "--retry", "5", "--retry-all-errors", "--continue-at", "-"]
    if subprocess.run(["curl", *options, "--output", str(archive), url]).returncode:
        raise RunError(f"{url} could not be downloaded; the same command continues")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the archive to `folder`."""
    unfinished = folder.with_name(f"{folder.name}.part")
    try:
        with ZipFile(archive) as packed:
            for member in tqdm(packed.infolist(), desc="unpacking", unit="photo"):
                packed.extract(member, unfinished)
        (unfinished / folder.name).replace(folder)
    except (BadZipFile, OSError) as error:
        raise RunError(f"{archive} could not be unpacked: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=MD5, default="train2017", help="default: %(default)s")
    parser.add_argument("--root", type=Path, default=Path("data/coco"), help="where to (default: %(default)s)")
    options = parser.parse_args()
    folder = download(options.name, options.root)
    print(f"fst train data=coco data.root={folder} style.image=PAINTING")


if __name__ == "__main__":
    run_script(main)
