"""Running the Hydra applications: what a command line composes, options in any order, help and completion."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import NoReturn

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fst.cli import main as fst
from fst.errors import UserError
from fst.hydra_app import check_config, compose_config, config_error, configure, run_application
from fst.overrides import read_arguments
from fst.resources import resource_folder
from fst.schemas import OPTIMIZE, TRAIN, Trainer
from fst.signals import Interrupted
from fst.study.cells import COMPARE
from fst.style_info import find_style
from fst.typed import keys_of
from tests.mistakes import run

CONF = resource_folder("conf")


@pytest.fixture
def command(painting: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["train", f"style.image={painting}", f"data.root={photos}"]


def network_of(*overrides: str) -> str:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides)).loss_network.architecture


@pytest.mark.parametrize(
    ("overrides", "network"),
    [
        ([], "vgg16"),
        (["layers=gatys"], "vgg19"),
        (["experiment=quickstart"], "compact"),
        (["experiment=gallery"], "vgg19"),
        (["experiment=coco", "layers=gatys"], "vgg19"),
        (["experiment=quickstart", "layers=gatys"], "vgg19"),
        (["experiment=paper", "layers=novak_all"], "vgg19"),
        (["experiment=quickstart", "layers=deep"], "compact"),
        (["experiment=quickstart", "layers=gatys", "loss_network=vgg16"], "vgg16"),
        (["experiment=gallery", "loss_network=compact"], "compact"),
    ],
)
def test_a_layer_sets_network_goes_before_an_experiments_and_an_explicit_one_before_both(
    overrides: list[str], network: str
) -> None:
    assert network_of(*overrides) == network


def test_experiments_start_from_the_bundled_style_whatever_was_trained_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style_file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("outputs/udnie/run/udnie.safetensors")
    own.parent.mkdir(parents=True)
    shutil.copy(style_file, own)
    assert find_style("udnie") == own
    for experiment in ("gallery", "laptop", "quickstart"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            start = compose("train", [f"experiment={experiment}"]).init_from
        assert find_style(start) == resource_folder("checkpoints") / "udnie.safetensors"


def test_the_steady_experiment_starts_from_no_style_but_a_named_one(command: list[str]) -> None:
    with pytest.raises(UserError, match=r"init_from=STYLE: no style 'STYLE'; there are: .*udnie"):
        configure(TRAIN, [*command[1:], "experiment=steady"])


def test_options_can_be_anywhere(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/layers").mkdir(parents=True)
    Path("mine/layers/edges.yaml").write_text("content: {relu1_1: 1.0}\nstyle: {conv1_2: 1.0}\n")
    for options in (["--config-dir", "mine"], ["--config-dir=mine"]):
        assert fst([*command[:2], *options, *command[2:], "layers=edges", "--cfg=job"]) == 0
        assert "conv1_2: 1.0" in capsys.readouterr().out
    options = read_arguments(TRAIN, ["a=b", "-m", "--config-dir", "mine", "c=d", "-c", "job"])
    assert options.overrides[:2] == ["a=b", "c=d"]
    assert options.flags == ["-m", "-c", "job"]


@pytest.mark.parametrize("name", ["train", "optimize", "compare"])
def test_the_configuration_is_shown_without_a_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in (["--cfg", "job"], ["--cfg=job"], ["-c", "job"]):
        assert fst([name, *option]) == 0
        assert "style:\n  image: ???" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train", "optimize", "compare"])
def test_help_says_what_it_is_and_shows_groups_and_every_key_with_its_comment(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fst([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"`fst {name}` ")
    shown = set(re.findall(r"^  ([\w.]+)=", page, re.MULTILINE))
    for text in (CONF / f"{name}.yaml").read_text().partition("hydra:")[0].splitlines():
        if found := re.match(r"(\w+): [^#\s].* # (.*)", text):
            assert found[1] in shown
            assert found[2] in page
        if found := re.match(r"  - (\w+): (\w+) # (.*)", text):
            assert f"  {found[1]}={found[2]}  # {found[3]}" in page
            choices = {path.stem for path in (CONF / found[1]).glob("*.yaml")}
            assert all(choice in page for choice in choices)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_comment_beside_a_key_ends_on_its_line_since_help_shows_that_line_alone(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^ *\w+: .*# .*\n *# [a-z]", text, re.MULTILINE)  # it goes on in the next line
    assert not re.search(r"^ *\w+: .*# .* (as|and|because|of|or|the|under|with)\n", text, re.MULTILINE)  # likewise


def test_the_arguments_of_the_trainer_that_can_be_added_are_named() -> None:
    text = (CONF / "trainer" / "default.yaml").read_text()
    assert [name for name in keys_of(Trainer) if name not in text] == []


def test_help_shows_what_is_chosen(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fst([*command[:2], "model=small", "experiment=quickstart", "optimizer=johnson", "-h"]) == 0
    page = capsys.readouterr().out
    assert re.search(r"^  model.factor=2 +# pixels a side of a cell, 1 to 4$", page, re.MULTILINE)
    assert re.search(r"^  trainer.max_steps=300 +# 1,200 pictures$", page, re.MULTILINE)
    assert re.search(r"^  optimizer.algorithm.betas=\[0.9, 0.999\] +# Adam's own$", page, re.MULTILINE)
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fst tr", {"train", "stylize"}),
        ("fst train mod", {"model="}),
        ("fst train model=", {"model=johnson", "model=small"}),
        ("fst train model=small trainer.max", {"trainer.max_steps="}),
        ("fst compare study=", {"study=recipes"}),
        ("fst stylize ph", set()),
    ],
)
def test_the_shell_completes_commands_groups_and_keys(
    line: str, words: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "COMP_LINE", line)
    assert fst(["-sc", "query=bash"]) == 0
    completed = set(capsys.readouterr().out.split())
    assert words <= completed
    assert bool(words) == bool(completed)


@pytest.mark.parametrize("arguments", [["-sc", "install=bash"], ["train", "-sc", "install=bash"]])
def test_completion_can_be_installed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/fst"])
    assert fst(arguments) == 0
    assert capsys.readouterr().out.strip().endswith("complete -o nospace -o default -F hydra_bash_completion fst")


def test_every_choice_of_every_group_is_as_its_schema_says(command: list[str]) -> None:
    _, style, root = command
    groups = ("layers", "loss", "model", "optimizer", "trainer", "logger", "callbacks", "experiment")
    choices = [
        [f"{path.parent.name}={path.stem}"] for group in groups for path in sorted((CONF / group).glob("*.yaml"))
    ]
    choices[choices.index(["model=custom"])].append("model._target_=tests.example.network.Tint")
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        choices += [[f"experiment={path.stem}", f"layers={name}"] for name in ("gatys", "deep")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for choice in [*choices, ["layers=conv5_4", "loss_network=vgg19"]]:
            photos = [] if choice[0] in ("experiment=quickstart", "experiment=study") else [root]
            start = ["init_from=bundled:udnie"] if choice[0] == "experiment=steady" else []
            check_config(TRAIN, compose("train", [style, *photos, *start, "loss_network.weights=random", *choice]))
        pictures = [style, style.replace("style.image", "content")]
        check_config(OPTIMIZE, compose("optimize", [*pictures, "loss_network.weights=random"]))
        for path in sorted((CONF / "study").glob("*.yaml")):
            check_config(COMPARE, compose_config(COMPARE, [*pictures, f"study={path.stem}"]))


@pytest.mark.parametrize(
    "overrides",
    [
        "layers=gatys +layers.style.conv5_2=1",
        "layers.style.relu1_2=0",
        "+layers.style.conv1_1=0.5",
        "name=2024 seed=4294967295",
        "data=synthetic ~data.root",
        "data.workers=0 data.val_count=1 data.batch_size=1",
        "optimizer.lr_reference_batch_size=null optimizer.final_lr_ratio=1",
        "optimizer=adam +optimizer.algorithm.eps=1e-6",
        "optimizer=adam optimizer.algorithm._target_=torch.optim.AdamW +optimizer.algorithm.weight_decay=0.01",
        "optimizer=johnson optimizer.algorithm._target_=torch.optim.SGD ~optimizer.algorithm.betas",
        "trainer=ddp +trainer.num_nodes=4",
        "trainer.devices=2 trainer.accelerator=cpu trainer.gradient_clip_val=null",
        "+trainer.accumulate_grad_batches=2 +trainer.gradient_clip_algorithm=value",
        "trainer.precision=bf16-mixed trainer.accelerator=cpu +trainer.deterministic=true",
        "model=realtime model.factor=2 model.norm=batch teacher.style=udnie",
        "init_from=udnie",
        "loss=johnson loss.weights.tv=0.1 loss_network.pooling=average",
        "loss.weights.content=0 loss.weights.style=0 loss.weights.coarse_style=15",
        "style.image=stained_glass",
        "hydra.run.dir=elsewhere",
        "logger=[tensorboard,csv] +logger.mine._target_=pytorch_lightning.loggers.CSVLogger +logger.mine.save_dir=x",
        "+callbacks.mine._target_=tests.example.callback.Brightness +callbacks.mine.pictures=2",
        "-m trainer.max_steps=1,2 model=small,realtime",
        "-m layers=glob(mathur_*)",
        "-m trainer=sweep seed=range(2)",
    ],
)
def test_sensible_commands_run(overrides: str, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fst.training.train.train", lambda config, folder: (folder, {}))
    if "~data.root" in overrides:
        command, overrides = command[:2], overrides.replace(" ~data.root", "")
    outcome = run([*command, "loss_network.weights=random", *overrides.split()])
    assert outcome.status == 0, outcome.err
    assert not outcome.err


def test_a_number_can_be_a_name(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    monkeypatch.setattr("fst.training.train.train", lambda config, folder: names.append(config.name) or (folder, {}))
    assert fst([*command, "loss_network.weights=random", "name=2024"]) == 0
    assert names == ["2024"]


@pytest.mark.parametrize("name", ["a/${hydra:runtime.choices.layers}", "a/${hydra:job.num}"])
def test_what_hydra_fills_in_is_checked_once_it_is_known(
    name: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fst.training.train.train", lambda config, folder: (folder, {}))
    outcome = run([*command, "loss_network.weights=random", "-m", f"name={name}"])
    assert outcome.status == 2
    assert "cannot be a file's name" in outcome.err


def test_a_tilde_is_the_home_folder_for_each_key(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path(command[1].partition("=")[2]).parent))
    picture = "~/painting.png"
    pictures = [f"content={picture}", f"style.image={picture}", f"init={picture}"]
    config = configure(OPTIMIZE, [*pictures, "loss_network=compact", "layers=johnson"])
    assert Path(config.content).is_file()
    assert Path(config.init).is_file()
    options = read_arguments(TRAIN, ["-m", "style.image=~/a.png,~/b.png", "~data.root", "name=a~b"])
    home = os.environ["HOME"]
    assert options.overrides == [f"style.image={home}/a.png,{home}/b.png", "~data.root", "name='a~b'"]
    options = read_arguments(COMPARE, ["--config-dir=~", "content='~/a, b.png'"])
    assert options.overrides[0] == f"content='{home}/a, b.png'"
    assert options.overrides[2] == f"config_dir='{Path(home).resolve()}'"


@pytest.mark.parametrize("text", ["2024_01_31", "1.10", "1e3"])
def test_text_that_looks_like_a_number_stays_as_it_is(text: str, command: list[str], photos: Path) -> None:
    shutil.copytree(photos, text)
    overrides = [command[1], f"data.root={text}", f"name={text}", "loss_network=compact", "trainer.max_steps=1_000"]
    for config in (configure(TRAIN, overrides), configure(TRAIN, read_arguments(TRAIN, overrides).overrides)):
        assert (config.name, config.data.root, config.trainer.max_steps) == (text, text, 1000)


@pytest.mark.parametrize("name", ["Gemälde.png", "a=b.png"])
def test_a_script_gives_overrides_as_the_command_line_does(name: str, command: list[str], painting: Path) -> None:
    shutil.copy(painting, name)
    assert configure(TRAIN, ["experiment=quickstart", f"style.image={name}"]).style.image == name


@pytest.mark.parametrize("name", ["train", "optimize", "search", "compare"])
def test_a_place_that_cannot_be_written_is_one_clear_line(name: str, command: list[str], photos: Path) -> None:
    Path("outputs").touch()
    overrides = {
        "train": command[1:],
        "optimize": [command[1], command[1].replace("style.image", "content")],
        "search": [command[1], f"photos={photos}"],
        "compare": [command[1], command[1].replace("style.image", "content"), "weights.vgg16=random"],
    }[name]
    random = "weights.vgg19=random" if name == "compare" else "loss_network.weights=random"
    outcome = run([name, *overrides, random])
    assert outcome.status == 1
    assert re.fullmatch(r"fst: outputs/.*: cannot be created: Not a directory\n", outcome.err)


def test_a_sweep_where_nothing_can_be_written_is_one_clear_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str, dir: Path) -> str:
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    outcome = run([*command, "-m", "loss_network.weights=random", "seed=1,2"])
    assert (outcome.status, outcome.err) == (1, f"fst: {Path.cwd()}: cannot be written: Permission denied\n")


def test_all_values_of_a_sweep_are_checked_before_the_first_runs(command: list[str]) -> None:
    outcome = run([*command, "-m", "loss_network.weights=random", "trainer.max_steps=1,2", "optimizer.warmup=0,2"])
    assert outcome.err == "fst: optimizer.warmup=2: it can be a number from 0 below 1\n"
    assert not outcome.faults()


def test_a_stopped_run_of_a_sweep_names_its_own_checkpoint(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(config: DictConfig, folder: Path) -> NoReturn:
        raise Interrupted(signal.SIGINT, 1)

    with pytest.raises(Interrupted):
        run_application(TRAIN, ["-m", *command[1:], "loss_network.weights=random", "name=mine", "seed=0,1"], stopped)
    assert re.search(r"ckpt_path=.*outputs/mine/.*/checkpoints/last\.ckpt", capsys.readouterr().out)


def test_ones_own_data_and_logger_take_what_their_classes_take(command: list[str]) -> None:
    Path("mine/data").mkdir(parents=True)
    Path("mine/data/own.yaml").write_text(
        "_target_: fst.training.data.crops.CropDataModule\nsize: 32\nbatch_size: 2\nlimit: 3\n"
    )
    outcome = run([*command[:2], "--config-dir", "mine", "data=own", "loss_network.weights=random"])
    assert (
        "data.limit=3: no such key of fst.training.data.crops.CropDataModule; there are batch_size, size, workers"
        in outcome.err
    )


@pytest.mark.parametrize("choice", ["model=1.5", "layers=-1", "logger=[1]", "layers=null"])
def test_a_choice_that_is_no_name_is_one_clear_line(choice: str) -> None:
    for compose_it in (configure, read_arguments):
        with pytest.raises(UserError, match="no such choice"):
            compose_it(TRAIN, ["style.image=woodcut_sea", choice])


def test_what_hydra_says_in_several_lines_is_one() -> None:
    for override, line in (
        ("trainer.max_step=1", "trainer.max_step: no such key; did you mean max_steps?"),
        ("trainer.num_nodes=2", r"trainer.num_nodes: not set; \+trainer.num_nodes=VALUE adds it"),
        ("layers.style.conv1_1=1", r"layers.style.conv1_1: not there; \+layers.style.conv1_1=VALUE adds it"),
        ("modle=small", "modle: no such key; did you mean model?"),
        ("model=smal", "model=smal: no such choice; did you mean small?"),
        ("model.factor=2", "model.factor: not a key of what is chosen here"),
        ("name=it's", "name=it's: not understood"),
        ("seed=1,2", r"seed=1,2: several values; -m does a run for each, seed=\[1,2\] is a list"),
    ):
        with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(Exception) as caught:  # noqa: PT011
            compose("train", [override])
        assert re.match(line, str(config_error(TRAIN, caught.value)))
