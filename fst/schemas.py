"""What each key of `conf` can be: one dataclass a group, and one for each Hydra application.

The defaults, their sources and comments are in `conf`; ranges and choices are here, and nowhere else.
"""

import functools
import pkgutil
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from hydra.utils import instantiate
from msgspec import Meta
from omegaconf import DictConfig, OmegaConf

from fst.errors import UserError
from fst.networks.transform import LEAST_SIDE
from fst.networks.vgg import LossNetwork, refuse_unknown_layers
from fst.perceptual import CONVENTIONS
from fst.style_file import find_style, read_info
from fst.typed import Open, one_of, show
from fst.values import (
    Architecture,
    Blocks,
    Channels,
    Count,
    Decay,
    Name,
    Norm,
    Photos,
    Rate,
    Reduction,
    Seed,
    Shards,
    Share,
    Side,
    Style,
    StylePicture,
    Text,
    Weight,
    Weights,
)


@dataclass
class Network:
    """conf/loss_network"""

    architecture: Architecture
    weights: Weights
    pooling: Literal["max", "average"]

    @staticmethod
    def rule(config: DictConfig) -> None:
        bundled = config.architecture == "compact"
        if config.weights == ("imagenet" if bundled else "bundled"):
            can_be = f"{'bundled' if bundled else 'imagenet'}, random or a file's path"
            raise UserError(
                f"loss_network.weights={config.weights}: {config.architecture} has none; it can be {can_be}"
            )


@dataclass
class Layers:
    """conf/layers"""

    name: Text
    content: dict[str, Weight]
    style: dict[str, Weight]


@dataclass
class TermWeights:
    content: Weight
    style: Weight
    tv: Weight
    range: Weight
    grid: Weight


@dataclass
class Loss:
    """conf/loss"""

    convention: Annotated[str, one_of(CONVENTIONS)]
    reduction: Reduction
    weights: TermWeights


@dataclass
class Model:
    """conf/model: what all networks have."""

    width: Channels
    blocks: Blocks
    norm: Norm


@dataclass
class Johnson(Model):
    architecture: Literal["johnson"]


@dataclass
class Unshuffle(Model):
    architecture: Literal["unshuffle"]
    body: Channels
    factor: Annotated[int, Meta(ge=1, le=4)]


@dataclass
class Crops:
    """conf/data: what all of ours have."""

    size: Annotated[int, Meta(ge=LEAST_SIDE, le=4096)]
    batch_size: Annotated[int, Meta(ge=1, le=4096)]
    seed: Seed
    workers: Annotated[int, Meta(ge=0, le=256)] | None
    val_root: Photos | None
    val_count: Annotated[int, Meta(ge=1, le=10000)]


@dataclass
class Folder(Crops):
    _target_: Literal["fst.training.data.folder.PhotoDataModule"]
    root: Photos


@dataclass
class Synthetic(Crops):
    _target_: Literal["fst.training.data.synthetic.SyntheticDataModule"]


@dataclass
class WebDataset(Crops):
    _target_: Literal["fst.training.data.shards.ShardDataModule"]
    urls: Shards


@dataclass
class OwnData(Open):  # a user's own LightningDataModule
    batch_size: Count
    size: Side = 0


@dataclass
class Algorithm(Open):
    """The arguments that most classes of optimisers have; they check those of their own."""

    lenient = False

    _partial_: bool
    lr: Rate
    betas: tuple[Decay, ...] = ()
    momentum: Decay = 0.0
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.0
    eps: Annotated[float, Meta(gt=0, le=1)] = 1e-8


@dataclass
class Optimizer:
    """conf/optimizer"""

    algorithm: Algorithm
    warmup: Annotated[float, Meta(ge=0, lt=1)]
    final_lr_ratio: Share
    lr_reference_batch_size: Count | None

    @staticmethod
    def rule(config: DictConfig) -> None:
        """The class itself knows best what its arguments can be."""
        name = config.algorithm._target_
        kind = pkgutil.resolve_name(name)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise UserError(f"optimizer.algorithm._target_={show(name)}: it can be an optimiser, as torch.optim.Adam")
        try:
            instantiate(config.algorithm, _convert_="all")([torch.nn.Parameter(torch.zeros(2, 2))])
        except Exception as error:
            reason = show(str(error.__cause__ or error), 150)
            raise UserError(f"optimizer.algorithm: {show(name)} does not take these arguments: {reason}") from error


@dataclass
class Ddp:
    _target_: Literal["pytorch_lightning.strategies.DDPStrategy"]
    broadcast_buffers: bool
    gradient_as_bucket_view: bool
    find_unused_parameters: bool = False
    process_group_backend: Literal["nccl", "gloo", "mpi"] | None = None


