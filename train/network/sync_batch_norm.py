"""Batch norms that normalise by the images of all ranks."""

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shards.errors import DataError


def sync_batch_norms(network: nn.Module, name: str, device: torch.device) -> nn.Module:
    """Exchange a network's batch norms for those that all ranks compute together; names of weights
    stay. Raises DataError where there is nothing to exchange, or no GPU.
    """
    if device.type != "cuda":
        raise DataError(
            f"sync_bn is set, but this run is on the {device.type.upper()}, where torch has no "
            "batch norm over ranks: leave out --sync-bn"
        )
    if not any(isinstance(part, _BatchNorm) for part in network.modules()):
        raise DataError(f"sync_bn is set, but model {name} has no batch norm: leave out --sync-bn")
    exchanged: nn.Module = convert_sync_batchnorm(network)
    return exchanged
