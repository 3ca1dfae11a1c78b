"""Layers that keep what they start from: the first ones of a network, as timm counts them."""

from timm.models import group_parameters
from torch import nn

from shards.errors import DataError


def freeze_layers(network: nn.Module, name: str, num: int) -> tuple[nn.Module, ...]:
    """Freeze the weights of the first `num` layers; return their modules, which must stay in
    evaluation mode: a batch norm's statistics would move otherwise, and the weights behind it no
    longer fit them.

    The first layer is the stem; then comes each stage of a convolutional network, each block of a
    transformer; the classifier is the last and cannot be frozen. Raises DataError where there are
    not so many.
    """
    layers = _layers(network, name)
    if num >= len(layers):
        raise DataError(
            f"freeze_layers is {num}, but model {name} has {len(layers)} layers, the classifier "
            f"among them: give at most {len(layers) - 1}"
        )
    parameters = dict(network.named_parameters())
    frozen = [parameter for layer in layers[:num] for parameter in layer]
    for parameter in frozen:
        parameters[parameter].requires_grad_(False)
    owners = dict.fromkeys(parameter.rpartition(".")[0] for parameter in frozen)
    return tuple(network.get_submodule(owner) for owner in owners if owner)


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
