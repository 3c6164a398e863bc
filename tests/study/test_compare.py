"""`fst compare` on small pictures and loss networks with random weights."""

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fst.cli import main as fst
from fst.errors import UserError
from fst.resources import resource_folder
from fst.study import compare
from fst.study.compare import main
from fst.study.report import colour, verdict

STUDIES = sorted(path.stem for path in (resource_folder("conf") / "study").glob("*.yaml"))


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pictures = [f"content={photos / '00.jpg'}", f"style.image={painting}", "size=48", "style.size=48", "steps=2"]
    return [*pictures, "weights.vgg16=random", "weights.vgg19=random", "device=cpu"]


def numbers(study: str) -> dict:
    return json.loads(Path("outputs/compare", study, f"{study}.json").read_text())


@pytest.mark.parametrize("study", [study for study in STUDIES if study != "mine"])
def test_every_study_runs_and_its_page_holds_every_cell(study: str, small: list[str]) -> None:
    main([f"study={study}", *small, "steps=1"])
    document = numbers(study)
    cells = OmegaConf.load(resource_folder("conf") / "study" / f"{study}.yaml").cells
    assert [result["cell"]["name"] for result in document["cells"]] == [cell.name for cell in cells]
    assert not any("failed" in result for result in document["cells"])
    assert all(len(result["yardstick"]["style"]) == 16 for result in document["cells"])
    assert document["verdict"]
    page = Path("outputs/compare", study, f"{study}.html").read_text()
    assert page.count("<figure>") == len(cells) + 2
    assert not re.search(r'(src|href)="(?!data:)', page), "everything is in the one file"


def test_a_finished_cell_is_not_done_again_and_a_failed_one_spoils_no_other(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["layers=johnson,gatys", *small]
    optimize, done = compare.optimize, []

    def fails_on_gatys(config, folder):
        done.append(config.layers.name)
        if config.layers.name == "gatys" and len(done) < 3:
            raise UserError("no such luck")
        return optimize(config, folder)

    monkeypatch.setattr(compare, "optimize", fails_on_gatys)
    main(command)
    assert "1 of 2 cells done" in capsys.readouterr().out
    assert numbers("mine")["cells"][1]["failed"] == "no such luck"
    assert "no such luck" in Path("outputs/compare/mine/mine.html").read_text()
    main(command)
    assert "2 of 2 cells done" in capsys.readouterr().out
    assert done == ["johnson", "gatys", "gatys"]
    main([*command, "steps=3"])
    assert done[3:] == ["johnson", "gatys"], "another budget is another result"


def test_cells_can_run_in_several_processes(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert fst(["compare", "layers=[johnson,shallow]", *launcher, *small]) == 0
    assert "2 of 2 cells done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["study=mine"], "study mine has no cells; name layer sets"),
        (["study=nothing"], "Could not find 'study/nothing'"),
        (["layers=johnson,nothing"], "Could not find 'layers/nothing'"),
        (["layers=johnson,johnson"], "two cells have the same name"),
        (["study.cells=[{name: a, depth: 3}]"], "study recipes: a cell is not understood .*depth"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], line: str, small: list[str]) -> None:
    with pytest.raises(UserError, match=line):
        main([*overrides, *small])


def test_ones_own_layer_set_and_study_are_one_file_each(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/study").mkdir()
    Path("mine/layers/edges.yaml").write_text("name: edges\ncontent: {relu1_1: 1.0}\nstyle: {conv1_2: 1.0}\n")
    Path("mine/study/two.yaml").write_text(
        "name: two\ntitle: Two\nexpect: nothing\ncells: [{name: a, layers: edges}, {name: b, content: [conv2_1]}]\n"
    )
    main(["--config-dir", "mine", "layers=johnson,edges", *small])
    assert [result["config"]["layers"]["name"] for result in numbers("mine")["cells"]] == ["johnson", "edges"]
    main(["--config-dir=mine", "study=two", *small, "style.image=stained_glass"])  # a bundled picture by its name
    assert not any("failed" in result for result in numbers("two")["cells"])


def test_errors_have_colours_from_dark_to_light() -> None:
    lightness = [int(re.search(r"(\d+)%\)$", colour(error))[1]) for error in (0, 0.003, 0.1, 3, 100)]  # type: ignore[index]
    assert lightness[0] == lightness[1] < lightness[2] < lightness[3] == lightness[4]


def test_a_verdict_is_computed() -> None:
    def cells(five: float, sixteen: float) -> list[dict]:
        named = {"Gatys et al.": five, "Novak & Nikulin": sixteen}
        return [{"cell": {"name": name}, "yardstick": {"style": {"relu1_1": e}}} for name, e in named.items()]

    assert "The claim holds" in verdict("recipes", cells(0.2, 0.1))
    assert "does not hold" in verdict("recipes", cells(0.1, 0.2))
    assert verdict("mine", cells(0.1, 0.2)) == ""
    assert "no verdict" in verdict("recipes", [*cells(0.1, 0.2), {"cell": {"name": "x"}, "failed": "y"}])
