"""Which samples of a class score highest and lowest."""

import torch
from torch import Tensor

from eval.order import check_shapes, class_blocks, class_rows, known_or_all, sortable


def rank(scores: Tensor, k: int, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return (top, bottom): row ids of each class's `k` highest and lowest scores, int64 [K, k] each.

    Top is highest first, bottom lowest first; equal scores come by rising id in both, so the answer does not
    depend on device or block. Entries with `known` False never appear; where fewer than `k` are known, -1
    fills the end. A NaN ranks above +inf. Nothing waits for the device.
    """
    check_shapes(scores, None, known)
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    known = known_or_all(scores, known)
    top, bottom = [], []
    for part in class_blocks(*scores.shape):
        order, block_known = sortable(class_rows(scores, part)), class_rows(known, part)
        top.append(_first(~order, block_known, k))  # ~ turns the order of integers round
        bottom.append(_first(order, block_known, k))
    if not top:
        empty = torch.empty((0, k), dtype=torch.int64, device=scores.device)
        return empty, empty.clone()
    return torch.cat(top), torch.cat(bottom)


def _first(order: Tensor, known: Tensor, k: int) -> Tensor:
    """Ids [c, k] of the smallest known integers in each row of [c, N], by (integer, id); then -1."""
    num_samples = order.shape[1]
    last = torch.iinfo(order.dtype).max
    ids = order.masked_fill(~known, last).sort(dim=1, stable=True).indices[:, :k]
    places = torch.arange(ids.shape[1], device=order.device)
    ids = ids.masked_fill(places >= known.sum(1, keepdim=True), -1)
    return torch.nn.functional.pad(ids, (0, max(0, k - num_samples)), value=-1)
