"""The optimiser on any device, and its state on another one."""

import io
from collections.abc import Iterable

import pytest
import timm
import torch
from torch import nn

from train.config import TrainConfig
from train.network.model import Classifier
from train.network.two_branch import Joined
from train.optimise import optim
from train.optimise.optim import build_optimizer, load_optimizer

OPTIONS = {"sgd": {"optimizer": "sgd", "momentum": 0.9}, "adamw": {"optimizer": "adamw"}}

MOMENTUM = {"sgd": {"momentum": 0.9}, "adamw": {}}


def made(name: str, fused: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model and its optimiser, on this device's or on CUDA's way: torch has both on a CPU."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = build_optimizer(model, [], TrainConfig(lr=0.1, **OPTIONS[name]))
    assert all(not group["fused"] for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        group["fused"] = fused or group["fused"]
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer, num: int) -> None:
    for _ in range(num):
        optimizer.zero_grad()
        model(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()


def saved(optimizer: torch.optim.Optimizer) -> dict:
    """Its state, through a file."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("first", [False, True])
def test_a_state_goes_on_the_way_of_the_device_it_comes_to(name, first):
    """From a CPU to CUDA and back: the same steps as one that never moved."""
    model, optimizer = made(name, first)
    step(model, optimizer, 3)
    moved, other = made(name, not first)
    moved.load_state_dict(model.state_dict())
    load_optimizer(other, saved(optimizer))
    assert [bool(group["fused"]) for group in other.param_groups] == [not first] * 2
    step(model, optimizer, 2)
    step(moved, other, 2)
    torch.testing.assert_close(moved.weight, model.weight)
    back, third = made(name, first)
    back.load_state_dict(moved.state_dict())
    load_optimizer(third, saved(other))
    assert [bool(group["fused"]) for group in third.param_groups] == [first] * 2
    step(back, third, 1)
    step(model, optimizer, 1)
    torch.testing.assert_close(back.weight, model.weight)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_comes_into_the_memory_format_of_the_weights(name):
    """That of a GPU is channels_last, and fused kernels take no other."""
    _, optimizer = made(name, False)
    states = []
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(8, 3, 3, 3).contiguous(memory_format=order))
        optimizer = type(optimizer)([weight], **{"lr": 0.1, **MOMENTUM[name]})
        if states:
            load_optimizer(optimizer, states[0])
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        states.append(optimizer.state_dict())
        kept = [value for value in optimizer.state[weight].values() if value.ndim]
        assert kept
        assert all(value.stride() == weight.stride() for value in kept)


def test_learning_rates_come_with_the_state():
    _, optimizer = made("sgd", False)
    for group in optimizer.param_groups:
        group["lr"] = 0.025
    _, other = made("sgd", True)
    load_optimizer(other, saved(optimizer))
    assert [group["lr"] for group in other.param_groups] == [0.025] * 2


def test_a_state_of_other_groups_is_refused():
    _, optimizer = made("sgd", False)
    state = saved(optimizer)
    state["param_groups"].pop()
    with pytest.raises(ValueError, match=r"its groups have \[1\] parameters"):
        load_optimizer(optimizer, state)


def decayed(model: nn.Module, head=()) -> list[tuple[bool, list[str]]]:
    """Tell of each group whether it decays, and the names of its parameters."""
    optimizer = build_optimizer(model, list(head), TrainConfig(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (group["weight_decay"] > 0, [names[id(parameter)] for parameter in group["params"]])
        for group in optimizer.param_groups
    ]


def without(names: Iterable[str], *ends: str) -> set[str]:
    return {name for name in names if not name.endswith(ends)}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("test_vit", ("pos_embed", "cls_token")),
        ("swin_tiny_patch4_window7_224", ("relative_position_bias_table",)),
        ("resnet18", ()),
        ("mobilenetv3_small_100", ()),
    ],
)
def test_what_a_network_names_does_not_decay(name, kept):
    """The same of a network alone, behind normalisation, and of two that are joined."""
    network = timm.create_model(name, num_classes=3)
    groups = decayed(network)
    weights = {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert {name for decays, names in groups if decays for name in names} == without(weights, *kept)
    assert sum(len(names) for _, names in groups) == len(list(network.parameters()))
    behind = decayed(Classifier(network, (0.5,) * 3, (0.2,) * 3))
    assert behind == [(decays, [f"network.{one}" for one in names]) for decays, names in groups]


def test_two_joined_networks_name_theirs():
    def bare() -> nn.Module:
        return timm.create_model("test_vit", num_classes=0, img_size=32)

    joined = Joined(bare(), bare(), num_extra=3, num_classes=2, size=32, drop_rate=0.0)
    names = {name for decays, names in decayed(joined) if decays for name in names}
    weights = {name for name, parameter in joined.named_parameters() if parameter.ndim > 1}
    assert weights - names == {
        f"{part}.{name}" for part in ("rgb", "extra") for name in ("pos_embed", "cls_token")
    }


def test_groups_of_an_earlier_release_are_refused(monkeypatch):
    """They let positions decay: by number alone each state would be another parameter's."""
    network = timm.create_model("test_vit", num_classes=3)
    with monkeypatch.context() as patched:
        patched.setattr(optim, "_kept_from_decay", lambda _: iter(()))
        earlier = build_optimizer(network, [], TrainConfig())
    later = build_optimizer(network, [], TrainConfig())
    with pytest.raises(ValueError, match=r"its groups have \[28, 52\] parameters, .* \[26, 54\]"):
        load_optimizer(later, saved(earlier))
