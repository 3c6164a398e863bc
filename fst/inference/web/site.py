"""A web site of static files that stylizes photos, videos and the camera in the visitor's browser."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from fst.errors import RunError
from fst.inference.web.folder import SITE
from fst.inference.web.model import WebModel, write_model
from fst.inference.web.runtime import CDN, describe_runtime
from fst.networks.transform import TransformNetwork
from fst.pictures import LEAST_SIDE, flatten_alpha, read_image
from fst.style_file import load_style
from fst.style_info import StyleInfo

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


def build_site(styles: Sequence[Path], runtime: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """All files of the site, by their path in it.

    Args:
        styles: style files; the first is the one that the page begins with.
        runtime: files from `read_runtime`, which become a part of the site; without them the page loads the runtime
            from a CDN.

    Raises:
        UserError: a layer that cannot be written for the browser.
        StyleFileError: a style cannot be read.
        RunError: a style's weights are too large for float16.
    """
    site = {f"runtime/{name}": data for name, data in (runtime or {}).items()}
    for path in sorted(_PAGE.iterdir()):
        site[path.name] = path.read_bytes()
    policy = content_policy(bool(runtime)).encode()
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
            "half": model.half_graph,
            "weights": model.weights,
            "check": picture.tobytes() + _stylize(network, picture).tobytes(),
            "jpg": thumbnail.getvalue(),
        }
    return {f"styles/{name}.{suffix}": data for suffix, data in files.items()}


@torch.inference_mode()
def _stylize(network: TransformNetwork, picture: np.ndarray) -> np.ndarray:
    """uint8 `(H, W, 3)` to the same, in float32."""
    return network.forward_pixels(torch.from_numpy(picture.copy())[None])[0].numpy()
