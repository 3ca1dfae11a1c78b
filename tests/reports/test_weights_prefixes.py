"""State dicts as training programs write them: wrapped, prefixed, nested; and those of another
network.
"""

import argparse

import pytest
import safetensors.torch
import timm
import torch

from shards.errors import DataError
from train.network.build import build_network
from train.network.weights import load_weights

MODEL, SIZE = "test_resnet", 32
PREFIXES = [
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "network.",
    "net.",
    "encoder.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.module.",
    "model.backbone._orig_mod.",
    "my_own.name.",
]


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return timm.create_model(MODEL, num_classes=7).state_dict()


def loaded(content, tmp_path, **options):
    """Load a file of this content; check that all but the head is the file's."""
    torch.save(content, tmp_path / "w.pth")
    network = build_network(MODEL, 5, SIZE, **options)
    return network, load_weights(network, tmp_path / "w.pth")


def same_body(network, state) -> bool:
    own = network.state_dict()
    return all(
        torch.equal(own[name], value.to(own[name]))
        for name, value in state.items()
        if "fc" not in name
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_the_names_is_taken_off_and_said(prefix, state, tmp_path):
    network, report = loaded({prefix + name: value for name, value in state.items()}, tmp_path)
    assert same_body(network, state)
    assert report.unfit == ["fc.bias", "fc.weight"]
    assert not report.unused
    assert f"the prefix {prefix} of their names taken off" in str(report)


def test_plain_names_say_nothing_of_it(state, tmp_path):
    network, report = loaded(state, tmp_path)
    assert same_body(network, state)
    assert (
        str(report) == f"{len(state) - 2} tensors loaded; 2 of another shape (fc.bias, fc.weight)"
    )


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, "state_dict"),
        (lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}}, "model_state_dict"),
        (lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)}, "model"),
        (lambda state: {"model_ema": state}, "model_ema"),
        (lambda state: {"state_dict_ema": state, "arch": "x"}, "state_dict_ema"),
        (lambda state: {"model": {"state_dict": state}}, "model.state_dict"),
        (lambda state: {"weights of mine": state, "epoch": 1}, "weights of mine"),
        (
            lambda state: {"state_dict": state, "state_dict_ema": {name: value * 0 for name, value in state.items()}},
            "state_dict",
        ),
    ],
)  # fmt: skip
def test_nested_state_dicts_are_found_and_said(wrap, place, state, tmp_path):
    network, report = loaded(
        wrap({f"module.{name}": value for name, value in state.items()}), tmp_path
    )
    assert same_body(network, state)
    assert f"tensors loaded; from {place}; the prefix module. of" in str(report)


def test_a_lightning_module_holds_more_than_its_model(state, tmp_path):
    content = {f"model.{name}": value for name, value in state.items()} | {
        "metric.total": torch.zeros(1)
    }
    network, report = loaded(
        {"state_dict": content, "hyper_parameters": {"lr": 0.1}, "callbacks": {}}, tmp_path
    )
    assert same_body(network, state)
    assert report.unused == ["metric.total"]


def test_prefixes_go_with_halves_and_other_channels(state, tmp_path):
    halves = {
        f"module.{name}": value.half() if value.is_floating_point() else value
        for name, value in state.items()
    }
    safetensors.torch.save_file(halves, tmp_path / "w.safetensors")
    network = build_network(MODEL, 5, SIZE, channels=4)
    report = load_weights(network, tmp_path / "w.safetensors")
    assert report.extended == ["conv1.0.weight"]
    first = network.state_dict()["conv1.0.weight"]
    assert torch.equal(first[:, :3], state["conv1.0.weight"].half().float())


def test_both_of_two_joined_networks_take_a_prefixed_file(state, tmp_path):
    content = {f"_orig_mod.{name}": value for name, value in state.items()}
    network, report = loaded(content, tmp_path, channels=4, fusion="late")
    own = network.state_dict()
    for part in ("rgb", "extra"):
        assert torch.equal(own[f"{part}.layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert report.prefix == "_orig_mod."


def test_a_joined_network_takes_its_own_file_with_a_prefix(tmp_path):
    torch.manual_seed(1)
    source = build_network(MODEL, 5, SIZE, channels=4, fusion="late")
    content = {f"module.{name}": value for name, value in source.state_dict().items()}
    network, report = loaded(content, tmp_path, channels=4, fusion="late")
    assert [report.new, report.unfit, report.unused] == [[], [], []]
    own = network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_another_network_is_refused_with_names_of_both(prefix, tmp_path):
    other = timm.create_model("test_efficientnet", num_classes=3).state_dict()
    network = build_network(MODEL, 5, SIZE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save({prefix + name: value for name, value in other.items()}, tmp_path / "w.pth")
    with pytest.raises(DataError) as caught:
        load_weights(network, tmp_path / "w.pth")
    line = str(caught.value)
    assert f"of the network's {len(before)} tensors, less than half" in line
    assert "the network has conv1.0.weight [16, 3, 3, 3] and conv1.1.weight [16]" in line
    assert f"the file {prefix}conv_stem.weight [24, 3, 3, 3] and" in line
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_less_than_half_of_a_network_is_refused_and_half_is_not(state, tmp_path):
    names = list(state)
    fitting = [name for name in names if "fc" not in name]
    half = len(names) // 2
    loaded({name: state[name] for name in fitting[:half]}, tmp_path)
    with pytest.raises(DataError, match=f"fits {half - 1} of the network's {len(names)} tensors"):
        loaded({name: state[name] for name in fitting[: half - 1]}, tmp_path)


def test_weights_that_are_no_numbers_are_refused(state, tmp_path):
    content = {**state, "conv1.0.weight": state["conv1.0.weight"] * float("nan")}
    with pytest.raises(
        DataError, match=r"w.pth: tensor conv1.0.weight has values that are no numbers"
    ):
        loaded(content, tmp_path)
