from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from einops import rearrange
from torch import nn

from fst.errors import UserError
from fst.images import psnr
from fst.inference.web.model import WebModel, write_model
from fst.networks.transform import TransformNetwork, build_transform_network
from fst.style_file import load_style
from fst.style_info import find_style

onnxruntime = pytest.importorskip("onnxruntime")


def run(folder: Path, model: WebModel, graph: bytes, images: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] through a graph, cut into cells before it and put together after it, as the page does."""
    (folder / "weights").write_bytes(model.weights)
    (folder / "style.onnx").write_bytes(graph)
    session = onnxruntime.InferenceSession(folder / "style.onnx", providers=["CPUExecutionProvider"])
    cells = rearrange(2 * images - 1, "b c (h r) (w s) -> b (c r s) h w", r=model.cell, s=model.cell)
    (stylized,) = session.run(None, {"images": cells.numpy()})
    return (
        rearrange(torch.from_numpy(stylized), "b (c r s) h w -> b c (h r) (w s)", r=model.cell, s=model.cell) / 2 + 0.5
    )


@pytest.mark.parametrize("style", ["the_scream_realtime", "the_scream_small", "tiny", "batch"])
def test_both_graphs_give_pytorchs_picture(style: str, style_file: Path, tmp_path: Path) -> None:
    if style == "batch":
        torch.manual_seed(3)
        network = build_transform_network("unshuffle", factor=2, width=16, body=16, blocks=1, norm="batch").eval()
    else:
        network, _ = load_style(style_file if style == "tiny" else find_style(f"bundled:{style}"))
    model = write_model(network, "weights")
    for height, width in ((48, 64), (96, 32)):  # the same graph for any size
        images = torch.rand(1, 3, height, width)
        with torch.inference_mode():
            expected = network.layers(2 * images - 1) / 2 + 0.5
        assert psnr(run(tmp_path, model, model.graph, images), expected) > 70
        assert psnr(run(tmp_path, model, model.half_graph, images), expected) > 50


def test_paddings_and_sizes_are_written_as_constants(cells_file: Path, style_file: Path) -> None:
    for path in (cells_file, style_file):
        for data in ((model := write_model(load_style(path)[0], "weights")).graph, model.half_graph):
            graph = onnx.load_from_string(data).graph
            kinds = {node.op_type for node in graph.node}
            assert {"Conv", "Pad"} <= kinds
            assert not kinds & {"Shape", "Gather", "Slice", "ConstantOfShape"}
            for node in graph.node:
                if node.op_type == "Conv":
                    assert not {"auto_pad", "pads"} & {attribute.name for attribute in node.attribute}


def test_graphs_share_weights_of_half_the_size(cells_file: Path) -> None:
    network, _ = load_style(cells_file)
    model = write_model(network, "weights")
    parameters = sum(p.numel() for p in network.parameters())
    assert len(model.weights) == 2 * parameters
    assert b"weights" in model.graph
    assert np.isfinite(np.frombuffer(model.weights, np.float16)).all()


def test_cost_counts_multiplications_for_each_pixel(cells_file: Path) -> None:
    assert write_model(load_style(find_style("bundled:the_scream_realtime"))[0], "weights").cost == pytest.approx(
        2.66, abs=0.01
    )
    assert write_model(load_style(find_style("bundled:udnie"))[0], "weights").cost == pytest.approx(153.8, abs=0.1)


def test_an_unknown_layer_is_named() -> None:
    network = TransformNetwork(nn.Sequential(nn.GELU()), multiple=1)
    with pytest.raises(UserError, match="a GELU cannot be written"):
        write_model(network, "weights")
