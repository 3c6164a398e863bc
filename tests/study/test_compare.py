"""`fst compare` on small pictures and loss networks with random weights."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fst.cli import main as fst
from fst.commands.compare import main
from fst.errors import RunError, UserError
from fst.perceptual import PerceptualLoss
from fst.resources import resource_folder
from fst.study import compare
from fst.study.report import colour
from tests.conftest import make_picture

ROOT = "outputs/compare"
STUDIES = sorted(path.stem for path in (resource_folder("conf") / "study").glob("*.yaml"))


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pictures = [f"content={photos / '00.jpg'}", f"style.image={painting}", "size=48", "style.size=48", "steps=2"]
    return [*pictures, "weights.vgg16=random", "weights.vgg19=random", "device=cpu"]


def named(config: DictConfig) -> str:
    """A cell's layer set by its deepest content layer and the number of its style layers."""
    known = {("relu2_2", 4): "johnson", ("conv4_2", 5): "gatys", ("relu2_2", 2): "shallow", ("relu3_3", 2): "deep"}
    return known[next(iter(config.layers.content)), len(config.layers.style)]


def numbers(study: str) -> dict:
    return json.loads(Path(ROOT, study, f"{study}.json").read_text())


@pytest.mark.parametrize("study", [study for study in STUDIES if study not in ("mine", "fast_sets")])
def test_every_study_runs_and_its_page_holds_every_cell(study: str, small: list[str]) -> None:
    main([f"study={study}", *small, "steps=1"])
    document = numbers(study)
    cells = OmegaConf.load(resource_folder("conf") / "study" / f"{study}.yaml").cells
    assert [result["cell"]["name"] for result in document["cells"]] == [cell.name for cell in cells]
    assert not any("failed" in result for result in document["cells"])
    assert all(len(result["errors"]["style"]) == 16 for result in document["cells"])
    assert document["verdict"]
    page = Path("outputs/compare", study, f"{study}.html").read_text()
    assert page.count("</figure>") == len(cells) + 2
    assert not re.search(r'(src|href)="(?!data:)', page), "everything is in the one file"


