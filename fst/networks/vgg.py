"""The frozen loss network, which gives a picture's features by the names of its layers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fst.errors import UserError, one_line
from fst.networks.vgg_layers import Layer, layer_table, refuse_unknown_layers
from fst.resources import resource_folder

# torchvision's normalisation, which its weights expect.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LossNetwork(nn.Module):
    """VGG up to the deepest layer asked for. Its weights are frozen, and no state dict or checkpoint holds them.

    >>> network = LossNetwork("vgg16", ["relu1_2", "conv2_1"], weights="random")
    >>> {name: tuple(features.shape) for name, features in network(torch.rand(1, 3, 32, 48)).items()}
    {'relu1_2': (1, 64, 32, 48), 'conv2_1': (1, 128, 16, 24)}

    Args:
        architecture: `vgg16`, `vgg19`, or `compact`, which was distilled from the latter.
        layers: names of the layers that will be read, `conv4_2` (before the ReLU) or `relu4_2` (after it).
        weights: `imagenet` (torchvision's, downloaded once), `bundled` (with fst: `compact` only), `random` (seeded,
            for tests), or the path of a `.safetensors` or `.pth` file with torchvision's names.
        pooling: `max`, or `average` (Gatys et al. 2016, section 2: smoother gradients for synthesis).

    Raises:
        UserError: unknown names, or weights that cannot be read or lack a layer.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, architecture: str, layers: Iterable[str], weights: str = "imagenet", pooling: str = "max"
    ) -> None:
        super().__init__()
        if pooling not in ("max", "average"):
            raise UserError(f"loss_network.pooling is '{pooling}'; it can be max or average")
        self.architecture = architecture
        self.layers = frozenset(layers)
        refuse_unknown_layers(architecture, self.layers)
        self._pool = F.max_pool2d if pooling == "max" else F.avg_pool2d
        self.table = _cut(layer_table(architecture), self.layers)
        self.register_buffer("_mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        for name, (weight, bias) in self._load(weights).items():
            self.register_parameter(f"{name}_weight", nn.Parameter(weight, requires_grad=False))
            self.register_parameter(f"{name}_bias", nn.Parameter(bias, requires_grad=False))

    def forward(self, images: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Features of `(B, 3, H, W)` pictures in [0, 1] by layer name, each `(B, C, H / 2^n, W / 2^n)` after n
        poolings.

        Args:
            layers: those to read, `None` for all; deeper ones are not computed.

        Raises:
            UserError: the pictures are too small for the deepest layer.
        """
        wanted = self.layers if layers is None else frozenset(layers)
        if unknown := wanted - self.layers:
            raise ValueError(f"{', '.join(sorted(unknown))}: not among the layers this network was built to read")
        table = _cut(self.table, wanted)
        least = 2 ** sum(layer.kind == "pool" for layer in table)
        if min(images.shape[-2:]) < least:
            height, width = images.shape[-2:]
            raise UserError(f"a {width}×{height} picture is too small for {table[-1].name}: at least {least}×{least}")
        x = (images.float() - self._mean) / self._std
        features: dict[str, Tensor] = {}
        for layer in table:
            if layer.kind == "conv":
                weight = getattr(self, f"{layer.name}_weight")
                x = F.conv2d(x.to(weight.dtype), weight, getattr(self, f"{layer.name}_bias"), padding=1)
            elif layer.kind == "relu":
                # In place saves a quarter of the memory, but overwrites the convolution's output, which may be wanted.
                x = F.relu(x, inplace=f"conv{layer.name[4:]}" not in wanted)
            else:
                x = self._pool(x, 2)
            if layer.name in wanted:
                features[layer.name] = x
        return features

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Cast the weights of the convolutions to `dtype` and compute in it; pictures are normalised in float32."""
        for parameter in self.parameters():
            parameter.data = parameter.data.to(dtype)

    # The weights come from a file of their own, so neither a state dict nor a checkpoint holds them.

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        pass

    def _load_from_state_dict(self, *arguments: Any) -> None:
        pass

    def _load(self, weights: str) -> dict[str, tuple[Tensor, Tensor]]:
        convolutions = [layer for layer in self.table if layer.kind == "conv"]
        if weights == "random":
            return _random_weights(convolutions)
        if weights == "bundled":
            weights = str(resource_folder("checkpoints") / "loss_networks" / f"{self.architecture}.safetensors")
        state = _imagenet_state(self.architecture) if weights == "imagenet" else _read_state(Path(weights))
        loaded: dict[str, tuple[Tensor, Tensor]] = {}
        in_channels, last = 3, "nothing"
        for layer in convolutions:
            shape = (layer.channels, in_channels, 3, 3)
            weight, bias = state.pop(f"{layer.key}.weight", None), state.pop(f"{layer.key}.bias", None)
            if weight is None or bias is None:
                if any(key.startswith("features.") for key in state):
                    raise UserError(f"{weights} is not {self.architecture}: it has no {layer.key}; see loss_network")
                raise UserError(
                    f"{weights} holds {self.architecture} only as far as {last}: {layer.name} is missing; "
                    "choose layers before it, or another file (loss_network.weights)"
                )
            if weight.shape != shape:
                raise UserError(
                    f"{weights} is not {self.architecture}: {layer.key} has shape {tuple(weight.shape)}, "
                    f"{layer.name} needs {shape}; see loss_network"
                )
            loaded[layer.name] = (weight.float().contiguous(memory_format=torch.channels_last), bias.float())
            in_channels, last = layer.channels, f"relu{layer.name[4:]}"
        return loaded


def _cut(table: tuple[Layer, ...], wanted: frozenset[str]) -> tuple[Layer, ...]:
    """The layers as far as the deepest wanted one."""
    names = [layer.name for layer in table]
    return table[: max((names.index(name) for name in wanted), default=-1) + 1]


def _random_weights(convolutions: list[Layer]) -> dict[str, tuple[Tensor, Tensor]]:
    """Kaiming-normal weights of a fixed seed, the same in every run; features keep their scale from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    loaded, in_channels = {}, 3
    for layer in convolutions:
        weight = torch.randn(layer.channels, in_channels, 3, 3, generator=generator) * (2 / (9 * in_channels)) ** 0.5
        loaded[layer.name] = (weight.contiguous(memory_format=torch.channels_last), torch.zeros(layer.channels))
        in_channels = layer.channels
    return loaded


def _imagenet_state(architecture: str) -> dict[str, Tensor]:
    """torchvision's weights, downloaded once into torch hub's cache; the hash in the file's name is checked."""
    from torchvision.models import VGG16_Weights, VGG19_Weights

    models = {"vgg16": VGG16_Weights, "vgg19": VGG19_Weights}
    if architecture not in models:
        raise UserError(f"ImageNet weights of {architecture} do not exist; loss_network.weights=bundled comes with fst")
    url = models[architecture].IMAGENET1K_V1.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:
        raise UserError(
            f"no ImageNet weights of {architecture} ({one_line(error, 60)}): loss_network=compact (fst "
            f"compare: judge=compact) needs none, loss_network.weights=FILE names yours, or put {url} into {folder}"
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"loss_network.weights={path}: no such file; it can be imagenet, random or a file's path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # of many kinds; PyTorch's message would advise to run the file's code
        raise UserError(
            f"loss_network.weights={path}: cannot be read as weights: damaged, or more than a dict of tensors; "
            "torch.save(network.state_dict(), FILE) writes one"
        ) from error
