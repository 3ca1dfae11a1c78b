"""Gradient checkpointing: activations are computed a second time instead of kept."""

from torch import nn

from shards.errors import DataError


def recompute_activations(network: nn.Module, name: str) -> None:
    """Let a network of timm compute its activations again in the backward pass. Raises DataError
    for one that cannot.
    """
    try:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise DataError(
            f"grad_checkpointing is set, but model {name} cannot compute its activations a second "
            "time: leave out --grad-checkpointing, or choose another model"
        ) from error
