import torch
from torch import Tensor, nn

from fst.networks.own import OwnNetwork


class InPlace(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.sub_(0.5).abs_()


def test_a_network_that_computes_in_place_leaves_its_input_as_it_is() -> None:
    network = OwnNetwork(InPlace())
    images = torch.rand(1, 3, 16, 16)
    before = images.clone()
    assert torch.equal(network(images), (before - 0.5).abs())
    assert torch.equal(images, before)