@dataclass
class Trainer:
    """conf/trainer: the arguments of Lightning's Trainer that this program honours."""

    _target_: Literal["pytorch_lightning.Trainer"]
    max_steps: Count
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] | list[Annotated[int, Meta(ge=0)]]
    precision: Literal["auto", "32-true", "bf16-mixed"]
    log_every_n_steps: Count
    gradient_clip_val: Annotated[float, Meta(gt=0, le=1e9)] | None
    benchmark: bool
    num_nodes: Annotated[int, Meta(ge=1, le=1024)] = 1
    strategy: Literal["auto", "ddp"] | Ddp = "auto"
    accumulate_grad_batches: Annotated[int, Meta(ge=1, le=4096)] = 1
    limit_val_batches: Annotated[int, Meta(ge=0)] = 10**9
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    deterministic: bool | Literal["warn"] = False
    detect_anomaly: bool = False

    @staticmethod
    def rule(config: DictConfig) -> None:
        wanted = config.accelerator
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not (wanted in ("auto", "cpu") or there.get(wanted) or (wanted == "gpu" and any(there.values()))):
            raise UserError(f"trainer.accelerator={wanted}: not on this machine; try auto or cpu")
        gpus = 0 if wanted == "cpu" else torch.cuda.device_count() or int(there["mps"])
        devices = OmegaConf.to_container(config.devices) if OmegaConf.is_list(config.devices) else config.devices
        if isinstance(devices, list) and not (devices and len(set(devices)) == len(devices) and max(devices) < gpus):
            raise UserError(f"trainer.devices={show(devices)}: it can be a list of different GPUs; here are {gpus}")
        if gpus and isinstance(devices, int) and devices > gpus:
            raise UserError(f"trainer.devices={devices}: it can be at most {gpus} here")


@dataclass
class Tensorboard:
    """conf/logger"""

    _target_: Literal["pytorch_lightning.loggers.TensorBoardLogger"]
    save_dir: Text
    name: str
    version: str | int
    flush_secs: Count = 120
    max_queue: Count = 10


@dataclass
class NoLogger:
    """conf/logger"""

    _target_: Literal["builtins.bool"]


@dataclass
class OwnLogger(Open):
    """Any other of Lightning's loggers."""


@dataclass
class StyleImage:
    image: StylePicture
    size: Side


@dataclass
class Teacher:
    style: Style | None
    imitation_ratio: Share


@dataclass
class Train:
    """conf/train.yaml"""

    style: StyleImage
    init_from: Style | None
    teacher: Teacher
    name: Name
    compile: bool
    seed: Seed
    ckpt_path: Text | None
    checkpoint_every: Count
    val_every: Count
    loss_network: Network
    layers: Layers
    loss: Loss
    model: Johnson | Unshuffle
    data: Folder | Synthetic | WebDataset | OwnData
    optimizer: Optimizer
    trainer: Trainer
    logger: Tensorboard | NoLogger | OwnLogger

    @staticmethod
    def rule(config: DictConfig) -> None:
        check_loss(config, "transfer")
        _check_start(config)
        trainer = config.trainer
        several = _processes(trainer) > 1 or trainer.get("strategy", "auto") != "auto"
        if several and config.model.norm == "batch":
            raise UserError(
                "model.norm=batch: each of several processes would have statistics of its own; take instance"
            )
        if config.data.batch_size % _processes(trainer):
            shares = f"{_processes(trainer)} processes (trainer.devices)"
            raise UserError(f"data.batch_size={config.data.batch_size}: it cannot be shared out evenly to {shares}")


class Application(NamedTuple):
    """One of fst's Hydra applications.

    Attributes:
        command: of `fst`, and the name of its configuration in `conf`.
        schema: what that configuration can be.
        example: a whole command, for messages.
    """

    command: str
    schema: Any
    example: str


TRAIN = Application("train", Train, "fst train style.image=PAINTING data.root=PHOTOS")


def check_loss(config: DictConfig, task: str) -> None:
    """Refuse layers and weights from which no loss for that task can be made."""
    terms = {"reconstruct": ["content"], "texture": ["style"]}.get(task, ["content", "style"])
    layers, network = config.layers, config.loss_network
    for term in ("content", "style"):
        refuse_unknown_layers(network.architecture, layers[term], f"layers.{term}")
        if term in terms and not any(layers[term].values()):
            raise UserError(f"layers.{term}={show(layers[term])}: it can be names of layers, at least one with weight")
    if not any(config.loss.weights[term] for term in terms):
        raise UserError(f"loss.weights: {' and '.join(terms)} cannot be 0, or nothing is learned")
    if network.weights not in ("imagenet", "bundled", "random"):
        _read_weights(network.architecture, frozenset().union(*(layers[term] for term in terms)), network.weights)


@functools.cache  # the cells of a study share them
def _read_weights(architecture: str, layers: frozenset[str], weights: str) -> None:
    LossNetwork(architecture, layers, weights)


def _check_start(config: DictConfig) -> None:
    if config.init_from is None:
        return
    path = find_style(config.init_from)
    info = read_info(path)
    if dict(config.model) != {"architecture": info.architecture, **info.arguments}:
        raise UserError(
            f"init_from={config.init_from}: {path} has another network, {info.architecture} with "
            f"{dict(info.arguments)}; init_from=null starts from random weights"
        )


def _processes(trainer: DictConfig) -> int:
    devices = trainer.devices
    if devices == "auto":
        devices = 1 if trainer.accelerator == "cpu" else max(1, torch.cuda.device_count())
    return trainer.get("num_nodes", 1) * (devices if isinstance(devices, int) else len(devices))
