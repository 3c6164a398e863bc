"""The folders that are installed with the package: `conf` and `checkpoints`."""

from pathlib import Path

from fst.errors import UserError
from fst.files import expand_user


def resource_folder(name: str) -> Path:
    """Inside the package when installed from a wheel, beside it in a checkout (`pip install -e .`)."""
    package = Path(__file__).resolve().parent
    return next((folder / name for folder in (package, package.parent) if (folder / name).is_dir()), package / name)


def find_style_image(name_or_path: str) -> Path:
    """The file of a style image, given its path or the name of a bundled one (`checkpoints/pictures`).

    Raises:
        UserError: neither.
    """
    path = expand_user(name_or_path)
    if path.suffix or (path.exists() and not path.is_dir()):
        return path
    bundled = {picture.stem: picture for picture in sorted((resource_folder("checkpoints") / "pictures").glob("*.jpg"))}
    if name_or_path not in bundled:
        raise UserError(
            f"style.image={name_or_path}: no such file, nor a bundled picture; those are {', '.join(bundled)}"
        )
    return bundled[name_or_path]
