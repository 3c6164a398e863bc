"""How a stylized picture is to look, checked before any network is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from fst.errors import UserError
from fst.pictures import LEAST_SIDE


@dataclass(frozen=True)
class Look:
    """What changes the result, besides the style; `fst.Stylizer` explains each.

    Raises:
        UserError: a number out of range.
    """

    size: int | None = None
    strength: float = 1.0
    keep_colors: bool = False
    stroke: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UserError(f"strength is {self.strength}; it goes from 0 (the picture) to 1 (the style)")
        if self.size is not None and self.size < LEAST_SIDE:
            raise UserError(f"size is {self.size}; it is the longer side in pixels, at least {LEAST_SIDE}")
        if not 0.1 <= self.stroke <= 10:
            raise UserError(f"stroke is {self.stroke}; it goes from 0.1 (fine) to 10 (broad), 1 is the style's own")

    def __str__(self) -> str:
        """What differs from the default, for the names of outputs: "", "-768px-colors"."""
        parts = {
            f"-{self.size}px": self.size is not None,
            f"-strength{self.strength:g}": self.strength != 1,
            "-colors": self.keep_colors,
            f"-stroke{self.stroke:g}": self.stroke != 1,
        }
        return "".join(part for part, is_set in parts.items() if is_set)


def check_shares(shares: Mapping[str, float]) -> list[float]:
    """The shares of the styles in a blend, scaled so that their sum is 1.

    Raises:
        UserError: one is negative, or all are 0.
    """
    total = sum(shares.values())
    if not all(share >= 0 for share in shares.values()) or not 0 < total < inf:
        raise UserError(f"the shares of a blend are {list(shares.values())}; give styles with shares above 0")
    return [share / total for share in shares.values()]
