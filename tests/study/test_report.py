import base64
import io
from pathlib import Path

from PIL import Image

from fst.study.report import inline, show


def test_pictures_that_browsers_do_not_show_are_put_on_the_page_as_png(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3), (200, 100, 50))
    for name, kind in (("a.tif", "png"), ("a.ppm", "png"), ("a.png", "png"), ("a.jpg", "jpeg")):
        picture.save(tmp_path / name)
        head, _, content = inline(tmp_path / name).partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
            assert (shown.format, shown.size) == (kind.upper(), (4, 3))


def test_layers_that_a_set_switches_off_are_not_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    layers = {"content": {"relu2_2": 1.0}, "style": {"relu1_2": 0.0, "relu3_3": 0.5}}
    result = {
        "cell": {"name": "mine", "method": "slow", "task": "transfer"},
        "config": {"layers": layers, "loss_network": {"architecture": "vgg19"}},
        "folder": str(tmp_path),
        **{"picture": "a.png", "seconds": 1.0, "terms": {"loss": 1.0}, "errors": {}},
    }
    assert show(result)["sets"] == {"content": "relu2_2", "style": "relu3_3"}
