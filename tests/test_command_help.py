"""The help of the commands that take flags."""

import argparse
from collections.abc import Iterator

import pytest

from fst.cli import _parser
from fst.inference.video.writer import _QUALITIES


def flags_of(*commands: str) -> Iterator[argparse.Action]:
    (parsers,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands or parsers.choices:
        yield from parsers.choices[command]._actions


def test_each_default_is_told() -> None:
    with_default = [flag for flag in flags_of() if flag.default not in (argparse.SUPPRESS, None, False, [])]
    assert [flag.option_strings for flag in with_default if "default" not in str(flag.help)] == []


def test_the_usage_of_stylize_tells_that_a_style_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["stylize", "--help"])
    assert "(-s STYLE | --blend A:0.3,B:0.7)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("codec", "encoder"), [("h264", "libx264"), ("hevc", "libx265"), ("vp9", "libvpx-vp9"), ("av1", "libsvtav1")]
)
def test_the_quality_and_preset_of_each_codec_are_told(codec: str, encoder: str) -> None:
    helps = {flag.dest: str(flag.help) for flag in flags_of("stylize")}
    default, worst, options = _QUALITIES[encoder]
    assert codec in helps["quality"].partition(f"{default} for ")[2]
    assert str(worst) in helps["quality"]
    assert options.get("preset", "") in helps["preset"]
