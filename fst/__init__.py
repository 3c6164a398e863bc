"""fst: train feed-forward style transfer networks and run them in real time.

>>> from fst import Stylizer
>>> Stylizer("starry_night")(photo).save("painted.png")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fst.inference.stylizer import Stylizer

__version__ = "0.1.0"
__all__ = ["Stylizer", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Stylizer":  # on demand: `fst --help` need not wait for torch
        from fst.inference.stylizer import Stylizer

        return Stylizer
    raise AttributeError(f"module 'fst' has no attribute '{name}'")
