import numpy as np
import pytest
import torch

from fst.images import contact_sheet, from_uint8, keep_colors, to_pil, to_tensor, to_uint8
from tests.conftest import make_picture

RED, BLUE = (200, 30, 20), (20, 30, 200)


def test_tensors_and_pictures_convert_without_loss() -> None:
    image = make_picture(19, 23)
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 23, 19)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(np.asarray(to_pil(tensor)), np.asarray(image))
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]


def test_keep_colors_takes_luminance_only() -> None:
    content, stylized = torch.rand(1, 3, 8, 8) * 0.2 + 0.4, torch.rand(1, 3, 8, 8) * 0.2 + 0.4
    result = keep_colors(stylized, content)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((result * weights).sum(1), (stylized * weights).sum(1))
    torch.testing.assert_close(result - (result * weights).sum(1), content - (content * weights).sum(1))


def test_a_sheet_holds_its_pictures() -> None:
    black, grey = torch.zeros(1, 3, 10, 20), torch.full((1, 3, 20, 20), 0.5)
    sheet = to_tensor(contact_sheet([[black, black], [grey]]))
    assert sheet.shape == (1, 3, 38, 48)
    assert sheet[0, 0, 5, 5] == 0
    assert sheet[0, 0, 5, 20] == sheet[0, 0, 5, 27] == 1
    assert sheet[0, 0, 30, 5] == pytest.approx(0.5, abs=0.01)
