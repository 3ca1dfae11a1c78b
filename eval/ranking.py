"""Which samples of a class score highest and lowest."""

from numbers import Integral

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.sort import argsort_stable, sortable

__all__ = ["rank"]


def rank(scores: Tensor, k: int, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return (top, bottom): row ids of each class's `k` highest and lowest scores, int64 [K, k]
    each.

    Top is highest first, bottom lowest first; equal scores come by rising id in both, so the answer
    does not depend on device or block. Entries with `known` False never appear; where fewer than
    `k` are known, -1 fills the end. A NaN ranks above +inf. Nothing waits for the device.
    """
    if not isinstance(k, Integral):
        raise ValueError(f"k must be a whole number, got {k!r}")
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    scores, _, known = checked(scores, scores, known)

    def ends(block: Tensor, block_known: Tensor) -> Tensor:
        order = sortable(block)
        # ~ turns the order of integers round
        return torch.stack([_first(~order, block_known, k), _first(order, block_known, k)], 1)

    top, bottom = over_classes(ends, scores, known).unbind(1)
    return top.contiguous(), bottom.contiguous()


def _first(order: Tensor, known: Tensor, k: int) -> Tensor:
    """Ids [c, k] of the smallest known integers in each row of [c, N], by (integer, id); then -1."""
    num_samples = order.shape[1]
    order = order.masked_fill(~known, torch.iinfo(order.dtype).max)
    ids = argsort_stable(order)[1][:, :k]
    places = torch.arange(ids.shape[1], device=order.device)
    ids = ids.masked_fill(places >= known.sum(1, keepdim=True), -1)
    return torch.nn.functional.pad(ids, (0, max(0, k - num_samples)), value=-1)
