"""The PASCAL VOC devkit's two average precisions, VOC2007's on 11 points and the interpolated one since VOC2010.

As the devkit's VOCevalcls.m has them, which differs from `eval.metrics.average_precision` in two ways: precision is
the highest at that recall or any higher one, and every sample is a threshold of its own, tied ones in the order of
the rows (so the order of samples matters here, and nowhere else).
"""

import torch
from torch import Tensor

from eval.blocks import checked, over_classes
from eval.curve import weighted_mean
from eval.order import sortable

NAN = float("nan")
NUM_POINTS = 11


def average_precision_11_points(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return VOC2007's AP of each class, float64 [K]: the mean precision at recalls 0, 0.1, ..., 1.

    Recalls are compared as fractions of whole numbers: 3 of 10 reaches 0.3, where floating point (0.1 * 3) misses
    it. NaN where a class has no known positive or a known NaN score. Arguments as for `average_precision`.
    """
    return over_classes(_block_11_points, *checked(scores, labels, known))


def _block_11_points(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    true_positives, best_precision, _ = _falling(scores, labels, known)
    num_positives = true_positives[:, -1:]
    tenths = torch.arange(NUM_POINTS, device=scores.device)
    needed = (num_positives * tenths + NUM_POINTS - 2) // (NUM_POINTS - 1)  # positives for that recall, rounded up
    places = torch.searchsorted(true_positives, needed)
    values = best_precision.gather(1, places.clamp(max=scores.shape[1] - 1)).mean(1)
    return values.masked_fill(_undefined(scores, known, num_positives[:, 0]), NAN)


def interpolated_average_precision(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the devkit's AP since VOC2010 of each class, float64 [K]: the area under the interpolated curve.

    NaN where a class has no known positive or a known NaN score. Arguments as for `average_precision`.
    """
    return over_classes(_block_interpolated, *checked(scores, labels, known))


def _block_interpolated(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    true_positives, best_precision, positive = _falling(scores, labels, known)
    values = weighted_mean(best_precision, positive)  # recall steps at the positives alone
    return values.masked_fill(_undefined(scores, known, true_positives[:, -1]), NAN)


def _falling(scores: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort rows [k, N] by falling score: (true positives so far, best precision from here on, is a positive)."""
    places = (~sortable(scores)).sort(dim=1, stable=True).indices
    known = known.gather(1, places)
    positive = (labels > 0).gather(1, places) & known
    true_positives = positive.cumsum(1)
    precision = true_positives.double() / known.cumsum(1).clamp_(min=1)
    return true_positives, precision.flip(1).cummax(1).values.flip(1), positive


def _undefined(scores: Tensor, known: Tensor, num_positives: Tensor) -> Tensor:
    return (num_positives == 0) | (scores.isnan() & known).any(1)
