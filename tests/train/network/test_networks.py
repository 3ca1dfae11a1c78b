"""The small CNN, networks of more channels than RGB, two networks joined, and each of them out of
its checkpoint.
"""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import gelu, max_pool2d, relu

from preprocess.record import Record
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader, View
from tests.conftest import jpeg, photograph
from tests.train.conftest import pack_here
from tests.train.here import evaluate_here, train_here
from train.config import TrainConfig
from train.network.build import build_network
from train.network.cnn import CNN, WIDTHS
from train.network.filters import fit_filters
from train.network.model import Classifier, build_classifier, model_statistics, rebuild
from train.network.weights import load_weights
from train.run import checkpoint
from train.run.folder import read_metrics

FIRST = {
    "test_resnet": "conv1.0.weight",
    "test_vit": "patch_embed.proj.weight",
    "test_efficientnet": "conv_stem.weight",
}


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize(("size", "channels"), [(16, 3), (32, 3), (33, 4), (75, 1)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_small_network_is_two_convolutions_and_three_linear_layers(
    name, size, channels, activation
):
    network = build_network(name, 7, size, channels=channels, activation=activation).eval()
    images = torch.randn(2, channels, size, size)
    act = {"relu": relu, "gelu": gelu}[activation]
    x = max_pool2d(
        act(torch.nn.functional.conv2d(images, network.conv1.weight, network.conv1.bias)), 2
    )
    x = max_pool2d(
        act(torch.nn.functional.conv2d(x, network.conv2.weight, network.conv2.bias)), 2
    ).flatten(1)
    for layer in (network.fc1, network.fc2):
        x = act(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(network(images), x @ network.fc3.weight.T + network.fc3.bias)


def test_the_small_network_of_ten_classes_is_the_tutorials():
    network = CNN("cnn", 10, 32)
    assert sum(parameter.numel() for parameter in network.parameters()) == 62_006
    assert [network.fc1.in_features, network.fc2.in_features, network.fc3.in_features] == [
        400,
        120,
        84,
    ]
    assert model_statistics(network) == ((0.5,) * 3, (0.5,) * 3)


def test_dropout_of_the_small_network_acts_in_training_alone():
    network = build_network("cnn", 5, 32, drop_rate=0.5)
    images = torch.randn(4, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "cnn", "size": 15}, "size is 15: model cnn takes images of at least 16 pixels"),
        ({"name": "cnn", "pretrained": True}, "no weights for cnn"),
        (
            {"name": "resnet18", "activation": "gelu"},
            "activation is gelu, but resnet18 has its own",
        ),
        ({"name": "test_resnet", "fusion": "late"}, "the images have 3 channels"),
        ({"name": "cnm"}, "did you mean cnn"),
    ],
)
def test_a_network_that_cannot_be_made_so_is_refused(options, says):
    with pytest.raises(DataError, match=says):
        build_network(**{"num_classes": 5, "size": 32, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"new_channels": "mean"}, "nothing is loaded"),
        ({"bands": "rgb", "fusion": "late"}, "choose one of the two"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "give --normalize own"),
        ({"normalize": "own"}, "0 numbers for mean and 0 for std"),
        (
            {"normalize": "own", "mean": (0.5, 0.5), "std": (0.5,)},
            "2 numbers for mean and 1 for std",
        ),
        ({"normalize": "own", "mean": (127.0,), "std": (50.0,)}, "give shares of 255"),
        ({"normalize": "own", "mean": (0.5,), "std": (0.0,)}, "std above 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        TrainConfig(**options)


# -- filters for further channels
# ------------------------------------------------------------------------------------


def write_weights(path, name, seed=1):
    """A timm network's state dict as a file of weights."""
    torch.manual_seed(seed)
    state = timm.create_model(name, num_classes=7).state_dict()
    safetensors.torch.save_file(state, path)
    return state


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("new", ["kaiming", "mean"])
def test_filters_of_rgb_are_kept_bit_for_bit(name, new, tmp_path):
    state, first = write_weights(tmp_path / "w.safetensors", name), FIRST[name]
    network = build_network(name, 5, 160 if name == "test_vit" else 64, channels=5)
    report = load_weights(network, tmp_path / "w.safetensors", new)
    assert report.extended == [first]
    assert f"1 of them for other channels ({first})" in str(report)
    own = network.state_dict()
    same = [key for key in report.loaded if key != first]
    assert len(same) + 3 == len(own)  # all but the first layer and the new head
    assert all(torch.equal(own[key], state[key]) for key in same)
    assert torch.equal(own[first][:, :3], state[first])
    extra = own[first][:, 3:]
    if new == "mean":
        torch.testing.assert_close(extra, state[first].mean(1, keepdim=True).expand_as(extra))
    else:
        fan_out = extra.shape[0] * extra.shape[2] * extra.shape[3]
        assert float(extra.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.2)
        assert not torch.equal(extra[:, 0], extra[:, 1])


def test_filters_that_stand_alone_answer_a_grey_picture_as_rgb_did():
    double = {"dtype": torch.float64}  # sums of 75 products are off by most of float32's tolerance
    given = {"w": torch.randn(8, 3, 5, 5, **double), "other": torch.zeros(2)}
    own = {"w": torch.zeros(8, 2, 5, 5, **double)}
    fitted, names = fit_filters(given, own, keep_rgb=False, new="mean")
    assert names == ["w"]
    grey = torch.randn(1, 1, 9, 9, **double)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(
        conv(grey.expand(1, 2, 9, 9), fitted["w"]), conv(grey.expand(1, 3, 9, 9), given["w"])
    )


@pytest.mark.parametrize("shape", [(8, 48, 3, 3), (8, 4, 5, 5), (8, 27), (9, 4, 3, 3)])
def test_only_a_first_convolution_of_pixels_is_fitted(shape):
    given = {"w": torch.zeros(8, 12, 3, 3) if shape[1] == 48 else torch.zeros(8, 3, 3, 3)}
    fitted, names = fit_filters(given, {"w": torch.zeros(shape)}, True, "mean")
    assert not names
    assert fitted["w"] is given["w"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's own cache on this disk, with weights for test_resnet as if they had been fetched."""
    repository = tmp_path / "hub/models--timm--test_resnet.r160_in1k"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    torch.manual_seed(3)
    state = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(state, repository / "snapshots/abc/model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return state


@pytest.mark.parametrize("new", ["kaiming", "mean"])
def test_pretrained_filters_are_kept_bit_for_bit(hub, new):
    early = build_network("test_resnet", 5, 64, True, channels=4, new_channels=new).state_dict()
    first = "conv1.0.weight"
    assert torch.equal(early[first][:, :3], hub[first])
    if new == "mean":
        torch.testing.assert_close(early[first][:, 3], hub[first].mean(1))
    late = build_network(
        "test_resnet", 5, 64, True, channels=4, fusion="late", new_channels=new
    ).state_dict()
    assert late[f"extra.{first}"].shape[1] == 1
    body = [name for name in hub if not name.startswith("fc.") and name != first]
    assert len(body) > 20
    assert torch.equal(late[f"rgb.{first}"], hub[first])
    for name in body:
        assert all(
            torch.equal(hub[name], own)
            for own in (early[name], late[f"rgb.{name}"], late[f"extra.{name}"])
        )


def test_weights_that_are_not_there_are_one_line(hub):
    for channels in (3, 4):
        with pytest.raises(DataError, match=r"no pretrained weights for test_convnext .*--weights"):
            build_network("test_convnext", 5, 64, True, channels=channels)


# -- two networks
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["cnn", "test_resnet", "test_vit", "mobilenetv3_small_100", "deit_tiny_distilled_patch16_224"],
)
def test_two_networks_are_joined_before_one_linear_layer(name):
    network = build_network(name, 5, 64, channels=5, fusion="late").eval()
    images = torch.randn(2, 5, 64, 64)
    features = torch.cat([network.rgb(images[:, :3]), network.extra(images[:, 3:])], 1)
    expected = features @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(images), expected)
    assert network.get_classifier() is network.head
    assert model_statistics(network) == model_statistics(network.rgb)


def test_a_file_of_weights_serves_both_networks(tmp_path):
    state, first = write_weights(tmp_path / "w.safetensors", "test_resnet"), FIRST["test_resnet"]
    network = build_network("test_resnet", 5, 64, channels=4, fusion="late")
    report = load_weights(network, tmp_path / "w.safetensors", "mean")
    own = network.state_dict()
    assert report.new == ["head.bias", "head.weight"]
    assert report.unused == [
        f"{part}.fc.{kind}" for part in ("extra", "rgb") for kind in ("bias", "weight")
    ]
    assert torch.equal(own[f"rgb.{first}"], state[first])
    torch.testing.assert_close(own[f"extra.{first}"], state[first].sum(1, keepdim=True))
    whole = tmp_path / "joined.safetensors"
    safetensors.torch.save_file({name: value.contiguous() for name, value in own.items()}, whole)
    again = load_weights(build_network("test_resnet", 5, 64, channels=4, fusion="late"), whole)
    assert len(again.loaded) == len(own)


# -- normalisation
# --------------------------------------------------------------------------------------------------


def test_each_channel_is_normalised_as_asked(four_bands):
    index = DatasetIndex.open(four_bands / "train")
    mean, std = (tuple(index.statistics[name]) for name in ("mean", "std"))
    own = {"normalize": "own", "mean": (0.1, 0.2, 0.3, 0.4), "std": (0.5, 0.6, 0.7, 0.8)}
    expected = {
        "model": ((0.5,) * 3 + mean[3:], (0.5,) * 3 + std[3:]),
        "dataset": (mean, std),
        "own": (own["mean"], own["std"]),
    }
    images = torch.randint(0, 256, (2, 4, 32, 32), dtype=torch.uint8)
    for name, statistics in expected.items():
        options = own if name == "own" else {"normalize": name}
        model, _ = build_classifier(TrainConfig(model="cnn", size=32, **options), index)
        shown = [torch.tensor(values).view(1, 4, 1, 1) for values in statistics]
        torch.testing.assert_close(
            model.eval()(images), model.network((images / 255 - shown[0]) / shown[1])
        )
    rgb, _ = build_classifier(
        TrainConfig(model="cnn", size=32, bands="rgb", normalize="dataset"), index
    )
    assert rgb.num_channels == 3
    assert torch.equal(rgb.eval()(images), rgb(images[:, :3]))
    for options, says in (
        (own | {"mean": (0.1,) * 3, "std": (0.5,) * 3}, "have 3 numbers, .* 4 channels"),
    ):
        with pytest.raises(DataError, match=says):
            build_classifier(TrainConfig(model="cnn", size=32, **options), index)
    with pytest.raises(DataError, match="new_channels is mean, but there is none"):
        build_classifier(
            TrainConfig(model="cnn", weights="w", new_channels="mean", bands="rgb"), index
        )


# -- training
# --------------------------------------------------------------------------------------------------

CNN_RUN = {"model": "cnn", "optimizer": "adamw", "lr": 0.003, "epochs": 4, "crop_scale": (0.5, 1.0)}
RUNS = {
    "early": {**CNN_RUN, "activation": "gelu", "drop_rate": 0.1, "ema_decay": 0.9},
    "rgb": {**CNN_RUN, "bands": "rgb"},
    "late": {
        **CNN_RUN,
        "model": "test_resnet",
        "fusion": "late",
        "normalize": "dataset",
        "epochs": 2,
    },
}


@pytest.fixture(scope="module")
def runs(four_bands, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        train_here(four_bands, folder / name, **options)
    return folder


def test_infrared_is_seen_where_it_is_given_alone(runs, four_bands, tmp_path):
    aps = {
        name: evaluate_here(runs / name, tmp_path / name)[0]["per_class"]["leaf"]["ap"]
        for name in RUNS
    }
    assert aps["early"] > 0.9
    assert aps["late"] > 0.9
    assert aps["rgb"] < 0.8  # half of the pictures show it


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_alone_gives_the_model_back(name, runs, four_bands):
    opened = checkpoint.read(runs / name / "best")
    model = rebuild(opened).eval()
    assert isinstance(model, Classifier)
    assert model.num_channels == (3 if name == "rgb" else 4)
    loader = Loader(
        DatasetIndex.open(four_bands / "val"), 48, view=View(32, False, bands=opened.config.bands)
    )
    (batch,) = loader
    with torch.no_grad():
        scores = model(batch.images).sigmoid().numpy()
    mAP = np.mean([average_precision_score(batch.labels[:, k], scores[:, k]) for k in range(2)])
    assert mAP == pytest.approx(opened.meta.progress.best.value, abs=1e-6)
    assert (
        read_metrics(runs / name)[opened.meta.progress.best.epoch - 1]["val_mAP"]
        == opened.meta.progress.best.value
    )


def test_networks_of_different_bands_are_one_ensemble(runs, tmp_path):
    scores = [evaluate_here(runs / name, tmp_path / name)[1]["scores"] for name in ("early", "rgb")]
    both = evaluate_here(runs / "early", tmp_path / "both", "--ckpt", str(runs / "rgb/best"))[1][
        "scores"
    ]
    np.testing.assert_allclose(both, np.mean(scores, 0), atol=1e-6)


def test_data_of_other_channels_are_refused(runs, tmp_path):
    records = [
        Record(str(n), tmp_path, "here", (n % 2,), (), data=jpeg(photograph(32, 32, n)))
        for n in range(4)
    ]
    for split in ("train", "val"):
        pack_here(tmp_path, records, split, ("brick", "leaf"))
    with pytest.raises(DataError, match=r"was trained on 4 channels, the images of .* have 3"):
        train_here(tmp_path, runs / "early", resume=True, **RUNS["early"])
    with pytest.raises(DataError, match=r"have 3 channels, .* was trained on 4"):
        evaluate_here(runs / "early", tmp_path / "out", "--data", str(tmp_path))
    assert (
        evaluate_here(runs / "rgb", tmp_path / "out", "--data", str(tmp_path))[0]["num_samples"]
        == 4
    )
