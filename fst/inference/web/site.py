"""A web site of static files that stylizes photos, videos and the camera in the visitor's browser."""

import io
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from fst.errors import RunError, UserError
from fst.files import write_atomically, write_errors_of
from fst.images import flatten_alpha, read_image
from fst.inference.web.model import WebModel, write_model
from fst.inference.web.runtime import CDN, describe_runtime, read_runtime
from fst.networks.transform import LEAST_SIDE, TransformNetwork
from fst.style_file import StyleInfo, bundled_styles, load_style

SITE = "site.json"  # lists what the site has; written last
_PAGE = Path(__file__).with_name("page")
_SAMPLE = "sample.jpg"
_CHECKED = (64, 48)  # width and height of the picture with which the page checks its runtime
_PAINTED, _THUMBNAIL = (288, 216), (192, 144)  # what a style paints for its thumbnail, and the thumbnail
_SLOW = 60  # thousand multiplications a pixel, from which a style is marked as slow
_KINDS = {"unshuffle": {4: "realtime", 2: "small"}}


def content_policy(is_local: bool) -> str:
    """The Content-Security-Policy of the page and its worker.

    No inline scripts or styles, and nothing from elsewhere but the runtime, from one folder of the CDN. The runtime's
    script is fetched with its hash and started from a blob, because a worker's imports cannot have hashes.
    """
    script, connect = ("", "") if is_local else (" blob:", f" {CDN}")
    return (
        f"default-src 'none'; script-src 'self'{script} 'wasm-unsafe-eval'; worker-src 'self'{script}; "
        f"connect-src 'self'{connect}; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def build_site(styles: Sequence[Path], runtime: Path | None = None) -> dict[str, bytes]:
    """All files of the site, by their path in it.

    Args:
        styles: style files; the first is the one that the page begins with.
        runtime: a local copy of the npm package `onnxruntime-web`, which becomes a part of the site; without it the
            page loads the runtime from a CDN.

    Raises:
        UserError: two styles of one name, a layer that cannot be written for the browser, a wrong `runtime`.
        StyleFileError: a style cannot be read.
        RunError: a style's weights are too large for float16.
    """
    if len(names := [path.stem for path in styles]) != len(set(names)):
        raise UserError("two of the styles have the same name; rename one of the files")
    site = {f"runtime/{name}": data for name, data in (read_runtime(runtime) if runtime else {}).items()}
    for path in sorted(_PAGE.iterdir()):
        site[path.name] = path.read_bytes()
    policy = content_policy(runtime is not None).encode()
    site["index.html"] = site["index.html"].replace(b"{{content_policy}}", policy)
    sample = flatten_alpha(read_image(_PAGE / _SAMPLE))
    entries = []
    for path in styles:
        network, info = load_style(path)
        model = write_model(network, "weights")
        site |= _style_files(path.stem, network, model, sample)
        entries.append(_describe(path.stem, network, info, model))
    document = {
        "runtime": describe_runtime("runtime/" if runtime else CDN),
        "sample": _SAMPLE,
        "least": LEAST_SIDE,
        "checked": _CHECKED,
        "styles": entries,
    }
    return site | {SITE: json.dumps(document, indent=1).encode()}


def bundled_for_web() -> list[Path]:
    """The bundled styles, the fastest first."""
    return sorted(bundled_styles(), key=lambda path: path.stat().st_size)


def _describe(name: str, network: TransformNetwork, info: StyleInfo, model: WebModel) -> dict[str, object]:
    """What the page must know of a style."""
    kind = _KINDS.get(info.architecture, {}).get(model.cell, "full")
    return {
        "name": name,
        "title": _title(name.removesuffix(f"_{kind}")),
        "kind": kind,
        "slow": model.cost > _SLOW,
        "cost": round(model.cost, 3),
        "cell": model.cell,
        "multiple": network.multiple,
        "border": network.margins(LEAST_SIDE, LEAST_SIDE)[0],
        "bytes": len(model.graph) + len(model.weights),
    }


def _title(name: str) -> str:
    """A style's name as words: `composition_vii` as "Composition VII"."""
    words = name.replace("_", " ").split()
    return " ".join(word.upper() if set(word) <= set("ivx") else word[:1].upper() + word[1:] for word in words)


def _style_files(name: str, network: TransformNetwork, model: WebModel, sample: Image.Image) -> dict[str, bytes]:
    """The files of one style: its model, a picture before and after for the page's check, and a thumbnail."""
    if not np.isfinite(np.frombuffer(model.weights, np.float16)).all():
        raise RunError(f"{name}: its weights are too large for float16, in which the site has them")
    picture = np.asarray(ImageOps.fit(sample, _CHECKED, Image.Resampling.LANCZOS))
    small = np.asarray(ImageOps.fit(sample, _PAINTED, Image.Resampling.LANCZOS))
    with io.BytesIO() as thumbnail:
        painted = Image.fromarray(_stylize(network, small)).resize(_THUMBNAIL, Image.Resampling.LANCZOS)
        painted.save(thumbnail, "JPEG", quality=82)
        files = {
            "onnx": model.graph,
            "half.onnx": model.half_graph,
            "weights": model.weights,
            "check": picture.tobytes() + _stylize(network, picture).tobytes(),
            "jpg": thumbnail.getvalue(),
        }
    return {f"styles/{name}.{suffix}": data for suffix, data in files.items()}


@torch.inference_mode()
def _stylize(network: TransformNetwork, picture: np.ndarray) -> np.ndarray:
    """uint8 `(H, W, 3)` to the same, in float32."""
    return network.forward_pixels(torch.from_numpy(picture.copy())[None])[0].numpy()


def write_site(site: Mapping[str, bytes], folder: Path, force: bool = False) -> None:
    """Write a site's files: a new folder appears whole or not at all.

    Args:
        force: write over the files of an earlier site in this folder; others that are there stay.

    Raises:
        UserError: the folder holds something, and `force` is not given, or it is not a site.
        RunError: it cannot be written.
    """
    check_site_folder(folder, force)
    if folder.is_dir() and any(folder.iterdir()):
        for name, data in sorted(site.items(), key=lambda item: item[0] == SITE):
            write_atomically(folder / name, data)
        return
    with _new_folder(folder) as temporary, write_errors_of(folder):
        for name, data in site.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)


def check_site_folder(folder: Path, force: bool) -> None:
    """Raises a `UserError` if a site must not be written to this folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the site")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SITE).is_file():
        raise UserError(f"{folder} holds other files than a site's; name an empty or a new folder")
    if not force:
        raise UserError(f"{folder} exists; --force overwrites it")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yields a hidden folder beside `folder`, which takes its place at the end and is removed after an error."""
    temporary = folder.absolute().with_name(f".{folder.name[:40]}.{secrets.token_hex(4)}.fst-tmp")
    try:
        with write_errors_of(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with write_errors_of(folder):
            if folder.is_dir():
                folder.rmdir()  # empty
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
