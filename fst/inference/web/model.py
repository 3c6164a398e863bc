"""A style's network for the browser, as ONNX.

It is written layer by layer, so that it has few nodes, paddings of fixed sizes and no computed shapes: browsers' GPUs
get automatic padding wrong where a convolution has a stride, and compute shapes on the CPU. The page itself adds the
margins, cuts the picture into cells (pixel-unshuffle) and puts the cells together again, while it converts bytes to
floats and back.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fst.errors import UserError
from fst.networks.layers import InstanceNorm, OutputConv, ReflectConv, Residual, SubpixelConv, UpsampleConv
from fst.networks.transform import TransformNetwork

_OPSET = 17


@dataclass(frozen=True)
class WebModel:
    """A network for the page: two graphs that share their weights.

    Both take and return `(1, 3 cell², H / cell, W / cell)` float32 in [-1, 1], not clamped; H and W are multiples of
    the network's `multiple`.

    Attributes:
        graph: computes in float32.
        half_graph: computes in float16, for GPUs.
        weights: float16, to be given to the runtime under the name that the graphs have for it.
        cell: pixels a side of a cell; 1 where the network works on pixels.
        cost: multiplications for each pixel, in thousands.
    """

    graph: bytes
    half_graph: bytes
    weights: bytes
    cell: int
    cost: float


def write_model(network: TransformNetwork, weights_name: str) -> WebModel:
    """Write a network as ONNX.

    Args:
        weights_name: of the file that will hold the weights.

    Raises:
        UserError: it has a layer that cannot be written.
    """
    layers, cell = list(network.layers), 1
    if isinstance(layers[0], nn.PixelUnshuffle):
        cell = layers[0].downscale_factor
        layers = layers[1:-1]
    single, half = (_Graph(weights_name, is_half) for is_half in (False, True))
    for graph in (single, half):
        graph.add_all(layers)
    channels = 3 * cell * cell
    cost = single.products / cell**2 / 1000
    return WebModel(single.finish(channels), half.finish(channels), bytes(single.weights), cell, cost)


class _Graph:
    """Nodes and weights, added one after the other; `at` names the newest output.

    Attributes:
        weights: all of them, one after the other, in float16.
        products: multiplications for each position of the graph's input.
    """

    def __init__(self, weights_name: str, is_half: bool) -> None:
        import onnx

        self._onnx = onnx
        self._kind = onnx.TensorProto.FLOAT16 if is_half else onnx.TensorProto.FLOAT
        self._weights_name = weights_name
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self.weights = bytearray()
        self.products = 0.0
        self._scale = 1.0  # positions of the newest output for each position of the input, along one side
        self.at = self._node("Cast", "images", to=self._kind)

    def add_all(self, layers: list[nn.Module]) -> None:
        for layer in layers:
            self._add(layer)

    def _add(self, layer: nn.Module) -> None:
        if isinstance(layer, Residual):
            before = self.at
            self.add_all(list(layer.body))
            self.at = self._node("Add", before, self.at)
        elif isinstance(layer, SubpixelConv):
            self._convolve(*layer.kernels())
        elif isinstance(layer, UpsampleConv):
            scales = self._constant(np.array([1, 1, 2, 2], np.float32))
            places = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            self.at = self._node("Resize", self.at, "", scales, **places)
            self._scale *= 2
            self._convolve(layer.weight, layer.bias)
        elif isinstance(layer, ReflectConv | OutputConv):
            self._convolve(layer.weight, layer.bias, int(layer.stride[0]))
        elif isinstance(layer, InstanceNorm):
            parts = map(self._weight, (layer.weight, layer.bias))
            self.at = self._node("InstanceNormalization", self.at, *parts, epsilon=layer.eps)
        elif isinstance(layer, nn.BatchNorm2d):
            found = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            parts = map(self._weight, (part for part in found if part is not None))
            self.at = self._node("BatchNormalization", self.at, *parts, epsilon=layer.eps)
        elif isinstance(layer, nn.ReLU):
            self.at = self._node("Relu", self.at)
        else:
            raise UserError(f"a {type(layer).__name__} cannot be written for the browser yet")

    def _convolve(self, weight: Tensor, bias: Tensor, stride: int = 1) -> None:
        pad = weight.shape[-1] // 2
        if pad:
            pads = self._constant(np.array([0, 0, pad, pad] * 2, np.int64))
            self.at = self._node("Pad", self.at, pads, mode="reflect")
        kernel = list(weight.shape[-2:])
        self.at = self._node(
            "Conv", self.at, self._weight(weight), self._weight(bias), kernel_shape=kernel, strides=[stride] * 2
        )
        self._scale /= stride
        self.products += weight.numel() * self._scale**2

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _weight(self, values: Tensor) -> str:
        """A tensor in the file of weights, converted to what the graph computes in."""
        data = values.detach().to(torch.float16).numpy().tobytes()
        tensor = self._onnx.TensorProto(
            name=f"weight_{len(self._constants)}",
            data_type=self._onnx.TensorProto.FLOAT16,
            dims=list(values.shape),
            data_location=self._onnx.TensorProto.EXTERNAL,
        )
        place = {"location": self._weights_name, "offset": len(self.weights), "length": len(data)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.weights += data
        self._constants.append(tensor)
        return tensor.name if self._kind == tensor.data_type else self._node("Cast", tensor.name, to=self._kind)

    def finish(self, channels: int) -> bytes:
        """The model, from and to `channels`."""
        make, single = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes.append(make.make_node("Cast", [self.at], ["stylized"], name="stylized", to=single))
        ends = [
            make.make_tensor_value_info(n, single, [1, channels, "rows", "columns"]) for n in ("images", "stylized")
        ]
        graph = make.make_graph(self._nodes, "style", ends[:1], ends[1:], self._constants)
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], producer_name="fst", ir_version=8)
        return bytes(model.SerializeToString())
