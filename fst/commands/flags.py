"""Values of flags, and what is common to several commands."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

from fst.errors import UserError

Value = TypeVar("Value")
Commands = Any  # argparse's, which has no public name: `add_parser(NAME, help=…)` adds a command

# Those of torch, which only tells once it is loaded whether this machine has one.
_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|hpu|mtia)(:\d+)?")


def device(text: str) -> str:
    """Refuses what is no device anywhere; whether this machine has it is found when the work begins."""
    if not _DEVICE.fullmatch(text) or (text.startswith("mps") and sys.platform != "darwin"):
        raise argparse.ArgumentTypeError(f"no device '{text}' on this machine; there are auto, cpu, cuda, cuda:1, mps")
    return text


def add_device(parser: Any) -> None:
    """The flag `--device`, for a parser or a group of one."""
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")


def above_zero(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def require_least(name: str, value: int, least: int) -> None:
    """Raises a `UserError` if a flag's value is too small."""
    if value < least:
        raise UserError(f"{name} is {value}; the least is {least}")


def whole(text: str) -> int:
    return _parsed(int, text, "a whole number")


def number(text: str) -> float:
    return _parsed(float, text, "a number")


def rate(text: str) -> Fraction:
    return _parsed(Fraction, text, "a number or a fraction such as 30000/1001")


def shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.rpartition(":")
        shares[name] = shares.get(name, 0.0) + _parsed(float, share, "a style's share; write A:0.3,B:0.7")
    return shares


def _parsed(kind: Callable[[str], Value], text: str, what: str) -> Value:
    try:
        return kind(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}") from error
