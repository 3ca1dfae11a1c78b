"""ROC AUC of every class at once. Conventions as in `eval.metrics`."""

from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import Curve, curve

NAN = float("nan")


def roc_auc(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the area under the ROC curve of each class, float64 [K], as
    `sklearn.metrics.roc_auc_score`.

    It is the share of pairs of a known positive and a known negative in which the positive scores
    higher, ties counting half. NaN where a class has no positive or no negative, or a known NaN
    score.
    """
    return over_classes(_block_roc_auc, *checked(scores, labels, known))


def _block_roc_auc(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    return roc_auc_of(curve(scores, labels, known))


def roc_auc_of(found: Curve) -> Tensor:
    """Return the ROC AUC [k] of a curve, from whole numbers up to one division: pairs are counted
    twice.
    """
    positives = found.true_positives
    false_positives = found.predicted() - positives
    higher_or_tied = 2 * positives - found.gained(positives)
    pairs = (found.gained(false_positives) * higher_or_tied).sum(1)
    all_pairs = 2 * positives[:, -1].long() * false_positives[:, -1]
    return (pairs.double() / all_pairs).masked_fill(found.has_nan, NAN)
