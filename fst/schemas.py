"""The schema of the configuration: a dataclass for each group in `conf`, and one for each Hydra application.

Defaults, their sources and comments are in `conf`; types, ranges and choices are here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta
from omegaconf import DictConfig

from fst.errors import UserError
from fst.pictures import LEAST_SIDE, read_image, resize_longer_side
from fst.resources import find_style_image
from fst.rules import (
    check_devices,
    check_loss,
    check_loss_network,
    check_optimizer,
    check_processes,
    check_start,
    check_sweep,
)
from fst.style_info import Convention, Reduction
from fst.typed import Open
from fst.values import (
    Architecture,
    Blocks,
    Channels,
    Count,
    Decay,
    Device,
    Name,
    Norm,
    Photos,
    Picture,
    Rate,
    Seed,
    Shards,
    Share,
    Side,
    SlowAlgorithm,
    Start,
    Style,
    StyleName,
    StylePicture,
    Task,
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

    rule = staticmethod(check_loss_network)


@dataclass
class Layers:
    """conf/layers"""

    content: dict[str, Weight]
    style: dict[str, Weight]
    source: Text = ""


@dataclass
class TermWeights:
    content: Weight
    style: Weight
    coarse_style: Weight
    tv: Weight
    range: Weight
    grid: Weight
    temporal: Weight


@dataclass
class OwnTerm(Open):
    """A user's own loss term; see `fst.perceptual.Term`."""

    weight: Weight


@dataclass
class Loss:
    """conf/loss"""

    convention: Convention
    reduction: Reduction
    weights: TermWeights
    terms: dict[str, OwnTerm]


@dataclass
class Model:
    """conf/model: keys of all networks."""

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
class OwnModel(Open):
    """A user's own transform network; see `fst.networks.own`."""


@dataclass
class Crops:
    """conf/crops.yaml: keys of all data modules of fst."""

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
    """Arguments of most optimisers; each class checks its other ones itself."""

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


@dataclass
class Ddp:
    _target_: Literal["pytorch_lightning.strategies.DDPStrategy"]
    broadcast_buffers: bool
    gradient_as_bucket_view: bool
    find_unused_parameters: bool = False
    process_group_backend: Literal["nccl", "gloo", "mpi"] | None = None


@dataclass
class Trainer:
    """conf/trainer: the arguments of Lightning's Trainer that can be set."""

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


@dataclass
class Tensorboard:
    """conf/logger"""

    _target_: Literal["pytorch_lightning.loggers.TensorBoardLogger"]
    save_dir: Text | None
    name: str
    version: str | int
    default_hp_metric: bool = False
    flush_secs: Count = 120
    max_queue: Count = 10


@dataclass
class OwnLogger(Open):
    """Any other of Lightning's loggers."""


@dataclass
class OwnCallback(Open):
    """conf/callbacks: a Lightning callback."""


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
    init_from: Start | None
    teacher: Teacher
    name: StyleName
    compile: bool
    seed: Seed
    ckpt_path: Text | None
    checkpoint_every: Count
    val_every: Count
    loss_network: Network
    layers: Layers
    loss: Loss
    model: Johnson | Unshuffle | OwnModel
    data: Folder | Synthetic | WebDataset | OwnData
    trainer: Trainer
    logger: dict[str, Tensorboard | OwnLogger]
    callbacks: dict[str, OwnCallback]
    optimizer: Optimizer  # the last of the keys: its class loads torch

    @staticmethod
    def rule(config: DictConfig) -> None:
        check_loss(config, "transfer")
        check_start(config)
        check_optimizer(config.optimizer.algorithm)
        check_devices(config.trainer)
        check_processes(config)

    sweep_rule = staticmethod(check_sweep)

    @staticmethod
    def unused(config: DictConfig) -> frozenset[str]:
        """A resumed run has its weights in the checkpoint."""
        return frozenset({"init_from"} if config.get("ckpt_path") is not None else ())


@dataclass
class Optimize:
    """conf/optimize.yaml"""

    task: Task
    content: Picture
    size: Side
    style: StyleImage
    init: Literal["content", "noise"] | Picture | None
    algorithm: SlowAlgorithm
    lr: Rate
    steps: Count
    levels: Annotated[int, Meta(ge=1, le=10)]
    name: Name
    seed: Seed
    device: Device
    precision: Literal["float32", "auto"]
    every: Count
    ckpt_path: Text | None
    loss_network: Network
    layers: Layers
    loss: Loss
    logger: dict[str, Tensorboard | OwnLogger]

    @staticmethod
    def unused(config: DictConfig) -> frozenset[str]:
        """Keys that the task does not need."""
        return frozenset({"reconstruct": ["style.image"], "texture": ["content"]}.get(str(config.get("task")), []))

    @staticmethod
    def rule(config: DictConfig) -> None:
        check_loss(config, config.task)
        source = find_style_image(config.style.image) if config.task == "texture" else Path(config.content)
        image = resize_longer_side(read_image(source), config.size)
        if min(image.size) >> (config.levels - 1) < LEAST_SIDE:
            begins = " × ".join(str(side >> (config.levels - 1)) for side in image.size)
            advice = "fewer levels or a larger size" if config.levels > 1 else "a larger size"
            raise UserError(
                f"levels={config.levels} begins with {begins} pixels, fewer than {LEAST_SIDE} a side; take {advice}"
            )


class Application(NamedTuple):
    """One of fst's Hydra applications.

    Attributes:
        command: of `fst`; also the name of its file in `conf`.
        schema: of its configuration.
        example: a complete command, for messages.
    """

    command: str
    schema: Any
    example: str


TRAIN = Application("train", Train, "fst train style.image=PAINTING data.root=PHOTOS")
OPTIMIZE = Application("optimize", Optimize, "fst optimize content=PHOTO style.image=PAINTING")
