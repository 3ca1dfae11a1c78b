"""Average precision of every class at once, on the device where the scores are.

N = samples, K = classes. Nothing here waits for the device: no value is read back
and no shape depends on one, so a GPU may still be computing the scores when these functions return.
Classes are taken in blocks (see `eval.metrics.blocks`), which bounds the memory; samples and
classes are never looped over.
"""

import torch
from torch import Tensor

from eval.metrics.blocks import check_tensors, checked, over_classes
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
        labels: [N, K], positive where > 0; -1 and NaN are negative, unless `known` is False there.
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
    check_tensors(values=values)
    return values.nanmean()


def weighted_class_mean(values: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the mean [] of the values [K] that are not NaN, each weighted by its class's known
    positives.
    """
    check_tensors(values=values, labels=labels)
    if known is not None:
        check_tensors(known=known)
    if labels.ndim != 2 or values.shape != labels.shape[1:]:
        shapes = f"{tuple(values.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"values must be [K] and labels [N, K], got shapes {shapes}")
    positive = labels > 0 if known is None else (labels > 0) & known.bool()
    weights = positive.sum(0).masked_fill(values.isnan(), 0)
    return (values.nan_to_num() * weights).sum() / weights.sum()
