"""What must not happen twice where activations are computed twice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms as they are: with gradient checkpointing the
    backward pass runs them again, and they would move twice in a step.

    They move by a share of 0, and count in a tensor that nobody reads: torch checks that the second
    pass saves as many tensors as the first.
    """
    norms = [
        (part, part.momentum, part.num_batches_tracked)
        for part in model.modules()
        if isinstance(part, _BatchNorm) and part.num_batches_tracked is not None
    ]
    for norm, _, counter in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = torch.empty_like(counter)
    try:
        yield
    finally:
        for norm, momentum, counter in norms:
            norm.momentum = momentum
            norm.num_batches_tracked = counter
