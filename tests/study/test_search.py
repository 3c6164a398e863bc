"""`fst search` on small pictures and a loss network with random weights."""

import json
import multiprocessing
import re
import shlex
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from fst.cli import main as fst
from fst.commands.search import main
from fst.errors import RunError, UserError
from fst.hydra_app import check_config, composing, configure
from fst.overrides import read_arguments
from fst.resources import resource_folder
from fst.schemas import TRAIN
from fst.study import fast
from fst.study.criteria import Criteria, Scores
from fst.study.search import Workbench
from fst.study.search_config import SEARCH, photo_files
from fst.study.search_report import Result, write_report
from fst.style_info import read_info
from fst.training.data.folder import PhotoDataModule
from tests.conftest import make_picture

ROOT = Path("outputs/search")


@pytest.fixture
def small(photos: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pictures = [f"photos={photos}", f"style.image={painting}", "size=32", "steps=1", "count=1", "device=cpu"]
    return [*pictures, "loss_network=compact", "loss_network.weights=random", "first=[johnson,relu1_2]"]


def numbers(name: str = "painting") -> dict:
    return json.loads((ROOT / name / f"{name}.json").read_text())


def found(name: str) -> list:
    """What decides that two searches are the same: all but the times."""
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in numbers(name)["trials"]]


def test_a_search_writes_its_page_its_numbers_its_curves_and_layer_sets_that_train(
    small: list[str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*small, "trials=12"])
    printed = capsys.readouterr().out
    document, page = numbers(), (ROOT / "painting/painting.html").read_text()
    assert [trial["number"] for trial in document["trials"]] == list(range(12))
    assert [trial["candidate"]["name"] for trial in document["trials"][:3]] == ["johnson", "relu1_2", ""]
    assert all(trial["scores"] and not trial["failed"] for trial in document["trials"])
    assert set(document["recommended"].values()) <= set(document["front"])
    assert set(document["checks"]) >= {str(number) for number in document["recommended"].values()}
    assert [set(shares) for shares in document["importances"].values()] == [
        {"content", "relu1_2", "relu2_2", "relu3_3", "relu4_3", "style_weight", "style_scale"}
    ] * 2
    assert [f'data-trial="{number}"' in page for number in range(12)] == [True] * 12
    assert [page.count(f'id="trial-{number}"') for number in range(12)] == [1] * 12
    assert not re.search(r'(src|href)="(?!data:)', page), "everything is in the one file"
    events = EventAccumulator(str(ROOT / "painting/tensorboard")).Reload()
    volume = [event.value for event in events.Scalars("hypervolume")]
    assert volume == sorted(volume)
    assert len(volume) == 12
    command = document["commands"]["balanced"]
    assert command in printed
    assert command in page
    arguments = [*command.split()[1:], "data.size=32", "data.workers=0", "data.val_count=1", "trainer.max_steps=1"]
    arguments += ["model.width=4", "model.blocks=1", "hydra.run.dir=trained", "trainer.accelerator=cpu", "logger=none"]
    assert fst(arguments) == 0
    info = read_info(Path("trained/painting.safetensors"))
    best = document["trials"][document["recommended"]["balanced"]]["candidate"]
    assert (info.layers["content"], info.layers["style"]) == (best["content"], best["style"])
    assert info.loss["weights"]["style"] == best["style_weight"]
    assert info.style_size == round(best["style_scale"] * 256)
    assert re.fullmatch(r"fst search painting, trial \d+ of 12 \(balanced\)", info.layers["source"])


def test_more_trials_are_added_and_settings_that_decide_the_scores_cannot_change(small: list[str]) -> None:
    main([*small, "trials=2"])
    before = found("painting")
    main([*small, "trials=3", "seed=5"])
    assert found("painting")[:2] == before
    assert len(found("painting")) == 3
    with pytest.raises(UserError, match=r"trials.journal: made with other settings: steps was 1, is 2; name=OTHER"):
        main([*small, "trials=4", "steps=2"])


def test_a_search_goes_on_with_other_named_sets(small: list[str]) -> None:
    for trials, first in (1, "johnson,gatys"), (2, "johnson"), (3, "johnson,shallow"):
        main([*small, f"trials={trials}", f"first=[{first}]"])
    assert [trial["candidate"]["name"] for trial in numbers()["trials"]] == ["johnson", "", "shallow"]


