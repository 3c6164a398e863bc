import base64
import io
from pathlib import Path

from PIL import Image

from fst.study.report import inline


def test_pictures_that_browsers_do_not_show_are_put_on_the_page_as_png(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3), (200, 100, 50))
    for name, kind in (("a.tif", "png"), ("a.ppm", "png"), ("a.png", "png"), ("a.jpg", "jpeg")):
        picture.save(tmp_path / name)
        head, _, content = inline(tmp_path / name).partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
            assert (shown.format, shown.size) == (kind.upper(), (4, 3))
