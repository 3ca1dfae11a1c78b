"""Tail accuracy: how many of the samples that score high are right, at every threshold and class.

N = samples, K = classes, T = thresholds. As in `eval.metrics.average_precision` nothing waits for
the device.
"""

import torch
from torch import Tensor

from eval.metrics.blocks import check_tensors, checked, over_classes

NAN = float("nan")


def tail_accuracy(
    scores: Tensor, labels: Tensor, thresholds: Tensor, known: Tensor | None = None
) -> Tensor:
    """Return the tail accuracy of each class at each threshold, float64 [T, K].

    Tailacc(t) = sum_i I[f(x_i) = y_i] I[f(x_i) > t] / sum_i I[f(x_i) > t]. A sample above a t that
    is at or above the classification threshold is predicted positive, so this is the share of truly
    positive samples among the known ones that score above t. NaN where none does, at a NaN
    threshold, and all through a class with a known NaN score.

    Args:
        scores: [N, K], any real dtype.
        labels: [N, K], positive where > 0.
        thresholds: [T] for all classes, or [T, K], in any order, none below the classification
            threshold.
        known: bool [N, K]; False leaves the entry out. None: everything is known.
    """
    scores, labels, known = checked(scores, labels, known)
    check_tensors(thresholds=thresholds)
    num_classes = scores.shape[1]
    if thresholds.ndim not in (1, 2) or (
        thresholds.ndim == 2 and thresholds.shape[1] != num_classes
    ):
        raise ValueError(
            f"thresholds must be [T] or [T, K={num_classes}], got shape {tuple(thresholds.shape)}"
        )
    if thresholds.ndim == 1:
        thresholds = thresholds[:, None].expand(-1, num_classes)
    return over_classes(_block_tail_accuracy, scores, labels, thresholds, known).T.contiguous()


def _block_tail_accuracy(
    scores: Tensor, labels: Tensor, thresholds: Tensor, known: Tensor
) -> Tensor:
    """Tail accuracy [k, T] of a block: scores [k, N], thresholds [k, T]. N log T, nothing of size T
    x N.
    """
    # compared as the wider of the two, exactly
    dtype = torch.promote_types(scores.dtype, thresholds.dtype)
    dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float64
    # Nothing scores above +inf, which is what a NaN threshold shall say.
    limits = thresholds.to(dtype).nan_to_num(
        nan=float("inf"), posinf=float("inf"), neginf=float("-inf")
    )
    limits, places = limits.sort(dim=1)
    # A sample is above exactly the first `num_below` of the sorted thresholds.
    num_below = torch.searchsorted(limits.contiguous(), scores.to(dtype).contiguous())
    counted = known & ~scores.isnan()
    above = _count_above(num_below, counted, limits.shape[1])
    correct = _count_above(num_below, counted & (labels > 0), limits.shape[1])
    values = torch.empty_like(above).scatter_(1, places, correct / above)
    return values.masked_fill((scores.isnan() & known).any(1, keepdim=True), NAN)


def _count_above(num_below: Tensor, counted: Tensor, num_thresholds: int) -> Tensor:
    """Count, as float64 [k, T], the `counted` samples [k, N] above each of T rising thresholds."""
    bins = torch.zeros(
        (num_below.shape[0], num_thresholds + 1), dtype=torch.int64, device=num_below.device
    )
    bins.scatter_add_(1, num_below, counted.long())
    return bins.flip(1).cumsum(1).flip(1)[:, 1:].double()


def tail_thresholds(
    scores: Tensor, known: Tensor | None = None, num: int = 20, start: float = 0.5
) -> Tensor:
    """Return `num` thresholds for the tail accuracy of each class, float64 [num, K].

    They are evenly spaced from `start`, the classification threshold, up to but without the highest
    known score of the class, so that at least one sample is above each. A class whose highest score
    does not exceed `start`, or is not finite, gets NaN.
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    scores, _, known = checked(scores, scores, known)
    floats = scores if scores.is_floating_point() else scores.to(torch.float64)
    highest = floats.masked_fill(~known, float("-inf")).amax(0).to(torch.float64)
    highest = highest.masked_fill(~((highest > start) & highest.isfinite()), NAN)
    steps = torch.arange(num, dtype=torch.float64, device=scores.device)[:, None] / num
    # Rounding may reach a highest score that is only a few ulps above `start`: stay one ulp below
    # it.
    below = torch.nextafter(highest, torch.full_like(highest, start))
    return torch.minimum(start + steps * (highest - start), below)
