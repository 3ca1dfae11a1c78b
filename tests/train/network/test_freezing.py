"""Layers that keep what they start from: weights and statistics, in one run and in its continuation."""

import copy
import dataclasses

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import convert_sync_batchnorm

from shards.errors import DataError
from tests.train.here import train_here
from train.config import TrainConfig
from train.network.freezing import check_frozen, freeze_layers
from train.network.model import Classifier
from train.run import checkpoint

RGB = (0.5,) * 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict to start from, with statistics that are not those of a fresh network."""
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=0)
    network.train()(torch.randn(8, 3, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(network.state_dict(), path)
    return path, network.state_dict()


def is_kept(state, start, prefix):
    """Tell of each tensor of a layer whether it is what it started from."""
    names = [name for name in start if name.startswith(prefix) and "num_batches" not in name]
    assert names
    return [torch.equal(state[name], start[name]) for name in names]


@pytest.mark.slow
def test_the_first_layers_keep_weights_and_statistics(digits, weights, tmp_path):
    path, start = weights
    options = {"model": "test_resnet", "weights": str(path), "ema_decay": 0.9, "epochs": 2}
    train_here(digits, tmp_path / "run", freeze_layers=3, **options)
    last = checkpoint.read(tmp_path / "run" / "last")
    for averaged in (False, True):
        state = last.weights(averaged)
        for prefix in ("conv1", "bn1", "layer1", "layer2"):
            assert all(is_kept(state, start, prefix)), prefix
        for prefix in ("layer3", "layer4"):
            assert is_kept(state, start, prefix).count(True) < 4, prefix


def test_nothing_of_them_is_differentiated(weights):
    network = timm.create_model("test_resnet", num_classes=5)
    classifier = Classifier(network, RGB, RGB)
    freeze_layers(network, "test_resnet", 2)
    seen = []
    network.layer1.register_forward_hook(lambda *_: seen.append(_[-1].requires_grad))
    classifier.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert seen == [False]  # no graph behind it: that part of the backward pass is saved
    grads = {name: parameter.grad for name, parameter in network.named_parameters()}
    frozen = [name for name, grad in grads.items() if grad is None]
    assert frozen == [name for name in grads if name.startswith(("conv1", "bn1", "layer1"))]


def test_norms_stay_as_they_are_however_the_mode_changes(weights):
    network = timm.create_model("test_resnet", num_classes=5)
    classifier = Classifier(network, RGB, RGB)
    freeze_layers(network, "test_resnet", 2)
    assert classifier.train().network.training
    for model in (classifier, copy.deepcopy(classifier).train()):
        assert not model.network.layer1[0].bn1.training
        assert model.network.layer2[0].bn1.training
        assert not model.eval().network.layer2[0].bn1.training
        assert model.train().network.layer2[0].bn1.training
        assert not model.network.bn1.training


def test_norms_over_ranks_that_replace_frozen_ones_stay_too():
    network = timm.create_model("test_resnet", num_classes=5)
    freeze_layers(network, "test_resnet", 2)
    model = Classifier(convert_sync_batchnorm(network), RGB, RGB).train()
    assert isinstance(model.network.layer1[0].bn1, torch.nn.SyncBatchNorm)
    assert not model.network.layer1[0].bn1.training
    assert model.network.layer2[0].bn1.training


@pytest.mark.parametrize(
    ("model", "num"),
    [("resnet18", 6), ("mobilenetv1_100", 7), ("test_vit", 8), ("test_convnext", 6)],
)
def test_more_layers_than_there_are(model, num):
    network = timm.create_model(model, num_classes=5)
    said = f"^freeze_layers is {num}, but model {model} has {num} layers.*: give at most {num - 1}$"
    with pytest.raises(DataError, match=said):
        freeze_layers(network, model, num)
    assert all(parameter.requires_grad for parameter in network.parameters())
    freeze_layers(network, model, num - 1)
    head = [name for name, p in network.named_parameters() if p.requires_grad]
    assert head
    assert all(name.startswith(("fc", "head", "classifier")) for name in head)


def test_a_network_whose_layers_have_no_order():
    with pytest.raises(DataError, match=r"^freeze_layers is set, but the layers of model cnn"):
        freeze_layers(torch.nn.Linear(2, 2), "cnn", 1)


def test_random_layers_are_not_kept():
    with pytest.raises(DataError, match=r"^freeze_layers is 2, but nothing is loaded"):
        TrainConfig(freeze_layers=2)
    assert TrainConfig(freeze_layers=2, pretrained=True).freeze_layers == 2


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("conv1.0.weight", "conv1.0.weight of these layers is new.*fewer layers, or --weights"),
        ("layer1.0.bn1.running_mean", "layer1.0.bn1.running_mean of these layers is new"),
        ("layer3.0.conv1.weight", ""),
    ],
)
def test_what_a_file_does_not_have_is_not_kept_random(lost, says, weights, digits, tmp_path):
    _, start = weights
    path = tmp_path / "some.safetensors"
    save_file({name: value for name, value in start.items() if name != lost}, path)
    options = {"model": "test_resnet", "weights": str(path), "freeze_layers": 2}
    if not says:
        train_here(digits, tmp_path / "run", **options)
        return
    with pytest.raises(DataError, match=f"^freeze_layers is 2, but {says}"):
        train_here(digits, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_filters_of_further_bands_are_not_kept_random(weights, four_bands, tmp_path):
    options = {"model": "test_resnet", "weights": str(weights[0]), "freeze_layers": 1}
    said = "^freeze_layers is 1, but conv1.0.weight .* give --new-channels mean"
    with pytest.raises(DataError, match=said):
        train_here(four_bands, tmp_path / "run", **options)
    train_here(four_bands, tmp_path / "run", **options, new_channels="mean")


@pytest.mark.parametrize("model", ["resnet18", "test_vit", "test_efficientnet", "test_resnet"])
def test_pretrained_filters_of_further_bands_are_not_kept_random_either(model):
    network = timm.create_model(model, num_classes=5, in_chans=4)
    freeze_layers(network, model, 1)
    config = TrainConfig(model=model, pretrained=True, freeze_layers=1)
    with pytest.raises(DataError, match=r"of these layers is new.*give --new-channels mean"):
        check_frozen(network, config, None, 4)
    check_frozen(network, config, None, 3)
    check_frozen(network, dataclasses.replace(config, new_channels="mean"), None, 4)
