"""Do scores mean what they say: of the entries that score about 0.7, are 70% positive?"""

from typing import NamedTuple

from torch import Tensor

from eval.blocks import checked, over_classes

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

        It is the mean distance between the share of positives and the mean score of a bin, weighted by its entries.
        """
        return (self.positive - self.score).abs().sum(0) / self.entries.sum(0)


def reliability(scores: Tensor, labels: Tensor, known: Tensor | None = None, num_bins: int = NUM_BINS) -> Reliability:
    """Sort the known entries [N, K] into bins of score; scores are probabilities, labels positive where > 0."""

    def block(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        values = scores.double().masked_fill(~known, 0)
        bins = (values * num_bins).long().clamp_(0, num_bins - 1)
        sums = values.new_zeros((len(values), 3, num_bins))
        for row, source in enumerate((known.double(), values, ((labels > 0) & known).double())):
            sums[:, row].scatter_add_(1, bins, source)
        return sums

    sums = over_classes(block, *checked(scores, labels, known))
    return Reliability(*(sums[:, row].T for row in range(3)))
