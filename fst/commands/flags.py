"""Values of flags, and what is common to several commands."""

import argparse
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

Value = TypeVar("Value")
Commands = Any  # argparse's, which has no public name: `add_parser(NAME, help=…)` adds a command


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
