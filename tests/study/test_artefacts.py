import pytest
import torch

from fst.study.artefacts import weave


@pytest.fixture
def photo() -> torch.Tensor:
    """Flat on the left, noise on the right."""
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    noise[..., :56] = 0.5  # beyond the last flat patch, whose detail would depend on its neighbour
    return noise


def test_dots_in_flat_areas_are_found_and_detail_elsewhere_is_not(photo: torch.Tensor) -> None:
    painting = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 0.1
    dots = torch.zeros_like(photo)
    dots[..., ::2, ::2] = 0.2
    on_the_right, on_the_left = photo.clone(), photo.clone()
    on_the_right[..., 56:] += dots[..., 56:]
    on_the_left[..., :56] += dots[..., :56]
    assert weave(photo, photo, painting) < 1e-3
    assert weave(on_the_right, photo, painting) < 1e-3
    assert weave(on_the_left, photo, painting) > 1


def test_stronger_dots_weave_more(photo: torch.Tensor) -> None:
    dots = torch.zeros_like(photo)
    dots[..., ::4, ::4] = 1.0
    faint, strong = (weave(photo + strength * dots, photo, photo + 0.1 * dots) for strength in (0.1, 0.2))
    assert strong == pytest.approx(4 * faint, rel=0.05)


def test_a_painting_can_be_narrower_than_a_patch() -> None:
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert weave(noise, noise, noise[..., :12]) == pytest.approx(weave(noise, noise, noise), rel=0.2)
