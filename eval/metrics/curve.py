"""Counts at every threshold of a class's sorted scores: the basis of AP, ROC AUC and F1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eval.metrics.scans import ends_of_runs, gained_since_run_before, running_sum
from eval.metrics.sort import argsort_rows, argsort_stable, score_of, sort_rows, sortable

WIDER = {torch.int16: torch.int32, torch.int32: torch.int64}


@dataclass(frozen=True, eq=False)
class Curve:
    """Rows of k classes in falling order of their N scores; what is not known is at the end.

    Tied scores are one threshold: counts are complete only at the last place of a run of ties.
    """

    order: Tensor  # integers [k, N], rising
    true_positives: Tensor  # int32 [k, N]: known positives up to and with this place
    is_last: Tensor  # bool [k, N]: last of its run of ties
    num_known: Tensor  # int64 [k, 1]
    dtype: torch.dtype  # of the scores

    @property
    def num_positives(self) -> Tensor:
        """int64 [k]."""
        return self.true_positives[:, -1].long()

    @property
    def has_nan(self) -> Tensor:
        """Tell, as bool [k], which classes have a known NaN score: it sorts before everything."""
        return self.score_at(torch.zeros_like(self.num_known))[:, 0].isnan()

    def predicted(self) -> Tensor:
        """Count the known samples up to and with each place, int64 [k, N]."""
        places = torch.arange(1, self.order.shape[1] + 1, device=self.order.device)
        return torch.minimum(places, self.num_known)

    def gained(self, counts: Tensor) -> Tensor:
        """Return by how much rising `counts` [k, N] have risen since the previous run of ties; 0
        inside a run.
        """
        return gained_since_run_before(counts, self.is_last)

    def run_ends(self) -> Tensor:
        """Find the last place of the run of ties that each place is in, int64 [k, N]."""
        return ends_of_runs(self.is_last)

    def score_at(self, places: Tensor) -> Tensor:
        """Return the scores at `places` [k, M] as float64."""
        return score_of(~self.order.gather(1, places), self.dtype)


@dataclass(frozen=True, eq=False)
class SortedBlock(Curve):
    """A curve that also knows its samples, tied ones in the order of their rows.

    One sort of a block of classes gives it, and every measure of an evaluation takes it from there.
    """

    places: Tensor  # int64 [k, N]: the sample at each place

    @property
    def is_positive(self) -> Tensor:
        """Tell, as bool [k, N], where a known positive is."""
        before = torch.nn.functional.pad(self.true_positives[:, :-1], (1, 0))
        return self.true_positives > before


def sorted_block(scores: Tensor, labels: Tensor, known: Tensor) -> SortedBlock:
    """Sort rows [k, N], labels positive where > 0: for several measures, or for those that need the
    samples.

    One measure that needs no samples is faster from `curve`, which gathers nothing.
    """
    order = ~sortable(scores)
    order, places = argsort_stable(order.masked_fill_(~known, torch.iinfo(order.dtype).max))
    positive = ((labels > 0) & known).gather(1, places)
    is_last = torch.ones_like(positive)
    torch.ne(order[:, 1:], order[:, :-1], out=is_last[:, :-1])
    num_known = known.sum(1, keepdim=True)
    return SortedBlock(order, running_sum(positive), is_last, num_known, scores.dtype, places)


def curve(scores: Tensor, labels: Tensor, known: Tensor) -> Curve:
    """Sort rows [k, N], labels positive where > 0.

    The label rides in the lowest bit of the sort key where there is room, which spares a sort of
    places and a random gather: 16-bit scores are sorted as int32, 32-bit ones as int64. 64-bit ones
    need the places.
    """
    order = ~sortable(scores)  # ~ turns the order of integers round
    positive = (labels > 0) & known
    if order.dtype in WIDER:
        keys = order.to(WIDER[order.dtype])
        keys <<= 1
        keys |= positive
        keys.masked_fill_(~known, torch.iinfo(order.dtype).max << 1)
        keys = sort_rows(keys, num_bits=torch.iinfo(order.dtype).bits + 1)
        true_positives = running_sum(keys & 1)
        keys >>= 1
        order = keys
    else:
        order, places = argsort_rows(order.masked_fill_(~known, torch.iinfo(order.dtype).max))
        true_positives = running_sum(positive.gather(1, places))
    is_last = torch.ones_like(positive)
    torch.ne(order[:, 1:], order[:, :-1], out=is_last[:, :-1])
    return Curve(order, true_positives, is_last, known.sum(1, keepdim=True), scores.dtype)


def weighted_mean(shares: Tensor, weights: Tensor) -> Tensor:
    """Return the mean [k] of `shares`, float64 [k, N] in [0, 1], weighted by integers >= 0 of at
    most N in all.

    The sum is taken in integers, of 2**-42 for a million: so it is the same to the last bit in any
    order, on any device, on any number of threads or ranks. NaN where all weights are 0. `shares`
    is used up: overwritten.
    """
    scale = 2.0 ** (62 - shares.shape[1].bit_length())
    total = shares.mul_(scale).long().mul_(weights).sum(1)
    return total.double() / scale / weights.sum(1)
