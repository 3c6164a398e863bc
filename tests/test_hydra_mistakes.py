"""Mistaken and sensible command lines of `fst train`, `optimize` and `compare`."""

from pathlib import Path

import pytest

from tests import hydra_mistakes as tables
from tests.conftest import make_picture
from tests.mistakes import run, run_without_torch

_CHUNKS = 4
MISTAKES = {
    "train": tables.commands(tables.TRAIN, tables.TRAIN_LINES),
    "optimize": tables.commands(tables.OPTIMIZE, tables.OPTIMIZE_LINES),
    "compare": tables.commands(tables.COMPARE, tables.COMPARE_LINES),
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """For each command, what makes a whole command line; in a folder with what the mistakes name."""
    monkeypatch.chdir(tmp_path)
    # What is accepted would run: here it ends with status 0.
    monkeypatch.setattr("fst.training.train.train", lambda config, folder: (folder, {}))
    monkeypatch.setattr("fst.study.optimize.optimize", lambda config, folder: (folder, {}))
    monkeypatch.setattr("fst.commands.compare.launch", lambda *_: print("launched"))
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
    faults = []
    for mistake in MISTAKES[command][chunk::_CHUNKS]:
        common = [override for override in start[command] if not ("data=webdataset" in mistake and "root" in override)]
        outcome = run([command, *common, *mistake])
        found = outcome.faults()
        key, _, value = mistake[-1].partition("=")
        key = key.lstrip("+~-").split(".")[-1]
        named = (key, key.removesuffix("s"), mistake[0])  # of cells the one that it is
        if not any(name in outcome.err for name in (*named, *([value] if "." in value else []))):
            found.append(f"does not name {key}")
        faults += [f"{' '.join(mistake)}: {', '.join(found)}: {outcome.err[-400:]}"] if found else []
    assert not faults, "\n".join(faults)


# Keys that are checked after the optimiser, whose class needs torch.
LATE = ("optimizer.", "ckpt_path", "+layers.style")


def test_they_are_found_before_torch_is_loaded(start: dict[str, list[str]]) -> None:
    """Of every third key of the tables, the first mistake."""
    tables_of = {"train": tables.TRAIN, "optimize": tables.OPTIMIZE, "compare": tables.COMPARE}
    commands = [
        [name, *start[name], f"{key}={next(iter(values))}"]
        for name, table in tables_of.items()
        for key, values in list(table.items())[::3]
        if not (name == "train" and key.startswith(LATE))
    ]
    assert len(commands) > 35
    outcomes = run_without_torch(commands)
    assert [out for out in outcomes if out.faults() or "optimizer.algorithm._target_=" in out.err] == []
