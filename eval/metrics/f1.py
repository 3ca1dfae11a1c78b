"""F1 at a given or at the best threshold, of every class at once. Conventions as in `eval.metrics`."""

import torch
from torch import Tensor

from eval.metrics.blocks import checked, over_classes
from eval.metrics.curve import Curve, curve

NAN = float("nan")


def f1(
    scores: Tensor, labels: Tensor, thresholds: Tensor | float = 0.5, known: Tensor | None = None
) -> Tensor:
    """Return F1 = 2 TP / (2 TP + FP + FN) of each class, float64 [K].

    Predicted positive is what scores at or above the class's threshold, compared exactly as
    float64; so nothing where that is NaN. NaN where nothing is positive nor predicted to be
    (scikit-learn's `zero_division=nan`), and for a class with a known NaN score.

    Args:
        scores: [N, K], any real dtype; give logits a threshold of 0 rather than 0.5.
        labels: [N, K], positive where > 0.
        thresholds: a number for all classes, or [K], for example from `best_f1_thresholds` on
            another split.
        known: bool [N, K]; False leaves the entry out. None: everything is known.
    """
    scores, labels, known = checked(scores, labels, known)
    num_classes = scores.shape[1]
    if not isinstance(thresholds, Tensor):  # filled on the device: a copy to it would wait
        thresholds = torch.full(
            (num_classes,), thresholds, dtype=torch.float64, device=scores.device
        )
    if thresholds.shape != (num_classes,):
        raise ValueError(
            f"thresholds must be one number or [K={num_classes}], got shape "
            f"{tuple(thresholds.shape)}"
        )
    return over_classes(_block_f1, scores, labels, known, thresholds.to(torch.float64)[None])


def _block_f1(scores: Tensor, labels: Tensor, known: Tensor, limits: Tensor) -> Tensor:
    """F1 [k] of a block [k, N] at thresholds [k, 1]."""
    predicted = (scores.to(torch.float64) >= limits) & known
    positive = (labels > 0) & known
    values = 2 * (predicted & positive).sum(1).double() / (predicted.sum(1) + positive.sum(1))
    return values.masked_fill((scores.isnan() & known).any(1), NAN)


def best_f1_thresholds(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the threshold of each class at which its F1 is highest, float64 [K].

    It is a score of the class, the highest of several that are as good; `f1` takes it, also for
    another split. NaN where a class has no known positive or a known NaN score.
    """
    return over_classes(_block_best_f1, *checked(scores, labels, known))


def _block_best_f1(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    return best_f1_of(curve(scores, labels, known))[0]


def best_f1_of(found: Curve) -> tuple[Tensor, Tensor]:
    """Return the best thresholds of a curve and the F1 there, [k] each; NaN as
    `best_f1_thresholds`.
    """
    positives = found.num_positives[:, None]
    values = 2 * found.true_positives.double() / (found.predicted() + positives)
    best = values.masked_fill(~found.is_last, -1).argmax(1, keepdim=True)  # the first of equal ones
    undefined = (positives == 0) | found.has_nan[:, None]
    both = (found.score_at(best), values.gather(1, best))
    threshold, value = (each.masked_fill(undefined, NAN)[:, 0] for each in both)
    return threshold, value
