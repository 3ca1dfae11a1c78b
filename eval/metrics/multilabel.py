"""Multi-label ranking measures of each sample: how well it ranks its own labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import curve, weighted_mean

NAN = float("nan")


class LabelRanking(NamedTuple):
    """Three measures of each of N samples, float64 [N]: NaN where a sample has a known NaN score.

    `counted`, bool [N], is False for a sample without any known label, which has no weight in the
    means.
    """

    average_precision: Tensor
    coverage: Tensor
    loss: Tensor
    counted: Tensor

    def means(self) -> Tensor:
        """Return the means over the counted samples, float64 [3]; NaN where one is NaN, or none is
        counted.

        The same to the last bit in any order of samples, on any number of threads.
        """
        shares = torch.stack([self.average_precision, self.loss])
        share_means = weighted_mean(shares, self.counted.expand(2, -1))
        coverage = (self.coverage.long() * self.counted).sum().double() / self.counted.sum()
        means = torch.stack([share_means[0], coverage, share_means[1]])
        return means.masked_fill((self.loss.isnan() & self.counted).any(), NAN)


def label_ranking(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> LabelRanking:
    """Rank the known labels of each sample by score, [N, K], and measure the ranks of its positive
    ones.

    - `average_precision`: over the positives the mean share of positives among the labels that
      score at least as high; 1 without a positive. Its mean is
      `sklearn.metrics.label_ranking_average_precision_score`.
    - `coverage`: how many labels score at least as high as the lowest positive; 0 without one.
      `coverage_error`.
    - `loss`: the share of pairs of a positive and a negative in which the positive does not score
      higher; 0 without a pair. `label_ranking_loss`.

    A label with `known` False is left out of its sample: the values are scikit-learn's on the
    others alone.
    """
    # Samples take the place of the classes: what a class's AP is over samples, LRAP is over labels.
    by_label = checked(scores.T, labels.T, None if known is None else known.T)
    rows = over_classes(_block_label_ranking, *by_label)
    return LabelRanking(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] > 0)


def _block_label_ranking(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """The four fields as columns [n, 4] of samples [n, K]."""
    found = curve(scores, labels, known)
    positives = found.true_positives
    predicted = found.predicted()
    gained = found.gained(positives)
    negatives = predicted - positives
    num_positives = found.num_positives
    num_negatives = negatives[:, -1]
    precision = positives.double() / predicted.clamp(min=1)
    lrap = weighted_mean(precision, gained).masked_fill(num_positives == 0, 1)
    coverage = predicted.masked_fill(gained == 0, 0).amax(1)
    in_order = (found.gained(negatives) * (positives - gained)).sum(1)
    pairs = num_positives * num_negatives
    loss = ((pairs - in_order).double() / pairs).masked_fill(pairs == 0, 0)
    values = torch.stack([lrap, coverage.double(), loss], 1).masked_fill(
        found.has_nan[:, None], NAN
    )
    return torch.cat([values, known.any(1, keepdim=True).double()], 1)
