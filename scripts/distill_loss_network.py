"""Distils the compact loss network from VGG19: the same layer names, a fifth of the arithmetic, small enough to bundle.

    python scripts/distill_loss_network.py checkpoints/loss_networks/compact.safetensors \\
        --teacher vgg19.safetensors --photos FOLDER --val FOLDER --style-images FOLDER

Three measures make its features agree with VGG19's, also on pictures that are optimised against it:

- It starts as a pruned VGG19: at each layer the channels that explain most of the others, each convolution fitted to
  them by least squares over the compressed layer before it (as He et al. 2017).
- Every layer is a tap: a linear map from its features to the teacher's is trained with it, on features and on Gram
  matrices. Matching Gram matrices in the student then matches the teacher's through the same maps. Style distances
  between pictures are trained to agree without maps, since a training against the student has none.
- A third of each batch comes from a pool of pictures that are being optimised against the student, pixel by pixel. They
  find what the student does not see, and the next step corrects it.

It resumes from OUT.pt if that is there.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_optimizer import SOAP
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from fst.errors import run_script
from fst.files import write_atomically, written_atomically
from fst.hardware import fast_dtype, keep_large_blocks
from fst.images import from_uint8, read_tensor
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import layer_table
from fst.perceptual import gram_matrix
from fst.pictures import find_images, read_image
from fst.style_file import load_style
from fst.training.data.crops import random_crop
from fst.training.data.folder import PhotoDataset
from fst.training.module import learning_rate_factor

STUDENT = "compact"
LAYERS = [layer for layer in layer_table(STUDENT) if layer.kind != "pool"]
TAPS = [layer.name for layer in LAYERS]
STYLE_TAPS = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_3", "relu4_1", "relu4_3"]
DTYPE = fast_dtype(torch.device("cpu"))
KINDS = ("features", "gram", "distances")
SIZE = 128  # side of a training crop in pixels
BATCH, POOLED = 8, 3  # pictures per step, and how many of them come from the pool
POOL, LIFE = 48, 240  # pictures in the pool, and the largest number of updates of one of them
SAMPLED = 8  # taps per step
UPDATES = 2  # of a picture between two steps with it


class Photos(Dataset[Tensor]):
    """Random crops of photos, style images and noise, with changed colours and sharpness: `(3, SIZE, SIZE)`."""

    def __init__(self, photos: list[Path], style_images: list[Path]) -> None:
        self.photos, self.style_images = PhotoDataset(photos, SIZE, seed=0), PhotoDataset(style_images, SIZE, seed=0)
        self.change = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.5, 0.1)], 0.5),
                v2.RandomGrayscale(0.05),
                v2.RandomApply([v2.GaussianBlur(5, (0.3, 2.0))], 0.15),
                v2.RandomAdjustSharpness(4.0, 0.15),
            ]
        )

    def __getitem__(self, position: int) -> Tensor:
        generator = torch.Generator().manual_seed(position)
        torch.manual_seed(position)
        kind = torch.rand((), generator=generator)
        if kind < 0.08:
            return random_noise(generator)
        source = self.style_images if kind < 0.2 else self.photos
        picture = self.change(from_uint8(source[position][None])[0])
        if kind > 0.85:
            picture = picture + 0.25 * torch.rand((), generator=generator) * torch.randn(picture.shape)
        return picture.clamp(0, 1)


def random_noise(generator: torch.Generator) -> Tensor:
    """`(3, SIZE, SIZE)` noise with a random spectrum: from white noise to clouds, grey or coloured."""
    spectrum = torch.fft.rfft2(torch.randn(3, SIZE, SIZE, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)[None, :]).clamp_min(1 / SIZE)
    noise = torch.fft.irfft2(spectrum * frequency ** -(2 * torch.rand((), generator=generator)))
    colours = torch.randn(3, 3, generator=generator) @ (noise / noise.std()).flatten(1)
    strength = 0.4 * torch.rand((), generator=generator)
    return (torch.rand(3, 1, 1, generator=generator) + strength * colours.view(3, SIZE, SIZE)).clamp(0, 1)


class Pool:
    """Pictures that are being optimised against the student: from a photo, a stylized photo or noise towards the Gram
    matrices of a style image at a random set of layers, by gradient steps of equal size on the pixels."""

    def __init__(self, student: LossNetwork, style_images: list[Tensor], styles: Sequence[nn.Module]) -> None:
        self.student, self.style_images, self.styles = student, style_images, styles
        self.pictures = torch.zeros(POOL, 3, SIZE, SIZE)
        self.left = torch.zeros(POOL, dtype=torch.long)
        self.targets: list[dict[str, Tensor]] = [{}] * POOL
        self.content = torch.zeros(POOL)
        self.origin = torch.zeros(POOL, 3, SIZE, SIZE)
        self.next = 0

    def advance(self, fresh: Tensor) -> Tensor:
        """The next `POOLED` pictures, after some updates; a finished one is first replaced by one of `fresh`."""
        rows = [(self.next + i) % POOL for i in range(POOLED)]
        self.next = (self.next + POOLED) % POOL
        for row, picture in zip(rows, fresh, strict=True):
            if self.left[row] <= 0:
                self._begin(row, picture)
        for _ in range(UPDATES):
            self.pictures[rows] = self._update(rows)
        self.left[rows] -= UPDATES
        return self.pictures[rows]

    @torch.no_grad()
    def _begin(self, row: int, picture: Tensor) -> None:
        style_image = self.style_images[int(torch.randint(len(self.style_images), ()))]
        count = int(torch.randint(1, len(STYLE_TAPS) + 1, ()))
        layers = [STYLE_TAPS[i] for i in torch.randperm(len(STYLE_TAPS))[:count]]
        with torch.autocast("cpu", DTYPE):
            features = self.student(style_image, layers)
            self.targets[row] = {layer: gram_matrix(f) for layer, f in features.items()}
            if self.styles and torch.rand(()) < 0.4:
                style = self.styles[int(torch.randint(len(self.styles), ()))]
                picture = picture.lerp(style(picture[None])[0].float(), float(torch.rand(())))
        self.pictures[row] = self.origin[row] = picture
        self.content[row] = 10 ** float(torch.empty(()).uniform_(-3, -0.5))
        self.left[row] = int(torch.randint(LIFE // 8, LIFE, ()))

    def _update(self, rows: list[int]) -> Tensor:
        pixels = self.pictures[rows].requires_grad_()
        layers = sorted({layer for row in rows for layer in self.targets[row]} | {"relu2_2"})
        with torch.autocast("cpu", DTYPE):
            features = self.student(pixels, layers)
            with torch.no_grad():
                origin = self.student(self.origin[rows], ["relu2_2"])["relu2_2"].float()
        content = (features["relu2_2"].float() - origin).square().mean((1, 2, 3)) / origin.square().mean((1, 2, 3))
        loss = (self.content[rows] * content).sum()
        for layer in layers:
            grams = gram_matrix(features[layer])
            for gram, row in zip(grams, rows, strict=True):
                if layer in self.targets[row]:
                    target = self.targets[row][layer][0]
                    loss = loss + (gram - target).square().sum() / target.square().sum() / len(self.targets[row])
        (gradient,) = torch.autograd.grad(loss, pixels)
        size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
        return (pixels.detach() - 0.015 * gradient / size).clamp(0, 1)


@torch.no_grad()
def prune(student: LossNetwork, teacher: LossNetwork, pictures: Tensor) -> None:
    """Give the student its first weights."""
    truth = teacher(pictures)
    x = (pictures - teacher.get_buffer("_mean")) / teacher.get_buffer("_std")
    for layer in tqdm(layer_table(STUDENT), desc="pruning"):
        if layer.kind == "pool":
            x = F.max_pool2d(x, 2)
        if layer.kind != "conv":
            continue
        after, before = truth[f"relu{layer.name[4:]}"].float(), truth[layer.name].float()
        chosen = leading_channels(gram_matrix(after).mean(0), layer.channels)
        weight, bias = fit_convolution(x, before[:, chosen])
        student.get_parameter(f"{layer.name}_weight").copy_(weight)
        student.get_parameter(f"{layer.name}_bias").copy_(bias)
        x = F.relu(F.conv2d(x, weight, bias, padding=1))


def leading_channels(gram: Tensor, count: int) -> list[int]:
    """The channels that explain most of the others, chosen one by one (pivoted Cholesky of the `(C, C)` matrix)."""
    rest, chosen = gram.double().clone(), []
    for _ in range(count):
        pivot = int((rest.square().sum(0) / rest.diagonal().clamp_min(1e-12) * (rest.diagonal() > 1e-12)).argmax())
        chosen.append(pivot)
        column = rest[:, pivot] / rest[pivot, pivot].sqrt()
        rest = rest - column[:, None] * column[None, :]
        rest[pivot], rest[:, pivot] = 0, 0
    return chosen


def fit_convolution(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the 3×3 convolution of `x`, `(B, C, H, W)`, that is closest to `y`, `(B, D, H, W)`."""
    size = 9 * x.shape[1] + 1
    left, right = torch.zeros(size, size, dtype=torch.double), torch.zeros(size, y.shape[1], dtype=torch.double)
    for picture, wanted in zip(x, y, strict=True):
        places = torch.randperm(wanted[0].numel())[:1024]
        patches = F.unfold(picture[None], 3, padding=1)[0][:, places]
        patches = torch.cat([patches, torch.ones(1, len(places))])
        left += (patches @ patches.T).double()
        right += (patches @ wanted.flatten(1)[:, places].T).double()
    solution = ridge(left, right).float()
    return solution[:-1].T.reshape(y.shape[1], x.shape[1], 3, 3).contiguous(), solution[-1]


