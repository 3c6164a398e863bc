"""Mistaken and sensible command lines of `fst train`, `optimize` and `compare`."""

from pathlib import Path

import pytest

from tests import hydra_mistakes as tables
from tests.conftest import make_picture
from tests.mistakes import run

_CHUNKS = 8
MISTAKES = {
    "train": tables.commands(tables.TRAIN, tables.TRAIN_LINES),
    "optimize": tables.commands(tables.OPTIMIZE, tables.OPTIMIZE_LINES),
    "compare": tables.commands(tables.COMPARE, tables.COMPARE_LINES),
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """For each command, what makes a whole command line; in a folder with what the mistakes name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "empty", "mine"):
        Path(folder).mkdir()
    for path in ("photo.jpg", "painting.jpg", "photos/a.jpg", "photos/b.jpg"):
        make_picture(64, 48).save(path)
    Path("text.txt").write_text("no picture")
    Path("cut.jpg").write_bytes(Path("photo.jpg").read_bytes()[:300])
    both = ["content=photo.jpg", "style.image=painting.jpg", "device=cpu", "size=64"]
    return {
        "train": ["style.image=painting.jpg", "data.root=photos", "loss_network.weights=random"],
        "optimize": [*both, "loss_network.weights=random", "layers=johnson"],
        "compare": [*both, "weights.vgg16=random", "weights.vgg19=random", "study.cells=[{name: a, layers: deep}]"],
    }


def test_the_tables_are_long_enough() -> None:
    assert len(MISTAKES["train"]) >= 200
    assert len(MISTAKES["optimize"]) >= 60
    assert len(MISTAKES["compare"]) >= 60


@pytest.mark.parametrize("chunk", range(_CHUNKS))
@pytest.mark.parametrize("command", MISTAKES)
def test_every_mistake_is_refused_in_one_clear_line(command: str, chunk: int, start: dict[str, list[str]]) -> None:
    run([command, *start[command], "seed=-1"])  # whatever has to be imported is now
    faults = []
    for mistake in MISTAKES[command][chunk::_CHUNKS]:
        outcome = run([command, *start[command], *mistake])
        found = outcome.faults()
        key = mistake[-1].partition("=")[0].lstrip("+~-").split(".")[-1]
        if not any(name in outcome.err for name in (key, key.removesuffix("s"))):  # cells: the one
            found.append(f"does not name {key}")
        faults += [f"{' '.join(mistake)}: {', '.join(found)}: {outcome.err[-400:]}"] if found else []
    assert not faults, "\n".join(faults)
