"""Many inputs, one style: which output each gets, and one bad input spoils no other."""

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from fst.errors import RunError, UserError
from fst.images import SUFFIXES, WRITABLE_SUFFIXES, find_images, read_image, write_image
from fst.inference.stylizer import Stylizer


def stylize_all(stylizer: Stylizer, inputs: Sequence[str], output: Path | None, force: bool = False) -> int:
    """Stylize pictures, folders of them and globs; failures go to stderr, one line each.

    Args:
        output: a file (for one picture) or a folder; `None` is the current one.
        force: overwrite existing outputs.

    Returns:
        The exit status: 0, or 1 if any of several inputs failed.

    Raises:
        UserError, RunError: the only input failed, or the inputs name nothing.
    """
    jobs = list(_jobs(inputs, output, stylizer.info.name))
    failures = 0
    written: set[Path] = set()
    for source, target in tqdm(jobs, unit="picture", disable=len(jobs) == 1):
        try:
            if target in written:
                raise UserError(f"{source}: {target} is already another input's output; use separate folders")
            if target.exists() and not force:
                raise UserError(f"{target} exists; --force overwrites it")
            _stylize(stylizer, source, target)
            written.add(target)
        except (UserError, RunError) as error:
            if len(jobs) == 1:
                raise
            failures += 1
            tqdm.write(f"fst: {error}", file=sys.stderr)
    print(jobs[0][1] if len(jobs) == 1 else f"{len(written)} stylized, {failures} failed")
    return 1 if failures else 0


def _stylize(stylizer: Stylizer, source: Path, target: Path) -> None:
    image = read_image(source)
    try:
        painted = stylizer(image)
    except (UserError, RunError) as error:
        raise type(error)(f"{source}: {error}") from error
    write_image(painted, target)


def _jobs(inputs: Sequence[str], output: Path | None, style: str) -> Iterator[tuple[Path, Path]]:
    """Each picture with where its result goes; the tree below an input folder is kept."""
    found: list[tuple[Path, Path]] = []  # each picture, and its place below the output folder
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            pictures = find_images(path)
            if not pictures:
                raise UserError(f"{text}: no pictures in it or below it")
            found += [(picture, picture.relative_to(path)) for picture in pictures]
        elif not path.exists() and glob.has_magic(text):
            # Path.glob takes no absolute patterns.
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
            if not matches:
                raise UserError(f"{text}: matches nothing")
            found += [(match, Path(match.name)) for match in matches if match.is_file()]
        else:
            found.append((path, Path(path.name)))
    if output is not None and output.suffix.lower() in SUFFIXES and not output.is_dir():
        if len(found) > 1:
            raise UserError(f"-o {output} is one file for {len(found)} pictures; name a folder")
        yield found[0][0], output
        return
    folder = output or Path()
    for source, place in found:
        suffix = place.suffix if place.suffix.lower() in WRITABLE_SUFFIXES else ".png"
        yield source, folder / place.with_name(f"{place.stem}-{style}{suffix}")
