"""Counts on a fixed grid of thresholds, for the report's slider and its curves."""

from typing import NamedTuple

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import Curve, curve

NAN = float("nan")


class ThresholdCounts(NamedTuple):
    """Known samples that score at or above each of T rising thresholds, int64 [T, K]."""

    predicted: Tensor
    true_positives: Tensor

    def precision(self) -> Tensor:
        """Share of positives among what is predicted, float64 [T, K]; NaN where nothing is."""
        return self.true_positives.double() / self.predicted


def count_above(
    scores: Tensor, labels: Tensor, known: Tensor | None, steps: int
) -> ThresholdCounts:
    """Count the samples of each class that score at or above 0, 1/steps, ..., 1, compared exactly
    as float64.
    """
    limits = torch.arange(steps + 1, dtype=torch.float64, device=scores.device) / steps

    def block(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        # how many thresholds it is at or above
        reached = torch.bucketize(scores.double(), limits, right=True)
        bins = torch.zeros((len(scores), 2, steps + 2), dtype=torch.int64, device=scores.device)
        bins[:, 0].scatter_add_(1, reached, known.long())
        bins[:, 1].scatter_add_(1, reached, ((labels > 0) & known).long())
        return bins.flip(2).cumsum(2).flip(2)[:, :, 1:]

    counts = over_classes(block, *checked(scores, labels, known))
    return ThresholdCounts(counts[:, 0].T, counts[:, 1].T)


def precision_at_recall(
    scores: Tensor, labels: Tensor, known: Tensor | None = None, num: int = 101
) -> Tensor:
    """Return the precision of each class where recall first reaches each of `num` values from 0 to
    1.

    Float64 [num, K], tied scores as one threshold; NaN for a class without a known positive. At
    recall 0 is the precision at the first positive.
    """

    def block(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        return precision_at_recall_of(curve(scores, labels, known), num)

    return over_classes(block, *checked(scores, labels, known)).T


def precision_at_recall_of(found: Curve, num: int) -> Tensor:
    """Return the precision [k, num] of the classes of a curve where recall reaches each value."""
    positives = found.num_positives[:, None]
    num_places = found.order.shape[1]
    steps = torch.arange(num, device=found.order.device)
    needed = ((positives * steps + num - 2) // (num - 1)).clamp_(min=1)
    places = torch.searchsorted(found.true_positives.long(), needed).clamp_(max=num_places - 1)
    at = found.run_ends().gather(1, places).clamp_(max=num_places - 1)
    precision = found.true_positives.gather(1, at).double() / (at + 1)
    return precision.masked_fill(positives == 0, NAN)
