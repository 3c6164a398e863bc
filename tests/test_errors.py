import re
from pathlib import Path

import pytest

from fst.errors import RunError, UserError, find_cause, one_line, run_script


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


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("--size 0:\ntoo small"), 2, "sheet.py: --size 0: too small\n"),
        (RunError("the disk is full"), 1, "sheet.py: the disk is full\n"),
        (FileNotFoundError(2, "No such file or directory", "a\x1b.json"), 1, "sheet.py: a\\x1b.json: No such file or"),
        (KeyboardInterrupt(), 130, "sheet.py: stopped\n"),
    ],
)
def test_a_script_ends_with_one_line(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["scripts/sheet.py"])
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == status
    (printed,) = capsys.readouterr().err.splitlines(keepends=True)
    assert printed.startswith(line)


def test_a_script_ends_with_its_status_and_a_defect_with_its_traceback() -> None:
    for status in (None, 0, 1):
        with pytest.raises(SystemExit) as stop:
            run_script(lambda status=status: status)  # type: ignore[misc]
        assert stop.value.code == status
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


def test_every_script_ends_so() -> None:
    scripts = {path: path.read_text() for path in (Path(__file__).parents[1] / "scripts").glob("*.py")}
    ends = [re.search(r'if __name__ == "__main__":\n(.*)', text, re.DOTALL) for text in scripts.values()]
    assert [end[1] for end in ends if end] == ["    run_script(main)\n"] * len(scripts)
