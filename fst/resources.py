"""Where the files that travel with the package are: `conf` and `checkpoints`."""

from pathlib import Path


def resource_folder(name: str) -> Path:
    """Inside the package when installed from a wheel, beside it in a checkout (`pip install -e .`)."""
    package = Path(__file__).resolve().parent
    return next((folder / name for folder in (package, package.parent) if (folder / name).is_dir()), package / name)
