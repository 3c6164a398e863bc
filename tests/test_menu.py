from pathlib import Path

import pytest

from tests.mistakes import run


@pytest.mark.parametrize("command", ["train data.root=.", "optimize content=x.png"])
@pytest.mark.parametrize("name", ["../../x", "''", "a/b", "'\"a\tb\"'", "x" * 101])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_written(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(f'{command} style.image=x.png "name={name}"')
    assert outcome.faults() == []
    assert "name='" in outcome.err
