"""Accuracy of a set with one label a sample."""

from typing import Any

import torch
from torch import Tensor

from eval.metrics.bootstrap import interval, resampled_mean
from eval.metrics.multiclass import is_in_top, predicted_classes, target_classes
from eval.prediction.predictions import Predictions, finite, finite_list

TOP = 5


def measure_accuracy(predictions: Predictions, num_resamples: int, seed: int) -> dict[str, Any]:
    """Return accuracy and top-5 accuracy with their bootstrap intervals, and the mean over the
    classes.

    Of five classes or fewer top-5 says nothing: None.
    """
    targets = target_classes(predictions.labels, predictions.known)
    hits = top_hits(predictions, targets)
    counted = targets >= 0
    resampled = resampled_mean(hits, counted, num_resamples, seed)
    # on a GPU `mean` would multiply by a rounded 1 / n
    shares = hits[counted].sum(0) / counted.sum()
    edges = interval(resampled, shares).T
    found: dict[str, Any] = {}
    for name, share, ends in zip(("accuracy", f"top{TOP}_accuracy"), shares, edges, strict=False):
        found[name] = finite(share.item())
        found[f"{name}_interval"] = finite_list(ends)
    if len(predictions.class_names) <= TOP:
        found |= {f"top{TOP}_accuracy": None, f"top{TOP}_accuracy_interval": [None, None]}
    of_classes = class_accuracy(predictions.scores, targets)[0]
    return {**found, "mean_class_accuracy": finite(of_classes.nanmean().item())}


def top_hits(predictions: Predictions, targets: Tensor) -> Tensor:
    """Tell whether each sample's class is the likeliest one, and one of the five likeliest: 0 or 1,
    float64 [N, 2].
    """
    return torch.stack([is_in_top(predictions.scores, targets, k) for k in (1, TOP)], 1).double()


def class_accuracy(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return (accuracy, precision) of each class, float64 [K]: NaN for one without samples, or
    never predicted.

    Accuracy is the share of the class's samples that are taken for it (its recall), precision the
    share of the samples taken for it that are of it.
    """
    guesses = predicted_classes(scores).masked_fill(targets < 0, -1)
    right = _count(targets.masked_fill(guesses != targets, -1), scores.shape[1])
    return right / _count(targets, scores.shape[1]), right / _count(guesses, scores.shape[1])


def _count(classes: Tensor, num_classes: int) -> Tensor:
    """Count each class number, float64 [K]; a negative one is none."""
    counts = torch.zeros(num_classes + 1, dtype=torch.float64, device=classes.device)
    return counts.scatter_add_(0, classes + 1, torch.ones_like(classes, dtype=torch.float64))[1:]
