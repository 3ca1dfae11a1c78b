"""Layers that keep what they start from: the first ones of a network, as timm counts them."""

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shards.errors import DataError


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
            f"freeze_layers is {num}, but model {name} has {len(layers)} layers, the classifier "
            f"among them: give at most {len(layers) - 1}"
        )
    parameters = dict(network.named_parameters())
    for layer in layers[:num]:
        for parameter in layer:
            parameters[parameter].requires_grad_(False)


def keep_frozen_norms(network: nn.Module) -> None:
    """Put batch norms whose weights are frozen into evaluation mode: their statistics would move
    otherwise, and the frozen weights behind them no longer fit.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            module.eval()


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
