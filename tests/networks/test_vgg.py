from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchmetrics.functional.regression import spearman_corrcoef
from torchvision.models import vgg as torchvision_vgg

from fst.errors import UserError
from fst.images import read_tensor
from fst.networks.vgg import LossNetwork
from fst.networks.vgg_layers import layer_table
from fst.perceptual import gram_matrix, style_term
from fst.pictures import find_images
from fst.resources import resource_folder

JOHNSON = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
TORCHVISION = {"vgg16": "D", "vgg19": "E"}
# From the paper's table 1, typed by hand: names in order, and channels.
NAMES = {
    "vgg16": "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3",
    "vgg19": "1_1 1_2 2_1 2_2 3_1 3_2 3_3 3_4 4_1 4_2 4_3 4_4 5_1 5_2 5_3 5_4",
}
CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
KINDS = {"conv": torch.nn.Conv2d, "relu": torch.nn.ReLU, "pool": torch.nn.MaxPool2d}


def torchvision_features(architecture: str) -> torch.nn.Sequential:
    torch.manual_seed(1)
    features = torchvision_vgg.make_layers(torchvision_vgg.cfgs[TORCHVISION[architecture]])
    for module in features:
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return features.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with torchvision's names and random values."""
    folder = tmp_path_factory.mktemp("weights")
    for architecture in TORCHVISION:
        state = {f"features.{key}": value for key, value in torchvision_features(architecture).state_dict().items()}
        save_file(state, folder / f"{architecture}.safetensors")
    return {architecture: folder / f"{architecture}.safetensors" for architecture in TORCHVISION}


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_every_layer_has_torchvisions_place_kind_and_channels(architecture: str) -> None:
    table = layer_table(architecture)
    modules = torchvision_features(architecture)
    assert len(table) == len(modules)
    channels = 3
    for index, (layer, module) in enumerate(zip(table, modules, strict=True)):
        assert layer.key == f"features.{index}"
        assert isinstance(module, KINDS[layer.kind])
        channels = getattr(module, "out_channels", channels)
        assert layer.channels == channels == CHANNELS[layer.name[4]]
    numbers = NAMES[architecture].split()
    assert [layer.name for layer in table if layer.kind == "conv"] == [f"conv{n}" for n in numbers]
    assert [layer.name for layer in table if layer.kind == "relu"] == [f"relu{n}" for n in numbers]


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_features_equal_torchvisions_at_every_layer(architecture: str, weights: dict[str, Path]) -> None:
    names = [layer.name for layer in layer_table(architecture)]
    network = LossNetwork(architecture, names, str(weights[architecture]))
    images = torch.rand(2, 3, 50, 37)
    features = network(images)
    x = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert list(features) == names
    for name, module in zip(names, torchvision_features(architecture), strict=True):
        x = module(x)
        torch.testing.assert_close(features[name], x, rtol=1e-4, atol=1e-6, msg=name)


