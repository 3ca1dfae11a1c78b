"""What must not happen twice where activations are computed twice."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms as they are: with gradient checkpointing the
    backward pass runs them again, and they would move twice in a step.
    """
    norms = [
        part
        for part in model.modules()
        if isinstance(part, _BatchNorm) and part.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
