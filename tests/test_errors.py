import pytest

from fst.errors import RunError, UserError, find_cause, one_line


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
    assert len(line) <= 400
    assert one_line("x" * 10_000, None) == "x" * 10_000


def test_it_is_found_below_what_libraries_wrapped_around_it() -> None:
    meant, outer = UserError("meant"), ValueError()
    outer.__context__, outer.__cause__ = RunError("met on the way"), meant
    assert find_cause(outer) is meant
    assert find_cause(meant) is meant
    assert find_cause(ValueError()) is None


def test_a_ring_of_contexts_ends() -> None:
    """As of an exception that a thread left behind and every call raises again."""
    first, second = OSError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert find_cause(first) is None
