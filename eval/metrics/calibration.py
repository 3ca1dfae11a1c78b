"""Calibration: of the entries that score about 0.7, are 70% positive?"""

from typing import NamedTuple

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes

NUM_BINS = 15


class Reliability(NamedTuple):
    """Known entries by score, in equal bins over [0, 1]: each float64 [bins, K]."""

    entries: Tensor
    score: Tensor  # sum of the scores
    positive: Tensor  # number of positives

    def pooled(self) -> "Reliability":
        """Take all classes as one: [bins, 1]."""
        return Reliability(*(values.sum(1, keepdim=True) for values in self))

    def expected_error(self) -> Tensor:
        """Return the expected calibration error [K], NaN for a class without known entries.

        It is the mean distance between the share of positives and the mean score of a bin, weighted
        by its entries.
        """
        return (self.positive - self.score).abs().sum(0) / self.entries.sum(0)


def reliability(
    scores: Tensor, labels: Tensor, known: Tensor | None = None, num_bins: int = NUM_BINS
) -> Reliability:
    """Sort the known entries [N, K] into bins of score; labels are positive where > 0.

    Scores are probabilities: one outside 0 to 1 counts as the nearer end, and a class with a known
    NaN has NaN for its sums of scores. These are the same to the last bit in any order of samples,
    on any device: they are summed in integers, of 2**-42 for a million samples.
    """

    def block(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        values = scores.double().masked_fill(~known, 0).clamp_(0, 1)
        has_nan = values.isnan().any(1, keepdim=True)
        values.masked_fill_(values.isnan(), 0)
        bins = (values * num_bins).long().clamp_(max=num_bins - 1)
        scale = 2.0 ** (62 - values.shape[1].bit_length())
        sums = torch.zeros((len(values), 3, num_bins), dtype=torch.int64, device=values.device)
        for row, source in enumerate((known, values.mul_(scale).round_(), (labels > 0) & known)):
            sums[:, row].scatter_add_(1, bins, source.long())
        found = sums.double()
        found[:, 1].div_(scale).masked_fill_(has_nan, float("nan"))
        return found

    sums = over_classes(block, *checked(scores, labels, known))
    return Reliability(*(sums[:, row].T for row in range(3)))