def test_the_compact_network_is_the_judge_where_there_is_no_vgg(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(architecture: str) -> None:
        raise UserError(f"no {architecture}")

    monkeypatch.setattr("fst.networks.vgg._imagenet_state", unreachable)
    no_vgg = [option for option in small if not option.startswith("weights.")]
    with pytest.raises(RunError, match="2 of 2 cells failed; johnson: no vgg19"):
        main(["layers=johnson,shallow", *no_vgg])
    main(["layers=johnson,shallow", "judge=compact", *no_vgg])
    document = numbers("mine")
    assert all(len(result["errors"]["style"]) == 12 for result in document["cells"])
    assert {result["config"]["loss_network"]["weights"] for result in document["cells"]} == {"bundled"}
    page = Path(ROOT, "mine/mine.html").read_text()
    assert "each ReLU of the compact network" in page
    assert "Its errors are not those of VGG19" in page
    main(["layers=johnson,shallow", *small])
    assert all(len(result["errors"]["style"]) == 16 for result in numbers("mine")["cells"]), "measured anew"
    assert "compact network" not in Path(ROOT, "mine/mine.html").read_text()
    with pytest.raises(UserError, match=r"cell gatys: layers.style: compact has no layer conv5_1"):
        main(["layers=gatys", "judge=compact", *no_vgg])


def test_the_page_sorts_opens_pictures_large_and_names_its_bars(small: list[str], browser: Any) -> None:
    main(["layers=johnson,gatys,shallow", *small])
    cells = numbers("mine")["cells"]
    page = browser.new_context(has_touch=True).new_page()
    page.goto(Path(ROOT, "mine/mine.html").resolve().as_uri())
    names = page.locator("#cells b")
    for term in ("style", "content"):
        page.select_option("#order", term)
        lowest_first = sorted(cells, key=lambda cell: sum(cell["errors"][term].values()))
        assert names.all_inner_texts() == [cell["cell"]["name"] for cell in lowest_first]
    page.select_option("#order", "")
    assert names.all_inner_texts() == ["johnson", "gatys", "shallow"]
    assert page.locator("#cells output").first.inner_text() == "relu1_1 to relu5_4"
    page.locator("#cells .heat i").nth(3).tap()
    value = cells[0]["errors"]["style"]["relu2_2"]
    assert page.locator("#cells output").first.inner_text() == f"relu2_2: {value:.3g}"
    page.locator("#cells .open").nth(1).click()
    assert page.locator("dialog p").inner_text() == "gatys"
    assert page.locator("dialog img").bounding_box()["width"] > 1000
    page.locator("dialog img").click()
    assert not page.locator("dialog").is_visible()
    page.close()


def test_tensorboard_has_the_same_summary(small: list[str]) -> None:
    main(["layers=johnson,shallow", *small])
    main(["layers=johnson,shallow", *small])  # written anew, not added to
    runs = {path.name: EventAccumulator(str(path)).Reload() for path in Path(ROOT, "mine/tensorboard").iterdir()}
    for result in numbers("mine")["cells"]:
        events = runs.pop(Path(result["folder"]).name)
        assert events.Tags()["images"] == ["picture"]
        assert events.Scalars("objective")[0].value == pytest.approx(result["terms"]["loss"])
        for term, errors in result["errors"].items():
            curve = events.Scalars(f"error over depth/{term}")
            assert [event.step for event in curve] == list(range(1, 17))
            assert [event.value for event in curve] == pytest.approx(list(errors.values()))
    assert not runs


def test_a_finished_cell_is_not_done_again_and_a_failed_one_spoils_no_other(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["layers=johnson,gatys", *small]
    optimize, done = compare.optimize, []

    def fails_on_gatys(config, folder):
        done.append(named(config))
        if done[-1] == "gatys" and len(done) < 3:
            raise UserError("no such luck")
        return optimize(config, folder)

    monkeypatch.setattr(compare, "optimize", fails_on_gatys)
    with pytest.raises(RunError, match="1 of 2 cells failed; gatys: no such luck"):
        main(command)
    assert "1 of 2 cells done" in capsys.readouterr().out
    assert numbers("mine")["cells"][1]["failed"] == "no such luck"
    assert "no such luck" in Path("outputs/compare/mine/mine.html").read_text()
    main(command)
    assert "2 of 2 cells done" in capsys.readouterr().out
    assert done == ["johnson", "gatys", "gatys"]
    main([*command, "steps=3"])
    assert done[3:] == ["johnson", "gatys"], "another budget is another result"


def test_what_decides_a_result_decides_whether_it_is_done(
    small: list[str], painting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(painting, "painting.png")
    optimize, done = compare.optimize, []
    monkeypatch.setattr(compare, "optimize", lambda *given: done.append(1) or optimize(*given))
    command = [*small, "style.image=painting.png"]
    main(["study.cells=[{name: a, role: x, layers: deep}]", *command])
    main(["study.cells=[{name: a, role: y, layers: deep}]", *command])
    assert numbers("recipes")["cells"][0]["cell"]["role"] == "y"
    assert len(done) == 1
    main(["study.cells=[{name: a, layers: deep, gradients: true}]", *command])
    assert "gradient_difference" in numbers("recipes")["cells"][0]
    make_picture(70, 50, seed=5).save("painting.png")
    main(["study.cells=[{name: a, layers: deep, gradients: true}]", *command])
    assert len(done) == 3


def test_an_interrupted_study_goes_on_where_it_was(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["layers=johnson,shallow,deep", *small, "steps=3"]
    main([*command, "name=straight", "study=mine"])
    optimize, measure, seen, signals = compare.optimize, PerceptualLoss.forward, [], []

    def note(config, folder):
        seen.append((named(config), config.ckpt_path is not None))
        return optimize(config, folder)

    def measure_and_signal(loss, stylized, targets):
        if len(seen) == 2 and not signals:
            signals.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return measure(loss, stylized, targets)

    monkeypatch.setattr(compare, "optimize", note)
    monkeypatch.setattr(PerceptualLoss, "forward", measure_and_signal)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    monkeypatch.setattr(PerceptualLoss, "forward", measure)
    main(command)
    assert seen == [("johnson", False), ("shallow", False), ("shallow", True), ("deep", False)]
    broken, straight = ([cell["terms"] for cell in numbers(name)["cells"]] for name in ("mine", "straight"))
    assert broken == straight


def test_cells_can_run_in_several_processes(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert fst(["compare", "layers=[johnson,shallow]", *launcher, *small]) == 0
    assert "2 of 2 cells done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["study=mine"], "study mine has no cells; name layer sets"),
        (["layers="], "study mine has no cells; name layer sets"),
        (["study=nothing"], "study=nothing: no such choice; there are fast_sets, init"),
        (["layers=johnson,nothing"], "cell nothing: layers=nothing: no such choice; there are deep, gatys"),
        (["layers=johnson,johnson"], "two cells have the same name"),
        (["study.cells=[{name: a, depth: 3}]"], r"study.cells\[0\].depth=3: no such key; there are name, role, layers"),
        (["study.cells=[{name: a, layers: deep, method: magic}]"], "method=magic: it can be slow or fast"),
        (["study.cells=[{name: a, style: [conv1_1], method: fast}]"], "cell a: a fast one needs `layers: NAME`"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], line: str, small: list[str]) -> None:
    with pytest.raises(UserError, match=line):
        main([*overrides, *small])


def test_ones_own_layer_set_and_study_are_one_file_each(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/study").mkdir()
    Path("mine/layers/edges.yaml").write_text("content: {relu1_1: 1.0}\nstyle: {conv1_2: 1.0}\n")
    Path("mine/study/two.yaml").write_text(
        "title: Two\nexpect: nothing\ncells:\n- {name: a, layers: edges}\n"
        "- {name: b, content: [conv2_1], task: reconstruct}\n"
    )
    main(["--config-dir", "mine", "layers=johnson,edges", *small])
    johnson, edges = (result["config"]["layers"] for result in numbers("mine")["cells"])
    assert (list(johnson["content"]), edges["style"]) == (["relu2_2"], {"conv1_2": 1.0})
    main(["--config-dir=mine", "study=two", *small, "style.image=stained_glass"])  # a bundled picture by its name
    assert not any("failed" in result for result in numbers("two")["cells"])


def test_the_name_of_a_cell_can_be_long(small: list[str]) -> None:
    name = "all that there is to say " * 12
    main([f"study.cells=[{{name: {name}, layers: shallow}}]", *small])
    (cell,) = numbers("recipes")["cells"]
    assert cell["cell"]["name"] == name.strip()
    assert "failed" not in cell


def test_errors_have_colours_from_dark_to_light() -> None:
    lightness = [int(re.search(r"(\d+)%\)$", colour(error))[1]) for error in (0, 0.003, 0.1, 3, 100)]  # type: ignore[index]
    assert lightness[0] == lightness[1] < lightness[2] < lightness[3] == lightness[4]


def test_one_cell_by_its_number(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["layers=johnson,shallow", "cell=1", *small])
    assert "1 of 2 cells done" in capsys.readouterr().out
    assert numbers("mine")["cells"][0]["failed"] == "not done"


def test_separate_and_joint_backward_passes_have_the_same_gradient(small: list[str]) -> None:
    cells = "[{name: a, layers: gatys, gradients: true}, {name: b, layers: johnson, reduction: sum, gradients: true}]"
    main([f"study.cells={cells}", *small])
    differences = [result["gradient_difference"] for result in numbers("recipes")["cells"]]
    assert max(differences) < 1e-5


STARTS = "[{name: a, layers: gatys, style_weight: 15}, {name: b, layers: gatys, style_weight: 15, init: noise}]"
RECIPES = "[{name: a, role: five, layers: gatys}, {name: b, role: sixteen, layers: novak_all}]"


@pytest.mark.real
@pytest.mark.parametrize(
    ("study", "options"),
    [
        ("reconstruction", ["size=64", "steps=15"]),
        ("init", ["size=96", "steps=40", f"study.cells={STARTS}"]),  # noise leads until about the 25th
        ("recipes", ["size=96", "steps=30", f"study.cells={RECIPES}"]),  # 12 are not enough
    ],
)
def test_the_sources_claims_hold_on_real_weights(
    study: str, options: list[str], real_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo, painting = real_files / "photos/val/022_kodak_kodim23.jpg", real_files / "styles/starry_night.jpg"
    weights = f"weights.vgg19={real_files / 'weights/vgg19_features.safetensors'}"
    main([f"study={study}", f"content={photo}", f"style.image={painting}", "style.size=96", weights, *options])
    assert numbers(study)["verdict"].startswith("The claim holds")


def test_several_values_of_a_key_are_refused_with_and_without_m(small: list[str]) -> None:
    for choices, named in (
        (["size=48,64"], "fst compare takes one"),
        (["-m", "size=48,64"], "give each key one value"),
    ):
        with pytest.raises(UserError, match=named):
            main(["layers=johnson", *small, *choices])
