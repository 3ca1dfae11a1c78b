"""Average precision and tail accuracy of every class at once, on the device where the scores are.

N = samples, K = classes, T = thresholds. Nothing here waits for the device: no value is read back
and no shape depends on one, so a GPU may still be computing the scores when these functions return.
Classes are taken in blocks (see `eval.metrics.blocks`), which bounds the memory; samples and
classes are never looped over.
"""

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import Curve, curve, weighted_mean

NAN = float("nan")


def average_precision(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the average precision of each class, float64 [K]; NaN where a class has no known
    positive.

    AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores in falling order, as
    `sklearn.metrics.average_precision_score` defines it: tied scores are one threshold.

    Args:
        scores: [N, K], any real dtype, strides and scale (only the order counts); infinities are
            ordinary scores. A known NaN makes the AP of its class NaN.
        labels: [N, K], positive where > 0.
        known: bool [N, K]; False leaves the entry out altogether. None: everything is known.
    """
    return over_classes(_block_average_precision, *checked(scores, labels, known))


def _block_average_precision(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    return average_precision_of(curve(scores, labels, known))


def average_precision_of(found: Curve) -> Tensor:
    """Return the AP [k] of the classes of a curve; unknown entries, at the end, add nothing."""
    num_places = found.order.shape[1]
    predicted = torch.arange(1, num_places + 1, dtype=torch.float64, device=found.order.device)
    precision = found.true_positives / predicted
    return weighted_mean(precision, found.gained(found.true_positives)).masked_fill_(
        found.has_nan, NAN
    )


def micro_average_precision(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the AP, float64 [], of all entries as if they were samples of one class.

    Scores of different classes are compared with each other. Takes some 9 times the memory of the
    scores.
    """
    columns = [matrix.reshape(-1, 1) for matrix in checked(scores, labels, known)]
    return average_precision(*columns)[0]


def macro_mean(values: Tensor) -> Tensor:
    """Return the mean [] of the values [K] that are not NaN: the classes that have one count the
    same.
    """
    return values.nanmean()


def weighted_class_mean(values: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the mean [] of the values [K] that are not NaN, each weighted by its class's known
    positives.
    """
    positive = labels > 0 if known is None else (labels > 0) & known.bool()
    weights = positive.sum(0).masked_fill(values.isnan(), 0)
    return (values.nan_to_num() * weights).sum() / weights.sum()


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
