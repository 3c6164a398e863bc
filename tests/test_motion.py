import math

import torch

from fst.motion import random_motion, shift, still, turn


def test_whole_pixel_shifts_and_their_masks_are_exact() -> None:
    pictures = torch.rand(2, 3, 24, 31)
    motion = shift(24, 31, down=5, right=-3)
    moved = torch.cat([motion(picture) for picture in pictures.split(1)])
    visible = motion.visible()[0, 0]
    assert torch.allclose(moved[..., 5:, :-3], pictures[..., :-5, 3:], atol=1e-5)
    assert visible[5:, :-3].all()
    assert visible.sum() == (24 - 5) * (31 - 3)


def test_no_motion_changes_nothing() -> None:
    pictures = torch.rand(1, 3, 20, 20)
    assert torch.allclose(still(20, 20)(pictures), pictures, atol=1e-5)
    assert still(20, 20).visible().all()
    assert still(20, 20).visible(margin=4).sum() == 12 * 12


def test_a_quarter_turn_is_clockwise_and_zoom_enlarges() -> None:
    picture = torch.zeros(1, 1, 21, 21)
    picture[..., 0, 10] = 1  # in the middle of the upper side
    turned = turn(21, 21, zoom=1.0, angle=math.pi / 2)(picture)
    assert turned[..., 10, 20].item() > 0.99
    picture = torch.zeros(1, 1, 21, 21)
    picture[..., 10, 14] = 1  # 4 pixels from the centre
    assert turn(21, 21, zoom=2.0, angle=0.0)(picture)[..., 10, 18].item() > 0.99


def test_random_motions_depend_on_the_generator_alone_and_alternate() -> None:
    one, same, other = (random_motion(4, 32, 40, torch.Generator().manual_seed(seed)).source for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    whole = [torch.equal(source, source.round()) for source in one]
    assert whole == [True, False, True, False]
    alone = [random_motion(1, 32, 40, torch.Generator(), first).source for first in range(4)]
    assert [torch.equal(source, source.round()) for source in alone] == whole, "batches of one picture alternate, too"
    moves = one - still(32, 40).source
    assert 1 < moves.abs().max() < 20
