"""The PASCAL VOC devkit's two average precisions, VOC2007's on 11 points and the interpolated one
since VOC2010.

As the devkit's VOCevalcls.m has them, which differs from `eval.metrics.average_precision` in two
ways: precision is the highest at that recall or any higher one, and every sample is a threshold of
its own, tied ones in the order of the rows (so the order of samples matters here, and nowhere
else).
"""

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import SortedBlock, sorted_block, weighted_mean

NAN = float("nan")
NUM_POINTS = 11


def average_precision_11_points(
    scores: Tensor, labels: Tensor, known: Tensor | None = None
) -> Tensor:
    """Return VOC2007's AP of each class, float64 [K]: the mean precision at recalls 0, 0.1, ..., 1.

    Recalls are compared as fractions of whole numbers: 3 of 10 reaches 0.3, where floating point
    (0.1 * 3) misses it. NaN where a class has no known positive or a known NaN score. Arguments as
    for `average_precision`.
    """
    return over_classes(_block_11_points, *checked(scores, labels, known))


def _block_11_points(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    return average_precision_11_points_of(sorted_block(scores, labels, known))


def average_precision_11_points_of(found: SortedBlock) -> Tensor:
    """Return VOC2007's AP [k] of a sorted block."""
    num_positives = found.num_positives[:, None]
    num_places = found.order.shape[1]
    tenths = torch.arange(NUM_POINTS, device=found.order.device)
    # positives for that recall, rounded up
    needed = (num_positives * tenths + NUM_POINTS - 2) // (NUM_POINTS - 1)
    places = torch.searchsorted(found.true_positives.long(), needed)
    values = _best_precision(found).gather(1, places.clamp(max=num_places - 1)).mean(1)
    return values.masked_fill(_undefined(found), NAN)


def interpolated_average_precision(
    scores: Tensor, labels: Tensor, known: Tensor | None = None
) -> Tensor:
    """Return the devkit's AP since VOC2010 of each class, float64 [K]: the area under the
    interpolated curve.

    NaN where a class has no known positive or a known NaN score. Arguments as for
    `average_precision`.
    """
    return over_classes(_block_interpolated, *checked(scores, labels, known))


def _block_interpolated(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    return interpolated_average_precision_of(sorted_block(scores, labels, known))


def interpolated_average_precision_of(found: SortedBlock) -> Tensor:
    """Return the devkit's AP since VOC2010, [k], of a sorted block: recall rises at the positives
    alone.
    """
    return weighted_mean(_best_precision(found), found.is_positive).masked_fill(
        _undefined(found), NAN
    )


def _best_precision(found: SortedBlock) -> Tensor:
    """Return the best precision at each place or behind it, float64 [k, N]; every sample is a
    threshold.
    """
    precision = found.true_positives.double() / found.predicted().clamp_(min=1)
    return precision.flip(1).cummax(1).values.flip(1)


def _undefined(found: SortedBlock) -> Tensor:
    return (found.num_positives == 0) | found.has_nan
