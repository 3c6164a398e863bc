"""Compares two loss networks: do they rank pictures alike? Prints, for each layer, the rank correlation of their
content and style distances over many pairs of a photo and a picture made from it.

    python scripts/judge_loss_network.py --judge vgg19.safetensors --photos FOLDER --style-images FOLDER --styles FILE …

The pictures made from a photo are its stylized versions, in each style and at several strengths, and the photo blurred,
sharpened, noisy, in other colours and mirrored. Style distances are to each style image. Spearman's coefficient: 1 for
the same order.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef
from torchvision.transforms import v2
from tqdm import tqdm

from fst.errors import run_script
from fst.images import read_tensor
from fst.inference.stylizer import Stylizer
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.perceptual import content_term, gram_matrix, style_term
from fst.pictures import find_images

STRENGTHS = (0.25, 0.5, 1.0)


def pictures_of(photo: Tensor, stylizers: list[Stylizer]) -> Iterator[Tensor]:
    """The pictures made from a `(1, 3, H, W)` photo in [0, 1]."""
    for stylizer, strength in product(stylizers, STRENGTHS):
        yield photo.lerp(stylizer(photo), strength)
    yield v2.functional.gaussian_blur(photo, [9, 9], [2.0, 2.0])
    yield v2.functional.adjust_sharpness(photo, 5.0)
    yield (photo + 0.1 * torch.randn_like(photo)).clamp(0, 1)
    yield v2.functional.adjust_hue(photo, 0.3)
    yield photo.flip(1)


@torch.no_grad()
def distances(
    network: LossNetwork, photo: Tensor, pictures: list[Tensor], style_images: Mapping[Path, Mapping[str, Tensor]]
) -> dict[str, list[float]]:
    """Relative distances by `content/LAYER` and `style/LAYER`, in the order of the pictures (and style images)."""
    target = network(photo)
    found = defaultdict(list)
    for picture in pictures:
        features = network(picture)
        for layer, value in features.items():
            found[f"content/{layer}"].append(float(content_term(value, target[layer])))
            gram = gram_matrix(value)
            found[f"style/{layer}"] += [float(style_term(gram, grams[layer])) for grams in style_images.values()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="bundled", help="weights of the compact network; default bundled")
    parser.add_argument("--judge", required=True, help="weights of VGG19")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--style-images", type=Path, required=True, help="folder of style images")
    parser.add_argument("--styles", nargs="+", required=True, help="trained styles that stylize the photos")
    parser.add_argument("--count", type=int, default=8, help="photos; default 8")
    parser.add_argument("--size", type=int, default=256, help="longer side in pixels; default 256")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    layers = relu_layers("compact")
    networks = {
        "compact": LossNetwork("compact", layers, arguments.network),
        "vgg19": LossNetwork("vgg19", layers, arguments.judge),
    }
    paths = find_images(arguments.style_images)
    grams: dict[str, dict[Path, dict[str, Tensor]]] = {}
    with torch.no_grad():
        for name, network in networks.items():
            seen = {path: network(read_tensor(path, 2 * arguments.size)) for path in paths}
            grams[name] = {path: {layer: gram_matrix(f) for layer, f in fs.items()} for path, fs in seen.items()}
    stylizers = [Stylizer(style) for style in arguments.styles]
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in networks}
    for path in tqdm(find_images(arguments.photos)[: arguments.count], unit="photo"):
        photo = read_tensor(path, arguments.size)
        pictures = list(pictures_of(photo, stylizers))
        for name, network in networks.items():
            for key, values in distances(network, photo, pictures, grams[name]).items():
                found[name][key] += values
    pairs = len(found["vgg19"][f"content/{layers[0]}"])
    print(f"{pairs} pairs of pictures, {pairs * len(paths)} of picture and style image")
    print("| layer | content | style |\n|---|---|---|")
    for layer in layers:
        row = (
            float(spearman_corrcoef(*(torch.tensor(found[name][f"{term}/{layer}"]) for name in networks)))
            for term in ("content", "style")
        )
        print(f"| {layer} | " + " | ".join(f"{value:.3f}" for value in row) + " |")


if __name__ == "__main__":
    run_script(main)
