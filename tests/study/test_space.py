from pathlib import Path

import pytest

from fst.hydra_app import configure
from fst.schemas import TRAIN
from fst.study.search_config import SEARCH
from fst.study.space import named_candidates


@pytest.mark.parametrize("name", ["johnson", "relu3_3"])
def test_a_named_set_is_tried_with_the_style_weight_and_the_style_image_of_training(
    name: str, photos: Path, painting: Path
) -> None:
    common = [f"style.image={painting}", "loss_network.weights=random"]
    train = configure(TRAIN, [*common, f"layers={name}", f"data.root={photos}"])
    (candidate,) = named_candidates(configure(SEARCH, [*common, f"first=[{name}]", f"photos={photos}"]))
    assert (candidate.content, candidate.style) == (train.layers.content, train.layers.style)
    assert candidate.style_weight == train.loss.weights.style
    assert candidate.style_scale == train.style.size / train.data.size


def test_layers_of_weight_0_are_left_out(tmp_path: Path, photos: Path, painting: Path) -> None:
    (tmp_path / "layers").mkdir()
    text = "{ content: { relu2_2: 1, relu3_3: 0 }, style: { relu1_2: 0, relu2_2: 1 } }"
    (tmp_path / "layers" / "own.yaml").write_text(text)
    search = [f"style.image={painting}", f"photos={photos}", "loss_network.weights=random"]
    (candidate,) = named_candidates(configure(SEARCH, [*search, "first=[own]", f"config_dir={tmp_path}"]))
    assert (candidate.content, candidate.style) == ({"relu2_2": 1.0}, {"relu2_2": 1.0})
