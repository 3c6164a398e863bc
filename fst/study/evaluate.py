"""`fst evaluate`: how good trained styles are on photos they were not trained on.

It measures the errors at every layer of VGG19 or VGG16, the iteration at which the slow method reaches the network's
objective (Johnson et al. 2016, figure 5), fine texture in flat areas, and how steady the style is in video.
"""

import io
import json
import logging
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor
from tqdm import tqdm

from fst.errors import UserError, errors_of
from fst.files import check_writable, write_atomically
from fst.hardware import peak_memory_mib, pick_device
from fst.images import read_tensor
from fst.inference.stylizer import Stylizer
from fst.inference.video.types import require_opencv
from fst.networks.transform import refuse_small
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import relu_layers
from fst.perceptual import LossWeights, PerceptualLoss, total_variation
from fst.pictures import LEAST_SIDE, require_images
from fst.resources import find_style_image
from fst.study.artefacts import weave
from fst.study.gatys import Optimization
from fst.study.steadiness import read_clip, steadiness, video_steadiness
from fst.style_info import StyleInfo, find_style, read_info

log = logging.getLogger(__name__)

# The layers of Johnson et al. 2016, for the table; the JSON has all.
STYLE_LAYERS, CONTENT_LAYER = ("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu2_2"


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one style. All but `seconds` and `peak_mib` are means over the photos.

    Attributes:
        content, style: relative error at each layer, `‖F(y)−F(x)‖²/‖F(x)‖²` and `‖G(y)−G(s)‖²/‖G(s)‖²`.
        total_variation: of the stylized pictures, as in the loss.
        ssim: structural similarity of photo and stylized picture, see `similarity`; 1 if both are equal.
        weave: fine texture where the photo is flat, see `fst.study.artefacts.weave`.
        seconds, peak_mib: of stylizing a photo in a process of its own.
        objective: the loss that the style was trained for, of the stylized pictures and of the photos themselves.
        curve: the same loss before each iteration of the slow method, which starts from the photos.
        iteration: the first at which the slow method is at least as good as the network; `None` if there was none.
        judge: the architecture of the loss network that measured the errors.
        steadiness: see `fst.study.steadiness.steadiness`; empty if it was not asked for.
        clips: by name, see `fst.study.steadiness.video_steadiness`.
    """

    name: str
    content: Mapping[str, float]
    style: Mapping[str, float]
    total_variation: float
    ssim: float
    weave: float
    seconds: float
    peak_mib: float
    objective: Mapping[str, float]
    curve: Sequence[float]
    iteration: int | None
    judge: str
    steadiness: Mapping[str, float]
    clips: Mapping[str, Mapping[str, float]]


def evaluate(
    style: str,
    photos: Sequence[Tensor],
    style_image: Tensor,
    network: LossNetwork,
    iterations: int,
    device: str = "auto",
    with_steadiness: bool = False,
    clips: Mapping[str, Sequence[Tensor]] | None = None,
) -> Evaluation:
    """Measure one style.

    Args:
        style: a name that `fst styles` lists, or a style file's path.
        photos: `(1, 3, H, W)` each, in [0, 1].
        style_image: `(1, 3, H, W)` in [0, 1], the picture it was trained on.
        network: measures the errors; must read all ReLU layers and those that the style was trained on.
        iterations: the most of the slow method; 0 leaves it out.
        with_steadiness: whether to measure `steadiness` on the photos.
        clips: frames `(1, 3, H, W)` by name, for `video_steadiness`.
    """
    stylizer = Stylizer(style, device)
    network, style_image = network.to(stylizer.device), style_image.to(stylizer.device)
    photos = [photo.to(stylizer.device) for photo in photos]
    stylized = [stylizer(photo) for photo in photos]
    layers = dict.fromkeys((layer for layer in network.layers if layer.startswith("relu")), 1.0)
    every_layer = PerceptualLoss(network, style_image, layers, layers, LossWeights())
    own = own_loss(stylizer.infos[0], network, style_image)
    measured = mean_terms(every_layer, photos, stylized)
    objective = {
        "network": mean_terms(own, photos, stylized)["loss"],
        "photos": mean_terms(own, photos, photos)["loss"],
    }
    # Photos and clips that cannot be measured are found before the slow method, which takes longest.
    steady = steadiness(stylizer, photos) if with_steadiness else {}
    warps = {
        name: video_steadiness(stylizer, (frame.to(stylizer.device) for frame in frames))
        for name, frames in (clips or {}).items()
    }
    curve = slow_curve(own, photos, objective["network"], iterations)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        seconds, peak = fresh.submit(measure_speed, style, device, photos[0].cpu()).result()
    return Evaluation(
        name=stylizer.name,
        content={layer: measured[f"content/{layer}"] for layer in layers},
        style={layer: measured[f"style/{layer}"] for layer in layers},
        total_variation=mean(float(total_variation(picture)) for picture in stylized),
        ssim=mean(similarity(x, y) for x, y in zip(photos, stylized, strict=True)),
        weave=mean(weave(y, x, style_image) for x, y in zip(photos, stylized, strict=True)),
        seconds=seconds,
        peak_mib=peak,
        objective=objective,
        curve=curve,
        iteration=next((i for i, value in enumerate(curve) if value <= objective["network"]), None),
        judge=network.architecture,
        steadiness=steady,
        clips=warps,
    )


def own_loss(info: StyleInfo, network: LossNetwork, style_image: Tensor) -> PerceptualLoss:
    """The loss that a style was trained for; of its terms only `content`, `style`, `coarse_style` and `tv`."""
    known, layers = info.loss, info.layers
    weights = LossWeights(
        **{term: known["weights"].get(term, 0.0) for term in ("content", "style", "coarse_style", "tv")}
    )
    return PerceptualLoss(
        network, style_image, layers["content"], layers["style"], weights, known["convention"], known["reduction"]
    )


@torch.no_grad()
def mean_terms(loss: PerceptualLoss, photos: Sequence[Tensor], pictures: Sequence[Tensor]) -> dict[str, float]:
    """All terms of stylized pictures, each with its photo as content: means over the photos."""
    rows = [loss(picture, loss.content_targets(photo)) for photo, picture in zip(photos, pictures, strict=True)]
    return {name: mean(float(row[name]) for row in rows) for name in rows[0]}


def slow_curve(loss: PerceptualLoss, photos: Sequence[Tensor], goal: float, iterations: int) -> list[float]:
    """Mean loss over the photos before each iteration of the slow method, until it reaches `goal` or they are done."""
    runs = [Optimization(loss, photo, photo) for photo in photos]
    curve: list[float] = []
    with tqdm(total=iterations, desc="slow method", unit="step", leave=False, disable=not iterations) as bar:
        while len(curve) < iterations and (not curve or curve[-1] > goal):
            curve.append(mean(next(run).terms["loss"] for run in runs))
            bar.update()
            bar.set_postfix(objective=f"{curve[-1]:.4g}", network=f"{goal:.4g}")
    return curve


def similarity(one: Tensor, other: Tensor) -> float:
    """SSIM (Wang et al. 2004) of the means over the colour channels of two `(B, 3, H, W)` pictures in [0, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes 8 s to import

    grey, other_grey = (picture.float().mean(1, keepdim=True) for picture in (one, other))
    value = structural_similarity_index_measure(grey, other_grey, data_range=1.0)
    assert isinstance(value, Tensor)
    return float(value)


def measure_speed(style: str, device: str, photo: Tensor) -> tuple[float, float]:
    """Median seconds of stylizing a photo, and peak MiB above what the process takes without it.

    To be called in a process of its own: its peak memory is what is measured.
    """
    stylizer = Stylizer(style, device)
    on_cuda = stylizer.device.type == "cuda"
    before, times = peak_memory_mib(stylizer.device), []
    for _ in range(5):
        start = time.perf_counter()
        stylizer(photo)  # waits for the device, because the result is copied to the CPU
        times.append(time.perf_counter() - start)
    return median(times[1:]), peak_memory_mib(stylizer.device) - (0 if on_cuda else before)


def find_trained_image(info: StyleInfo, folder: Path | None) -> Path:
    """The style image a style was trained on: the one of its name in `folder`, or the bundled one.

    Raises:
        UserError: there is none, or the style file does not tell how it was used.
    """
    if not (info.layers and info.loss and info.style_size):
        raise UserError(f"{info.name}: its file does not tell the layers and loss it was trained for")
    stem = info.style_image or info.name
    if folder is not None:
        found = [path for path in require_images(folder, "--style-images ") if path.stem == stem]
        if not found:
            raise UserError(f"{info.name}: no picture named {stem} in {folder} (--style-images)")
        return found[0]
    try:
        return find_style_image(stem)
    except UserError as error:
        raise UserError(f"{info.name}: name the folder of its style image: --style-images FOLDER") from error


def evaluate_all(
    styles: Sequence[str],
    photos: Path,
    style_images: Path | None,
    weights: str,
    out: Path,
    *,
    size: int = 256,
    count: int = 8,
    iterations: int = 500,
    device: str = "auto",
    judge: str = "vgg19",
    with_steadiness: bool = False,
    clips: Sequence[Path] = (),
) -> list[Evaluation]:
    """Measure styles, and write `evaluation.json`, after each style, and with `iterations` `evaluation.png` into `out`.

    Args:
        photos: a folder; the first `count` that can be stylized are used.
        style_images: a folder of the styles' images; `None` takes bundled ones.
        weights: of the judge, see `LossNetwork`.
        size: longer side of the photos in pixels.
        iterations: the most of the slow method; 0 leaves it out.
        judge: the architecture that measures the errors, `vgg19` or `vgg16`.
        with_steadiness: measure on the photos how steady the styles are.
        clips: video files or folders of frames, to measure it on.

    Raises:
        UserError: a style, photo, style image, clip or the weights cannot be read, two clips have one name, one has
            a single frame or frames of several sizes, OpenCV is missing for clips, or the judge lacks a layer that a
            style was trained on.
    """
    for name, value, least in (("size", size, LEAST_SIDE), ("count", count, 1), ("iterations", iterations, 0)):
        if value < least:
            raise UserError(f"{name} is {value}; the least is {least}")
    if len({path.stem for path in clips}) < len(clips):
        raise UserError("--video: two of the clips have the same name; rename one")
    if clips:
        require_opencv()
    pick_device(device)
    check_writable(out / "evaluation.json")
    infos = {style: read_info(find_style(style)) for style in styles}
    sources = {style: find_trained_image(info, style_images) for style, info in infos.items()}
    pictures = list(islice(_readable(require_images(photos, "--photos "), size), count))
    if not pictures:
        raise UserError(f"--photos {photos}: none of its pictures can be stylized; name another folder")
    frames = {path.stem: list(read_clip(path, size)) for path in clips}
    if single := [name for name, clip in frames.items() if len(clip) < 2]:
        raise UserError(f"--video: {single[0]} has less than two frames; name another clip")
    if mixed := [name for name, clip in frames.items() if len({frame.shape for frame in clip}) > 1]:
        raise UserError(f"--video: the frames of {mixed[0]} are not all of one size; name another clip")
    layers = set(relu_layers(judge))
    for info in infos.values():
        layers.update(info.layers["content"], info.layers["style"])
    try:
        network = LossNetwork(judge, layers, weights)
    except UserError as error:
        raise UserError(str(error).replace("loss_network.weights=", "--weights ")) from error
    results = []
    for style, info in tqdm(infos.items(), unit="style", disable=len(infos) == 1):
        style_image = read_tensor(sources[style], info.style_size)
        results.append(evaluate(style, pictures, style_image, network, iterations, device, with_steadiness, frames))
        document = json.dumps([asdict(result) for result in results], indent=1)
        write_atomically(out / "evaluation.json", document.encode())  # kept if a later style fails or is stopped
    if iterations:
        plot(results, out / "evaluation.png")
    return results


def _readable(paths: Sequence[Path], size: int) -> Iterator[Tensor]:
    """The photos, without those that are damaged or too narrow; a warning names each that is left out."""
    for path in paths:
        try:
            with errors_of(path):
                photo = read_tensor(path, size)
                refuse_small(*photo.shape[2:])
        except UserError as error:
            log.warning("left out: %s", error)
        else:
            yield photo


def format_results(results: Sequence[Evaluation]) -> str:
    """Tables in Markdown, one row for each style; the second, if there are such figures, says how steady they are."""
    head = "| style | style error | content error | total variation | SSIM | weave | seconds | MiB | L-BFGS iteration |"
    lines = [head, "|---" * 9 + "|"]
    for result in results:
        style = mean(result.style[layer] for layer in STYLE_LAYERS)
        # The last value of the curve is the loss before its last iteration.
        missed = f"> {len(result.curve) - 1}" if result.curve else "–"
        reached = missed if result.iteration is None else result.iteration
        lines.append(
            f"| {result.name} | {style:.3f} | {result.content[CONTENT_LAYER]:.2f} | {result.total_variation:.3f} "
            f"| {result.ssim:.2f} | {result.weave:.2f} | {result.seconds:.2f} | {result.peak_mib:.0f} | {reached} |"
        )
    if results and (results[0].steadiness or results[0].clips):
        clips = [f"{name}: warp error (the input's own)" for name in results[0].clips]
        columns = ["style", *results[0].steadiness, *clips]
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for result in results:
            cells = [f"{value:.2f}" for value in result.steadiness.values()]
            cells += [f"{clip['warp']:.1f} ({clip['input_warp']:.1f})" for clip in result.clips.values()]
            lines.append(f"| {' | '.join([result.name, *cells])} |")
    return "\n".join(lines)


def plot(results: Sequence[Evaluation], path: Path) -> None:
    """For each style, plot the loss against the iterations of the slow method, beside the network's and the photos'."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no plot without matplotlib: pip install 'fast-style-transfer[report]'")
        return
    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    size = (3.4 * columns, 3 * rows)  # inches
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(results) :]:
        axes.axis("off")
    for axes, result in zip(grid.flat, results, strict=False):
        axes.plot(result.curve, label="slow method (L-BFGS)")
        axes.axhline(result.objective["network"], color="C1", label="the network, one pass")
        axes.axhline(result.objective["photos"], color="0.6", linestyle=":", label="the photos as they are")
        axes.set(yscale="log", xlabel="iteration", ylabel="objective", title=result.name)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(path, picture.getvalue())
