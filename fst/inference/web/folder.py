"""The folder of an exported site; and what is wrong with it or with the styles, found before torch is loaded."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from fst.errors import UserError
from fst.files import folder_written_atomically, write_atomically, write_errors_of
from fst.style_info import find_style, read_builtin_info

SITE = "site.json"  # lists what the site has; written last


def find_web_styles(names: Sequence[str | Path]) -> list[Path]:
    """The style files of a site.

    Args:
        names: as of `find_style`.

    Raises:
        StyleFileError: one of them cannot be found or read.
        UserError: two have the same name, or the package that writes the models is missing.
    """
    if find_spec("onnx") is None:
        raise UserError("the models of the web page need onnx: pip install 'fast-style-transfer[onnx]'")
    styles = [find_style(name) for name in names]
    for style in styles:
        read_builtin_info(style)
    if len(styles) != len({style.stem for style in styles}):
        raise UserError("two of the styles have the same name; rename one of the files")
    return styles


def write_site(site: Mapping[str, bytes], folder: Path, force: bool = False) -> None:
    """Write a site's files: a new folder appears complete or not at all; in an existing one, each file does.

    Args:
        force: write over the files of an earlier site in this folder; others that are there stay.

    Raises:
        UserError: the folder holds something, and `force` is not given, or it is not a site.
        RunError: it cannot be written.
    """
    check_site_folder(folder, force)
    if folder.is_dir():
        for name, data in sorted(site.items(), key=lambda item: item[0] == SITE):
            write_atomically(folder / name, data)
        return
    with folder_written_atomically(folder) as temporary, write_errors_of(folder):
        for name, data in site.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)


def check_site_folder(folder: Path, force: bool) -> None:
    """Raises a `UserError` if a site must not be written to this folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the site")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SITE).is_file():
        raise UserError(f"{folder} holds other files than a site's; name an empty or a new folder")
    if not force:
        raise UserError(f"{folder} exists; --force overwrites it")
