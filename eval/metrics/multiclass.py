"""Accuracy and confusion of data with one label a sample."""

import torch
from torch import Tensor


def target_classes(labels: Tensor, known: Tensor) -> Tensor:
    """Return the class number of each sample of labels [N, K], int64 [N]; -1 where no known label
    is positive.
    """
    positive = (labels > 0) & known.bool()
    return torch.where(positive.any(1), positive.int().argmax(1), -1)


def predicted_classes(scores: Tensor) -> Tensor:
    """Return the class of the highest score, int64 [N]; of tied ones the higher number, a NaN
    counts as highest.
    """
    return scores.shape[1] - 1 - scores.flip(1).argmax(1)


def is_in_top(scores: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Tell, bool [N], whether the target is among the `k` highest scores of a sample; see
    `top_k_accuracy`.
    """
    _check(scores, targets)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    target = targets.clamp(min=0)[:, None]
    own = scores.gather(1, target)
    later = torch.arange(scores.shape[1], device=scores.device) > target
    ahead = (scores > own).sum(1) + ((scores == own) & later).sum(1)
    return (ahead < k) & (targets >= 0)


def top_k_accuracy(scores: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Return the share [] of samples whose target is among their `k` highest scores, float64.

    Of tied scores the higher class number comes first, as in
    `sklearn.metrics.top_k_accuracy_score`. NaN without a sample, and where a known sample has a NaN
    score.

    Args:
        scores: [N, K], any real dtype.
        targets: int64 [N], class numbers; a sample with a negative one is left out.
    """
    hits = is_in_top(scores, targets, k)
    counted = targets >= 0
    share = hits.sum().double() / counted.sum()
    return share.masked_fill((scores.isnan().any(1) & counted).any(), float("nan"))


def confusion_matrix(scores: Tensor, targets: Tensor) -> Tensor:
    """Count samples by target (row) and highest score (column), int64 [K, K].

    Of tied scores the higher class number is the prediction, so that the diagonal is the top-1
    accuracy; a NaN counts as highest. A sample with a negative target is left out.
    """
    _check(scores, targets)
    num_classes = scores.shape[1]
    predicted = predicted_classes(scores)
    cells = torch.where(targets < 0, num_classes**2, targets * num_classes + predicted)
    counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=scores.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells))[:-1].view(num_classes, num_classes)


def _check(scores: Tensor, targets: Tensor) -> None:
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores must be [N, K] (samples x classes, K >= 1), got shape {tuple(scores.shape)}"
        )
    if targets.shape != scores.shape[:1]:
        raise ValueError(f"targets must be [N={scores.shape[0]}], got shape {tuple(targets.shape)}")
