"""What `fst bench` can measure; mistakes are found before torch is loaded."""

import re
from collections.abc import Sequence

from fst.errors import UserError
from fst.inference.runtimes import installed_backends
from fst.pictures import LEAST_SIDE
from fst.resources import resource_folder
from fst.style_info import StyleFileError, find_style, list_styles, read_builtin_info

_MOST_SIDE = 1 << 14  # pixels


def model_names() -> list[str]:
    """The choices of `conf/model` that name a network of fst."""
    paths = (resource_folder("conf") / "model").glob("*.yaml")
    return sorted(path.stem for path in paths if "_target_" not in path.read_text())


def check_bench(networks: Sequence[str] | None, backends: Sequence[str] | None, rounds: int) -> None:
    """Refuse what `fst.study.bench.bench`, whose arguments these are, cannot measure.

    Raises:
        UserError: no such network, style or backend, or no rounds.
    """
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; the least is 1")
    known = installed_backends()
    if unknown := set(backends or ()) - set(known):
        raise UserError(f"no backend '{', '.join(sorted(unknown))}'; installed are {', '.join(known)}")
    for name in set(networks or ()) - set(model_names()):
        try:
            style = find_style(name)
        except StyleFileError as error:
            names = ", ".join([*model_names(), *list_styles()])
            raise UserError(f"no network or style '{name}'; there are {names}") from error
        read_builtin_info(style)


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """`1280x720,256x256` as widths and heights.

    >>> parse_sizes("1280x720,256x256")
    [(1280, 720), (256, 256)]

    Raises:
        UserError: not such a list, or a side out of range.
    """
    sizes = [tuple(map(int, match)) for match in re.findall(r"(?:^|,)(\d+)x(\d+)(?=,|$)", text)]
    if len(sizes) != text.count(",") + 1 or not all(LEAST_SIDE <= side <= _MOST_SIDE for side in sum(sizes, ())):
        raise UserError(f"sizes are WIDTHxHEIGHT,… of {LEAST_SIDE} to {_MOST_SIDE} pixels a side; this is '{text}'")
    return [(width, height) for width, height in sizes]
