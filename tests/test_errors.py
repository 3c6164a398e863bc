import pytest

from fst.errors import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\n  two\r\nthree", "one two three"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\tb\x00\x9b1m", r"a\tb\x00\x9b1m"),
        ("txt.\u202egpj", r"txt.\u202egpj"),  # written from right to left from there on
        ("caf\udce9", r"caf\udce9"),  # not UTF-8, as a file's name can be
        ("Größe 夜 …", "Größe 夜 …"),
        ("", ""),
    ],
)
def test_nothing_acts_on_the_terminal(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_long_text_keeps_its_two_ends() -> None:
    line = one_line("start " + "x" * 10_000 + " what to do")
    assert line.startswith("start ")
    assert line.endswith(" what to do")
    assert len(line) <= 280
    assert one_line("x" * 10_000, None) == "x" * 10_000
