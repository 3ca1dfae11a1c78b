"""Layers that keep what they start from: the first ones of a network, as timm counts them."""

from collections.abc import Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shards.errors import DataError, count_of
from train.config import TrainConfig
from train.network.filters import RGB
from train.network.weights import LoadReport


def freeze_layers(network: nn.Module, name: str, num: int) -> None:
    """Freeze the weights of the first `num` layers. Their batch norms must stay in evaluation mode,
    see `keep_frozen_norms`.

    The first layer is the stem; then comes each stage of a convolutional network, each block of a
    transformer; the classifier is the last and cannot be frozen. Raises DataError where there are
    not so many.
    """
    layers = _layers(network, name)
    if num >= len(layers):
        raise DataError(
            f"freeze_layers is {num}, but model {name} has {count_of(len(layers), 'layer')}, the "
            "classifier "
            f"among them: give at most {len(layers) - 1}"
        )
    parameters = dict(network.named_parameters())
    for layer in layers[:num]:
        for parameter in layer:
            parameters[parameter].requires_grad_(False)


def check_frozen(
    network: nn.Module, config: TrainConfig, report: LoadReport | None, channels: int
) -> None:
    """Raise DataError where a frozen tensor was not loaded: random values would stay as they are.

    `report` says what --weights brought; None is timm's own weights, which have RGB filters.
    """
    kaiming = config.new_channels == "kaiming"
    new: set[str] = set()
    random_filters: set[str] = set()
    if report is not None:
        new = {*report.new, *report.unfit}
        random_filters = set(report.extended) if kaiming else set()
    elif channels != RGB and kaiming:
        random_filters = _input_layer(network)
    for name in _frozen(network):
        if name in new | random_filters:
            remedy = "give fewer layers, or --weights that have it"
            if name in random_filters:
                remedy = "give --new-channels mean, or leave out --freeze-layers"
            raise DataError(
                f"freeze_layers is {config.freeze_layers}, but {name} of these layers is new, and "
                f"random values would stay as they are: {remedy}"
            )


def _frozen(network: nn.Module) -> Iterator[str]:
    """Name what stays as it is: weights, and the running statistics of batch norms."""
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            yield name
    for name, module in network.named_modules():
        if _is_frozen_norm(module):
            yield from (f"{name}.running_mean", f"{name}.running_var")


def _input_layer(network: nn.Module) -> set[str]:
    """Name the weights of the layer that takes the pixels, as timm says."""
    described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    first = described.get("first_conv", ())
    return {f"{name}.weight" for name in ((first,) if isinstance(first, str) else first or ())}


def keep_frozen_norms(network: nn.Module) -> None:
    """Put batch norms whose weights are frozen into evaluation mode: their statistics would move
    otherwise, and the frozen weights behind them no longer fit.
    """
    for module in network.modules():
        if _is_frozen_norm(module):
            module.eval()


def _is_frozen_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad


def _layers(network: nn.Module, name: str) -> list[list[str]]:
    """List the names of the parameters of each layer, in the order in which images pass them."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise DataError(
            f"freeze_layers is set, but the layers of model {name} are not in an order that is "
            "known: leave it out, or choose a model of timm, without --fusion late"
        )
    groups = group_parameters(network, matcher(coarse=True))
    return [groups[place] for place in sorted(groups)]