def test_pth_and_safetensors_give_the_same_network(weights: dict[str, Path], tmp_path: Path) -> None:
    state = {f"features.{key}": value for key, value in torchvision_features("vgg16").state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg16.pth")
    images = torch.rand(1, 3, 32, 32)
    expected = LossNetwork("vgg16", JOHNSON, str(weights["vgg16"]))(images)
    for name, features in LossNetwork("vgg16", JOHNSON, str(tmp_path / "vgg16.pth"))(images).items():
        assert torch.equal(features, expected[name])


def test_a_conv_tap_keeps_its_negative_values() -> None:
    images = torch.rand(1, 3, 32, 32)
    both = LossNetwork("vgg16", ["conv1_1", "relu1_1", "conv1_2"], "random")(images)
    assert both["conv1_1"].min() < 0
    assert torch.equal(both["relu1_1"], both["conv1_1"].relu())


def test_a_content_pass_goes_no_deeper_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    network = LossNetwork("vgg16", JOHNSON, "random")
    convolutions = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr("fst.networks.vgg.F.conv2d", lambda *a, **k: convolutions.append(0) or convolve(*a, **k))
    assert list(network(torch.rand(1, 3, 32, 32), ["relu2_2"])) == ["relu2_2"]
    assert len(convolutions) == 4


def test_frozen_and_absent_from_the_state() -> None:
    network = LossNetwork("vgg16", JOHNSON, "random")
    assert network.load_state_dict({})
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.state_dict()
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(images)["relu4_3"].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(("layer", "least"), [("relu2_1", 2), ("pool2", 4)])
def test_pictures_too_small_for_a_layer_are_one_clear_line(layer: str, least: int) -> None:
    network = LossNetwork("vgg16", [layer], "random")
    assert min(network(torch.zeros(1, 3, least, least))[layer].shape) == 1
    with pytest.raises(UserError, match=f"too small for {layer}: at least {least}×{least}"):
        network(torch.zeros(1, 3, least - 1, least))


def test_average_pooling_is_not_max_pooling() -> None:
    images = torch.rand(1, 3, 32, 32)
    maximum = LossNetwork("vgg16", ["pool1"], "random")(images)["pool1"]
    average = LossNetwork("vgg16", ["pool1"], "random", pooling="average")(images)["pool1"]
    assert (maximum >= average).all()
    assert not torch.equal(maximum, average)


def test_random_weights_are_the_same_every_time() -> None:
    images = torch.rand(1, 3, 16, 16)
    first, second = (LossNetwork("vgg19", ["relu2_1"], "random")(images)["relu2_1"] for _ in range(2))
    assert torch.equal(first, second)


def test_bfloat16_is_near_and_keeps_the_normalisation_in_float32() -> None:
    images = torch.rand(1, 3, 32, 32)
    network = LossNetwork("vgg16", ["relu3_3"], "random")
    exact = network(images)["relu3_3"]
    network.use_dtype(torch.bfloat16)
    rounded = network(images)["relu3_3"]
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("size", [8, 15, 16])
def test_least_size(size: int) -> None:
    network = LossNetwork("vgg16", ["relu5_1"], "random")
    images = torch.rand(1, 3, 40, size)
    if size < 16:
        with pytest.raises(UserError, match=f"a {size}×40 picture is too small for relu5_1: at least 16×16"):
            network(images)
    else:
        assert network(images)["relu5_1"].shape == (1, 512, 2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg16", ["relu3_4"], "random"), "vgg16 has no layer relu3_4"),
        (("vgg16", ["4"], "random"), "vgg16 has no layer 4"),
        (("vgg11", ["relu1_1"], "random"), "no loss network 'vgg11'"),
        (("vgg16", ["relu1_1"], "nowhere.pth"), "nowhere.pth: no such file"),
        (("vgg16", ["relu1_1"], "random", "median"), "max or average"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        LossNetwork(*arguments)
    assert "\n" not in str(caught.value)


def test_weights_that_end_too_early_say_so(weights: dict[str, Path], tmp_path: Path) -> None:
    state = {
        f"features.{k}": v for k, v in torchvision_features("vgg16").state_dict().items() if int(k.split(".")[0]) < 16
    }
    path = tmp_path / "short.safetensors"
    save_file(state, path)
    assert LossNetwork("vgg16", ["relu3_3"], str(path))
    with pytest.raises(UserError, match="only as far as relu3_3: conv4_1 is missing"):
        LossNetwork("vgg16", ["relu4_1"], str(path))


def test_weights_of_another_network_and_damaged_files_say_so(weights: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not vgg16"):
        LossNetwork("vgg16", ["relu4_3"], str(weights["vgg19"]))
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(UserError, match="more than a dict of tensors"):
        LossNetwork("vgg16", ["relu1_1"], str(tmp_path / "list.pth"))
    for name in ("cut.safetensors", "cut.pth"):
        (tmp_path / name).write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
        with pytest.raises(UserError, match="cannot be read as weights"):
            LossNetwork("vgg16", ["relu1_1"], str(tmp_path / name))


def test_pickled_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="cannot be read as weights") as caught:
        LossNetwork("vgg16", ["relu1_1"], str(tmp_path / "trap.pth"))
    assert "weights_only" not in str(caught.value), "PyTorch's advice would run it"
    assert not (tmp_path / "sprung").exists()


def test_no_network_and_no_cached_file_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(
        UserError, match=r"loss_network=compact .*loss_network\.weights=FILE .*vgg16-397923af\.pth into .*checkpoints"
    ) as caught:
        LossNetwork("vgg16", ["relu1_1"])
    assert "\n" not in str(caught.value)


@pytest.mark.real
def test_the_labs_weights(real_files: Path) -> None:
    layers = [layer.name for layer in layer_table("vgg19") if layer.kind == "relu"]
    network = LossNetwork("vgg19", layers, str(real_files / "weights/vgg19_features.safetensors"))
    assert all(features.isfinite().all() for features in network(torch.rand(1, 3, 64, 64)).values())
    short = str(real_files / "weights/vgg16_features_to_relu3_3.safetensors")
    LossNetwork("vgg16", ["relu3_3"], short)
    with pytest.raises(UserError, match="only as far as relu3_3"):
        LossNetwork("vgg16", ["relu4_3"], short)


def test_the_compact_network_has_vgg19s_names_as_far_as_relu4_4() -> None:
    names = [layer.name for layer in layer_table("vgg19")]
    compact = [layer.name for layer in layer_table("compact")]
    assert compact == names[: names.index("pool4") + 1]
    with pytest.raises(UserError, match=r"loss_network\.weights=bundled"):
        LossNetwork("compact", ["relu1_1"], "imagenet")


def test_the_bundled_compact_network_is_small_and_credits_its_teacher() -> None:
    layers = [layer.name for layer in layer_table("compact") if layer.kind == "relu"]
    features = LossNetwork("compact", layers, "bundled")(torch.rand(1, 3, 32, 48))
    assert features["relu4_4"].shape == (1, 192, 4, 6)
    assert all(0 < (values > 0).float().mean() < 1 for values in features.values())
    path = resource_folder("checkpoints") / "loss_networks" / "compact.safetensors"
    assert path.stat().st_size <= 4_000_000
    with safe_open(path, "pt") as file:
        assert "Visual Geometry Group, Oxford, CC BY 4.0" in file.metadata()["fst"]


@pytest.mark.real
def test_the_compact_network_sees_styles_as_vgg19_does(real_files: Path) -> None:
    pictures = [read_tensor(path, 256) for path in find_images(real_files / "styles")]
    weights = {"compact": "bundled", "vgg19": str(real_files / "weights/vgg19_features.safetensors")}
    for layer in JOHNSON:
        found = {}
        for name, source in weights.items():
            network = LossNetwork(name, [layer], source)
            with torch.no_grad():
                grams = [gram_matrix(network(picture)[layer]) for picture in pictures]
            found[name] = torch.stack([style_term(one, other) for one in grams for other in grams if one is not other])
        assert spearman_corrcoef(found["compact"], found["vgg19"]) > 0.97, layer
