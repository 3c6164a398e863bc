"""Rules about several keys of a configuration together; `fst.schemas` calls them once each key by itself is right.

All raise a `UserError` that names the keys.
"""

import functools
import pkgutil
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fst.errors import UserError
from fst.networks.vgg_layers import refuse_unknown_layers
from fst.style_info import find_style, read_info
from fst.typed import show

if TYPE_CHECKING:
    from fst.networks.transform import TransformNetwork


def check_loss_network(network: DictConfig) -> None:
    """Refuse weights that exist for other architectures only."""
    bundled = network.architecture == "compact"
    if network.weights == ("imagenet" if bundled else "bundled"):
        can_be = f"{'bundled' if bundled else 'imagenet'}, random or a file's path"
        raise UserError(f"loss_network.weights={network.weights}: {network.architecture} has none; it can be {can_be}")


def check_loss(config: DictConfig, task: str) -> None:
    """Refuse layers and weights from which no loss for that task can be made."""
    terms = {"reconstruct": ["content"], "texture": ["style"]}.get(task, ["content", "style"])
    layers, network = config.layers, config.loss_network
    for term in ("content", "style"):
        refuse_unknown_layers(network.architecture, layers[term], f"layers.{term}")
        if term in terms:
            require_weight(layers, term)
    coarse = ["coarse_style"] if "style" in terms else []
    for name, own_term in config.loss.terms.items():
        if isinstance(pkgutil.resolve_name(own_term._target_), type):
            raise UserError(f"loss.terms.{name}._target_={own_term._target_}: a class; a loss term is a function")
    own = [term.weight for term in config.loss.terms.values()]
    if not any([*(config.loss.weights[term] for term in [*terms, *coarse]), *own]):
        raise UserError(f"loss.weights: {' and '.join(terms)} cannot be 0, or nothing is learned")
    if network.weights not in ("imagenet", "bundled", "random"):
        _read_weights(network.architecture, frozenset().union(*(layers[term] for term in terms)), network.weights)


def require_weight(layers: DictConfig, term: str) -> None:
    """Refuse a layer set of which no layer has a weight in that term."""
    if not any(layers[term].values()):
        raise UserError(f"layers.{term}={show(layers[term])}: it can be names of layers, at least one with weight")


@functools.cache  # the cells of a study share them
def _read_weights(architecture: str, layers: frozenset[str], weights: str) -> None:
    from fst.networks.vgg import LossNetwork  # here and below, since it loads torch

    LossNetwork(architecture, layers, weights)


def start_of(config: DictConfig) -> str | None:
    """The style that a run starts from, if any; a resumed one has its weights and history in the checkpoint."""
    return config.init_from if config.ckpt_path is None else None


def check_start(config: DictConfig) -> None:
    """Refuse a style to start from whose network is another."""
    if start_of(config) is None:
        return
    path = find_style(config.init_from)
    info = read_info(path)
    kind = "_target_" if "_target_" in config.model else "architecture"
    if dict(config.model) != {kind: info.architecture, **info.arguments}:
        raise UserError(
            f"init_from={config.init_from}: {path} has another network, {info.architecture} with "
            f"{dict(info.arguments)}; choose the model that it has (an imported one has none), or "
            "init_from=null for random weights"
        )
    load_start(config)


def load_start(config: DictConfig) -> "TransformNetwork":
    """The network of the style to start from, `init_from`; one of the user's own class is made by `model._target_`."""
    from fst.style_file import load_style

    own = config.model.get("_target_")
    return load_style(find_style(config.init_from), pkgutil.resolve_name(own) if own else None)[0]


def check_optimizer(algorithm: DictConfig) -> None:
    """Refuse what is no optimiser, and arguments that its class refuses: that knows best what they can be."""
    import torch

    name = algorithm._target_
    kind = pkgutil.resolve_name(name)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"optimizer.algorithm._target_={show(name)}: it can be an optimiser, as torch.optim.Adam")
    try:
        instantiate(algorithm, _convert_="all")([torch.nn.Parameter(torch.zeros(2, 2))])
    except Exception as error:
        reason = show(str(error.__cause__ or error), 150)
        raise UserError(f"optimizer.algorithm: {show(name)} does not take these arguments: {reason}") from error


def check_devices(trainer: DictConfig) -> None:
    """Refuse devices that this machine does not have."""
    import torch

    wanted = trainer.accelerator
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not (wanted in ("auto", "cpu") or there.get(wanted) or (wanted == "gpu" and any(there.values()))):
        raise UserError(f"trainer.accelerator={wanted}: not on this machine; try auto or cpu")
    gpus = 0 if wanted == "cpu" else torch.cuda.device_count() or int(there["mps"])
    devices = OmegaConf.to_container(trainer.devices) if OmegaConf.is_list(trainer.devices) else trainer.devices
    if isinstance(devices, list) and not (devices and len(set(devices)) == len(devices) and max(devices) < gpus):
        raise UserError(f"trainer.devices={show(devices)}: it can be a list of different GPUs; there are {gpus}")
    if gpus and isinstance(devices, int) and devices > gpus:
        raise UserError(f"trainer.devices={devices}: it can be at most {gpus} here")


def check_processes(config: DictConfig) -> None:
    """Refuse what several processes cannot do together."""
    processes = _processes(config.trainer)
    if _is_shared(config.trainer) and config.model.get("norm") == "batch":
        raise UserError("model.norm=batch: each process would have statistics of its own; take instance")
    own = not config.data._target_.startswith("fst.training.data.")  # its batches are for one process each
    if config.data.batch_size % processes and not own:
        shares = f"{processes} processes (trainer.devices)"
        raise UserError(f"data.batch_size={config.data.batch_size}: it cannot be shared out evenly to {shares}")


def check_sweep(config: DictConfig) -> None:
    """Refuse a sweep of runs that several processes share: when one process fails, Lightning ends them all."""
    if _is_shared(config.trainer):
        raise UserError("trainer: -m is not for runs on several devices each; trainer=sweep does a run on each device")


def _is_shared(trainer: DictConfig) -> bool:
    return _processes(trainer) > 1 or trainer.get("strategy", "auto") != "auto"


def _processes(trainer: DictConfig) -> int:
    import torch

    devices = trainer.devices
    if devices == "auto":
        devices = 1 if trainer.accelerator == "cpu" else max(1, torch.cuda.device_count())
    return trainer.get("num_nodes", 1) * (devices if isinstance(devices, int) else len(devices))
