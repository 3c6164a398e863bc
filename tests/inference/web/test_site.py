import io
import json
import os
import re
import subprocess
import sys
from contextlib import chdir, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fst
from fst import Stylizer
from fst.cli import main
from fst.errors import RunError, UserError
from fst.inference.web import site as module
from fst.inference.web.folder import find_web_styles, write_site
from fst.inference.web.runtime import CDN, VERSION
from fst.inference.web.site import build_site, content_policy
from fst.networks.transform import build_transform_network
from fst.style_file import save_style
from fst.style_info import StyleInfo, find_style

PAGE = Path(module.__file__).with_name("page")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_site_lists_what_it_has(cells_file: Path, style_file: Path) -> None:
    site = build_site([cells_file, style_file])
    document = json.loads(site["site.json"])
    assert [(style["name"], style["kind"], style["cell"]) for style in document["styles"]] == [
        ("cells", "realtime", 4),
        ("tiny", "full", 1),
    ]
    for style in document["styles"]:
        for suffix in ("onnx", "half", "weights", "check", "jpg"):
            assert site[f"styles/{style['name']}.{suffix}"]
    assert document["runtime"]["version"] == VERSION
    assert all(file["url"].startswith(CDN) for files in document["runtime"]["files"].values() for file in files)
    assert {path.name for path in PAGE.iterdir()} < site.keys()


def test_no_style_has_a_file_of_another(cells_file: Path, style_file: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.half.safetensors", tmp_path / "a.safetensors"]
    for path, style in zip(paths, (cells_file, style_file), strict=True):
        path.write_bytes(style.read_bytes())
    together = build_site(paths)
    for path in paths:
        alone = build_site([path])
        assert all(together[name] == data for name, data in alone.items() if name.startswith("styles/"))


def test_the_stored_check_is_what_the_stylizer_paints(cells_file: Path) -> None:
    site = build_site([cells_file])
    width, height = json.loads(site["site.json"])["checked"]
    before, after = np.frombuffer(site["styles/cells.check"], np.uint8).reshape(2, height, width, 3)
    expected = Stylizer(cells_file, device="cpu")(before.copy())
    assert np.abs(expected.astype(int) - after).max() <= 4  # the Stylizer may compute in bfloat16
    assert np.abs(before.astype(int) - after).mean() > 5
    assert Image.open(io.BytesIO(site["styles/cells.jpg"])).size == (192, 144)


def test_export_imports_neither_lightning_nor_hydra_nor_an_extra(folder: Path, cells_file: Path) -> None:
    program = """
import sys
from fst.cli import main
assert main(["export", sys.argv[1], "--to", "web"]) == 0
heavy = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "torchvision", "av", "onnxscript", "onnxruntime"}
print("imported:", sorted(heavy & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(fst.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(cells_file)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.splitlines()[-1] == "imported: []"


def test_the_site_of_one_style_is_small() -> None:
    sizes = {name: len(data) for name, data in build_site([find_style("bundled:the_scream_realtime")]).items()}
    assert sum(sizes.values()) < 1e6


def test_the_page_is_short_and_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    scripts = [path.read_text() for path in PAGE.glob("*.js")]
    assert len(scripts) >= 3
    assert sum(len(script.splitlines()) for script in scripts) <= 700
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html)
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)", html)
    assert [address for address in addresses if "//" in address] == ["https://onnxruntime.ai"]  # a link, to be clicked
    for script in scripts:
        assert "innerHTML" not in script
        assert "http://" not in script
        assert "https://" not in script
    for text in (*scripts, (PAGE / "style.css").read_text()):
        assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("is_local", [True, False])
def test_the_policy_allows_no_inline_script(is_local: bool, cells_file: Path) -> None:
    policy = dict(part.strip().split(" ", 1) for part in content_policy(is_local).split(";"))
    assert policy["default-src"] == "'none'"
    for directive, value in policy.items():
        assert "'unsafe-inline'" not in value
        assert "'unsafe-eval'" not in value
        assert ("https:" in value) == (directive == "connect-src" and not is_local)
    html = build_site([cells_file], {"ort.mjs": b""} if is_local else None)["index.html"].decode()
    assert f'<meta http-equiv="Content-Security-Policy" content="{content_policy(is_local)}">' in html


def test_export_writes_the_site(
    folder: Path, cells_file: Path, style_file: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", str(cells_file), str(style_file), "--to", "web", "-o", "public/art"]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(r"public/art: \d+ files, 0\.\d\d MB\n", printed)
    site = build_site([cells_file, style_file])
    written = {
        path.relative_to("public/art").as_posix(): path for path in Path("public/art").rglob("*") if path.is_file()
    }
    assert written.keys() == site.keys()
    assert written["site.json"].read_bytes() == site["site.json"]
    assert [path.name for path in Path("public").iterdir()] == ["art"], "nothing temporary is left"


def test_an_earlier_site_needs_force_and_other_files_stay(
    folder: Path, cells_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(cells_file), "--to", "web"]
    assert main(command) == 0
    Path("site/CNAME").write_text("art.example")
    Path("site/app.js").write_text("old")
    capsys.readouterr()
    assert main(command) == 2
    assert capsys.readouterr().err == "fst: site exists; --force overwrites it\n"
    assert main([*command, "--force"]) == 0
    assert Path("site/app.js").read_bytes() == (PAGE / "app.js").read_bytes()
    assert Path("site/CNAME").read_text() == "art.example"


def test_a_folder_of_something_else_is_never_written_to(folder: Path) -> None:
    Path("home").mkdir()
    Path("home/diary.txt").write_text("precious")
    Path("file").write_text("precious")
    for force in (False, True):
        with pytest.raises(UserError, match="home holds other files"):
            write_site({"site.json": b"{}"}, Path("home"), force)
        with pytest.raises(UserError, match="file is a file"):
            write_site({"site.json": b"{}"}, Path("file"), force)
    assert [path.name for path in Path("home").iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("name", [".", "link"])
def test_an_empty_folder_is_filled_and_stays_the_same(name: str, folder: Path) -> None:
    Path("site").mkdir()
    Path("link").symlink_to("site")
    with chdir("site") if name == "." else nullcontext():
        write_site({"site.json": b"{}", "styles/a.onnx": b"1"}, Path(name))
    assert Path("site/styles/a.onnx").read_bytes() == b"1"
    assert Path("link/site.json").is_file()


def test_a_site_that_cannot_be_written_leaves_nothing(folder: Path) -> None:
    with pytest.raises(RunError, match="site: cannot be written"):
        write_site({"a": b"1", "a/b": b"2"}, Path("site"))
    assert list(folder.iterdir()) == []


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    arguments = {"width": 4, "blocks": 1, "norm": "instance"}
    network = build_transform_network("johnson", **arguments)
    with torch.no_grad():
        next(network.parameters()).fill_(1e6)
    save_style(
        tmp_path / "huge.safetensors", network, StyleInfo(name="huge", architecture="johnson", arguments=arguments)
    )
    with pytest.raises(RunError, match="huge: its weights are too large for float16"):
        build_site([tmp_path / "huge.safetensors"])


def test_two_styles_of_one_name_are_refused(cells_file: Path) -> None:
    with pytest.raises(UserError, match="the same name"):
        find_web_styles([cells_file, cells_file])