def ridge(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve(left + 1e-4 * left.diagonal().mean() * torch.eye(len(left), dtype=left.dtype), right)


@torch.no_grad()
def fit_maps(student: LossNetwork, teacher: LossNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """For each tap the linear map, `(teacher's C, student's C)`, that brings the student's features closest."""
    left: dict[str, Tensor] = {}
    right: dict[str, Tensor] = {}
    for pictures in batches:
        seen, truth = student(pictures), teacher(pictures)
        for tap in TAPS:
            s, t = (f[tap].float().permute(1, 0, 2, 3).flatten(1) for f in (seen, truth))
            left[tap] = left.get(tap, 0) + (s @ s.T).double()
            right[tap] = right.get(tap, 0) + (s @ t.T).double()
    return {tap: ridge(left[tap], right[tap]).T.float() for tap in TAPS}


def errors(
    student: LossNetwork, teacher: LossNetwork, maps: nn.ParameterDict, pictures: Tensor, taps: list[str]
) -> dict[str, Tensor]:
    """For each tap the unexplained part of the features' variance, and the relative errors of the Gram matrices and of
    the style distances between the pictures."""
    seen = student(pictures, taps)
    with torch.no_grad():
        truth = teacher(pictures, taps)
    found: dict[str, Tensor] = {}
    for tap in taps:
        mapped, wanted = F.conv2d(seen[tap], maps[tap][:, :, None, None]), truth[tap]
        with torch.no_grad():
            variance = wanted.float().var((0, 2, 3), correction=0).mean()
        found[f"features/{tap}"] = (mapped - wanted).float().square().mean() / variance
        theirs, mine = gram_matrix(wanted), gram_matrix(seen[tap])
        with torch.autocast("cpu", enabled=False):
            far, near = distances(theirs), distances(mine)
            found[f"distances/{tap}"] = (near - far).square().sum() / far.square().sum().clamp_min(1e-12)
            # The Gram matrix of mapped features is the mapped Gram matrix.
            mine = maps[tap] @ mine @ maps[tap].T * (mine.shape[1] / theirs.shape[1])
            found[f"gram/{tap}"] = ((mine - theirs).square().sum((1, 2)) / theirs.square().sum((1, 2))).mean()
    return found


def distances(grams: Tensor) -> Tensor:
    """Distances between all pairs of `(B, C, C)`, divided by the norm of the second: `(B, B)`."""
    flat = grams.flatten(1)
    return torch.cdist(flat, flat) / flat.norm(dim=1)


@torch.no_grad()
def validate(
    student: LossNetwork, teacher: LossNetwork, maps: nn.ParameterDict, photos: list[Path]
) -> dict[str, float]:
    crops = torch.stack([random_crop(read_image(path), 2 * SIZE, (0, 0)) for path in photos])
    rows = []
    with torch.autocast("cpu", DTYPE):
        for some in crops.split(4):
            rows.append(errors(student, teacher, maps, from_uint8(some), TAPS))
    return {key: float(torch.stack([row[key] for row in rows]).mean()) for key in rows[0]}


def state_of(student: LossNetwork) -> dict[str, Tensor]:
    keys = {layer.name: layer.key for layer in LAYERS if layer.kind == "conv"}
    return {
        f"{key}.{kind}": getattr(student, f"{name}_{kind}").detach().half().contiguous()
        for name, key in keys.items()
        for kind in ("weight", "bias")
    }


def write(path: Path, student: LossNetwork, scores: dict[str, float], steps: int) -> None:
    document = {
        "what": "fst's compact loss network: VGG19's layer names as far as relu4_4, a fifth of the arithmetic",
        "made": f"scripts/distill_loss_network.py, {steps} steps of {BATCH} crops of {SIZE} px",
        "credit": "distilled from VGG19, Simonyan & Zisserman 2015, Visual Geometry Group, Oxford, CC BY 4.0",
        "scores": {key: round(value, 4) for key, value in scores.items()},
    }
    write_atomically(path, save(state_of(student), {"fst": json.dumps(document)}))


def learner(
    arguments: argparse.Namespace, student: LossNetwork, maps: nn.ParameterDict, saved: dict[str, Any] | None
) -> tuple[SOAP, torch.optim.lr_scheduler.LambdaLR, int]:
    """The optimiser, its schedule and the number of steps already done, all of them and the student as last saved."""
    groups = [
        {"params": list(student.parameters()), "lr": arguments.lr},
        {"params": list(maps.parameters()), "lr": 2 * arguments.lr},
    ]
    optimizer = SOAP(groups, weight_decay=0.0, betas=(0.95, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, arguments.steps, 0.03, 0.01)
    )
    if saved is None:
        return optimizer, schedule, 0
    with torch.no_grad():
        for name, kernel in student.named_parameters():
            kernel.copy_(saved["student"][name])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    return optimizer, schedule, saved["step"]


def distill(arguments: argparse.Namespace) -> None:
    keep_large_blocks()
    torch.manual_seed(0)
    teacher = LossNetwork("vgg19", TAPS, arguments.teacher)
    teacher.use_dtype(DTYPE)
    style_images = find_images(Path(arguments.style_images))
    dataset = Photos(find_images(Path(arguments.photos)), style_images)
    resume = arguments.out.with_suffix(".pt")
    saved = torch.load(resume, weights_only=True) if resume.exists() else None
    student = LossNetwork(STUDENT, TAPS, "random")
    if saved is None:
        sample = torch.stack([dataset[position] for position in range(arguments.prune_on)])
        prune(student, teacher, sample)
        linear = fit_maps(student, teacher, sample.split(8))
    student.requires_grad_()
    maps = nn.ParameterDict(linear if saved is None else saved["maps"])
    optimizer, schedule, first = learner(arguments, student, maps, saved)
    styles = [load_style(Path(path))[0].eval() for path in arguments.styles]
    pool = Pool(student, [read_tensor(path, 384) for path in style_images], styles)
    order = range(first * BATCH, arguments.steps * BATCH)
    loader = DataLoader(dataset, BATCH, sampler=order, num_workers=arguments.workers, drop_last=True)
    validation = find_images(Path(arguments.val))
    bar = tqdm(loader, initial=first, total=arguments.steps, unit="step", mininterval=5)
    for step, batch in enumerate(bar, first + 1):
        batch[:POOLED] = pool.advance(batch[:POOLED])
        loss = total_loss(student, teacher, maps, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}")
        if step % arguments.every == 0 or step == arguments.steps:
            scores = validate(student, teacher, maps, validation)
            table = {tap: [round(scores[f"{kind}/{tap}"], 3) for kind in KINDS] for tap in STYLE_TAPS}
            bar.write(f"{step} {table}")
            write(arguments.out, student, scores, step)
            state = {"student": dict(student.named_parameters()), "maps": dict(maps.items()), "step": step}
            state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            with written_atomically(resume) as temporary:
                torch.save(state, temporary)


def total_loss(student: LossNetwork, teacher: LossNetwork, maps: nn.ParameterDict, pictures: Tensor) -> Tensor:
    """The loss at a few random taps: all of them would take three times as long."""
    chances = torch.tensor([2.0 if tap in STYLE_TAPS else 1.0 for tap in TAPS])
    taps = [TAPS[i] for i in torch.multinomial(chances, SAMPLED)]
    with torch.autocast("cpu", DTYPE):
        found = errors(student, teacher, maps, pictures, taps)
    weights = (3.0 if key.startswith("gram") else 1.0 for key in found)
    return torch.stack([w * value.clamp(max=10) for w, value in zip(weights, found.values(), strict=True)]).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the network's file")
    parser.add_argument("--teacher", required=True, help="VGG19's ImageNet weights, with torchvision's names")
    parser.add_argument("--photos", required=True, help="folder of training photos")
    parser.add_argument("--val", required=True, help="folder of validation photos")
    parser.add_argument("--style-images", required=True, help="folder of style images")
    parser.add_argument("--styles", nargs="+", default=[], help="trained style files, for stylized pictures")
    parser.add_argument("--steps", type=int, default=1200, help="default 1200")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate; default 1e-3")
    parser.add_argument("--prune-on", type=int, default=96, help="pictures for the start; default 96")
    parser.add_argument("--every", type=int, default=250, help="steps between validations; default 250")
    parser.add_argument("--workers", type=int, default=1, help="processes that read photos; default 1")
    distill(parser.parse_args())


if __name__ == "__main__":
    run_script(main)
