"""The criteria on pictures whose order is known, measured with the bundled loss network."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from fst.images import read_tensor, resize
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.resources import find_style_image
from fst.study.criteria import Criteria, projected_quantiles, sliced_wasserstein, structure_distance

SIDE = 64


@pytest.fixture(scope="module")
def network() -> LossNetwork:
    return LossNetwork("compact", relu_layers("compact"), "bundled")


def picture(name: str) -> Tensor:
    return resize(read_tensor(find_style_image(name)), (SIDE, SIDE))


def blurred(image: Tensor) -> Tensor:
    return v2.functional.gaussian_blur(image, [9, 9], [2.0, 2.0])


def shuffled(image: Tensor, cell: int) -> Tensor:
    """Its square cells in another order."""
    count = SIDE // cell
    cells = image.view(3, count, cell, count, cell).permute(1, 3, 0, 2, 4).flatten(0, 1)
    cells = cells[torch.randperm(count * count, generator=torch.Generator().manual_seed(0))]
    return cells.view(count, count, 3, cell, cell).permute(2, 0, 3, 1, 4).reshape(1, 3, SIDE, SIDE)


def noise() -> Tensor:
    return torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


def test_style_distance_grows_from_the_painting_to_noise(network: LossNetwork) -> None:
    painting, photo = picture("woodcut_sea"), picture("pointillism")
    criteria = Criteria(network, [painting])
    style = {
        name: criteria.score(photo, image).style
        for name, image in {
            "itself": painting,
            "shuffled": shuffled(painting, 16),
            "blurred": blurred(painting),
            "photo": photo,
            "noise": noise(),
        }.items()
    }
    assert style["itself"] == pytest.approx(0, abs=1e-5)
    assert 0.05 < style["shuffled"] < style["blurred"] < style["noise"]
    assert style["shuffled"] < style["photo"]
    assert style["shuffled"] < criteria.score(photo, shuffled(painting, 1)).style, "colours alone are no style"


def test_content_distance_forgives_colours_but_not_structure(network: LossNetwork) -> None:
    photo = picture("stained_glass")
    criteria = Criteria(network, [picture("woodcut_sea")])
    content = {
        name: criteria.score(photo, image).content
        for name, image in {
            "itself": photo,
            "grey": photo.mean(1, keepdim=True).expand(-1, 3, -1, -1),
            "other colours": photo[:, [2, 0, 1]],
            "blurred": blurred(photo),
            "another": picture("pointillism"),
            "noise": noise(),
        }.items()
    }
    assert content["itself"] == pytest.approx(0, abs=1e-6)
    assert 0 < content["other colours"] < content["another"] / 2
    assert 0 < content["grey"] < content["another"]
    assert 0 < content["blurred"] < content["another"] < 1
    assert content["blurred"] < content["noise"] < 1


def test_colours_grid_and_weave(network: LossNetwork) -> None:
    painting, photo = picture("woodcut_sea"), picture("stained_glass")
    criteria = Criteria(network, [painting])
    assert criteria.score(photo, shuffled(painting, 1)).color == pytest.approx(0, abs=1e-4), "places do not matter"
    assert criteria.score(photo, photo).color > 0.05
    grid = photo.clone()
    grid[:, :, ::4] += 0.2
    assert criteria.score(photo, photo).grid == 0
    assert criteria.score(photo, grid).grid > 1e-3
    assert criteria.score(photo, blurred(photo)).weave < criteria.score(photo, photo).weave
    assert criteria.score(photo, noise()).weave > 2 * criteria.score(photo, photo).weave


def test_scores_are_means_over_the_pictures_and_always_the_same(network: LossNetwork) -> None:
    photos = torch.cat([picture("stained_glass"), picture("pointillism")])
    pictures = torch.cat([blurred(photos[:1]), noise()])
    criteria = Criteria(network, [picture("woodcut_sea")])
    both = criteria.score(photos, pictures)
    assert both == Criteria(network, [picture("woodcut_sea")]).score(photos, pictures)
    one, other = (criteria.score(photos[n : n + 1], pictures[n : n + 1]) for n in (0, 1))
    for name in ("style", "content", "color", "weave"):
        assert getattr(both, name) == pytest.approx((getattr(one, name) + getattr(other, name)) / 2, rel=1e-4)
    assert list(both.style_layers) == list(relu_layers("compact"))
    assert sum(both.style_layers.values()) / 12 == pytest.approx(both.style, rel=1e-4)
    assert {int(layer[4]) for layer in both.content_layers} == {3, 4}


def test_the_nearest_size_of_the_painting_counts(network: LossNetwork) -> None:
    small = read_tensor(find_style_image("woodcut_sea"), SIDE)
    large = read_tensor(find_style_image("woodcut_sea"), 2 * SIDE)
    photos = picture("stained_glass").repeat(2, 1, 1, 1)
    pictures = torch.cat([resize(small, (SIDE, SIDE)), large[:, :, :SIDE, :SIDE]])
    alone = [Criteria(network, [size]).score(photos, pictures).style for size in (small, large)]
    assert Criteria(network, [small, large]).score(photos, pictures).style < min(alone)


@dataclass
class Scaled:
    """A loss network whose layers are the pixels, multiplied."""

    factor: float
    architecture: str = "compact"

    def __call__(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.factor * images)


def test_layers_count_alike_however_large_their_features_are() -> None:
    painting, photo = picture("woodcut_sea"), picture("stained_glass")
    one, other = (Criteria(Scaled(factor), [painting]).score(photo, photo).style for factor in (1.0, 100.0))
    assert one == pytest.approx(other, rel=1e-4)
    assert one > 0.1


def test_distributions_of_any_number_of_values_can_be_compared() -> None:
    values = torch.rand((1, 5, 20, 20), generator=torch.Generator().manual_seed(0))
    same = sliced_wasserstein(projected_quantiles(values), projected_quantiles(values[:, :, :, ::2]))
    moved = sliced_wasserstein(projected_quantiles(values), projected_quantiles(values[:, :, :7] + 1))
    assert same < 0.1 < 0.4 < moved


def test_the_structure_of_two_pictures_differs_by_how_their_places_differ() -> None:
    """One place of four has another feature; another place, in the other picture."""
    same, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    second = torch.stack([same, other, same, same], 1).view(1, 2, 2, 2)
    third = torch.stack([same, same, other, same], 1).view(1, 2, 2, 2)
    assert structure_distance(second, third).item() == pytest.approx((1 + 2 / 3 + 2 / 3 + 1) / 4)
    assert structure_distance(second, 5 * second).item() == pytest.approx(0, abs=1e-6)