def test_a_named_set_that_a_stop_left_unfinished_is_not_counted_without_it(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Workbench.make

    def stops_at_deep(workbench, candidate, *rest):
        if candidate.name == "deep":
            raise KeyboardInterrupt
        return make(workbench, candidate, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "make", stops_at_deep)
        with pytest.raises(KeyboardInterrupt):
            main([*small, "trials=3", "first=[johnson,deep]"])
    main([*small, "trials=2", "first=[johnson,shallow]"])
    main([*small, "trials=3", "first=[johnson,deep]"])
    trials = numbers()["trials"]
    assert [trial["candidate"]["name"] for trial in trials] == ["johnson", "shallow", "deep"]
    assert all(trial["scores"] for trial in trials)


def test_sets_and_layers_that_the_network_lacks_are_named_once(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*small, "first=[johnson,novak_all]", "space.style=[relu1_2,relu5_4]", "trials=1"])
    assert capsys.readouterr().out.count("left out, with layers that compact lacks: novak_all, relu5_4\n") == 1


def test_a_damaged_photo_is_left_out(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("some").mkdir()
    Path("some/0.jpg").write_bytes(b"no picture")
    make_picture(40, 30).save("some/1.png")
    own = [*small, "photos=some", "trials=1"]
    with pytest.raises(UserError, match="photos=some: too few of its pictures can be read"):
        main(own)
    for number in (2, 3):
        make_picture(40, 30, number).save(f"some/{number}.png")
    capsys.readouterr()
    main([*own, "count=2", "name=more"])
    assert "left out: some/0.jpg: not a picture" in capsys.readouterr().out
    assert Image.open(ROOT / "more/pictures/photos.jpg").size == (64, 32)


def test_the_command_to_train_with_a_set_takes_any_file_name(small: list[str], painting: Path) -> None:
    shutil.copy(painting, "Gemälde, 2.png")
    main([*small, "style.image='Gemälde, 2.png'", "trials=2", "name=Meer"])
    command = numbers("Meer")["commands"]["balanced"]
    config = configure(TRAIN, read_arguments(TRAIN, shlex.split(command)[2:]).overrides)
    assert config.style.image == "Gemälde, 2.png"


@pytest.mark.parametrize("weight", ["1234567", "1e15"])
def test_the_command_and_the_set_have_the_numbers_that_were_tried(weight: str, small: list[str]) -> None:
    main([*small, "first=[pytorch_examples]", "trials=1", f"loss.weights.style={weight}"])
    command = read_arguments(TRAIN, shlex.split(numbers()["commands"]["balanced"])[2:])
    config = configure(TRAIN, [*command.overrides, "loss_network.weights=random"])
    assert config.loss.weights.style == float(weight)
    assert config.layers.style == OmegaConf.load(resource_folder("conf") / "layers/pytorch_examples.yaml").style


def test_a_stopped_search_ends_with_the_same_trials(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main([*small, "trials=12", "name=straight"])
    make, calls = Workbench.make, []

    def stops_at_the_twelfth(*arguments):
        calls.append(arguments)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(Workbench, "make", stops_at_the_twelfth)
    with pytest.raises(KeyboardInterrupt):
        main([*small, "trials=12", "name=broken"])
    assert [trial["scores"] is None for trial in numbers("broken")["trials"]] == [False] * 11 + [True]
    main([*small, "trials=12", "name=broken"])
    assert found("broken") == found("straight")


def start(arguments: list[str]) -> BaseProcess:
    """`fst search` in a process of its own, without what this one has done: a fork of it could not use autograd."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["fst.study.search", __name__])
    process = server.Process(target=main, args=(arguments,))
    process.start()
    return process


def test_processes_share_a_search_and_go_on_with_the_trial_of_a_killed_one(small: list[str]) -> None:
    journal = ROOT / "shared/trials.journal"
    killed = start([*small, "name=shared", "trials=60", "steps=3"])
    while not (journal.exists() and journal.read_text().count('"scores"') >= 2):
        assert killed.is_alive()
        time.sleep(0.01)
    killed.kill()
    killed.join()
    done = journal.read_text().count('"scores"')
    both = [start([*small, "name=shared", f"trials={done + 6}", "steps=3"]) for _ in range(2)]
    for process in both:
        process.join()
        assert process.exitcode == 0
    trials = numbers("shared")["trials"]
    assert len(trials) == done + 6
    assert all(trial["scores"] for trial in trials)
    candidates = [json.dumps(trial["candidate"], sort_keys=True) for trial in trials]
    assert len(set(candidates)) == len(candidates)
    workers = set(re.findall(r'"worker":(\[.*?\])', journal.read_text()))
    assert len(workers) == 3


def test_processes_that_share_a_search_write_its_page_in_turn(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(config: DictConfig, result: Result, folder: Path) -> str:
        with pytest.raises(Timeout):
            FileLock(folder / "claims.lock").acquire(timeout=0)
        return write_report(config, result, folder)

    monkeypatch.setattr("fst.study.search.write_report", write)
    main([*small, "trials=1"])
    assert len(numbers()["trials"]) == 1


def test_a_failed_trial_spoils_nothing(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make, calls = Workbench.make, []

    def fails_twice(*arguments):
        calls.append(arguments)
        if len(calls) in (1, 3):
            raise RunError("the loss is nan")
        return make(*arguments)

    monkeypatch.setattr(Workbench, "make", fails_twice)
    main([*small, "trials=4"])
    assert [trial["failed"] for trial in numbers()["trials"]] == ["the loss is nan", "", "the loss is nan", ""]
    assert "failed: the loss is nan" in (ROOT / "painting/painting.html").read_text()
    monkeypatch.setattr(Workbench, "make", lambda *_: calls[99])
    with pytest.raises(RunError, match="no trial is done; the first: IndexError: list index out of range"):
        main([*small, "trials=2", "name=none"])


def test_a_small_space_ends_when_all_is_tried(small: list[str]) -> None:
    space = ["space.content=[relu2_2]", "space.style=[relu1_2]", "space.weights=[0,1]", "space.style_scale=[1]"]
    main([*small, "first=[]", *space, "space.style_weight=[4,15]", "sampler=random"])
    assert sorted(trial["candidate"]["style_weight"] for trial in numbers()["trials"]) == [4, 15]


def test_sets_that_cannot_be_nearer_have_a_page(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "black").mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40)).save(tmp_path / f"black/{number}.png")
    monkeypatch.setattr("fst.study.space.STYLE_SCALE", 1.0)  # the painting is the photo
    main([*small, "photos=black", "style.image=black/0.png", "name=black", "trials=2"])
    assert [trial["scores"]["style"] for trial in numbers("black")["trials"]] == [0, 0]
    page = (ROOT / "black/black.html").read_text()
    assert page.count("itself") + page.count(", 0% less") == 4


def test_no_trial_begins_after_the_minutes(small: list[str]) -> None:
    with pytest.raises(RunError, match="there was none"):
        main([*small, "minutes=1e-9"])


def test_a_fast_trial_trains_a_network_on_photos_that_it_is_not_scored_on(
    small: list[str], style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(20):
        make_picture(40, 40, number).save(tmp_path / "many" / f"{number:02}.jpg")
    seen = []

    def train(overrides: list[str], folder: Path, log: Path) -> Path:
        seen.append(overrides)
        return style_file

    monkeypatch.setattr(fast, "train", train)
    loss = ["loss.reduction=sum", "loss.weights.content=3", "loss.weights.tv=7", "loss.weights.coarse_style=9"]
    main([*small, f"photos={tmp_path / 'many'}", "method=fast", "trials=2", *loss, "loss_network.pooling=average"])
    assert all(trial["scores"] for trial in numbers()["trials"])
    command = read_arguments(TRAIN, shlex.split(numbers()["commands"]["balanced"])[2:])
    with composing(TRAIN):
        config, later = compose("train", seen[1]), compose("train", command.overrides)
        check_config(TRAIN, config)
    for trained in (config, later):
        weights = trained.loss.weights
        assert (weights.content, weights.tv, weights.coarse_style, trained.loss.reduction) == (3, 7, 9, "sum")
        assert trained.loss_network.pooling == "average"
    assert dict(config.layers.style) == {"relu1_2": 1.0}
    data = PhotoDataModule(config.data.root, val_count=config.data.val_count)
    assert {path.name for path in data.photos.paths}.isdisjoint({"00.jpg", "10.jpg"})
    with composing(SEARCH):
        chosen = photo_files(compose("search", [*small, f"photos={tmp_path / 'many'}", "method=fast"]))
    assert [path.name for path in chosen] == ["00.jpg", "10.jpg"]


def test_a_signal_while_a_network_is_scored_stops_the_search(
    small: list[str], style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20):
        make_picture(40, 40, number).save(many / f"{number:02}.jpg")
    trained: list[Path] = []
    monkeypatch.setattr(fast, "train", lambda overrides, folder, log: trained.append(folder) or style_file)
    score = Criteria.score

    def interrupted(self: Criteria, *pictures: Tensor) -> Scores:
        if trained:
            signal.raise_signal(signal.SIGINT)
        return score(self, *pictures)

    monkeypatch.setattr(Criteria, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main([*small, f"photos={many}", "method=fast", "trials=2"])
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["space.style=[relu9_1]"], "space.style: compact has no layer relu9_1; it has conv1_1-1_2"),
        (["space.style=[]"], r"space.style=\[\]: nothing to choose from"),
        (["space.weights=[0]"], "space.weights: at least one must be above 0"),
        (["space.weights=[1,1]"], "space.weights: 1 is there twice"),
        (["space.content=[conv5_1]"], r"space.content=\[conv5_1\]: compact has none of these layers"),
        (["space=nothing"], "space=nothing: no such choice; there are both, layers, weights"),
        (["first=[nothing]"], "first: layers=nothing: no such choice; there are deep, gatys"),
        (["loss.weights.style=0"], "loss.weights.style=0: it can be a number above 0"),
        (["count=8"], "12 photos; count=8, method=slow need 16"),
        (["method=fast"], "12 photos; count=1, method=fast need 20"),
        (["sampler=magic"], "sampler=magic: it can be tpe or random"),
        (
            ["+loss.terms.own._target_=torch.nn.functional.mse_loss", "+loss.terms.own.weight=1"],
            "loss.terms: fst search has the built-in terms only",
        ),
        (["judge.weights=nothing"], "judge.weights=nothing: no such file"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], line: str, small: list[str]) -> None:
    with pytest.raises(UserError, match=line):
        main([*small, *overrides])
    assert not ROOT.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("content: [relu3_1]\nstyle: {relu1_1: 1}\n", "first: odd: layers.content=.*: it can be"),
        ("style: {relu1_1: 1}\n", "first: odd: layers.content is missing"),
        ("content: {}\nstyle: {relu1_1: 1}\n", "first: odd: layers.content={}: it can be names of layers"),
        ("content: {relu3_1: 1}\nstyle: {relu1_1: 0}\n", "first: odd: layers.style=.*: it can be names of layers"),
    ],
)
def test_a_layer_set_that_training_would_refuse_is_one_line(text: str, line: str, small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/layers/odd.yaml").write_text(text)
    with pytest.raises(UserError, match=line):
        main(["--config-dir", "mine", *small, "first=[odd]"])


def test_without_its_extra_it_says_what_to_install(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fst.inference.runtimes.missing_packages", lambda extra: ["optuna"])
    with pytest.raises(UserError, match=r"search needs optuna: pip install 'fast-style-transfer\[search\]'"):
        main(small)


def test_ones_own_layer_set_and_space_are_one_file_each(small: list[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/space").mkdir()
    Path("mine/layers/edges.yaml").write_text("content: {relu1_1: 1.0}\nstyle: {conv1_2: 0.5}\n")
    Path("mine/space/fine.yaml").write_text(
        "content: [relu1_1]\nstyle: [relu1_1, conv5_4]\nweights: [1]\nstyle_weight: [9]\nstyle_scale: [1]\n"
    )
    main(["--config-dir", "mine", *small, "space=fine", "first=[edges]", "trials=2"])
    edges, fine = (trial["candidate"] for trial in numbers()["trials"])
    assert (edges["name"], edges["style"]) == ("edges", {"conv1_2": 0.5})
    assert (fine["style"], fine["style_weight"]) == ({"relu1_1": 1.0}, 9), "compact has no conv5_4"
